//! What a socket is, and which address a system call names.

use karmor_abi::word::{Protocol, SOCK_DGRAM, SOCK_RAW};

use super::{
    memory::{Ptr, load, load_u16, load_u32, read},
    offsets::{
        MSGHDR_FLAGS, MSGHDR_NAME, MSGHDR_NAMELEN, REQUEST_COMMON, SKC_DADDR, SKC_DPORT,
        SKC_FAMILY, SKC_NUM, SKC_RCV_SADDR, SKC_V6_DADDR, SKC_V6_RCV_SADDR, SOCK_COMMON,
        SOCK_PROTOCOL, SOCK_TYPE, SOCKET_FILE, SOCKET_SK, SOCKET_TYPE,
    },
};
use crate::sender::RESOLVER;

/// `AF_UNSPEC`.
pub(crate) const AF_UNSPEC: u16 = 0;
/// `AF_INET`.
pub(crate) const AF_INET: u16 = 2;
/// `AF_INET6`.
pub(crate) const AF_INET6: u16 = 10;

/// `sizeof(struct sockaddr_in)`, below which no IPv4 address is taken.
const SOCKADDR_IN_BYTES: u32 = 16;
/// `SIN6_LEN_RFC2133`, likewise for IPv6: the scope may be missing.
const SOCKADDR_IN6_BYTES: u32 = 24;

/// What stands between the zeroes and the address in an IPv4 address mapped into IPv6.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// A socket.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    /// Its `struct sock`, a BTF pointer.
    pub(crate) sk: Ptr,
    /// `SOCK_*`.
    pub(crate) kind: u32,
    /// `AF_*`.
    pub(crate) family: u16,
    /// `IPPROTO_*`, or what its family has instead.
    number: u32,
}

impl Socket {
    /// Behind a `struct socket`. `None` for one that the kernel made for itself.
    ///
    /// # Safety
    /// `socket` must be a BTF pointer to a `struct socket`.
    #[inline(always)]
    pub(crate) unsafe fn of(socket: Ptr) -> Option<Self> {
        // SAFETY: members of BTF pointers.
        unsafe {
            let sk = load(socket, SOCKET_SK.load());
            if sk.is_null() || load(socket, SOCKET_FILE.load()).is_null() {
                return None;
            }
            Some(Self::new(sk, load_u16(socket, SOCKET_TYPE.load())))
        }
    }

    /// Behind a `struct sock`, which a user may have no descriptor of.
    ///
    /// # Safety
    /// `sk` must be a BTF pointer to a `struct sock`.
    #[inline(always)]
    pub(crate) unsafe fn of_sk(sk: Ptr) -> Self {
        // SAFETY: a member of a BTF pointer.
        unsafe { Self::new(sk, load_u16(sk, SOCK_TYPE.load())) }
    }

    #[inline(always)]
    unsafe fn new(sk: Ptr, kind: u16) -> Self {
        // SAFETY: members of a BTF pointer.
        unsafe {
            Self {
                sk,
                kind: kind.into(),
                family: load_u16(sk, SOCK_COMMON.load() + SKC_FAMILY.load()),
                number: load_u16(sk, SOCK_PROTOCOL.load()).into(),
            }
        }
    }

    /// Its protocol, as far as rules tell.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> Protocol {
        Protocol::of(self.family.into(), self.kind, self.number)
    }

    /// `IPPROTO_*`, as far as rules tell.
    #[inline(always)]
    pub(crate) fn ip_protocol(&self) -> u8 {
        self.protocol().ip(self.number)
    }

    /// The family that `AF_UNSPEC` stands for in a message's address: IPv4 takes it for its own, and so
    /// does what is not UDP over IPv6, to which it is no address.
    #[inline(always)]
    pub(crate) fn family_of_messages(&self) -> u16 {
        const UDP: [u32; 2] = [17, 136];
        let is_udp = self.kind == SOCK_DGRAM && UDP.contains(&self.number);
        match self.family {
            AF_INET => AF_INET,
            AF_INET6 if !is_udp => AF_INET6,
            _ => AF_UNSPEC,
        }
    }

    /// It speaks IP.
    #[inline(always)]
    pub(crate) fn is_inet(&self) -> bool {
        matches!(self.family, AF_INET | AF_INET6)
    }

    /// The port that a message goes to whose name is at `address`, if it has one, or 0.
    #[inline(always)]
    pub(crate) fn port_towards(&self, address: u64, len: u32) -> u16 {
        if !self.is_inet() {
            return 0;
        }
        if address != 0
            && len >= SOCKADDR_IN_BYTES
            && let Ok([_family, port]) = read::<[u16; 2]>(address)
        {
            return u16::from_be(port);
        }
        // SAFETY: a member of a BTF pointer.
        u16::from_be(unsafe { load_u16(self.sk, SOCK_COMMON.load() + SKC_DPORT.load()) })
    }

    /// Whether what is sent to that port may ask for names. A raw socket says itself where what it
    /// sends goes, and a connected one may say so beside the data in vain.
    #[inline(always)]
    pub(crate) fn may_ask_for_names(&self, port: u16) -> bool {
        // SAFETY: a member of a BTF pointer.
        let connected = || unsafe { load_u16(self.sk, SOCK_COMMON.load() + SKC_DPORT.load()) };
        self.is_inet()
            && (port == RESOLVER || self.kind == SOCK_RAW || connected() == RESOLVER.to_be())
    }

    /// Where the kernel sends what is for 0.0.0.0: to the address it is bound to, or to itself.
    #[inline(always)]
    fn unspecified_v4(&self) -> u32 {
        const LOOPBACK: u32 = 0x7f00_0001_u32.to_be();
        let bound = self.sk as u64 + u64::from(SOCK_COMMON.load() + SKC_RCV_SADDR.load());
        match read::<u32>(bound) {
            Ok(address) if address != 0 => address,
            _ => LOOPBACK,
        }
    }

    /// Likewise for `::`, which is IPv4 to a socket bound to such an address.
    #[inline(always)]
    fn unspecified_v6(&self) -> Remote {
        let bound = self.sk as u64 + u64::from(SOCK_COMMON.load() + SKC_V6_RCV_SADDR.load());
        match read::<[u32; 4]>(bound) {
            Ok([0, 0, MAPPED, _]) => Remote::V4(0x7f00_0001_u32.to_be()),
            _ => Remote::V6([0, 0, 0, 1_u32.to_be()]),
        }
    }

    /// What an IPv4 address stands for.
    #[inline(always)]
    fn v4(&self, address: u32) -> Remote {
        if address == 0 {
            Remote::V4(self.unspecified_v4())
        } else {
            Remote::V4(address)
        }
    }

    /// What an IPv6 address stands for.
    #[inline(always)]
    fn v6(&self, address: [u32; 4]) -> Remote {
        match address {
            [0, 0, MAPPED, v4] => self.v4(v4),
            [0, 0, 0, 0] => self.unspecified_v6(),
            v6 => Remote::V6(v6),
        }
    }
}

