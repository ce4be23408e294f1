//! `cgroup_skb/egress`: which names are asked for. The packet is what is sent, so that nothing can
//! change between the look and the sending; a refusal is `EPERM` to who sends it.

use aya_ebpf::{bindings::__sk_buff, macros::cgroup_skb, programs::SkBuffContext};
use karmor_abi::{
    counters::Fault, event::Hook, label::Handle, op::Op, verdict::Verdict, word::IPPROTO_TCP,
};

use crate::{
    decide::{ALLOWED, DENIED},
    decide_word::{Who as _, conclude},
    dns::{self, MESSAGE_BYTES},
    emit::count_untold,
    kernel::{
        memory::read,
        offsets::{SHARED_INFO_FLAGS, SKB_DATA_LEN, SKB_END, SKB_HEAD},
        packet::{self, Payload, TOO_MANY},
        path,
    },
    listener::Hearer,
    maps::{Scratch, Sender},
    name::{self, ANYBODY},
    sender::{self, RESOLVER},
};

/// The packet goes on.
const PASS: i32 = 1;
/// It does not.
const DROP: i32 = 0;

/// `SKBFL_ZEROCOPY_ENABLE`, `SKBFL_SHARED_FRAG`, `SKBFL_PURE_ZEROCOPY`, `SKBFL_MANAGED_FRAG_REFS`.
const FOREIGN: u8 = 0b1111;

#[cgroup_skb(egress)]
pub(crate) fn cgroup_skb_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(transport) = packet::transport(skb) else {
        return PASS;
    };
    let Some(sk) = packet::socket(skb) else {
        return PASS;
    };
    // SAFETY: a full socket of the packet.
    let (sender, connected) = unsafe { (sender::of(sk), (*sk).dst_port) };
    // Where it goes may have been rewritten since, as where a resolver is in the same network
    // namespace on another port.
    let is_query = transport.protocol == TOO_MANY
        || transport.to == RESOLVER
        || connected == RESOLVER.to_be()
        || sender::named_resolver(sender, connected);
    if !is_query {
        return PASS;
    }
    let Some(hearer) = sender::who(skb, sender, Op::Query.bit()) else {
        return PASS;
    };
    let stream = transport.protocol == IPPROTO_TCP;
    let payload = packet::payload(skb, &transport).filter(|_| transport.protocol != TOO_MANY);
    let is_found = payload.is_some();
    // Before 6.2, what has no value may not even be put aside.
    let payload = payload.unwrap_or(Payload { at: 0, len: 0 });
    // Of a stream, what acknowledges says nothing. A datagram without data may be the first fragment
    // of one that has some.
    if stream && is_found && payload.len == 0 {
        return PASS;
    }
    let Some(scratch) = path::claim() else {
        count_untold(Fault::NoScratch, Verdict::FAULT);
        return DROP;
    };
    // Who reads the stream does not count an urgent byte, and sees other messages behind it.
    let is_whole = !(stream && packet::is_urgent(skb, &transport));
    if !(is_found && is_whole && copy(skb, &payload, stream, scratch)) {
        dns::nothing_readable(scratch);
    }
    let outcome = decide(&hearer, sender, scratch);
    path::release(scratch);
    if outcome == ALLOWED { PASS } else { DROP }
}

/// Copies what is to be read, and begins to. `false` when it cannot be told what will be sent: the
/// sender could still change it, or it will be cut in parts.
#[inline(always)]
fn copy(skb: *mut __sk_buff, payload: &Payload, stream: bool, scratch: *mut Scratch) -> bool {
    let Some(outside) = copied_outside(skb) else {
        return false;
    };
    let mut len = payload.len;
    if stream {
        if len >= MESSAGE_BYTES as u32 {
            return false;
        }
    } else {
        // SAFETY: a member of the context.
        let part = unsafe { (*skb).gso_size };
        if part != 0 && len > part {
            return false;
        }
        // What a datagram asks for comes first, and small ones are in one piece.
        len = match len.checked_sub(outside) {
            Some(0) => return false,
            Some(len) if len < MESSAGE_BYTES as u32 => len,
            Some(_) => MESSAGE_BYTES as u32 - 1,
            None => return false,
        };
    }
    dns::load(skb, payload.at, len, stream, scratch)
}

/// Bytes of a packet that are not in its first piece. `None` when some are in memory that the sender
/// may still change, as after `splice`, `sendfile` and with `MSG_ZEROCOPY`.
#[inline(always)]
fn copied_outside(skb: *mut __sk_buff) -> Option<u32> {
    let address = skb as u64;
    let head = read::<u64>(address + u64::from(SKB_HEAD.load())).ok()?;
    let end = read::<u32>(address + u64::from(SKB_END.load())).ok()?;
    let flags = head + u64::from(end) + u64::from(SHARED_INFO_FLAGS.load());
    if read::<u8>(flags).ok()? & FOREIGN != 0 {
        return None;
    }
    read::<u32>(address + u64::from(SKB_DATA_LEN.load())).ok()
}

/// Decides the names in turn, up to the first that is refused.
#[inline(always)]
fn decide(hearer: &Hearer, sender: *const Sender, scratch: *mut Scratch) -> i32 {
    let handle = hearer.handle();
    let source = if handle.sourced() {
        sender::class_of_sender(sender, handle.0)
    } else {
        0
    };
    let decide = || decide_name(scratch, sender, handle.0, hearer.workload(), source);
    let mut step = 0;
    while step < dns::STEPS {
        match dns::next_name(scratch) {
            dns::NAMED => {
                if decide() != ALLOWED {
                    return DENIED;
                }
            }
            dns::BEGUN => {}
            dns::END => return ALLOWED,
            _ => break,
        }
        step += 1;
    }
    dns::take_for_unreadable(scratch);
    decide()
}

/// Decides the name that has been read.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decide_name(
    scratch: *mut Scratch,
    sender: *const Sender,
    handle: u64,
    workload: u32,
    source: u32,
) -> i32 {
    if scratch.is_null() {
        return DENIED;
    }
    let listener = if sender.is_null() {
        core::ptr::null()
    } else {
        // SAFETY: a map value.
        unsafe { &raw const (*sender).who }
    };
    let hearer = Hearer::with_table(listener, workload, Handle(handle));
    let answer = name::ask(hearer.handle(), scratch, source);
    dns::note_name(scratch);
    // SAFETY: claimed by this task.
    unsafe { (*scratch).answer = answer };
    let source = if source == ANYBODY { 0 } else { source };
    conclude(&hearer, Ok(source), scratch, Hook::Query)
}
