//! Patterns of what is not a path: which words a target stands for.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use karmor_abi::word::{self, Protocol, nibble, protocol_byte};

use super::directory;
use crate::{
    alias::Aliases,
    glob::{ByteSet, Token},
    model::{Endpoint, Family, SocketKind, Target},
    syscall::Syscall,
};

/// A byte of a word that may be any.
const ANY: Token = Token::Class(ByteSet::WORD);

/// The words that `target` names, as patterns; none for a target that paths are matched with.
pub(super) fn patterns(target: &Target, aliases: &Aliases) -> Vec<Vec<Token>> {
    match target {
        Target::Path(_)
        | Target::ExecName(_)
        | Target::Directory { .. }
        | Target::Glob(_)
        | Target::Object(_) => Vec::new(),
        Target::Capability(number) => vec![bytes(&word::capability(*number))],
        Target::Preset(op) => vec![bytes(&word::preset(*op))],
        Target::Socket(kind) => socket(*kind),
        Target::Domain(name) => vec![domain(name)],
        Target::Endpoint(endpoint) => endpoints(endpoint),
        Target::Syscall(syscall) => calls(*syscall).collect(),
        Target::SyscallAt { syscall, place } => {
            let places = places(place, aliases);
            let at = |call: Vec<Token>| places.iter().map(move |p| [&call[..], &p[..]].concat());
            calls(*syscall).flat_map(at).collect()
        }
    }
}

/// A system call, by each of its numbers.
fn calls(syscall: Syscall) -> impl Iterator<Item = Vec<Token>> {
    let numbers = syscall.numbers().into_iter();
    numbers.map(|(convention, number)| bytes(&word::syscall(convention, number)))
}

/// The paths of a place, under all its names.
fn places(place: &Target, aliases: &Aliases) -> Vec<Vec<Token>> {
    match place {
        Target::Path(path) => {
            let names = aliases.names(path);
            names.iter().map(|name| bytes(name.as_bytes())).collect()
        }
        Target::Directory { path, recursive } => {
            let names = aliases.names(path);
            let both = names.iter().map(|name| directory(name, *recursive));
            both.flat_map(|(own, inside)| [own, inside]).collect()
        }
        _ => Vec::new(),
    }
}

/// Every word of a family; nothing for those about paths and for presets, which no posture is for.
pub(super) fn all(family: Family) -> Option<Vec<Token>> {
    let domain = match family {
        Family::Process | Family::File | Family::Syscalls | Family::Presets => return None,
        Family::Network => word::SOCKET,
        Family::Endpoints => word::ENDPOINT,
        Family::Dns => word::DOMAIN,
        Family::Capabilities => word::CAPABILITY,
    };
    Some(vec![Token::Byte(domain), Token::DoubleStar])
}

/// The word of a query that cannot be read.
pub(super) fn unreadable() -> Vec<Token> {
    bytes(&word::UNREADABLE)
}

fn bytes(word: &[u8]) -> Vec<Token> {
    word.iter().copied().map(Token::Byte).collect()
}

fn socket(kind: SocketKind) -> Vec<Vec<Token>> {
    let domain = Token::Byte(word::SOCKET);
    let of_type = |kind: u32| {
        let [_, kind, _] = word::socket(kind, Protocol::Other);
        vec![domain, Token::Byte(kind), ANY]
    };
    let of_protocol = |protocol: Protocol| vec![domain, ANY, Token::Byte(protocol as u8)];
    match kind {
        SocketKind::All => vec![vec![domain, Token::DoubleStar]],
        SocketKind::Type(kind) => vec![of_type(kind)],
        SocketKind::Protocol(protocol) => vec![of_protocol(protocol)],
        SocketKind::Packet => vec![of_type(word::SOCK_PACKET), of_protocol(Protocol::Packet)],
    }
}

/// The name and all below it: from its end, a name goes on behind a dot.
fn domain(name: &str) -> Vec<Token> {
    let reversed = name.bytes().rev().chain([b'.']).map(Token::Byte);
    [Token::Byte(word::DOMAIN)]
        .into_iter()
        .chain(reversed)
        .chain([Token::DoubleStar])
        .collect()
}