/// Another host's address, in network byte order.
#[derive(Clone, Copy)]
pub(crate) enum Remote {
    /// IPv4, also where it came mapped into IPv6.
    V4(u32),
    /// IPv6.
    V6([u32; 4]),
}

impl Remote {
    /// As IPv6 has it.
    #[inline(always)]
    pub(crate) const fn mapped(self) -> [u32; 4] {
        match self {
            Self::V4(address) => [0, 0, MAPPED, address],
            Self::V6(address) => address,
        }
    }
}

/// A `struct sockaddr_in` or `sockaddr_in6`, as far as it matters.
#[derive(Clone, Copy)]
#[repr(C)]
struct SockAddr {
    family: u16,
    port: u16,
    v4: u32,
    v6: [u32; 4],
}

/// An address in a system call's arguments.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    /// The address.
    pub(crate) remote: Remote,
    /// The port.
    pub(crate) port: u16,
}

impl Named {
    /// What an event says of one that could not be read.
    pub(crate) const UNKNOWN: Self = Self {
        remote: Remote::V4(0),
        port: 0,
    };
}

/// Reads the kernel's copy of an address; `unspec` is the family that `AF_UNSPEC` stands for.
/// `None` for one of no family that rules know, or too short for the kernel to take.
#[inline(always)]
pub(crate) fn named(
    socket: &Socket,
    address: u64,
    len: u32,
    unspec: u16,
) -> Result<Option<Named>, i64> {
    if address == 0 || len < SOCKADDR_IN_BYTES {
        return Ok(None);
    }
    // The kernel copies addresses into a `struct sockaddr_storage`, whatever their length.
    let found: SockAddr = read(address)?;
    let family = if found.family == AF_UNSPEC {
        unspec
    } else {
        found.family
    };
    let remote = match family {
        AF_INET => socket.v4(found.v4),
        AF_INET6 if len >= SOCKADDR_IN6_BYTES => socket.v6(found.v6),
        _ => return Ok(None),
    };
    Ok(Some(Named {
        remote,
        port: u16::from_be(found.port),
    }))
}

/// What a message says about itself: address and length of its name, and its flags (`MSG_*`).
///
/// # Safety
/// `message` must be a BTF pointer to a `struct msghdr`.
#[inline(always)]
pub(crate) unsafe fn message(message: Ptr) -> (u64, u32, u32) {
    // SAFETY: members of a BTF pointer.
    unsafe {
        (
            load(message, MSGHDR_NAME.load()) as u64,
            load_u32(message, MSGHDR_NAMELEN.load()),
            load_u32(message, MSGHDR_FLAGS.load()),
        )
    }
}

/// Who asks for a connection, and at which port: `request` is the address of a
/// `struct request_sock`. A listener that is being closed has lost its own port.
#[inline(always)]
pub(crate) fn requested(request: u64) -> Result<Named, i64> {
    let common = request + u64::from(REQUEST_COMMON.load());
    let port = read(common + u64::from(SKC_NUM.load()))?;
    if read::<u16>(common + u64::from(SKC_FAMILY.load()))? == AF_INET {
        let remote = Remote::V4(read(common + u64::from(SKC_DADDR.load()))?);
        return Ok(Named { remote, port });
    }
    // Of a listener for both versions, this holds IPv4 addresses too.
    let remote = match read::<[u32; 4]>(common + u64::from(SKC_V6_DADDR.load()))? {
        [0, 0, MAPPED, v4] => Remote::V4(v4),
        v6 => Remote::V6(v6),
    };
    Ok(Named { remote, port })
}
