//! Making and using sockets. What fails for want of a network or of a protocol has not been refused.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{self, Errno},
    net::{
        AddressFamily, Protocol, RawProtocol, SendFlags, SocketFlags, SocketType, accept,
        addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
        bind, connect, getsockname, ipproto, listen, send, sendto, socket_with, socketpair,
        sockopt,
    },
};

use super::ring;

/// Nobody listens there.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// How long an answer may take that comes from this very machine.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// A kind of socket, by the numbers of `socket`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Kind {
    /// `AF_*`
    family: u16,
    /// `SOCK_*`
    kind: u32,
    /// `IPPROTO_*`
    protocol: u32,
}

/// What is done with a socket.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Use {
    /// `socket`
    Create,
    /// `socketpair`
    Pair,
    /// `bind`
    Bind,
    /// `listen`
    Listen,
    /// `connect`
    Connect,
    /// `accept`
    Accept,
    /// `sendto`
    Send,
}

/// How somebody is spoken to.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Speech {
    /// `connect`
    Connect,
    /// `sendto`
    Send,
    /// `sendto` with an address of no family
    SendUnspecified,
    /// `sendto` that connects
    SendFast,
    /// `sendmmsg`
    SendMany,
    /// `connect` by io_uring
    Ring,
    /// `accept` from there
    Accept,
    /// `accept` from there with a socket for both versions of IP
    AcceptMapped,
}

impl Kind {
    const TCP: Self = Self::new(2, 1, 0);
    const UDP: Self = Self::new(2, 2, 0);

    const fn new(family: u16, kind: u32, protocol: u32) -> Self {
        Self {
            family,
            kind,
            protocol,
        }
    }

    /// One for addresses like this.
    fn like(mut self, address: &SocketAddr) -> Self {
        self.family = if address.is_ipv6() { 10 } else { 2 };
        self
    }

    fn socket(self) -> io::Result<OwnedFd> {
        let protocol = RawProtocol::new(self.protocol).map(Protocol::from_raw);
        socket_with(
            AddressFamily::from_raw(self.family),
            SocketType::from_raw(self.kind),
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            protocol,
        )
    }

    fn pair(self) -> io::Result<(OwnedFd, OwnedFd)> {
        socketpair(
            AddressFamily::from_raw(self.family),
            SocketType::from_raw(self.kind),
            SocketFlags::CLOEXEC,
            RawProtocol::new(self.protocol).map(Protocol::from_raw),
        )
    }
}

/// Uses a socket, which must be of IPv4 for all but its creation.
pub(crate) fn use_socket(kind: Kind, how: Use) -> Result<()> {
    if matches!(how, Use::Pair) {
        return went_ahead(kind.pair(), "make a pair");
    }
    let socket = match kind.socket() {
        Err(error) => return went_ahead::<()>(Err(error), "make a socket"),
        Ok(socket) => socket,
    };
    match how {
        Use::Create | Use::Pair => Ok(()),
        Use::Bind => went_ahead(bind(&socket, &anywhere(0)), "bind"),
        Use::Listen => {
            bind(&socket, &anywhere(0)).context("cannot bind")?;
            went_ahead(listen(&socket, 1), "listen")
        }
        Use::Connect => went_ahead(connect(&socket, &NOWHERE), "connect"),
        Use::Accept => {
            let client = pending(&socket)?;
            went_ahead(accept(&socket), "accept")?;
            drop(client);
            Ok(())
        }
        Use::Send if kind.kind == 1 => {
            let client = pending(&socket)?;
            went_ahead(send(&client, b"x", SendFlags::NOSIGNAL), "send")
        }
        Use::Send => went_ahead(sendto(&socket, b"x", SendFlags::empty(), &NOWHERE), "send"),
    }
}

