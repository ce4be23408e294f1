//! The same question as the compiled table's, answered slowly and obviously.
//!
//! Every rule is looked at, every path compared as text. Nothing here is shared with
//! [`crate::compile`] but the model and the rank, so that the two can be held against each other.

mod matching;

use std::net::IpAddr;

use karmor_abi::{
    limits::{ARGUMENT_BYTES, ARGUMENTS},
    op::{Object, Op},
    table::Asker,
    verdict::{NO_RULE, Reason, Verdict},
    word::Protocol,
};

pub use self::matching::{guards_directory, matches};
use crate::{
    essential::is_spared,
    model::{Action, Direction, Family, Posture, Rule, Source, Target},
    select::Effective,
    semantics::rank,
    syscall::Syscall,
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access<'a> {
    /// Operation.
    pub op: Op,
    /// On what.
    pub object: AccessObject<'a>,
    /// Path of the acting image, when it has one.
    pub source: Option<&'a [u8]>,
    /// Path of the image that forked it.
    pub parent: Option<&'a [u8]>,
    /// Whether the acting user owns the object and has a terminal.
    pub asker: Asker,
    /// Whether who acts, and who forked that, is root of the host: an essential program is spared as
    /// long as it is run by that.
    pub trusted: bool,
    /// Arguments of an exec, from index 1 on, where they are known: without, every rule's list has
    /// them.
    pub arguments: Option<&'a [&'a [u8]]>,
}

