//! What an access is about when that is not a path: a word for the same automaton.
//!
//! ```text
//! path        /etc/passwd
//! capability  1 number
//! socket      2 type protocol
//! endpoint    3 4|6 address protocol port
//! domain      4 name, from its end
//! preset      5 operation
//! argument    6 bytes
//! mismatch    7 rule
//! call        8 convention number path
//! guarded     9 what, of events alone: no rule is asked
//! ```
//!
//! The first byte tells the domains apart, as `/` tells a path. No byte of a word is 0, which the
//! table keeps for itself: small numbers are written one higher, and what may be any number in
//! half-bytes ([`nibble`]), the high one first.

use crate::{guard::Guarded, op::Op};

/// First byte of a capability's word.
pub const CAPABILITY: u8 = 1;
/// First byte of a socket's word.
pub const SOCKET: u8 = 2;
/// First byte of an endpoint's word.
pub const ENDPOINT: u8 = 3;
/// First byte of a domain's word.
pub const DOMAIN: u8 = 4;
/// First byte of a preset's word.
pub const PRESET: u8 = 5;
/// First byte of an argument's word. Its set says which rules list it ([`crate::table::listing`]).
pub const ARGUMENT: u8 = 6;
/// First byte of a mismatch's word: what a rule does when an argument is missing from its list.
pub const MISMATCH: u8 = 7;

/// First byte of a system call's word.
pub const SYSCALL: u8 = 8;
/// First byte of the word of what is the enforcer's own.
pub const GUARDED: u8 = 9;

/// Longest word of an endpoint: two bytes, 32 half-bytes of address, protocol, 4 of port.
pub const ENDPOINT_BYTES: usize = 2 + 32 + 1 + 4;

/// Longest word of a domain: a name of 255 bytes as sent has 253 as text, and a dot goes behind.
pub const DOMAIN_BYTES: usize = 1 + 253 + 1;

/// The word of a query that cannot be read. No name begins with a dot.
pub const UNREADABLE: [u8; 3] = [DOMAIN, b'.', b'.'];

/// Half a byte, as a byte that is not 0.
#[must_use]
#[inline(always)]
pub const fn nibble(half: u8) -> u8 {
    (half & 15) + 1
}

/// The word of a capability, by its number (`CAP_*`).
#[must_use]
#[inline(always)]
pub const fn capability(number: u8) -> [u8; 2] {
    [CAPABILITY, (number & 63) + 1]
}

/// The word of a preset, by its operation.
#[must_use]
#[inline(always)]
pub const fn preset(op: Op) -> [u8; 2] {
    [PRESET, op as u8]
}

/// How a system call is made: which numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Convention {
    /// As programs of the architecture do.
    Native = 1,
    /// As its 32-bit programs do, whose numbers are others.
    Compat = 2,
}

/// One past the highest number of a system call that has a word.
pub const SYSCALLS: u32 = 63 * 64;

/// Numbers whose bits say which system calls some table asks about.
pub const CALL_WORDS: u32 = 2 * SYSCALLS / 64;

/// Which of these numbers, and which bit of it, is that of a system call below [`SYSCALLS`].
#[must_use]
#[inline(always)]
pub const fn call_bit(convention: Convention, number: u32) -> (u32, u64) {
    let half = (convention as u32 - 1) * (SYSCALLS / 64);
    (half + number / 64, 1 << (number % 64))
}

/// The word of a system call, below [`SYSCALLS`]; where it is about a path, that follows.
#[must_use]
#[inline(always)]
pub const fn syscall(convention: Convention, number: u32) -> [u8; 4] {
    [
        SYSCALL,
        convention as u8,
        (number >> 6 & 63) as u8 + 1,
        (number & 63) as u8 + 1,
    ]
}

/// The word of a mismatch, by the rule's bit among those with arguments.
#[must_use]
#[inline(always)]
pub const fn mismatch(bit: u32) -> [u8; 2] {
    [MISMATCH, (bit & 63) as u8 + 1]
}

/// The word of what is the enforcer's own.
#[must_use]
#[inline(always)]
pub const fn guarded(what: Guarded) -> [u8; 2] {
    [GUARDED, what as u8]
}

