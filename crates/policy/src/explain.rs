//! Why an access is decided the way it is: the verdict, the rule that gave it, and every rule that
//! is about the same object and did not.

mod besides;
mod presets;
mod text;
mod view;
mod weigh;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use karmor_abi::{
    limits,
    op::Op,
    table::Asker,
    verdict::{Reason, Verdict},
    word::Protocol,
};
use serde::Serialize;

pub use self::view::RuleView;
use self::weigh::Weigher;
use crate::{
    alias::Aliases,
    model::{Action, Kind, Policy, Postures, Rule, SocketKind},
    names,
    reference::{self, Access, AccessObject},
    select::{Effective, WorkloadKind},
    semantics,
    syscall::Syscall,
};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Operation.
    pub op: Op,
    /// On what.
    pub object: Asked,
    /// Path of the image that acts, when it matters.
    pub source: Option<String>,
    /// Path of the image that started it, when it matters.
    pub parent: Option<String>,
    /// Arguments of an exec, without the name of the program; nothing is known of them without.
    pub arguments: Option<Vec<String>>,
    /// The acting user.
    pub uid: u32,
    /// The object's owner.
    pub owner: u32,
    /// Who acts has a controlling terminal.
    pub terminal: bool,
    /// Whose process it is: no process is subject to the policies of containers and of hosts.
    pub workload: WorkloadKind,
    /// Default postures.
    pub postures: Postures,
    /// Links by which the names in rules are extended.
    pub aliases: Aliases,
    /// The workload's root has these links, so that the kernel sees other names than were asked
    /// for.
    pub has_links: bool,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// An absolute path, or `@anonymous`, `@unreachable`, `@too-long`.
    Path(String),
    /// A socket of this `SOCK_*` type and protocol.
    Socket(u32, Protocol),
    /// The other end of a connection or datagram.
    Endpoint {
        /// Address and port.
        address: SocketAddr,
        /// `IPPROTO_*`.
        protocol: u8,
    },
    /// A name that is asked for.
    Domain(String),
    /// A capability's number.
    Capability(u8),
    /// A system call, and the path it is about if that matters.
    Syscall(Syscall, Option<String>),
    /// What the operation, a preset's, says itself.
    Preset,
}

impl From<&str> for Asked {
    fn from(path: &str) -> Self {
        Self::Path(path.to_owned())
    }
}

impl Asked {
    /// The path, if it is one.
    fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) | Self::Syscall(_, Some(path)) => Some(path),
            _ => None,
        }
    }

    /// The address that the kernel takes it for. An IPv4 address mapped into IPv6 is IPv4, and who
    /// connects to the unspecified address reaches the host itself.
    fn reached(&self, op: Op) -> Option<IpAddr> {
        let Self::Endpoint { address, .. } = self else {
            return None;
        };
        Some(match address.ip().to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) if op == Op::Egress => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if op == Op::Egress => Ipv6Addr::LOCALHOST.into(),
            address => address,
        })
    }

    /// The same with another address, if that is another.
    fn readdressed(&self, ip: IpAddr) -> Option<String> {
        match self {
            Self::Endpoint { address, protocol } if address.ip() != ip => {
                let protocol = *protocol;
                let address = SocketAddr::new(ip, address.port());
                Some(Self::Endpoint { address, protocol }.text(Op::Egress))
            }
            _ => None,
        }
    }

    fn text(&self, op: Op) -> String {
        match self {
            Self::Path(text) | Self::Domain(text) => text.clone(),
            Self::Socket(kind, protocol) => {
                let kind = names::socket_kind(SocketKind::Type(*kind)).unwrap_or("other");
                let named = match protocol {
                    Protocol::Packet => SocketKind::Packet,
                    protocol => SocketKind::Protocol(*protocol),
                };
                match names::socket_kind(named) {
                    Some(protocol) => format!("{protocol} ({kind})"),
                    None => kind.to_owned(),
                }
            }
            Self::Endpoint { address, protocol } => {
                let protocol = names::ip_protocol(*protocol).unwrap_or("other");
                format!("{address}/{protocol}")
            }
            Self::Capability(number) => names::capability(*number).unwrap_or("?").to_owned(),
            Self::Syscall(syscall, None) => syscall.name().to_owned(),
            Self::Syscall(syscall, Some(path)) => format!("{} {path}", syscall.name()),
            Self::Preset => names::preset(op).unwrap_or("?").to_owned(),
        }
    }
}

