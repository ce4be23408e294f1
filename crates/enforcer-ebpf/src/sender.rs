//! Who asks for names: noted in the socket when something is sent over it, asked when the packet
//! leaves.
//!
//! A packet leaves in the name of whoever sends, or for TCP of whichever task was interrupted.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_sk_storage_get, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id},
};
use karmor_abi::{
    label::{HOST, Handle},
    op::Op,
};

use crate::{
    decide_word::Who as _,
    kernel::{memory::Ptr, socket::Socket, task::Task},
    listener::{self, CREATE, Hearer},
    maps::{SENDERS, Sender},
    name::ANYBODY,
    subject::{Identity, Subject, nearest_workload},
};

/// The port of those who know names.
pub(crate) const RESOLVER: u16 = 53;

#[inline(always)]
fn stored(sk: Ptr, flags: u64) -> *mut Sender {
    // SAFETY: a BTF pointer to a `struct sock`, or a full socket of a packet; the verifier checks.
    unsafe {
        bpf_sk_storage_get(
            (&raw const SENDERS).cast_mut().cast(),
            sk.cast_mut().cast(),
            core::ptr::null_mut(),
            flags,
        )
        .cast()
    }
}

/// Whether a workload has a policy on names. A function of its own, so that the verifier does not
/// follow everything behind it once for each answer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn is_held_to_names(workload: u32) -> i32 {
    let label = core::ptr::null_mut();
    let identity = Identity { label, workload };
    i32::from(Subject::new(&identity, Op::Query.bit()).is_some())
}

/// Whether it is noted who has sent over a socket.
#[inline(always)]
pub(crate) fn is_known(socket: &Socket) -> bool {
    !stored(socket.sk, 0).is_null()
}

/// Notes the running task as who sends over a socket, to a port. `false` when there is no room.
#[inline(always)]
pub(crate) fn remember(socket: &Socket, identity: &Identity, port: u16) -> bool {
    let sender = stored(socket.sk, CREATE);
    if sender.is_null() {
        return false;
    }
    let image = Task::current().exe_file();
    // SAFETY: a map value.
    unsafe {
        if (*sender).image != image && (*sender).image != 0 {
            (*sender).shared = 1;
        }
        (*sender).image = image;
        (*sender).port = port.into();
        listener::note(&raw mut (*sender).who, identity)
    }
}

/// Notes which port a socket is to be connected to: a program at `cgroup/connect4` that balances load
/// puts another in its place afterwards. Who sends is noted when something is sent. `false` when there
/// is no room.
#[inline(always)]
pub(crate) fn connect(socket: &Socket, port: u16) -> bool {
    let asks = port == RESOLVER;
    let sender = stored(socket.sk, if asks { CREATE } else { 0 });
    if !sender.is_null() {
        // SAFETY: a map value.
        unsafe { (*sender).connected = asks.into() };
    }
    !asks || !sender.is_null()
}

/// Whether the port where names are asked for was named, by who has sent over a packet's socket or by
/// who has connected it to `port`, 0 when nobody has. `sender` may be null.
#[inline(always)]
pub(crate) fn named_resolver(sender: *const Sender, port: u16) -> bool {
    // SAFETY: a map value.
    let (named, connected) = match unsafe { sender.as_ref() } {
        Some(sender) => (sender.port, sender.connected != 0),
        None => return false,
    };
    named == RESOLVER.into() || connected && port != 0
}

/// Who has sent over a packet's socket; null when that is not noted.
///
/// # Safety
/// `sk` must be a full socket of the packet.
#[inline(always)]
pub(crate) unsafe fn of(sk: *mut bpf_sock) -> *const Sender {
    stored(sk.cast_const().cast(), 0)
}

/// Who has sent a packet, when the workload has a policy on one of `ops`.
#[inline(always)]
pub(crate) fn who(skb: *mut __sk_buff, sender: *const Sender, ops: u32) -> Option<Hearer> {
    let mut workload = HOST;
    let mut listener = core::ptr::null();
    if !sender.is_null() {
        // SAFETY: a map value.
        unsafe {
            listener = &raw const (*sender).who;
            workload = (*sender).who.workload;
        }
    }
    if workload == HOST {
        // It was sent before it was known as a container's, or before anybody looked.
        workload = workload_of_packet(skb);
    }
    Hearer::new(listener, workload, ops)
}

/// Class of the image that has sent, or [`ANYBODY`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn class_of_sender(sender: *const Sender, handle: u64) -> u32 {
    // SAFETY: a map value.
    if sender.is_null() || unsafe { (*sender).shared != 0 || (*sender).image == 0 } {
        return ANYBODY;
    }
    // SAFETY: as above.
    let listener = unsafe { &raw const (*sender).who };
    match Hearer::with_table(listener, HOST, Handle(handle)).source() {
        Ok(class) => class,
        Err(_) => ANYBODY,
    }
}

/// The workload in whose cgroup a packet's socket was made, or below.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn workload_of_packet(skb: *mut __sk_buff) -> u32 {
    // SAFETY: the context of the program.
    unsafe {
        nearest_workload(bpf_skb_cgroup_id(skb), |level| {
            bpf_skb_ancestor_cgroup_id(skb, level)
        })
    }
}
