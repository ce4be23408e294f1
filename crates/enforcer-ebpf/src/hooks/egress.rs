//! `cgroup_skb/egress`: which names are asked for. The packet is what is sent, so that nothing can
//! change between the look and the sending; a refusal is `EPERM` to who sends it.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use karmor_abi::{
    counters::Fault,
    event::Hook,
    label::Handle,
    op::Op,
    table::{self, SET_BY_SOURCE},
    verdict::Verdict,
    word::{IPPROTO_TCP, IPPROTO_UDP},
};

use crate::{
    decide::{ALLOWED, DENIED},
    decide_word::{Who as _, conclude, refused},
    dns::{self, MESSAGE_BYTES, Query},
    emit::count_untold,
    kernel::{
        memory::read,
        offsets::{SHARED_INFO_FLAGS, SKB_DATA_LEN, SKB_END, SKB_HEAD},
        path,
    },
    listener::Hearer,
    maps::{Answer, Scratch, Sender},
    object::{Table, Visitor, with_table},
    sender::{self, ANYBODY, RESOLVER},
};

/// The packet goes on.
const PASS: i32 = 1;
/// It does not.
const DROP: i32 = 0;

/// Most headers between that of IPv6 and that of the transport.
const EXTENSIONS: u32 = 8;

/// No protocol of a transport: there are more headers than that.
const TOO_MANY: u32 = 256;

/// `SKBFL_ZEROCOPY_ENABLE`, `SKBFL_SHARED_FRAG`, `SKBFL_PURE_ZEROCOPY`, `SKBFL_MANAGED_FRAG_REFS`.
const FOREIGN: u8 = 0b1111;

#[cgroup_skb(egress)]
pub(crate) fn cgroup_skb_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(transport) = transport(skb) else {
        return PASS;
    };
    // SAFETY: members of the context, and what the helpers return.
    let (sender, connected) = unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return PASS;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return PASS;
        }
        (sender::of(sk), (*sk).dst_port)
    };
    // Where it goes may have been rewritten since, as where a resolver is in the same network
    // namespace on another port.
    let is_query = transport.protocol == TOO_MANY
        || transport.port == RESOLVER
        || connected == RESOLVER.to_be()
        // SAFETY: a map value.
        || !sender.is_null() && unsafe { (*sender).port } == RESOLVER.into();
    if !is_query {
        return PASS;
    }
    let Some(hearer) = sender::who(skb, sender, Op::Query.bit()) else {
        return PASS;
    };
    let stream = transport.protocol == IPPROTO_TCP;
    let Some(payload) = payload(skb, &transport) else {
        return PASS;
    };
    let Some(scratch) = path::claim() else {
        count_untold(Fault::NoScratch, Verdict::FAULT);
        return DROP;
    };
    if transport.protocol == TOO_MANY || !copy(skb, &payload, stream, scratch) {
        dns::nothing_readable(scratch);
    }
    let outcome = decide(&hearer, sender, scratch);
    path::release(scratch);
    if outcome == ALLOWED { PASS } else { DROP }
}

/// The header of a transport.
struct Transport {
    /// `IPPROTO_UDP`, `IPPROTO_TCP` or [`TOO_MANY`].
    protocol: u32,
    /// Where it begins.
    at: u32,
    /// Where it leads.
    port: u16,
}

/// What a transport carries.
struct Payload {
    at: u32,
    len: u32,
}

/// Copies some bytes of a packet.
#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, at: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the context, and as many bytes as are copied.
    let error = unsafe { bpf_skb_load_bytes(skb.cast(), at, (&raw mut bytes).cast(), N as u32) };
    (error == 0).then_some(bytes)
}

/// The header of UDP or TCP. `None` for other packets, and for fragments behind the first, which have
/// none and are nothing without that.
#[inline(always)]
fn transport(skb: *mut __sk_buff) -> Option<Transport> {
    let ip: [u8; 20] = load(skb, 0)?;
    let (protocol, at) = match ip[0] >> 4 {
        4 if ip[6] & 0x1f == 0 && ip[7] == 0 => (u32::from(ip[9]), u32::from(ip[0] & 15) * 4),
        6 => behind_extensions(skb, ip[6])?,
        _ => return None,
    };
    let port = match protocol {
        IPPROTO_UDP | IPPROTO_TCP => {
            let ports: [u8; 4] = load(skb, at)?;
            u16::from_be_bytes([ports[2], ports[3]])
        }
        TOO_MANY => 0,
        _ => return None,
    };
    Some(Transport { protocol, at, port })
}

