//! The same question as the compiled table's, answered slowly and obviously.
//!
//! Every rule is looked at, every path compared as text. Nothing here is shared with
//! [`crate::compile`] but the model and the rank, so that the two can be held against each other.

mod matching;

use karmor_abi::{
    op::{Object, Op},
    verdict::{NO_RULE, Reason, Verdict},
};

pub use self::matching::{guards_directory, matches};
use crate::{
    model::{Action, Family, Posture, Rule, Target},
    select::Effective,
    semantics::rank,
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
    /// The acting user owns the object.
    pub owner: bool,
}

/// The object of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessObject<'a> {
    /// An absolute path.
    Path(&'a [u8]),
    /// Something without a decidable path.
    Class(Object),
}

/// Decides an access.
#[must_use]
pub fn decide(effective: &Effective, access: &Access<'_>) -> Verdict {
    let own = decide_for(effective, access, access.source);
    match access.op {
        Op::Exec | Op::Map => own.more_specific(decide_for(effective, access, access.parent)),
        Op::Read | Op::Write | Op::Move => own,
    }
}

/// Decides as if only this image took part.
fn decide_for(effective: &Effective, access: &Access<'_>, source: Option<&[u8]>) -> Verdict {
    if access.op == Op::Move {
        return decide_move(effective, access.object);
    }
    let mut best: Option<(u16, Action, u32)> = None;
    for (index, rule) in (0..).zip(effective.rules()) {
        if !rule_matches(effective, rule, access.object) || !source_listed(effective, rule, source)
        {
            continue;
        }
        let Some(action) = rule_effect(rule, access.op, access.owner) else {
            continue;
        };
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
    match access.object {
        AccessObject::Path(_) => posture(effective, access.op),
        AccessObject::Class(object) => unruled_object(effective, access.op, object),
    }
}

/// Whether the rule is about this object.
#[must_use]
pub fn rule_matches(effective: &Effective, rule: &Rule, object: AccessObject<'_>) -> bool {
    match object {
        AccessObject::Path(path) => matches(&rule.target, &effective.aliases, path),
        AccessObject::Class(class) => rule.target == Target::Object(class),
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
        effective
            .aliases
            .names(listed)
            .iter()
            .any(|name| name.as_bytes() == source)
    })
}

/// The tables of `docs/policy-semantics.md`, line by line.
#[must_use]
pub fn rule_effect(rule: &Rule, op: Op, owner: bool) -> Option<Action> {
    use Action::{Allow, Audit, Block};
    match (rule.family, op) {
        (Family::Process, Op::Exec) => match (rule.owner_only, owner, rule.action) {
            (false, _, action) => Some(action),
            (true, true, Allow | Block) => Some(Allow),
            (true, true, Audit) => None,
            (true, false, Allow | Block) => Some(Block),
            (true, false, Audit) => Some(Audit),
        },
        (Family::Process, Op::Map) => {
            rule_effect(rule, Op::Exec, owner).filter(|&action| action != Allow)
        }
        (Family::File, Op::Read) => match (rule.owner_only, owner, rule.read_only, rule.action) {
            (true, false, _, Allow | Block) => Some(Block),
            (true, false, _, Audit) => Some(Audit),
            (true, true, _, Allow | Block) => Some(Allow),
            (true, true, _, Audit) => None,
            (false, _, false, action) => Some(action),
            (false, _, true, Allow | Block) => Some(Allow),
            (false, _, true, Audit) => None,
        },
        (Family::File, Op::Write) => match (rule.owner_only, owner, rule.read_only, rule.action) {
            (true, false, _, Allow | Block) => Some(Block),
            (true, false, _, Audit) => Some(Audit),
            (true, true, false, Allow | Block) => Some(Allow),
            (true, true, true, Allow | Block) => Some(Block),
            (true, true, _, Audit) => None,
            (false, _, false, action) => Some(action),
            (false, _, true, Allow | Block) => Some(Block),
            (false, _, true, Audit) => Some(Audit),
        },
        _ => None,
    }
}

fn whitelisted(effective: &Effective, family: Family) -> bool {
    effective
        .rules()
        .any(|rule| rule.family == family && rule.action == Action::Allow)
}

fn posture(effective: &Effective, op: Op) -> Verdict {
    let family = match op {
        Op::Exec => Family::Process,
        Op::Read | Op::Write => Family::File,
        Op::Map | Op::Move => return Verdict::ALLOW,
    };
    match effective.posture {
        _ if !whitelisted(effective, family) => Verdict::ALLOW,
        Posture::Allow => Verdict::ALLOW,
        Posture::Audit => Verdict::new(Action::Audit, Reason::Posture, 0, NO_RULE),
        Posture::Block => Verdict::new(Action::Block, Reason::Posture, 0, NO_RULE),
    }
}

/// Whether a rule about paths can do this to somebody.
fn any_path_rule(effective: &Effective, op: Op, action: Action) -> bool {
    effective.rules().any(|rule| {
        !matches!(rule.target, Target::Object(_))
            && (rule_effect(rule, op, false) == Some(action)
                || rule_effect(rule, op, true) == Some(action))
    })
}

fn unruled_object(effective: &Effective, op: Op, object: Object) -> Verdict {
    if object == Object::Anonymous && op != Op::Exec {
        return posture(effective, op);
    }
    if any_path_rule(effective, op, Action::Block) {
        return Verdict::new(Action::Block, Reason::Object, 0, NO_RULE);
    }
    let posture = posture(effective, op);
    if posture.action() == Action::Allow && any_path_rule(effective, op, Action::Audit) {
        return Verdict::new(Action::Audit, Reason::Object, 0, NO_RULE);
    }
    posture
}

fn decide_move(effective: &Effective, object: AccessObject<'_>) -> Verdict {
    let mut best: Option<(u16, u32)> = None;
    for (index, rule) in (0..).zip(effective.rules()) {
        let can_block = |op: Op| {
            rule_effect(rule, op, false) == Some(Action::Block)
                || rule_effect(rule, op, true) == Some(Action::Block)
        };
        let named =
            rule_matches(effective, rule, object) && (can_block(Op::Exec) || can_block(Op::Read));
        let above = match object {
            AccessObject::Path(path) => {
                (can_block(Op::Exec) || can_block(Op::Read) || can_block(Op::Write))
                    && guards_directory(&rule.target, &effective.aliases, path)
            }
            AccessObject::Class(_) => false,
        };
        let rank = rank(rule, &effective.aliases);
        if (named || above) && best.is_none_or(|(best_rank, _)| rank > best_rank) {
            best = Some((rank, index));
        }
    }
    if let Some((_, index)) = best {
        return Verdict::new(Action::Block, Reason::Move, 0, index);
    }
    let unplaced = matches!(
        object,
        AccessObject::Class(Object::Unreachable | Object::TooLong)
    );
    if unplaced
        && [Op::Exec, Op::Read, Op::Write]
            .iter()
            .any(|&op| any_path_rule(effective, op, Action::Block))
    {
        return Verdict::new(Action::Block, Reason::Object, 0, NO_RULE);
    }
    Verdict::ALLOW
}