/// The object of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessObject<'a> {
    /// An absolute path.
    Path(&'a [u8]),
    /// Something without a decidable path.
    Class(Object),
    /// A socket of this `SOCK_*` type and protocol.
    Socket(u32, Protocol),
    /// The other end of a connection or datagram.
    Endpoint {
        /// Address.
        address: IpAddr,
        /// `IPPROTO_*`.
        protocol: u8,
        /// Port.
        port: u16,
    },
    /// A name that is asked for, without a dot at its end, in lower case.
    Domain(&'a [u8]),
    /// A query that cannot be read.
    UnreadableQuery,
    /// A capability's number.
    Capability(u8),
    /// A system call.
    Syscall(Syscall),
    /// A system call about this absolute path.
    SyscallAt(Syscall, &'a [u8]),
    /// What the operation, a preset's, says itself.
    Preset,
}

/// Decides an access.
#[must_use]
pub fn decide(effective: &Effective, access: &Access<'_>) -> Verdict {
    let own = decide_for(effective, access, access.source);
    let (parent, verdict) = match access.op {
        Op::Exec | Op::Map => {
            // Who started an essential program holds nothing against it, nor it against what it
            // starts.
            let images = [access.source, access.parent];
            if images
                .into_iter()
                .any(|image| is_spared_source(effective, access, image))
            {
                (None, own)
            } else {
                let parent = decide_for(effective, access, access.parent);
                (Some(parent), own.more_specific(parent))
            }
        }
        _ => (None, own),
    };
    // Of equally specific answers, both count.
    let counts = |answer: Verdict| answer.rank() == verdict.rank();
    let sources = [
        (Some(own), access.source),
        (parent.filter(|_| access.op == Op::Exec), access.parent),
    ];
    let strictest = sources
        .into_iter()
        .filter(|(answer, _)| answer.is_some_and(counts))
        .flat_map(|(_, source)| mismatches(effective, access, source, verdict.rank()))
        // The most specific, then the first, of the strictest.
        .max_by_key(|v| (v.action(), v.rank(), std::cmp::Reverse(v.rule())));
    strictest.map_or(verdict, |strictest| verdict.stricter(strictest))
}

/// What rules say that do not list every argument of an exec and are at least as specific as this.
fn mismatches(
    effective: &Effective,
    access: &Access<'_>,
    source: Option<&[u8]>,
    least: u16,
) -> Vec<Verdict> {
    let Some(arguments) = access.arguments.filter(|_| access.op == Op::Exec) else {
        return Vec::new();
    };
    let is_spared =
        is_spared_source(effective, access, source) || is_spared_object(effective, access);
    let mut verdicts = Vec::new();
    for (index, rule) in (0..).zip(effective.rules()) {
        let rank = rank(rule, &effective.aliases);
        let has_say = rule.family == Family::Process
            && rank >= least
            && !(rule.spares && is_spared)
            && rule_matches(effective, rule, access)
            && source_listed(effective, rule, source);
        if has_say && unlisted(rule, arguments).is_some() {
            let action = match rule.action {
                Action::Allow | Action::Block => Action::Block,
                Action::Audit => Action::Audit,
            };
            verdicts.push(Verdict::new(action, Reason::Rule, rank, index));
        }
    }
    verdicts
}

/// Index of the first argument, from 1 as programs count them, that a rule's list does not have;
/// nothing for a rule without a list.
#[must_use]
pub fn unlisted(rule: &Rule, arguments: &[&[u8]]) -> Option<usize> {
    let list = rule.arguments.as_ref()?;
    let is_listed = |argument: &&[u8]| {
        argument.len() <= ARGUMENT_BYTES && list.iter().any(|text| text.as_bytes() == *argument)
    };
    let most = ARGUMENTS as usize;
    match arguments.iter().position(|argument| !is_listed(argument)) {
        Some(index) if index < most => Some(index + 1),
        _ => (arguments.len() > most).then_some(most + 1),
    }
}

/// Decides as if only this image took part.
fn decide_for(effective: &Effective, access: &Access<'_>, source: Option<&[u8]>) -> Verdict {
    let is_spared =
        is_spared_source(effective, access, source) || is_spared_object(effective, access);
    if access.op == Op::Move {
        return decide_move(effective, access, is_spared);
    }
    let mut best: Option<(u16, Action, u32)> = None;
    for (index, rule) in (0..).zip(effective.rules()) {
        if !rule_matches(effective, rule, access) || !source_listed(effective, rule, source) {
            continue;
        }
        let Some(action) = rule_effect(rule, access.op, access.asker) else {
            continue;
        };
        let action = spared(action, is_spared && rule.spares);
        let rank = rank(rule, &effective.aliases);
        let better = match best {
            None => true,
            Some((best_rank, best_action, _)) => {
                rank > best_rank || (rank == best_rank && action > best_action)
            }
        };
        if better {
            best = Some((rank, action, index));
        }
    }
    if let Some((rank, action, index)) = best {
        return Verdict::new(action, Reason::Rule, rank, index);
    }
    let verdict = match access.object {
        AccessObject::Class(object) => unruled_object(effective, access.op, object),
        AccessObject::UnreadableQuery => unknown_name(effective, access.op),
        _ => posture(effective, access.op),
    };
    let throughout = is_spared && effective.spares_throughout();
    Verdict::new(
        spared(verdict.action(), throughout),
        verdict.reason(),
        verdict.rank(),
        verdict.rule(),
    )
}

/// What becomes of a refusal of what is spared.
fn spared(action: Action, is_spared: bool) -> Action {
    match action {
        Action::Block if is_spared => Action::Audit,
        other => other,
    }
}

/// Whether what this image does is spared.
fn is_spared_source(effective: &Effective, access: &Access<'_>, image: Option<&[u8]>) -> bool {
    access.trusted && is_spared(effective, image)
}

/// Whether it is about executing an essential program, which opens it, and maps it.
fn is_spared_object(effective: &Effective, access: &Access<'_>) -> bool {
    match (access.op, access.object) {
        (Op::Exec | Op::Map | Op::Read, AccessObject::Path(path)) => {
            is_spared(effective, Some(path))
        }
        _ => false,
    }
}

/// Whether the rule is about this object.
#[must_use]
pub fn rule_matches(effective: &Effective, rule: &Rule, access: &Access<'_>) -> bool {
    match (access.object, &rule.target) {
        (AccessObject::Path(path), target) => matches(target, &effective.aliases, path),
        (AccessObject::Class(class), target) => *target == Target::Object(class),
        (AccessObject::Socket(kind, protocol), Target::Socket(named)) => {
            named.includes(kind, protocol)
        }
        (
            AccessObject::Endpoint {
                address,
                protocol,
                port,
            },
            Target::Endpoint(endpoint),
        ) => endpoint.includes(address, protocol, port),
        (AccessObject::Domain(name), Target::Domain(domain)) => {
            let above = name.strip_suffix(domain.as_bytes());
            above.is_some_and(|above| above.is_empty() || above.ends_with(b"."))
        }
        (AccessObject::Capability(number), Target::Capability(named)) => number == *named,
        (AccessObject::Syscall(call), Target::Syscall(named)) => call == *named,
        (AccessObject::SyscallAt(call, path), Target::SyscallAt { syscall, place }) => {
            call == *syscall && matches(place, &effective.aliases, path)
        }
        (AccessObject::Preset, Target::Preset(op)) => access.op == *op,
        _ => false,
    }
}

/// Whether the rule is about this source.
#[must_use]
pub fn source_listed(effective: &Effective, rule: &Rule, source: Option<&[u8]>) -> bool {
    if rule.sources.is_empty() {
        return true;
    }
    let Some(source) = source else { return false };
    rule.sources.iter().any(|listed| {
        let target = match listed.clone() {
            Source::Path(path) => Target::Path(path),
            Source::Directory { path, recursive } => Target::Directory { path, recursive },
        };
        matches(&target, &effective.aliases, source)
    })
}

/// The tables of `docs/policy-semantics.md`, line by line.
#[must_use]
pub fn rule_effect(rule: &Rule, op: Op, asker: Asker) -> Option<Action> {
    use Action::{Allow, Audit, Block};
    let wrong_user = rule.owner_only && !asker.owner;
    let wrong_terminal = rule.no_terminal && asker.terminal;
    let refused = wrong_user || wrong_terminal;
    let listed = rule.arguments.is_some();
    let conditions = rule.owner_only || rule.no_terminal || listed;
    let conditional = match (conditions, refused, rule.action) {
        (false, _, action) => Some(action),
        (true, false, Allow | Block) => Some(Allow),
        (true, false, Audit) => None,
        (true, true, Allow | Block) => Some(Block),
        (true, true, Audit) => Some(Audit),
    };
    match (rule.family, op) {
        (Family::Process, Op::Exec) => conditional,
        // A mapping has no arguments, so none that a list would have.
        (Family::Process, Op::Map) if listed => match rule.action {
            Allow | Block => Some(Block),
            Audit => Some(Audit),
        },
        (Family::Process, Op::Map) => conditional.filter(|&action| action != Allow),
        (Family::File, Op::Read) => match (rule.read_only, rule.action, refused) {
            (false, ..) | (true, _, true) => conditional,
            (true, Allow | Block, false) => Some(Allow),
            (true, Audit, false) => None,
        },
        (Family::File, Op::Write) => match (rule.read_only, rule.action) {
            (false, _) => conditional,
            (true, Allow | Block) => Some(Block),
            (true, Audit) => Some(Audit),
        },
        (Family::Endpoints, Op::Egress | Op::Ingress) => {
            let Target::Endpoint(endpoint) = &rule.target else {
                return None;
            };
            let over_tcp = endpoint.protocol.is_none_or(|number| number == 6);
            match (endpoint.direction, op) {
                (Some(Direction::Egress), Op::Ingress) | (Some(Direction::Ingress), Op::Egress) => {
                    None
                }
                // What else comes in is not decided.
                (_, Op::Ingress) => conditional.filter(|_| over_tcp),
                _ => conditional,
            }
        }
        (Family::Network, Op::Socket)
        | (Family::Dns, Op::Query)
        | (Family::Capabilities, Op::Capable) => conditional,
        (Family::Syscalls, Op::Syscall) if matches!(rule.target, Target::Syscall(_)) => conditional,
        (Family::Syscalls, Op::SyscallAt) if matches!(rule.target, Target::SyscallAt { .. }) => {
            conditional
        }
        (Family::Presets, op) if rule.target == Target::Preset(op) => conditional,
        _ => None,
    }
}

fn whitelisted(effective: &Effective, family: Family) -> bool {
    effective
        .rules()
        .any(|rule| rule.family == family && rule.action == Action::Allow)
}

fn posture(effective: &Effective, op: Op) -> Verdict {
    let (family, posture) = match op {
        Op::Exec => (Family::Process, effective.postures.file),
        Op::Read | Op::Write => (Family::File, effective.postures.file),
        Op::Socket => (Family::Network, effective.postures.network),
        Op::Egress | Op::Ingress => (Family::Endpoints, effective.postures.network),
        Op::Query => (Family::Dns, effective.postures.network),
        Op::Capable => (Family::Capabilities, effective.postures.capabilities),
        _ => return Verdict::ALLOW,
    };
    match posture {
        _ if !whitelisted(effective, family) => Verdict::ALLOW,
        Posture::Allow => Verdict::ALLOW,
        Posture::Audit => Verdict::new(Action::Audit, Reason::Posture, 0, NO_RULE),
        Posture::Block => Verdict::new(Action::Block, Reason::Posture, 0, NO_RULE),
    }
}

/// Whether the rule can do this to somebody.
fn can(rule: &Rule, op: Op, action: Action) -> bool {
    let mismatch = match rule.action {
        Action::Allow | Action::Block => Action::Block,
        Action::Audit => Action::Audit,
    };
    if op == Op::Exec && rule.arguments.is_some() && action == mismatch {
        return true;
    }
    [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .any(|(owner, terminal)| rule_effect(rule, op, Asker { owner, terminal }) == Some(action))
}

/// Whether a rule that names no class can do this to somebody.
fn any_rule(effective: &Effective, op: Op, action: Action) -> bool {
    effective
        .rules()
        .any(|rule| !matches!(rule.target, Target::Object(_)) && can(rule, op, action))
}

fn unruled_object(effective: &Effective, op: Op, object: Object) -> Verdict {
    if object == Object::Anonymous && op != Op::Exec {
        return posture(effective, op);
    }
    unknown_name(effective, op)
}

/// What holds for what may be anything that a rule names.
fn unknown_name(effective: &Effective, op: Op) -> Verdict {
    if any_rule(effective, op, Action::Block) {
        return Verdict::new(Action::Block, Reason::Object, 0, NO_RULE);
    }
    let posture = posture(effective, op);
    if posture.action() == Action::Allow && any_rule(effective, op, Action::Audit) {
        return Verdict::new(Action::Audit, Reason::Object, 0, NO_RULE);
    }
    posture
}

fn decide_move(effective: &Effective, access: &Access<'_>, is_spared: bool) -> Verdict {
    let object = access.object;
    let mut best: Option<(u16, u32)> = None;
    for (index, rule) in (0..).zip(effective.rules()) {
        let can_block = |op: Op| can(rule, op, Action::Block);
        let named =
            rule_matches(effective, rule, access) && (can_block(Op::Exec) || can_block(Op::Read));
        let above = match object {
            AccessObject::Path(path) => {
                (can_block(Op::Exec) || can_block(Op::Read) || can_block(Op::Write))
                    && guards_directory(&rule.target, &effective.aliases, path)
            }
            _ => false,
        };
        let rank = rank(rule, &effective.aliases);
        if (named || above) && best.is_none_or(|(best_rank, _)| rank > best_rank) {
            best = Some((rank, index));
        }
    }
    if let Some((_, index)) = best {
        let spares = effective.rules[index as usize].rule().spares;
        let action = spared(Action::Block, is_spared && spares);
        return Verdict::new(action, Reason::Move, 0, index);
    }
    let unplaced = matches!(
        object,
        AccessObject::Class(Object::Unreachable | Object::TooLong)
    );
    if unplaced
        && [Op::Exec, Op::Read, Op::Write]
            .iter()
            .any(|&op| any_rule(effective, op, Action::Block))
    {
        let throughout = is_spared && effective.spares_throughout();
        let action = spared(Action::Block, throughout);
        return Verdict::new(action, Reason::Object, 0, NO_RULE);
    }
    Verdict::ALLOW
}
