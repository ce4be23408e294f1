//! Asking for names in every way, and a resolver that knows all of them.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use rustix::{
    fs::MemfdFlags,
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto::RAW, sendto, socket_with},
};

/// How long an answer may take that comes from this very machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a message's header.
const HEADER: usize = 12;

/// What an answer begins with, as the question does.
const IDENTITY: [u8; 2] = [0x4b, 0x61];

/// How names are asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum How {
    /// Each in a datagram, over a connected socket
    Udp,
    /// The same, without an answer
    Unanswered,
    /// Each in a datagram to an address
    SendTo,
    /// All in one datagram
    Together,
    /// The first in a datagram, and the second in one that refers to it
    Reference,
    /// All in one call that makes a datagram of each
    Parts,
    /// Each in a datagram behind an extension header of IPv6
    Extended,
    /// Each in a datagram, in a header without its name's end
    Cut,
    /// Each in a datagram of two parts, the first of which has no data
    Fragments,
    /// Each over TCP
    Tcp,
    /// All over TCP, at once
    TcpAll,
    /// Each over TCP, in two parts
    TcpSplit,
    /// Each over TCP, from a file that could still change
    TcpFile,
    /// Each over TCP and then once more, behind an urgent byte that its reader does not count
    TcpUrgent,
}

/// Answers everybody who asks, until told to end.
pub(crate) fn resolve(port: u16, signals: &Path) -> Result<()> {
    // An answer comes from the address that was asked.
    for here in ["127.0.0.1", "127.0.0.2", "::1"] {
        let datagrams = UdpSocket::bind((here, port)).context("cannot bind for datagrams")?;
        thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok((len, from)) = datagrams.recv_from(&mut message) {
                if let Some(answer) = answer(&message[..len]) {
                    // Who has gone needs no answer.
                    let _ = datagrams.send_to(&answer, from);
                }
            }
        });
    }
    let here = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let streams = TcpListener::bind(here).context("cannot listen")?;
    thread::spawn(move || {
        for stream in streams.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    let ready = signals.join(format!("ready-{port}"));
    fs::write(&ready, "").context("cannot say so")?;
    while !signals.join("go").exists() {
        thread::sleep(Duration::from_millis(50));
    }
    fs::remove_file(ready).context("cannot say that this is the end")
}

fn serve(mut stream: TcpStream) -> Option<()> {
    loop {
        let message = receive(&mut stream).ok()?;
        send(&mut stream, &answer(&message)?).ok()?;
    }
}

/// The message with the bit of an answer, and with an address if the name tells it.
fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let mut answer = message.to_vec();
    *answer.get_mut(2)? |= 0x80;
    if message.get(4..6)? == [0, 1]
        && let Some((address, ttl)) = address_in(message.get(HEADER..)?)
    {
        answer[6..8].copy_from_slice(&[0, 2]);
        answer.extend(alias(address, ttl));
    }
    Some(answer)
}

/// What a name with a label like `127-0-0-1` stands for, or one like `0--1` for IPv6, and for how many
/// seconds: ten minutes, and none with the label `short`.
fn address_in(mut name: &[u8]) -> Option<(IpAddr, u32)> {
    let (mut address, mut ttl) = (None, 600);
    while let [len @ 1..=63, rest @ ..] = name {
        let (label, behind) = rest.split_at_checked(usize::from(*len))?;
        let label = str::from_utf8(label).ok()?;
        if label == "short" {
            ttl = 0;
        }
        let parsed = [".", ":"].map(|dot| label.replace('-', dot).parse::<IpAddr>());
        address = address.or(parsed.into_iter().find_map(Result::ok));
        name = behind;
    }
    Some((address?, ttl))
}

/// Records that name an alias of the name asked for, and the alias's address.
fn alias(address: IpAddr, ttl: u32) -> Vec<u8> {
    const ALIAS: &[u8] = b"\x05alias\x04test\0";
    let record = |owner: &[u8], kind: u8, data: &[u8]| {
        let [high, low] = u16::try_from(data.len()).unwrap_or(0).to_be_bytes();
        let class = [0, kind, 0, 1];
        [owner, &class, &ttl.to_be_bytes(), &[high, low], data].concat()
    };
    let reference = [0xc0, 12];
    let address = match address {
        IpAddr::V4(address) => record(ALIAS, 1, &address.octets()),
        IpAddr::V6(address) => record(ALIAS, 28, &address.octets()),
    };
    [record(&reference, 5, ALIAS), address].concat()
}