/// The answer. Serialises as what `-o json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `exec`, `map`, `read`, `write`, `move`, `socket`, `connect`, `accept`, `query`, `capability`,
    /// `syscall` or `preset`.
    pub operation: &'static str,
    /// `container` or `host`.
    pub workload: &'static str,
    /// The object, as asked.
    pub object: String,
    /// The object as the kernel sees it, when links make its name another, or it takes an address for
    /// another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_object: Option<String>,
    /// Arguments of an exec, as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    /// Path of the image that acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Path of the image that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// One of these names runs through a link that the root is taken to have.
    pub links_assumed: bool,
    /// The acting user owns the object; absent for what has no owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_owner: Option<bool>,
    /// Who acts has a controlling terminal.
    pub has_terminal: bool,
    /// `Allow`, `Audit` or `Block`.
    pub action: &'static str,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// The rule that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleView>,
    /// The argument for which that rule decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<Unlisted>,
    /// That rule lists arguments, and none were given: every one is taken to be listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub arguments_assumed: bool,
    /// The Allow rule that made the posture decide, if that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whitelisted_by: Option<RuleView>,
    /// Other rules that match the object, in the order of the policies.
    pub others: Vec<Other>,
    /// What else is asked of who does this, such as opening a file that is executed; absent when no
    /// rule is about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub besides: Option<Box<Explanation>>,
    /// Presets of the policies that may have a say of their own, each a question for itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<&'static str>,
    /// Policies that are about another kind of workload, by kind: how many.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<&'static str, usize>,
}

/// An argument that is missing from a rule's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unlisted {
    /// Its index, from 1: what programs know as `argv[1]`.
    pub position: usize,
    /// What it says; nothing for the first of too many arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DecidedBy {
    /// No rule has a say and the family is not restricted.
    Nothing,
    /// A rule.
    Rule,
    /// The default posture.
    Posture,
    /// The object has no decidable path, and rules restrict its family.
    Object,
    /// The object, or something in it, would shed a rule with its name.
    Move,
    /// What is asked besides is decided more strictly.
    Besides,
}

/// A rule that matches the object and did not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// The rule.
    pub rule: RuleView,
    /// It applied and lost; otherwise it did not apply.
    pub beaten: bool,
    /// Why.
    pub why: String,
}

/// Explains how policies that all apply to a workload decide an access. Policies of kinds that are
/// not about such a workload are left out.
#[must_use]
pub fn explain(policies: &[Policy], query: &Query) -> Explanation {
    let is_about =
        |policy: &&Policy| (policy.kind == Kind::Host) == (query.workload == WorkloadKind::Host);
    let (about, other): (Vec<_>, Vec<_>) = policies.iter().partition(is_about);
    let effective = Effective::new(
        about.into_iter().cloned().map(Arc::new),
        query.postures,
        query.aliases.clone(),
    );
    let (mut explanation, verdict) = answer(&effective, query);
    if let Some(besides) = besides::question(query) {
        explanation.add(answer(&effective, &besides), verdict);
    }
    explanation.presets = presets::concerned(&effective, query);
    for policy in other {
        *explanation
            .left_out
            .entry(policy.kind.as_str())
            .or_default() += 1;
    }
    explanation
}