/// Protocol of a socket, as far as rules tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// None that a rule can name.
    Other = 1,
    /// TCP, also over several paths, and what falls back to it: a stream of no other protocol.
    Tcp = 2,
    /// UDP: datagrams of no other protocol.
    Udp = 3,
    /// ICMP, raw or as datagrams.
    Icmp = 4,
    /// ICMP for IPv6, likewise.
    Icmpv6 = 5,
    /// SCTP, as a stream or in packets.
    Sctp = 6,
    /// Whole frames (`AF_PACKET`).
    Packet = 7,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Other,
        Self::Tcp,
        Self::Udp,
        Self::Icmp,
        Self::Icmpv6,
        Self::Sctp,
        Self::Packet,
    ];

    /// That of a socket: `AF_*`, `SOCK_*` without flags, `IPPROTO_*`.
    ///
    /// The family counts for packets and SMC only: a stream of any family without a protocol is TCP to
    /// a rule, as KubeArmor's users know it.
    #[must_use]
    #[inline(always)]
    pub const fn of(family: u32, kind: u32, protocol: u32) -> Self {
        const AF_PACKET: u32 = 17;
        const AF_SMC: u32 = 43;
        /// That of SMC over IPv6, which is the number of ICMP elsewhere.
        const SMCPROTO_SMC6: u32 = 1;
        if family == AF_PACKET {
            return Self::Packet;
        }
        if family == AF_SMC && kind == SOCK_STREAM && protocol == SMCPROTO_SMC6 {
            return Self::Tcp;
        }
        match (kind, protocol) {
            (SOCK_STREAM, 0 | IPPROTO_TCP | IPPROTO_MPTCP | IPPROTO_SMC) => Self::Tcp,
            (SOCK_DGRAM, 0 | IPPROTO_UDP | IPPROTO_UDPLITE) => Self::Udp,
            (SOCK_DGRAM | SOCK_RAW, IPPROTO_ICMP) => Self::Icmp,
            (SOCK_DGRAM | SOCK_RAW, IPPROTO_ICMPV6) => Self::Icmpv6,
            (SOCK_STREAM | SOCK_SEQPACKET, IPPROTO_SCTP) => Self::Sctp,
            _ => Self::Other,
        }
    }
}

/// `SOCK_STREAM`.
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
pub const SOCK_DGRAM: u32 = 2;
/// `SOCK_RAW`.
pub const SOCK_RAW: u32 = 3;
/// `SOCK_RDM`.
pub const SOCK_RDM: u32 = 4;
/// `SOCK_SEQPACKET`.
pub const SOCK_SEQPACKET: u32 = 5;
/// `SOCK_DCCP`.
pub const SOCK_DCCP: u32 = 6;
/// `SOCK_PACKET`.
pub const SOCK_PACKET: u32 = 10;

/// `IPPROTO_ICMP`.
pub const IPPROTO_ICMP: u32 = 1;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const IPPROTO_UDP: u32 = 17;
/// `IPPROTO_ICMPV6`.
pub const IPPROTO_ICMPV6: u32 = 58;
/// `IPPROTO_SCTP`.
pub const IPPROTO_SCTP: u32 = 132;
/// `IPPROTO_UDPLITE`.
pub const IPPROTO_UDPLITE: u32 = 136;
/// `IPPROTO_MPTCP`.
pub const IPPROTO_MPTCP: u32 = 262;
/// `IPPROTO_SMC`: shared memory where both ends have it, else TCP.
pub const IPPROTO_SMC: u32 = 256;

impl Protocol {
    /// `IPPROTO_*` of an endpoint, by which rules tell sockets of this protocol apart; `number` is
    /// the socket's own, for one that no rule can name.
    #[must_use]
    #[inline(always)]
    pub const fn ip(self, number: u32) -> u8 {
        let number = match self {
            Self::Tcp => IPPROTO_TCP,
            Self::Udp => IPPROTO_UDP,
            Self::Icmp => IPPROTO_ICMP,
            Self::Icmpv6 => IPPROTO_ICMPV6,
            Self::Sctp => IPPROTO_SCTP,
            Self::Other | Self::Packet => number,
        };
        number.to_le_bytes()[0]
    }
}

/// The word of a socket of this `SOCK_*` type and protocol.
#[must_use]
#[inline(always)]
pub const fn socket(kind: u32, protocol: Protocol) -> [u8; 3] {
    [SOCKET, nibble((kind & 15) as u8), protocol as u8]
}

