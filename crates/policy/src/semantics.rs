//! What a rule does to an access, and which of several rules decides.
//!
//! Told for people, with tables, in `docs/policy-semantics.md`.

use karmor_abi::{op::Op, verdict::Action};

use crate::{
    alias::Aliases,
    model::{Family, Rule, Target},
    select::Effective,
};

/// Bits of a rank below the level; they hold a directory's length.
const LENGTH_BITS: u32 = 12;

/// Longest directory that still counts as longer than another.
const LENGTH_MAX: u16 = (1 << LENGTH_BITS) - 1;

/// How specific a rule is: `level << 12 | length`, higher wins.
///
/// The level says what the rule names and whether it names a source; the length, of directories
/// only, is that of the real name, in bytes, so that `/bin/` and `/usr/bin/` weigh the same where
/// one is a link to the other.
#[must_use]
pub fn rank(rule: &Rule, aliases: &Aliases) -> u16 {
    let (level, length) = match &rule.target {
        Target::Path(_) | Target::Object(_) => (4, 0),
        Target::ExecName(_) => (3, 0),
        Target::Directory { path, .. } => {
            let length = u16::try_from(aliases.resolve(path).len()).unwrap_or(LENGTH_MAX);
            (2, length.min(LENGTH_MAX))
        }
        Target::Glob(_) => (1, 0),
    };
    let level: u16 = if rule.sources.is_empty() {
        level
    } else {
        level + 4
    };
    level << LENGTH_BITS | length
}

/// The family whose rules and posture decide an operation; none for [`Op::Move`], which concerns
/// both.
#[must_use]
pub const fn family(op: Op) -> Option<Family> {
    match op {
        Op::Exec | Op::Map => Some(Family::Process),
        Op::Read | Op::Write => Some(Family::File),
        Op::Move => None,
    }
}

/// What `rule` does to `op` on an object it matches, asked by its owner or not; `None` when it has
/// no say.
#[must_use]
pub fn effect(rule: &Rule, op: Op, owner: bool) -> Option<Action> {
    if family(op) != Some(rule.family) {
        return None;
    }
    if rule.owner_only && !owner {
        return Some(if rule.action == Action::Audit {
            Action::Audit
        } else {
            Action::Block
        });
    }
    let action = match (rule.owner_only, rule.action) {
        (true, Action::Audit) => return None,
        (true, _) => Action::Allow,
        (false, action) => action,
    };
    match op {
        // Shared libraries are mapped the same way, so only a refusal or an alert is meant.
        Op::Map => (action != Action::Allow).then_some(action),
        Op::Read if rule.read_only => (action != Action::Audit).then_some(Action::Allow),
        Op::Write if rule.read_only && action == Action::Allow => Some(Action::Block),
        _ => Some(action),
    }
}

/// Whether `rule` does this to `op` for an owner or for somebody else.
pub(crate) fn may(rule: &Rule, op: Op, action: Action) -> bool {
    [false, true]
        .into_iter()
        .any(|owner| effect(rule, op, owner) == Some(action))
}

/// Whether `rule` refuses anything to anybody.
pub(crate) fn may_block(rule: &Rule) -> bool {
    [Op::Exec, Op::Read, Op::Write]
        .into_iter()
        .any(|op| may(rule, op, Action::Block))
}

/// Rule indices from the most specific to the least, the first of equals first: the order in which
/// rules claim a refused move.
pub(crate) fn precedence(effective: &Effective) -> Vec<u32> {
    let ranks: Vec<u16> = effective
        .rules()
        .map(|rule| rank(rule, &effective.aliases))
        .collect();
    let mut order: Vec<u32> = (0..).take(ranks.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(ranks[index as usize]));
    order
}

/// Whether an object that `rule` matches would shed a refusal with its name.
pub(crate) fn pins_name(rule: &Rule) -> bool {
    [Op::Exec, Op::Read]
        .into_iter()
        .any(|op| may(rule, op, Action::Block))
}
