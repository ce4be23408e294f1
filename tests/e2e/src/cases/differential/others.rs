//! Random calls about anything but files, and what the reference says of each: arguments of
//! `karmor-tries`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use karmor_abi::{op::Op, word::Protocol};
use karmor_policy::{names, reference::AccessObject};

use super::calls::Judge;

/// `AF_*`, `SOCK_*` and `IPPROTO_*` of sockets that take no capability.
const SOCKETS: [[u32; 3]; 8] = [
    [2, 1, 0],
    [10, 1, 6],
    [2, 1, 262],
    [2, 2, 0],
    [10, 2, 17],
    [2, 2, 136],
    [1, 1, 0],
    [1, 5, 0],
];
const TCP: [u32; 3] = [2, 1, 0];
const UDP: [u32; 3] = [2, 2, 0];
const ICMP: [u32; 3] = [2, 3, 1];

/// Where is spoken to.
pub(super) const PORTS: [u16; 3] = [80, 443, 4433];

/// Whom names are asked of; nobody is there.
const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// Names, each with those above it.
pub(super) const DOMAINS: [&str; 6] = [
    "test",
    "evil.test",
    "a.evil.test",
    "notevil.test",
    "good.test",
    "b.a.evil.test",
];

/// What can be tried again and again, by who has it in a container.
pub(super) const CAPABILITIES: [&str; 7] = [
    "setuid",
    "setgid",
    "setpcap",
    "net_bind_service",
    "net_raw",
    "sys_chroot",
    "mknod",
];

/// Presets, and what each is about.
pub(super) const PRESETS: [(&str, &str); 4] = [
    ("anonymousMapExec", "preset anonymous"),
    ("ioUring", "preset io-uring"),
    ("ptrace", "preset attach"),
    ("protectProc", "act read /proc/1/status"),
];

/// A call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Other {
    /// Makes a socket.
    Socket([u32; 3]),
    /// Says something to an address, over TCP by connecting.
    Speak(SocketAddr, u8),
    /// Asks for a name.
    Ask(&'static str),
    Capability(&'static str),
    /// One of [`PRESETS`].
    Preset(usize),
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket([family, kind, protocol]) => {
                write!(f, "socket create {family} {kind} {protocol}")
            }
            Self::Speak(address, protocol @ 6) => write!(f, "speak connect {address} {protocol}"),
            Self::Speak(address, protocol) => write!(f, "speak send {address} {protocol}"),
            Self::Ask(name) => write!(f, "ask unanswered {RESOLVER} {name}"),
            Self::Capability(name) => write!(f, "capability {name}"),
            Self::Preset(index) => f.write_str(PRESETS[*index].1),
        }
    }
}

impl Other {
    pub(super) fn random(rng: &mut Rng) -> Self {
        match rng.u8(0..5) {
            0 => Self::Socket(SOCKETS[rng.usize(..SOCKETS.len())]),
            1 => Self::Speak(
                SocketAddr::new(address(rng), PORTS[rng.usize(..PORTS.len())]),
                if rng.bool() { 6 } else { 17 },
            ),
            2 => Self::Ask(DOMAINS[rng.usize(..DOMAINS.len())]),
            3 => Self::Capability(CAPABILITIES[rng.usize(..CAPABILITIES.len())]),
            _ => Self::Preset(rng.usize(..PRESETS.len())),
        }
    }

    /// Whether the call must fail.
    pub(super) fn refuses(&self, judge: &Judge<'_>) -> Result<bool> {
        let asks = self.asks().with_context(|| self.to_string())?;
        Ok(asks
            .into_iter()
            .any(|(op, object)| judge.blocks_object(op, object, false)))
    }

    /// What must all be granted.
    fn asks(&self) -> Option<Vec<(Op, AccessObject<'static>)>> {
        let capable = |name| {
            let number = names::capability_named(name)?;
            Some((Op::Capable, AccessObject::Capability(number)))
        };
        Some(match *self {
            Self::Socket(numbers) => vec![socket(numbers)],
            Self::Speak(address, protocol) => {
                let numbers = if protocol == 6 { TCP } else { UDP };
                vec![socket(numbers), egress(address, protocol)]
            }
            Self::Ask(name) => vec![
                socket(UDP),
                egress(RESOLVER, 17),
                (Op::Query, AccessObject::Domain(name.as_bytes())),
            ],
            Self::Capability(name) => match name {
                "net_raw" => vec![socket(ICMP), capable(name)?],
                "net_bind_service" => vec![socket(TCP), capable(name)?],
                _ => vec![capable(name)?],
            },
            Self::Preset(index) => {
                let (name, _) = PRESETS[index];
                vec![(names::preset_named(name)?, AccessObject::Preset)]
            }
        })
    }
}

fn socket([family, kind, protocol]: [u32; 3]) -> (Op, AccessObject<'static>) {
    let protocol = Protocol::of(family, kind, protocol);
    (Op::Socket, AccessObject::Socket(kind, protocol))
}

fn egress(address: SocketAddr, protocol: u8) -> (Op, AccessObject<'static>) {
    let object = AccessObject::Endpoint {
        // One of IPv4 that is mapped into IPv6 is what it is.
        address: address.ip().to_canonical(),
        protocol,
        port: address.port(),
    };
    (Op::Egress, object)
}

/// One that may be in a rule's network, and may not.
fn address(rng: &mut Rng) -> IpAddr {
    let mut part = || rng.u8(0..4);
    let v4 = Ipv4Addr::new(10, part(), part(), part());
    match rng.u8(0..4) {
        0 => Ipv4Addr::new(127, 0, rng.u8(0..4), 1).into(),
        1 => v4.to_ipv6_mapped().into(),
        2 => Ipv6Addr::new(0x2001, 0xdb8, rng.u16(0..4), 0, 0, 0, 0, rng.u16(0..4)).into(),
        _ => v4.into(),
    }
}

/// A network that such addresses are in.
pub(super) fn network(rng: &mut Rng) -> String {
    match address(rng) {
        IpAddr::V4(address) => {
            let len = rng.choice([8, 14, 15, 16, 23, 24, 30, 31, 32]).unwrap_or(8);
            let mask = u32::MAX << (32 - len);
            let start = Ipv4Addr::from_bits(address.to_bits() & mask);
            format!("{start}/{len}")
        }
        IpAddr::V6(address) => {
            let address = match address.to_ipv4_mapped() {
                Some(_) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
                None => address,
            };
            let len = rng.choice([32, 46, 47, 48, 64, 126, 128]).unwrap_or(32);
            let mask = u128::MAX << (128 - len);
            let start = Ipv6Addr::from_bits(address.to_bits() & mask);
            format!("{start}/{len}")
        }
    }
}