/// Binds and listens, and returns who has connected since.
fn pending(socket: &OwnedFd) -> Result<OwnedFd> {
    bind(socket, &anywhere(0)).context("cannot bind")?;
    listen(socket, 1).context("cannot listen")?;
    let address = getsockname(socket).context("the socket has an address")?;
    let address = SocketAddr::try_from(address).context("the socket is of IP")?;
    let client = Kind::TCP.socket().context("cannot make a socket")?;
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
    if !is_connected(&client, connect(&client, &to))? {
        bail!("nobody answers at {to}");
    }
    Ok(client)
}

/// Speaks to an address, over a protocol by its number.
pub(crate) fn speak(how: Speech, address: SocketAddr, protocol: u32) -> Result<()> {
    let kind = match protocol {
        6 | 262 => Kind::new(2, 1, protocol),
        17 => Kind::UDP,
        132 => Kind::new(2, 1, protocol),
        _ => Kind::new(2, 3, protocol),
    };
    if matches!(how, Speech::Accept | Speech::AcceptMapped) {
        return accept_from(kind, address, matches!(how, Speech::AcceptMapped));
    }
    let socket = kind
        .like(&address)
        .socket()
        .context("cannot make a socket")?;
    match how {
        Speech::Connect => went_ahead(connect(&socket, &address), "connect"),
        Speech::Send => went_ahead(sendto(&socket, b"x", SendFlags::empty(), &address), "send"),
        Speech::SendFast => went_ahead(
            sendto(
                &socket,
                b"x",
                SendFlags::from_bits_retain(0x2000_0000),
                &address,
            ),
            "send",
        ),
        Speech::SendUnspecified => {
            let address = Unspecified::new(address);
            went_ahead(sendto(&socket, b"x", SendFlags::empty(), &address), "send")
        }
        Speech::SendMany => many(&socket, address),
        Speech::Ring => went_ahead(ring::connect(&socket, address)?, "connect"),
        Speech::Accept | Speech::AcceptMapped => Ok(()),
    }
}

/// Listens at the address's port and connects from its IP.
fn accept_from(kind: Kind, from: SocketAddr, mapped: bool) -> Result<()> {
    let here = if mapped || from.is_ipv6() {
        SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), from.port())
    } else {
        anywhere(from.port())
    };
    let server = listening(kind.like(&here), here)?;
    let to: IpAddr = match from {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    knock(from.ip(), SocketAddr::new(to, from.port()))?;
    accept(&server).context("cannot accept")?;
    Ok(())
}

fn listening(kind: Kind, here: SocketAddr) -> Result<OwnedFd> {
    let server = kind.socket().context("cannot make a socket")?;
    sockopt::set_socket_reuseaddr(&server, true).context("cannot reuse addresses")?;
    bind(&server, &here).context("cannot bind")?;
    listen(&server, 1).context("cannot listen")?;
    Ok(server)
}

/// Connects from one address to another.
pub(crate) fn knock(from: IpAddr, to: SocketAddr) -> Result<()> {
    let client = Kind::TCP.like(&to).socket().context("no socket")?;
    bind(&client, &SocketAddr::new(from, 0)).context("cannot bind the client")?;
    let attempt = connect(&client, &to);
    if attempt == Err(Errno::ACCESS) {
        bail!("the client was refused, not the connection");
    }
    if !is_connected(&client, attempt)? {
        bail!("the connection was dropped");
    }
    Ok(())
}

/// Listens until told to end.
pub(crate) fn serve(port: u16, signals: &Path) -> Result<()> {
    let server = listening(Kind::TCP, anywhere(port))?;
    fs::write(signals.join(format!("ready-{port}")), "").context("cannot say so")?;
    while !signals.join("go").exists() {
        thread::sleep(Duration::from_millis(50));
    }
    drop(server);
    Ok(())
}