/// The other end of a connection or datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address; of IPv4 in the first four bytes. An IPv4 address mapped into IPv6 is IPv4.
    pub address: [u8; 16],
    /// It is IPv6.
    pub is_v6: bool,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Port that is connected or sent to: the other end's, or of a connection that comes in the
    /// own. 0 where the protocol has none.
    pub port: u16,
}

impl Endpoint {
    /// Writes the word, and returns its length.
    pub fn write(&self, word: &mut [u8; ENDPOINT_BYTES]) -> usize {
        if self.is_v6 {
            return endpoint_v6(word, self.address, self.protocol, self.port);
        }
        let [a, b, c, d, ..] = self.address;
        endpoint_v4(word, [a, b, c, d], self.protocol, self.port)
    }
}

/// Writes the word of an endpoint of IPv4, and returns its length.
#[inline(always)]
pub fn endpoint_v4(
    word: &mut [u8; ENDPOINT_BYTES],
    address: [u8; 4],
    protocol: u8,
    port: u16,
) -> usize {
    write_endpoint(word, 4, address, protocol, port)
}

/// Writes the word of an endpoint of IPv6, and returns its length.
#[inline(always)]
pub fn endpoint_v6(
    word: &mut [u8; ENDPOINT_BYTES],
    address: [u8; 16],
    protocol: u8,
    port: u16,
) -> usize {
    write_endpoint(word, 6, address, protocol, port)
}

#[inline(always)]
fn write_endpoint<const BYTES: usize>(
    word: &mut [u8; ENDPOINT_BYTES],
    version: u8,
    address: [u8; BYTES],
    protocol: u8,
    port: u16,
) -> usize {
    const { assert!(2 + 2 * BYTES + 1 + 4 <= ENDPOINT_BYTES) };
    word[0] = ENDPOINT;
    word[1] = version;
    let mut index = 0;
    while index < BYTES {
        word[2 + 2 * index] = nibble(address[index] >> 4);
        word[3 + 2 * index] = nibble(address[index]);
        index += 1;
    }
    let end = 2 + 2 * BYTES;
    word[end] = protocol_byte(protocol);
    let [high, low] = port.to_be_bytes();
    word[end + 1] = nibble(high >> 4);
    word[end + 2] = nibble(high);
    word[end + 3] = nibble(low >> 4);
    word[end + 4] = nibble(low);
    end + 5
}

/// An IP protocol's byte in a word.
#[must_use]
#[inline(always)]
pub const fn protocol_byte(protocol: u8) -> u8 {
    // 0 is no protocol a socket sends.
    if protocol == 0 { 255 } else { protocol }
}

