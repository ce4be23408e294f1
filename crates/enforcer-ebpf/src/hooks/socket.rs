//! `socket_*`, `inet_conn_request`: which sockets are made and used, and who speaks to whom.
//!
//! `socket_recvmsg` is left alone: what is there has come, a refusal would keep it in the queue and
//! its reader busy, and who may not have a socket may not make, bind, connect or accept one.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{
    counters::Fault,
    event::Hook,
    op::Op,
    verdict::Verdict,
    word::{self, ENDPOINT_BYTES, Protocol, SOCK_RAW, SOCK_STREAM},
};

use crate::{
    decide::{ALLOWED, DENIED},
    decide_word::{Report, Who as _, ask, ask_noted, conclude, copy, decide_word, refused},
    emit::{count_fault, count_untold},
    kernel::{
        memory::Ptr,
        path,
        socket::{self, AF_UNSPEC, Named, Remote, Socket},
    },
    listener::{self, Hearer},
    maps::{Answer, Scratch},
    resolved, sender,
    subject::{Identity, Subject},
};

/// `MSG_FASTOPEN`: connect by sending.
const MSG_FASTOPEN: u32 = 0x2000_0000;

/// What speaking to an address is about: the address, and the names it was an answer about.
const SPEAK: u32 = Op::Egress.bit() | Op::Query.bit();