/// Asks a resolver for names; an error says which is not answered, and why.
pub(crate) fn ask(how: How, resolver: SocketAddr, names: &[String]) -> Result<()> {
    let messages = match how {
        How::Together => vec![message(names)?],
        _ => names
            .iter()
            .map(|name| message(std::slice::from_ref(name)))
            .collect::<Result<_>>()?,
    };
    match how {
        How::Udp | How::Together | How::Reference | How::Cut => {
            let socket = connected(resolver)?;
            match how {
                How::Reference => datagram(&socket, &referring(names)?),
                How::Cut => messages
                    .iter()
                    .try_for_each(|message| datagram(&socket, &message[..message.len() - 6])),
                _ => messages
                    .iter()
                    .try_for_each(|message| datagram(&socket, message)),
            }
        }
        How::Unanswered => {
            let socket = connected(resolver)?;
            for message in &messages {
                socket.send(message).context("cannot send")?;
            }
            Ok(())
        }
        How::SendTo => {
            let socket = bound(resolver)?;
            for message in &messages {
                socket
                    .send_to(message, resolver)
                    .context("cannot send")
                    .and_then(|_sent| answered(&socket))?;
            }
            Ok(())
        }
        How::Extended => {
            let socket = connected(resolver)?;
            // Padding, for the destination.
            option(&socket, libc::IPPROTO_IPV6, 59, &[0, 0, 1, 4, 0, 0, 0, 0])?;
            messages
                .iter()
                .try_for_each(|message| datagram(&socket, message))
        }
        How::Fragments => {
            let socket = bound(resolver)?;
            messages.iter().try_for_each(|message| {
                send_fragments(&socket, resolver, message)?;
                answered(&socket)
            })
        }
        How::Parts => {
            let socket = connected(resolver)?;
            let longest = messages.iter().map(Vec::len).max().unwrap_or(0);
            option(
                &socket,
                libc::SOL_UDP,
                103,
                &i32::try_from(longest)?.to_ne_bytes(),
            )?;
            let mut all = Vec::new();
            for message in &messages {
                all.extend(message);
                all.resize(all.len().next_multiple_of(longest), 0);
            }
            datagram(&socket, &all)
        }
        How::Tcp => messages.iter().try_for_each(|message| {
            let mut stream = stream(resolver)?;
            send(&mut stream, message)?;
            replied(&mut stream)
        }),
        How::TcpAll => {
            let mut stream = stream(resolver)?;
            let mut all = Vec::new();
            for message in &messages {
                all.extend(framed(message)?);
            }
            stream.write_all(&all).context("cannot send")?;
            messages
                .iter()
                .try_for_each(|_message| replied(&mut stream))
        }
        How::TcpSplit => messages.iter().try_for_each(|message| {
            let mut stream = stream(resolver)?;
            let framed = framed(message)?;
            let (first, second) = framed.split_at(HEADER + 6);
            stream.write_all(first).context("cannot send")?;
            thread::sleep(Duration::from_millis(100));
            stream.write_all(second).context("cannot send")?;
            replied(&mut stream)
        }),
        How::TcpFile => messages.iter().try_for_each(|message| {
            let mut stream = stream(resolver)?;
            let file = rustix::fs::memfd_create("message", MemfdFlags::empty())
                .context("cannot create a file in memory")?;
            let mut file = File::from(file);
            let framed = framed(message)?;
            file.write_all(&framed).context("cannot fill the file")?;
            let mut start = 0;
            rustix::fs::sendfile(&stream, &file, Some(&mut start), framed.len())
                .context("cannot send")?;
            replied(&mut stream)
        }),
        How::TcpUrgent => messages.iter().try_for_each(|message| {
            let mut stream = stream(resolver)?;
            rustix::net::send(&stream, &framed(message)?, SendFlags::OOB).context("cannot send")?;
            stream.write_all(&hidden(message)?).context("cannot send")?;
            replied(&mut stream)?;
            replied(&mut stream)
        }),
    }
}