/// What follows the header of IPv6.
#[inline(always)]
fn behind_extensions(skb: *mut __sk_buff, first: u8) -> Option<(u32, u32)> {
    let mut place = packed(first.into(), 40);
    let mut count = 0;
    while count < EXTENSIONS {
        let (next, at) = unpacked(place);
        if next == IPPROTO_UDP || next == IPPROTO_TCP {
            return Some((next, at));
        }
        // Hop by hop, routing, fragment, authentication, destination, mobility, HIP, Shim6.
        if !matches!(next, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
            return None;
        }
        let header: [u8; 4] = load(skb, at)?;
        place = behind(place, u32::from_be_bytes(header));
        if place == NOWHERE {
            return None;
        }
        count += 1;
    }
    Some((TOO_MANY, 0))
}

/// No place behind a header.
const NOWHERE: u64 = u64::MAX;

/// A header's protocol and place in one number.
#[inline(always)]
const fn packed(protocol: u32, at: u32) -> u64 {
    protocol as u64 | (at as u64) << 8
}

#[inline(always)]
const fn unpacked(place: u64) -> (u32, u32) {
    ((place & 0xff) as u32, (place >> 8 & 0xffff) as u32)
}

/// The place behind an extension header. A function of its own, of whose answer the verifier knows
/// nothing, so that it sees one state and not one for each way through the headers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn behind(place: u64, header: u32) -> u64 {
    let (protocol, at) = unpacked(place);
    let [next, len, high, low] = header.to_be_bytes();
    let len = u32::from(len);
    let bytes = match protocol {
        44 if high != 0 || low & 0xf8 != 0 => return NOWHERE,
        44 => 8,
        51 => (len + 2) * 4,
        _ => (len + 1) * 8,
    };
    packed(next.into(), at + bytes)
}

/// What the transport carries; `None` for nothing.
#[inline(always)]
fn payload(skb: *mut __sk_buff, transport: &Transport) -> Option<Payload> {
    let header = match transport.protocol {
        IPPROTO_TCP => {
            let [offset] = load(skb, transport.at + 12)?;
            u32::from(offset >> 4) * 4
        }
        IPPROTO_UDP => 8,
        _ => 0,
    };
    let at = transport.at + header;
    // SAFETY: a member of the context.
    let len = unsafe { (*skb).len };
    (len > at).then(|| Payload { at, len: len - at })
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
    let query = Query::of(scratch);
    dns::begin(scratch, len.into(), stream);
    // The verifier follows what comes out of a map better than the compiler's way of comparing.
    // SAFETY: claimed by this task; at least 1 and below the length of the message.
    let error = unsafe {
        let len = ((*query).end_read().wrapping_sub(1) & (MESSAGE_BYTES as u64 - 1)) + 1;
        bpf_skb_load_bytes(
            skb.cast(),
            payload.at,
            (&raw mut (*query).message).cast(),
            len as u32,
        )
    };
    if error != 0 {
        return false;
    }
    dns::read_header(scratch);
    true
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
    let answer = match with_table(hearer.handle(), Ask { scratch, source }) {
        Some(answer) => answer,
        None => refused(Fault::NoTable, Op::Query),
    };
    dns::note_name(scratch);
    // SAFETY: claimed by this task.
    unsafe { (*scratch).answer = answer };
    let source = if source == ANYBODY { 0 } else { source };
    conclude(&hearer, Ok(source), scratch, Hook::Query)
}

struct Ask {
    scratch: *mut Scratch,
    source: u32,
}

impl Visitor for Ask {
    type Output = Answer;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Answer {
        let number = table::accept(&table, table.state_of_name(self.scratch));
        if number == 0 {
            return Answer::ALLOW;
        }
        let set = table::set(&table, number);
        let verdict = if self.source == ANYBODY && set.flags() & SET_BY_SOURCE != 0 {
            table::strictest(&table, set, Op::Query)
        } else {
            let source = if self.source == ANYBODY {
                0
            } else {
                self.source
            };
            table::verdict(&table, set, Op::Query, source, table::Asker::default())
        };
        Answer {
            verdict,
            set: number,
            op: Op::Query as u32,
        }
    }
}
