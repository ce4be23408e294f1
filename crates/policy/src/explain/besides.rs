//! What else is asked of who does something: the kernel asks at several places on its way, and a
//! refusal at any of them counts.

use karmor_abi::{
    op::Op,
    verdict::Verdict,
    word::{Protocol, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM},
};

use super::{Asked, DecidedBy, Explanation, Other, Query};
use crate::{model::SocketKind, names};

/// The question that is asked besides.
pub(super) fn question(query: &Query) -> Option<Query> {
    let (op, object) = match (query.op, &query.object) {
        (Op::Exec | Op::Map, object) => (Op::Read, object.clone()),
        (Op::Move, object) => (Op::Write, object.clone()),
        (Op::Egress | Op::Ingress, Asked::Endpoint { protocol, .. }) => {
            (Op::Socket, over(*protocol)?)
        }
        // Resolvers are asked over UDP first.
        (Op::Query, _) => (Op::Socket, Asked::usual_socket(Protocol::Udp)),
        (Op::SyscallAt, Asked::Syscall(syscall, _)) => {
            (Op::Syscall, Asked::Syscall(*syscall, None))
        }
        _ => return None,
    };
    Some(Query {
        op,
        object,
        parent: None,
        arguments: None,
        ..query.clone()
    })
}

/// Why that is asked, by the operation that was asked about first.
pub(super) fn why(operation: &str) -> &'static str {
    match operation {
        "exec" => "an exec opens the file first",
        "map" => "who maps a file opens it first",
        "move" => "another name is a write as well",
        "connect" | "accept" => "the socket is asked about as well",
        "query" => "a query needs a socket, of UDP here",
        _ => "the call is asked about without its path as well",
    }
}

/// The socket that speaks this `IPPROTO_*`.
fn over(protocol: u8) -> Option<Asked> {
    match names::socket_kind_named(names::ip_protocol(protocol)?)? {
        SocketKind::Protocol(protocol) => Some(Asked::usual_socket(protocol)),
        _ => None,
    }
}

impl Asked {
    /// The socket that programs mostly use for a protocol: some have two types.
    #[must_use]
    pub const fn usual_socket(protocol: Protocol) -> Self {
        let kind = match protocol {
            Protocol::Tcp => SOCK_STREAM,
            Protocol::Sctp => SOCK_SEQPACKET,
            // As programs that look at the network open it.
            Protocol::Icmp | Protocol::Icmpv6 | Protocol::Packet => SOCK_RAW,
            Protocol::Udp | Protocol::Other => SOCK_DGRAM,
        };
        Self::Socket(kind, protocol)
    }
}

impl Explanation {
    /// Adds what is asked besides. The stricter answer counts.
    pub(super) fn add(&mut self, besides: (Self, Verdict), verdict: Verdict) {
        let (besides, decided) = besides;
        if besides.decided_by == DecidedBy::Nothing && besides.others.is_empty() {
            return;
        }
        if decided.action() > verdict.action() {
            if let Some(rule) = self.rule.take() {
                let why = format!(
                    "{} loses to {} of the {}",
                    self.action, besides.action, besides.operation
                );
                let beaten = Other {
                    rule,
                    beaten: true,
                    why,
                };
                self.others.insert(0, beaten);
            }
            self.whitelisted_by = None;
            self.unlisted = None;
            self.arguments_assumed = false;
            self.decided_by = DecidedBy::Besides;
            self.action = besides.action;
        }
        self.besides = Some(Box::new(besides));
    }
}