/// A word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// A path.
    Path(&'a [u8]),
    /// A capability's number.
    Capability(u8),
    /// A socket's `SOCK_*` type and protocol.
    Socket(u8, Protocol),
    /// An endpoint.
    Endpoint(Endpoint),
    /// A name from its end, with a dot behind.
    Domain(&'a [u8]),
    /// A preset's operation.
    Preset(Op),
    /// A system call's number.
    Syscall(Convention, u32),
    /// The enforcer's own.
    Guarded(Guarded),
}

impl<'a> Word<'a> {
    /// Reads an untrusted word; `None` if it is none.
    #[must_use]
    pub fn parse(word: &'a [u8]) -> Option<Self> {
        match *word {
            [b'/', ..] => Some(Self::Path(word)),
            [CAPABILITY, number] => Some(Self::Capability(number.checked_sub(1)?)),
            [SOCKET, kind, protocol] => {
                let mut protocols = Protocol::ALL.into_iter();
                let protocol = protocols.find(|&p| p as u8 == protocol)?;
                Some(Self::Socket(kind.checked_sub(1)?, protocol))
            }
            [ENDPOINT, 4, ref rest @ ..] => endpoint(rest, false).map(Self::Endpoint),
            [ENDPOINT, 6, ref rest @ ..] => endpoint(rest, true).map(Self::Endpoint),
            [DOMAIN, ref name @ ..] => Some(Self::Domain(name)),
            [SYSCALL, convention, high, low] => {
                let mut conventions = [Convention::Native, Convention::Compat].into_iter();
                let convention = conventions.find(|&c| c as u8 == convention)?;
                let (high, low) = (high.checked_sub(1)?, low.checked_sub(1)?);
                if high >= 63 || low >= 64 {
                    return None;
                }
                let number = u32::from(high) << 6 | u32::from(low);
                Some(Self::Syscall(convention, number))
            }
            [PRESET, op] => Op::from_number(op)
                .filter(|op| Op::PRESETS.contains(op))
                .map(Self::Preset),
            [GUARDED, what] => {
                let mut all = Guarded::ALL.into_iter();
                all.find(|&own| own as u8 == what).map(Self::Guarded)
            }
            _ => None,
        }
    }
}

fn endpoint(word: &[u8], is_v6: bool) -> Option<Endpoint> {
    let half = |byte: u8| byte.checked_sub(1).filter(|&half| half < 16);
    let (halves, rest) = word.split_at_checked(if is_v6 { 32 } else { 8 })?;
    let mut address = [0; 16];
    for (byte, pair) in address.iter_mut().zip(halves.chunks_exact(2)) {
        *byte = half(pair[0])? << 4 | half(pair[1])?;
    }
    let (&protocol, port) = rest.split_first()?;
    if port.len() != 4 {
        return None;
    }
    let mut number = 0;
    for &byte in port {
        number = number << 4 | u16::from(half(byte)?);
    }
    Some(Endpoint {
        address,
        is_v6,
        protocol,
        port: number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        assert_eq!(
            Word::parse(&capability(40)),
            Some(Word::Capability(40)),
            "CAP_CHECKPOINT_RESTORE"
        );
        assert_eq!(
            Word::parse(&socket(SOCK_RAW, Protocol::Icmp)),
            Some(Word::Socket(3, Protocol::Icmp))
        );
        assert_eq!(
            Word::parse(&preset(Op::Drift)),
            Some(Word::Preset(Op::Drift))
        );
        for convention in [Convention::Native, Convention::Compat] {
            for number in [0, 63, 64, 467, SYSCALLS - 1] {
                let word = syscall(convention, number);
                assert!(!word.contains(&0));
                assert_eq!(Word::parse(&word), Some(Word::Syscall(convention, number)));
            }
        }
        for is_v6 in [false, true] {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&[10, 0, 255, 1]);
            let endpoint = Endpoint {
                address,
                is_v6,
                protocol: 6,
                port: 0xf01d,
            };
            let mut word = [0; ENDPOINT_BYTES];
            let len = endpoint.write(&mut word);
            assert!(!word[..len].contains(&0));
            assert_eq!(Word::parse(&word[..len]), Some(Word::Endpoint(endpoint)));
        }
    }

    #[test]
    fn nothing_else_is_a_word() {
        for wrong in [
            &b""[..],
            &[CAPABILITY],
            &[CAPABILITY, 0],
            &[SOCKET, 2, 99],
            &[ENDPOINT, 5],
            &[ENDPOINT, 4, 1, 1],
            &[PRESET, Op::Exec as u8],
            &[SYSCALL, 1, 0, 1],
            &[SYSCALL, 3, 1, 1],
            &[SYSCALL, 1, 1, 65],
            &[99, 1],
        ] {
            assert_eq!(Word::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn protocols_of_sockets() {
        const AF_UNIX: u32 = 1;
        const AF_INET: u32 = 2;
        const AF_PACKET: u32 = 17;
        const AF_SMC: u32 = 43;
        assert_eq!(Protocol::of(AF_INET, SOCK_STREAM, 0), Protocol::Tcp);
        assert_eq!(Protocol::of(AF_UNIX, SOCK_STREAM, 0), Protocol::Tcp);
        assert_eq!(Protocol::of(AF_SMC, SOCK_STREAM, 0), Protocol::Tcp);
        assert_eq!(Protocol::of(AF_SMC, SOCK_STREAM, 1), Protocol::Tcp);
        assert_eq!(
            Protocol::of(AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
            Protocol::Icmp
        );
        assert_eq!(Protocol::of(AF_INET, SOCK_RAW, 255), Protocol::Other);
        assert_eq!(Protocol::of(AF_PACKET, SOCK_RAW, 0x300), Protocol::Packet);
    }
}