/// `socket_create(family, type, protocol, kern)`: `socket`, and each half of `socketpair`.
#[lsm(hook = "socket_create")]
pub(crate) fn socket_create(ctx: LsmContext) -> i32 {
    let (family, kind, protocol): (i32, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let for_the_kernel: i32 = ctx.arg(3);
    if for_the_kernel != 0 {
        return ALLOWED;
    }
    let Some(subject) = Subject::current(Op::Socket.bit()) else {
        return ALLOWED;
    };
    let (family, kind) = (family as u32, kind as u32);
    let protocol = Protocol::of(family, kind, protocol as u32);
    use_of(&subject, kind, protocol, Hook::SocketCreate)
}

/// `socket_bind(sock, address, addrlen)`.
#[lsm(hook = "socket_bind")]
pub(crate) fn socket_bind(ctx: LsmContext) -> i32 {
    let Some(subject) = Subject::current(Op::Socket.bit()) else {
        return ALLOWED;
    };
    // SAFETY: the hook's argument.
    let Some(socket) = (unsafe { Socket::of(ctx.arg(0)) }) else {
        return ALLOWED;
    };
    use_of(&subject, socket.kind, socket.protocol(), Hook::SocketBind)
}

/// `socket_listen(sock, backlog)`.
#[lsm(hook = "socket_listen")]
pub(crate) fn socket_listen(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's argument.
    let Some(socket) = (unsafe { Socket::of(ctx.arg(0)) }) else {
        return ALLOWED;
    };
    let identity = Identity::current(false);
    let subject = Subject::new(&identity, Op::Socket.bit() | Op::Ingress.bit());
    if let Some(subject) = &subject
        && subject.ops & Op::Socket.bit() != 0
        && use_of(subject, socket.kind, socket.protocol(), Hook::SocketListen) != ALLOWED
    {
        return DENIED;
    }
    if socket.is_inet()
        && !listener::remember(&socket, &identity)
        && let Some(subject) = &subject
        && subject.ops & Op::Ingress.bit() != 0
    {
        count_fault(Fault::NoLabel);
        return DENIED;
    }
    ALLOWED
}

/// `socket_connect(sock, address, addrlen)`.
#[lsm(hook = "socket_connect")]
pub(crate) fn socket_connect(ctx: LsmContext) -> i32 {
    let (address, len): (Ptr, i32) = (ctx.arg(1), ctx.arg(2));
    let Some(subject) = Subject::current(Op::Socket.bit() | SPEAK) else {
        return ALLOWED;
    };
    // SAFETY: the hook's argument.
    let Some(socket) = (unsafe { Socket::of(ctx.arg(0)) }) else {
        return ALLOWED;
    };
    // To connect to no family is to disconnect.
    let name = Name {
        address: address as u64,
        len: len as u32,
        unspec: AF_UNSPEC,
    };
    if subject.ops & Op::Query.bit() != 0 && socket.is_inet() {
        let port = socket.port_towards(name.address, name.len);
        if !sender::connect(&socket, port) {
            count_untold(Fault::NoLabel, Verdict::FAULT);
            return DENIED;
        }
    }
    speak(&subject, &socket, name, Hook::SocketConnect)
}

/// `socket_accept(sock, newsock)`.
#[lsm(hook = "socket_accept")]
pub(crate) fn socket_accept(ctx: LsmContext) -> i32 {
    let identity = Identity::current(false);
    let Some(subject) = Subject::new(&identity, Op::Socket.bit() | Op::Ingress.bit()) else {
        return ALLOWED;
    };
    // SAFETY: the hook's argument.
    let Some(socket) = (unsafe { Socket::of(ctx.arg(0)) }) else {
        return ALLOWED;
    };
    if subject.ops & Op::Socket.bit() != 0
        && use_of(&subject, socket.kind, socket.protocol(), Hook::SocketAccept) != ALLOWED
    {
        return DENIED;
    }
    if subject.ops & Op::Ingress.bit() != 0 && socket.is_inet() && !listener::is_known(&socket) {
        // It listened before anything was enforced. Should there be no room, the cgroup tells
        // whose it is.
        listener::remember(&socket, &identity);
    }
    ALLOWED
}

/// `socket_sendmsg(sock, msg, size)`: every way of sending, also `write`.
#[lsm(hook = "socket_sendmsg")]
pub(crate) fn socket_sendmsg(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's argument.
    let Some(socket) = (unsafe { Socket::of(ctx.arg(0)) }) else {
        return ALLOWED;
    };
    let identity = Identity::current(false);
    // SAFETY: the hook's argument.
    let (address, len, flags) = unsafe { socket::message(ctx.arg(1)) };
    if socket.is_inet() {
        let port = socket.port_towards(address, len);
        let asks =
            sender::is_held_to_names(identity.workload) != 0 && socket.may_ask_for_names(port);
        // What leaves is decided in the name of who is noted.
        if (asks || sender::is_known(&socket))
            && !sender::remember(&socket, &identity, port)
            && asks
        {
            count_fault(Fault::NoLabel);
            return DENIED;
        }
    }
    let Some(subject) = Subject::new(&identity, Op::Socket.bit() | SPEAK) else {
        return ALLOWED;
    };
    let mut name = Name {
        address,
        len,
        unspec: socket.family_of_messages(),
    };
    if socket.kind == SOCK_STREAM
        && socket.protocol() != Protocol::Sctp
        && flags & MSG_FASTOPEN == 0
    {
        // A stream has its other end; an address beside the data is not looked at.
        name.address = 0;
    }
    speak(&subject, &socket, name, Hook::SocketSendmsg)
}

/// `inet_conn_request(sk, skb, req)`: a connection that comes in, before it is answered. Runs in the
/// name of whichever task was interrupted; who listens was noted when it began to.
#[lsm(hook = "inet_conn_request")]
pub(crate) fn inet_conn_request(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's argument.
    let socket = unsafe { Socket::of_sk(ctx.arg(0)) };
    let request: Ptr = ctx.arg(2);
    let Some(hearer) = Hearer::of(&socket, Op::Ingress.bit()) else {
        return ALLOWED;
    };
    let Some(scratch) = path::claim() else {
        return without_scratch();
    };
    let source = hearer.source();
    let answer = match socket::requested(request as u64) {
        Ok(named) => {
            note(scratch, &socket, named);
            ask_noted(&hearer, source, scratch, Op::Ingress)
        }
        Err(_) => {
            note(scratch, &socket, Named::UNKNOWN);
            refused(Fault::Read, Op::Ingress)
        }
    };
    // SAFETY: claimed by this task.
    unsafe { (*scratch).answer = answer };
    let outcome = conclude(&hearer, source, scratch, Hook::SocketAccept);
    path::release(scratch);
    outcome
}

/// No memory for a word or an event.
#[inline(always)]
fn without_scratch() -> i32 {
    count_untold(Fault::NoScratch, Verdict::FAULT);
    DENIED
}

/// Decides the making or use of a socket.
#[inline(always)]
fn use_of(subject: &Subject, kind: u32, protocol: Protocol, hook: Hook) -> i32 {
    let word = word::socket(kind, protocol);
    decide_word(subject, &word, word.len(), Op::Socket, hook, Report::Always)
}

/// An address as a system call names it; address 0 for none.
struct Name {
    address: u64,
    len: u32,
    /// The family that `AF_UNSPEC` stands for.
    unspec: u16,
}

/// Decides the use of a socket to speak to an address. One event at most: of the stricter answer,
/// and of the one about the address where both are equal.
#[inline(always)]
fn speak(subject: &Subject, socket: &Socket, name: Name, hook: Hook) -> i32 {
    if subject.ops & SPEAK == 0 || name.address == 0 {
        if subject.ops & Op::Socket.bit() == 0 {
            return ALLOWED;
        }
        return use_of(subject, socket.kind, socket.protocol(), hook);
    }
    let Some(scratch) = path::claim() else {
        return without_scratch();
    };
    let source = subject.source();
    let found = note_name(scratch, socket.sk, name.address, name.len, name.unspec);
    let answer = match found {
        UNREADABLE => refused(Fault::Read, Op::Egress),
        NOTED if subject.ops & Op::Egress.bit() != 0 => {
            ask_noted(subject, source, scratch, Op::Egress)
        }
        _ => Answer::ALLOW,
    };
    // SAFETY: claimed by this task.
    unsafe { (*scratch).answer = answer };
    if found == NOTED && subject.ops & Op::Query.bit() != 0 {
        resolved::consider(scratch, subject.handle, subject.workload, source.ok());
    }
    if subject.ops & Op::Socket.bit() != 0 {
        // SAFETY: as above.
        let so_far = unsafe { (*scratch).answer.verdict.action_bits() };
        let word = word::socket(socket.kind, socket.protocol());
        let answer = ask(subject, source, &word, word.len(), Op::Socket);
        if answer.verdict.action_bits() > so_far {
            copy(scratch, &word);
            // SAFETY: as above.
            unsafe {
                (*scratch).access.word = word.len() as u64;
                (*scratch).answer = answer;
            }
        }
    }
    let outcome = conclude(subject, source, scratch, hook);
    path::release(scratch);
    outcome
}

/// What [`note_name`] says: nobody that rules know is named.
const NOBODY: i32 = 0;
/// The other end and its word are noted.
const NOTED: i32 = 1;
/// The address cannot be read; a word for that is noted.
const UNREADABLE: i32 = 2;

/// Notes the other end that is named at `address`, and its word. Arguments as for [`socket::named`].
///
/// Not inlined: its frame is gone when an event is made, and a chain of calls has 512 bytes for all.
#[inline(never)]
fn note_name(scratch: *mut Scratch, sk: Ptr, address: u64, len: u32, unspec: u16) -> i32 {
    // SAFETY: the caller's BTF pointer.
    let socket = unsafe { Socket::of_sk(sk) };
    let (named, found) = match socket::named(&socket, address, len, unspec) {
        Ok(Some(named)) => (named, NOTED),
        Ok(None) => return NOBODY,
        Err(_) => (Named::UNKNOWN, UNREADABLE),
    };
    // SAFETY: claimed by this task.
    unsafe { (*scratch).remote = named.remote.mapped() };
    note(scratch, &socket, named);
    found
}

/// Notes the word of the other end.
#[inline(always)]
fn note(scratch: *mut Scratch, socket: &Socket, named: Named) {
    let protocol = socket.protocol();
    // A raw socket says itself what stands where others have ports; ICMP has none.
    let has_ports =
        socket.kind != SOCK_RAW && !matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
    let port = if has_ports { named.port } else { 0 };
    let protocol = socket.ip_protocol();
    // SAFETY: claimed by this task, and longer than a word.
    unsafe {
        let word = &mut *(&raw mut (*scratch).bytes).cast::<[u8; ENDPOINT_BYTES]>();
        let len = match named.remote {
            Remote::V4(address) => word::endpoint_v4(word, address.to_ne_bytes(), protocol, port),
            Remote::V6([a, b, c, d]) => {
                let mut address = [0; 16];
                address[..4].copy_from_slice(&a.to_ne_bytes());
                address[4..8].copy_from_slice(&b.to_ne_bytes());
                address[8..12].copy_from_slice(&c.to_ne_bytes());
                address[12..].copy_from_slice(&d.to_ne_bytes());
                word::endpoint_v6(word, address, protocol, port)
            }
        };
        (*scratch).access.word = len as u64;
    }
}
