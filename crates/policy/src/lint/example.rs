//! Accesses that a rule is about.

use std::net::Ipv4Addr;

use karmor_abi::{
    op::Op,
    table::Asker,
    word::{Protocol, SOCK_DGRAM, SOCK_PACKET, SOCK_SEQPACKET, SOCK_STREAM},
};

use crate::{
    glob::{Glob, Token},
    model::{Rule, SocketKind, Source, Target},
    reference::{Access, AccessObject},
    semantics,
    syscall::Syscall,
};

/// `IPPROTO_TCP`, as rules name it.
const TCP: u8 = 6;

/// The first answer to an access that `rule` has a say about, by its first source.
pub(super) fn find_map<T>(rule: &Rule, mut f: impl FnMut(&Access<'_>) -> Option<T>) -> Option<T> {
    let examples = Example::of(&rule.target);
    let source = rule.sources.first().map(|source| match source {
        Source::Path(path) => path.clone(),
        Source::Directory { path, .. } => format!("{path}x"),
    });
    let mut asked = semantics::operations(rule.family)
        .iter()
        .flat_map(|&op| semantics::ASKERS.map(|asker| (op, asker)))
        .filter(|&(op, asker)| semantics::effect(rule, op, asker).is_some());
    let mut ask = |op: Op, asker: Asker, example: &Example| {
        f(&Access {
            op,
            object: example.object(),
            source: source.as_deref().map(str::as_bytes),
            parent: None,
            asker,
            trusted: true,
            arguments: None,
        })
    };
    asked.find_map(|(op, asker)| examples.iter().find_map(|example| ask(op, asker, example)))
}

/// Something that a rule names.
enum Example {
    Path(Vec<u8>),
    Domain(Vec<u8>),
    SyscallAt(Syscall, Vec<u8>),
    /// What holds no text.
    Other(AccessObject<'static>),
}

impl Example {
    /// One, or one for each alternative.
    fn of(target: &Target) -> Vec<Self> {
        vec![match target {
            Target::Path(_) | Target::ExecName(_) | Target::Directory { .. } => {
                Self::Path(path(target))
            }
            Target::Glob(text) => {
                let Ok(glob) = Glob::parse(text) else {
                    return Vec::new();
                };
                let alternatives = glob.alternatives().iter();
                return alternatives
                    .map(|tokens| Self::Path(text_of(tokens)))
                    .collect();
            }
            Target::Domain(name) => Self::Domain(name.clone().into_bytes()),
            Target::SyscallAt { syscall, place } => Self::SyscallAt(*syscall, path(place)),
            Target::Object(object) => Self::Other(AccessObject::Class(*object)),
            Target::Socket(kind) => Self::Other(socket(*kind)),
            Target::Endpoint(endpoint) => Self::Other(AccessObject::Endpoint {
                address: endpoint
                    .network
                    .map_or(Ipv4Addr::LOCALHOST.into(), |network| network.network()),
                protocol: endpoint.protocol.unwrap_or(TCP),
                port: endpoint.ports.first().map_or(1, |ports| *ports.start()),
            }),
            Target::Capability(number) => Self::Other(AccessObject::Capability(*number)),
            Target::Syscall(syscall) => Self::Other(AccessObject::Syscall(*syscall)),
            Target::Preset(_) => Self::Other(AccessObject::Preset),
        }]
    }

    fn object(&self) -> AccessObject<'_> {
        match self {
            Self::Path(path) => AccessObject::Path(path),
            Self::Domain(name) => AccessObject::Domain(name),
            Self::SyscallAt(syscall, path) => AccessObject::SyscallAt(*syscall, path),
            Self::Other(object) => *object,
        }
    }
}

fn path(place: &Target) -> Vec<u8> {
    match place {
        Target::ExecName(name) => format!("/{name}").into_bytes(),
        Target::Directory { path, .. } => format!("{path}x").into_bytes(),
        other => other.path().unwrap_or_default().into(),
    }
}

fn text_of(tokens: &[Token]) -> Vec<u8> {
    let byte = |token: &Token| match *token {
        Token::Byte(byte) => Some(byte),
        Token::Class(set) => {
            let lower = set.iter().find(u8::is_ascii_lowercase);
            lower.or_else(|| set.iter().find(|&byte| byte != 0))
        }
        Token::Star | Token::DoubleStar => None,
    };
    tokens.iter().filter_map(byte).collect()
}

fn socket(kind: SocketKind) -> AccessObject<'static> {
    let (kind, protocol) = match kind {
        SocketKind::All => (SOCK_STREAM, Protocol::Tcp),
        SocketKind::Type(kind) => (kind, Protocol::Other),
        SocketKind::Protocol(Protocol::Tcp) => (SOCK_STREAM, Protocol::Tcp),
        SocketKind::Protocol(Protocol::Sctp) => (SOCK_SEQPACKET, Protocol::Sctp),
        SocketKind::Protocol(protocol) => (SOCK_DGRAM, protocol),
        SocketKind::Packet => (SOCK_PACKET, Protocol::Packet),
    };
    AccessObject::Socket(kind, protocol)
}