/// Explains one operation.
fn answer(effective: &Effective, query: &Query) -> (Explanation, Verdict) {
    let real = |name: &str| {
        if query.has_links {
            query.aliases.resolve(name)
        } else {
            name.to_owned()
        }
    };
    let asked = query.object.text(query.op);
    let real_path = query.object.path().map(real);
    let reached = query.object.reached(query.op);
    let (source, parent) = (
        query.source.as_deref().map(real),
        query.parent.as_deref().map(real),
    );
    let arguments: Option<Vec<&[u8]>> = query
        .arguments
        .as_ref()
        .filter(|_| query.op == Op::Exec)
        .map(|arguments| arguments.iter().map(String::as_bytes).collect());
    let lower = asked.trim_end_matches('.').to_ascii_lowercase();
    let access = Access {
        op: query.op,
        object: match &query.object {
            Asked::Path(name) => match names::object_named(name) {
                Some(class) => AccessObject::Class(class),
                None => AccessObject::Path(real_path.as_deref().unwrap_or(name).as_bytes()),
            },
            Asked::Socket(kind, protocol) => AccessObject::Socket(*kind, *protocol),
            Asked::Endpoint { address, protocol } => AccessObject::Endpoint {
                address: reached.unwrap_or(address.ip()),
                protocol: *protocol,
                port: address.port(),
            },
            Asked::Domain(_) => AccessObject::Domain(lower.as_bytes()),
            Asked::Capability(number) => AccessObject::Capability(*number),
            Asked::Syscall(syscall, None) => AccessObject::Syscall(*syscall),
            Asked::Syscall(syscall, Some(path)) => {
                let path = real_path.as_deref().unwrap_or(path);
                AccessObject::SyscallAt(*syscall, path.as_bytes())
            }
            Asked::Preset => AccessObject::Preset,
        },
        source: source.as_deref().map(str::as_bytes),
        parent: parent.as_deref().map(str::as_bytes),
        asker: Asker {
            owner: query.uid == query.owner,
            terminal: query.terminal,
        },
        trusted: query.uid == 0,
        arguments: arguments.as_deref(),
    };
    let verdict = reference::decide(effective, &access);
    let decided_by = match verdict.reason() {
        // Of the enforcer itself no policy says anything.
        Reason::None | Reason::Fault | Reason::Guard => DecidedBy::Nothing,
        Reason::Rule => DecidedBy::Rule,
        Reason::Posture => DecidedBy::Posture,
        Reason::Object => DecidedBy::Object,
        Reason::Move => DecidedBy::Move,
    };
    let winner = matches!(decided_by, DecidedBy::Rule | DecidedBy::Move).then(|| verdict.rule());
    let whitelisted_by = (decided_by == DecidedBy::Posture)
        .then(|| {
            let family = semantics::family(query.op);
            let allows = |rule: &Rule| Some(rule.family) == family && rule.action == Action::Allow;
            effective.rules().position(allows)
        })
        .flatten();
    let view = |index: usize| view::applied(&effective.rules[index]);
    let weigher = Weigher {
        effective,
        access,
        verdict,
    };
    let matches =
        |rule: &Rule| concerns(query.op, rule) && reference::rule_matches(effective, rule, &access);
    let others: Vec<_> = effective
        .rules
        .iter()
        .enumerate()
        .filter(|&(index, entry)| winner != u32::try_from(index).ok() && matches(entry.rule()))
        .map(|(index, entry)| {
            let (beaten, why) = weigher.why_not(entry);
            Other {
                rule: view(index),
                beaten,
                why,
            }
        })
        .collect();
    let decisive = winner.map(|index| effective.rules[index as usize].rule());
    let lists = decisive.filter(|rule| semantics::mismatch(rule).is_some());
    let explanation = Explanation {
        operation: view::operation(query.op),
        workload: match query.workload {
            WorkloadKind::Container => "container",
            WorkloadKind::Host => "host",
        },
        links_assumed: real_path.as_deref() != query.object.path()
            || source != query.source
            || parent != query.parent,
        real_object: real_path
            .clone()
            .filter(|real| Some(real.as_str()) != query.object.path())
            .or_else(|| query.object.readdressed(reached?)),
        object: asked.clone(),
        arguments: query.arguments.clone(),
        source: query.source.clone(),
        parent: query.parent.clone(),
        is_owner: matches!(query.object, Asked::Path(_)).then_some(access.asker.owner),
        has_terminal: access.asker.terminal,
        action: view::action(verdict.action()),
        decided_by,
        rule: winner.map(|index| view(index as usize)),
        unlisted: lists
            .filter(|_| verdict != listed(effective, &access))
            .and_then(|rule| unlisted(rule, query.arguments.as_deref()?)),
        arguments_assumed: lists.is_some() && query.op == Op::Exec && query.arguments.is_none(),
        whitelisted_by: whitelisted_by.map(view),
        others,
        besides: None,
        presets: Vec::new(),
        left_out: BTreeMap::new(),
    };
    (explanation, verdict)
}

/// The verdict if every rule listed every argument.
fn listed(effective: &Effective, access: &Access<'_>) -> Verdict {
    let access = Access {
        arguments: None,
        ..*access
    };
    reference::decide(effective, &access)
}

fn unlisted(rule: &Rule, arguments: &[String]) -> Option<Unlisted> {
    let bytes: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
    let position = reference::unlisted(rule, &bytes)?;
    Some(Unlisted {
        position,
        text: arguments
            .get(position - 1)
            .filter(|_| position <= limits::ARGUMENTS as usize)
            .cloned(),
    })
}

/// Whether a rule of this family can have a say.
fn concerns(op: Op, rule: &Rule) -> bool {
    match semantics::family(op) {
        Some(family) => rule.family == family,
        None => semantics::pins_name(rule),
    }
}