/// The last byte of a message, and the same message again. Who reads no byte before it sees one message
/// without a question.
fn hidden(message: &[u8]) -> Result<Vec<u8>> {
    let mut padded = message.to_vec();
    padded.resize(256, 0);
    let last = message.last().copied().context("an empty message")?;
    ensure!(last == 1, "a message without a class");
    Ok([vec![last], framed(&padded)?].concat())
}

/// A message that asks for the addresses of names.
fn message(names: &[String]) -> Result<Vec<u8>> {
    let [_, count] = u16::try_from(names.len())?.to_be_bytes();
    let mut message = IDENTITY.to_vec();
    message.extend([1, 0, 0, count, 0, 0, 0, 0, 0, 0]);
    for name in names {
        for label in name.split('.') {
            message.push(u8::try_from(label.len())?);
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
    }
    Ok(message)
}

/// Asks for the first name, and for one label below it.
fn referring(names: &[String]) -> Result<Vec<u8>> {
    let mut message = message(&names[..1])?;
    message[5] = 2;
    message.extend([3, b'w', b'w', b'w', 0xc0, u8::try_from(HEADER)?, 0, 1, 0, 1]);
    Ok(message)
}

fn bound(resolver: SocketAddr) -> Result<UdpSocket> {
    let here = if resolver.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(here).context("cannot bind")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn connected(resolver: SocketAddr) -> Result<UdpSocket> {
    let socket = bound(resolver)?;
    socket.connect(resolver).context("cannot connect")?;
    Ok(socket)
}

fn datagram(socket: &UdpSocket, message: &[u8]) -> Result<()> {
    socket.send(message).context("cannot send")?;
    answered(socket)
}

fn answered(socket: &UdpSocket) -> Result<()> {
    let mut answer = [0; 4096];
    let len = socket.recv(&mut answer).context("no answer")?;
    ensure!(answer[..len].starts_with(&IDENTITY), "another answer");
    Ok(())
}

/// Sends a datagram of IPv4 in the name of a socket, in two parts: its header, and what it carries.
fn send_fragments(socket: &UdpSocket, resolver: SocketAddr, message: &[u8]) -> Result<()> {
    let IpAddr::V4(address) = resolver.ip() else {
        bail!("only over IPv4");
    };
    let raw = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::empty(),
        Some(RAW),
    )
    .context("cannot make a raw socket")?;
    let [from, to] = [socket.local_addr()?.port(), resolver.port()].map(u16::to_be_bytes);
    let len = u16::try_from(8 + message.len())?.to_be_bytes();
    let header = [from, to, len, [0; 2]].concat();
    // The first has more behind it, and the second begins behind eight bytes.
    for (place, part) in [([0x20, 0], &header[..]), ([0, 1], message)] {
        // The kernel fills in the length and the sum.
        let mut packet = vec![0x45, 0, 0, 0, 0x4b, 0x61, place[0], place[1], 64, 17, 0, 0];
        packet.extend(address.octets());
        packet.extend(address.octets());
        packet.extend(part);
        sendto(&raw, &packet, SendFlags::empty(), &resolver).context("cannot send")?;
    }
    Ok(())
}

fn stream(resolver: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(resolver).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn framed(message: &[u8]) -> Result<Vec<u8>> {
    let mut framed = u16::try_from(message.len())?.to_be_bytes().to_vec();
    framed.extend(message);
    Ok(framed)
}

fn send(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    stream.write_all(&framed(message)?).context("cannot send")
}

fn replied(stream: &mut TcpStream) -> Result<()> {
    let answer = receive(stream).context("no answer")?;
    ensure!(answer.starts_with(&IDENTITY), "another answer");
    Ok(())
}

fn receive(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn option(socket: &UdpSocket, level: i32, name: i32, value: &[u8]) -> Result<()> {
    // SAFETY: the value is as long as is said, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            libc::socklen_t::try_from(value.len())?,
        )
    };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        bail!("cannot set option {name}: {error}");
    }
    Ok(())
}