fn endpoints(endpoint: &Endpoint) -> Vec<Vec<Token>> {
    let addresses = match endpoint.network {
        None => vec![address(4, &[], 0, 8), address(6, &[], 0, 32)],
        Some(IpNet::V4(net)) => {
            vec![address(
                4,
                &net.network().octets(),
                net.prefix_len().into(),
                8,
            )]
        }
        Some(IpNet::V6(net)) => {
            vec![address(
                6,
                &net.network().octets(),
                net.prefix_len().into(),
                32,
            )]
        }
    };
    let ends = ends(endpoint);
    addresses
        .iter()
        .flat_map(|address| {
            ends.iter()
                .map(move |end| [&address[..], &end[..]].concat())
        })
        .map(shortened)
        .collect()
}

/// A network of `bits` bits, of addresses of `halves` half-bytes.
fn address(version: u8, octets: &[u8], bits: usize, halves: usize) -> Vec<Token> {
    let mut tokens = vec![Token::Byte(word::ENDPOINT), Token::Byte(version)];
    let half = |index: usize| {
        let octet = octets.get(index / 2).copied().unwrap_or(0);
        if index.is_multiple_of(2) {
            octet >> 4
        } else {
            octet & 15
        }
    };
    tokens.extend(
        (0..halves).map(|index| match bits.saturating_sub(4 * index) {
            0 => ANY,
            fixed @ 1..=3 => {
                let first = half(index);
                any_of(first..=(first | (15 >> fixed)))
            }
            _ => Token::Byte(nibble(half(index))),
        }),
    );
    tokens
}

/// What follows the address: protocol and port.
fn ends(endpoint: &Endpoint) -> Vec<Vec<Token>> {
    let protocol = endpoint
        .protocol
        .map_or(ANY, |number| Token::Byte(protocol_byte(number)));
    if endpoint.ports.is_empty() {
        return vec![vec![protocol, ANY, ANY, ANY, ANY]];
    }
    let behind = |ports: Vec<Token>| [&[protocol], &ports[..]].concat();
    let ranges = endpoint.ports.iter();
    ranges
        .flat_map(|ports| port_patterns(ports, 4))
        .map(behind)
        .collect()
}

/// A range of numbers of `digits` half-bytes, as patterns: what shares a first digit goes together.
fn port_patterns(range: &RangeInclusive<u16>, digits: u32) -> Vec<Vec<Token>> {
    let unit = 1u32 << (4 * (digits - 1));
    let (low, high) = (u32::from(*range.start()), u32::from(*range.end()));
    let (first, last) = (low / unit, high / unit);
    let digit = |number: u32| u8::try_from(number & 15).unwrap_or(0);
    if digits == 1 {
        return vec![vec![any_of(digit(first)..=digit(last))]];
    }
    let below = |first: u32, low: u32, high: u32| {
        let part = |number: u32| u16::try_from(number % unit).unwrap_or(u16::MAX);
        port_patterns(&(part(low)..=part(high)), digits - 1)
            .into_iter()
            .map(move |rest| [&[Token::Byte(nibble(digit(first)))], &rest[..]].concat())
            .collect::<Vec<_>>()
    };
    if first == last {
        return below(first, low, high);
    }
    let mut patterns = below(first, low, unit - 1);
    if first + 1 < last {
        let mut whole = vec![any_of(digit(first + 1)..=digit(last - 1))];
        whole.resize(digits as usize, ANY);
        patterns.push(whole);
    }
    patterns.extend(below(last, 0, high));
    patterns
}

/// One of these half-bytes.
fn any_of(halves: RangeInclusive<u8>) -> Token {
    if halves == (0..=15) {
        return ANY;
    }
    if halves.start() == halves.end() {
        return Token::Byte(nibble(*halves.start()));
    }
    let mut set = ByteSet::default();
    halves.for_each(|half| set.insert(nibble(half)));
    Token::Class(set)
}

/// What may be anything at the end needs no look: the walk stops there.
fn shortened(mut tokens: Vec<Token>) -> Vec<Token> {
    while tokens.last() == Some(&ANY) {
        tokens.pop();
    }
    tokens.push(Token::DoubleStar);
    tokens
}