/// Waits for the end of a connection attempt; `false` when nobody answers.
fn is_connected(client: &OwnedFd, attempt: io::Result<()>) -> Result<bool> {
    match attempt {
        Ok(()) => return Ok(true),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error).context("cannot connect"),
    }
    let mut polled = [PollFd::new(client, PollFlags::OUT)];
    if poll(&mut polled, Some(&PATIENCE)).context("cannot wait")? == 0 {
        return Ok(false);
    }
    sockopt::socket_error(client)
        .context("cannot ask for an error")?
        .context("cannot connect")?;
    Ok(true)
}

fn many(socket: &OwnedFd, address: SocketAddr) -> Result<()> {
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SocketAddrAny, sendmmsg};
    let any: SocketAddrAny = address.into();
    let data = [std::io::IoSlice::new(b"x")];
    let mut control = SendAncillaryBuffer::default();
    let mut messages = [MMsgHdr::new_with_addr(&any, &data, &mut control)];
    went_ahead(sendmmsg(socket, &mut messages, SendFlags::empty()), "send")
}

/// Makes sockets, and goes on with them when told.
pub(crate) fn hold(signals: &Path) -> Result<()> {
    let make = || Kind::TCP.socket().context("cannot make a socket");
    let (fresh, bound, server, caller) = (make()?, make()?, make()?, make()?);
    bind(&bound, &anywhere(0)).context("cannot bind")?;
    let client = pending(&server)?;
    let datagrams = Kind::UDP.socket().context("cannot make a socket")?;
    fs::write(signals.join("ready"), "").context("cannot say that the sockets are there")?;
    while !signals.join("go").exists() {
        thread::sleep(Duration::from_millis(20));
    }
    let results = [
        ("bind", bind(&fresh, &anywhere(0))),
        ("listen", listen(&bound, 1)),
        ("connect", connect(&caller, &NOWHERE)),
        ("accept", accept(&server).map(drop)),
        ("send", send(&client, b"x", SendFlags::NOSIGNAL).map(drop)),
        ("write", io::write(&client, b"x").map(drop)),
        (
            "sendto",
            sendto(&datagrams, b"x", SendFlags::empty(), &NOWHERE).map(drop),
        ),
    ];
    for (name, result) in results {
        let said = match result {
            Ok(()) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        writeln!(std::io::stdout(), "{name}: {said}").context("cannot write to stdout")?;
    }
    Ok(())
}

const fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// Nothing but a refusal is an error.
fn went_ahead<T>(result: io::Result<T>, what: &str) -> Result<()> {
    match result {
        Err(error @ (Errno::ACCESS | Errno::PERM)) => {
            Err(error).with_context(|| format!("cannot {what}"))
        }
        _ => Ok(()),
    }
}

/// An address that says nothing about its family.
struct Unspecified(Vec<u8>);

impl Unspecified {
    fn new(address: SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        Self(match address {
            SocketAddr::V4(v4) => [&[0; 2][..], &port, &v4.ip().octets()[..], &[0; 8]].concat(),
            // With flow information and a scope.
            SocketAddr::V6(v6) => {
                [&[0; 2][..], &port, &[0; 4], &v6.ip().octets()[..], &[0; 4]].concat()
            }
        })
    }
}

// SAFETY: the pointer is valid for as many bytes as it is told to be.
unsafe impl SocketAddrArg for Unspecified {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let len = SocketAddrLen::try_from(self.0.len()).unwrap_or(0);
        f(self.0.as_ptr().cast(), len)
    }
}

/// `bind` to a port that is not for everybody.
pub(crate) fn bind_low() -> Result<()> {
    let socket = Kind::TCP.socket().context("cannot make a socket")?;
    bind(&socket, &anywhere(80)).context("cannot bind")
}

/// A socket that sees what is not for it.
pub(crate) fn raw() -> Result<()> {
    let protocol = RawProtocol::new(ipproto::ICMP.as_raw().get()).map(Protocol::from_raw);
    rustix::net::socket(AddressFamily::INET, SocketType::RAW, protocol)
        .context("cannot make a socket")?;
    Ok(())
}
