//! What a packet carries: IPv4 and IPv6, UDP and TCP.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
};
use karmor_abi::word::{IPPROTO_TCP, IPPROTO_UDP};

/// Most headers between that of IPv6 and that of the transport.
const EXTENSIONS: u32 = 8;

/// `URG` among the flags of a TCP header.
const URG: u8 = 0x20;

/// No protocol of a transport: there are more headers than that.
pub(crate) const TOO_MANY: u32 = 256;

/// The socket that a packet leaves, or comes in for; none that only stands for one.
#[inline(always)]
pub(crate) fn socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: a member of the context, and what the helper returns.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        (!sk.is_null()).then_some(sk)
    }
}

/// The header of a transport.
pub(crate) struct Transport {
    /// `IPPROTO_UDP`, `IPPROTO_TCP` or [`TOO_MANY`].
    pub(crate) protocol: u32,
    /// Where it begins.
    at: u32,
    /// Where it comes from.
    pub(crate) from: u16,
    /// Where it leads.
    pub(crate) to: u16,
}

/// What a transport carries.
pub(crate) struct Payload {
    /// Where it begins.
    pub(crate) at: u32,
    /// Bytes.
    pub(crate) len: u32,
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
pub(crate) fn transport(skb: *mut __sk_buff) -> Option<Transport> {
    let ip: [u8; 20] = load(skb, 0)?;
    let (protocol, at) = match ip[0] >> 4 {
        4 if ip[6] & 0x1f == 0 && ip[7] == 0 => (u32::from(ip[9]), u32::from(ip[0] & 15) * 4),
        6 => behind_extensions(skb, ip[6])?,
        _ => return None,
    };
    let [from, to] = match protocol {
        IPPROTO_UDP | IPPROTO_TCP => {
            let [a, b, c, d] = load(skb, at)?;
            [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        }
        TOO_MANY => [0; 2],
        _ => return None,
    };
    Some(Transport {
        protocol,
        at,
        from,
        to,
    })
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

/// What the transport carries, maybe nothing; `None` when that cannot be told.
#[inline(always)]
pub(crate) fn payload(skb: *mut __sk_buff, transport: &Transport) -> Option<Payload> {
    let header = match transport.protocol {
        IPPROTO_TCP => {
            // The first of several fragments may end before that.
            let [offset] = load(skb, transport.at + 12)?;
            u32::from(offset >> 4) * 4
        }
        IPPROTO_UDP => 8,
        _ => 0,
    };
    let at = transport.at + header;
    // SAFETY: a member of the context.
    let len = unsafe { (*skb).len };
    Some(Payload {
        at,
        len: len.saturating_sub(at),
    })
}

/// Whether TCP tells that a byte is urgent, which is then left out for who reads the stream. Also when that
/// cannot be told.
#[inline(always)]
pub(crate) fn is_urgent(skb: *mut __sk_buff, transport: &Transport) -> bool {
    match load(skb, transport.at + 13) {
        Some([flags]) => flags & URG != 0,
        None => true,
    }
}
