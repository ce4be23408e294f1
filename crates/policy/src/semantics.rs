//! What a rule does to an access, and which of several rules decides.
//!
//! Told for people, with tables, in `docs/policy-semantics.md`.

use karmor_abi::{op::Op, table::Asker, verdict::Action};

use crate::{
    alias::Aliases,
    model::{Family, Rule, SocketKind, Target},
    select::Effective,
};

/// Bits of a rank below the level; they hold a directory's length.
const LENGTH_BITS: u32 = 12;

/// Longest directory that still counts as longer than another.
const LENGTH_MAX: u16 = (1 << LENGTH_BITS) - 1;

/// How specific a rule is: `level << 12 | length`, higher wins.
///
/// The level says what the rule names and whether it names a source. The length, of what can
/// contain another of its kind, says how much it leaves out: of directories the bytes of the real
/// name, so that `/bin/` and `/usr/bin/` weigh the same where one is a link to the other; of domains
/// the bytes; of endpoints the bits of the network, then whether there are ports and a protocol.
#[must_use]
pub fn rank(rule: &Rule, aliases: &Aliases) -> u16 {
    let target = match &rule.target {
        Target::SyscallAt { place, .. } => place,
        target => target,
    };
    let length = |length: usize| u16::try_from(length).unwrap_or(LENGTH_MAX).min(LENGTH_MAX);
    let (level, length) = match target {
        Target::Path(_)
        | Target::Object(_)
        | Target::Capability(_)
        | Target::Syscall(_)
        | Target::Preset(_) => (4, 0),
        // Types before protocols, as KubeArmor has it.
        Target::Socket(SocketKind::Protocol(_)) => (3, 0),
        Target::Socket(_) => (4, 0),
        Target::ExecName(_) => (3, 0),
        Target::Directory { path, .. } => (2, length(aliases.resolve(path).len())),
        Target::Domain(name) => (2, length(name.len())),
        Target::Endpoint(endpoint) => {
            let bits = endpoint
                .network
                .map_or(0, |net| 1 + u16::from(net.prefix_len()));
            let ports = u16::from(!endpoint.ports.is_empty());
            let protocol = u16::from(endpoint.protocol.is_some());
            (2, bits << 2 | ports << 1 | protocol)
        }
        // Within another it would be nothing a rule can say.
        Target::Glob(_) | Target::SyscallAt { .. } => (1, 0),
    };
    let level: u16 = if rule.sources.is_empty() {
        level
    } else {
        level + 4
    };
    level << LENGTH_BITS | length
}

/// The family whose rules and posture decide an operation; none for [`Op::Move`], which concerns
/// both that are about paths.
#[must_use]
pub const fn family(op: Op) -> Option<Family> {
    match op {
        Op::Exec | Op::Map => Some(Family::Process),
        Op::Read | Op::Write => Some(Family::File),
        Op::Move => None,
        Op::Socket => Some(Family::Network),
        Op::Egress | Op::Ingress => Some(Family::Endpoints),
        Op::Query => Some(Family::Dns),
        Op::Capable => Some(Family::Capabilities),
        Op::Syscall | Op::SyscallAt => Some(Family::Syscalls),
        Op::AnonymousMapExec
        | Op::FilelessExec
        | Op::ProtectEnv
        | Op::ProtectProc
        | Op::ExecSession
        | Op::Drift
        | Op::Ptrace
        | Op::Mount
        | Op::Namespace
        | Op::KernelModule
        | Op::Bpf
        | Op::IoUring => Some(Family::Presets),
    }
}

/// The operations that rules of a family are about, without [`Op::Move`].
pub(crate) fn operations(family: Family) -> &'static [Op] {
    match family {
        Family::Process => &[Op::Exec, Op::Map],
        Family::File => &[Op::Read, Op::Write],
        Family::Network => &[Op::Socket],
        Family::Endpoints => &[Op::Egress, Op::Ingress],
        Family::Dns => &[Op::Query],
        Family::Capabilities => &[Op::Capable],
        Family::Syscalls => &[Op::Syscall, Op::SyscallAt],
        Family::Presets => &Op::PRESETS,
    }
}

/// Whether an Allow rule makes a whitelist of the family.
pub(crate) const fn is_whitelist_family(family: Family) -> bool {
    !matches!(family, Family::Syscalls | Family::Presets)
}

/// Who may ask, as far as it matters to any rule.
pub(crate) const ASKERS: [Asker; 4] = {
    const fn asker(owner: bool, terminal: bool) -> Asker {
        Asker { owner, terminal }
    }
    [
        asker(false, false),
        asker(false, true),
        asker(true, false),
        asker(true, true),
    ]
};

/// What `rule` does to `op` on an object it matches, if its list has every argument; `None` when it
/// has no say. [`mismatch`] is the rest of it.
#[must_use]
pub fn effect(rule: &Rule, op: Op, asker: Asker) -> Option<Action> {
    if family(op) != Some(rule.family) || !faces(&rule.target, op) {
        return None;
    }
    let violated = (rule.read_only && op == Op::Write)
        || (rule.owner_only && !asker.owner)
        || (rule.no_terminal && asker.terminal)
        // `ld.so PATH` executes without PATH's arguments being told.
        || (rule.arguments.is_some() && op == Op::Map);
    let action = match (rule.is_conditional(), violated, rule.action) {
        (false, _, action) => action,
        (true, true, action) => violation(action),
        (true, false, Action::Audit) => return None,
        (true, false, _) => Action::Allow,
    };
    // Shared libraries are mapped the same way, so only a refusal or an alert is meant.
    let silent = op == Op::Map && action == Action::Allow;
    (!silent).then_some(action)
}

/// What a rule of this action does to who does not satisfy its conditions.
const fn violation(action: Action) -> Action {
    match action {
        Action::Audit => Action::Audit,
        Action::Allow | Action::Block => Action::Block,
    }
}

/// What `rule` does to an exec of what it matches with an argument that is not in its list; `None`
/// for a rule without one.
#[must_use]
pub fn mismatch(rule: &Rule) -> Option<Action> {
    let listed = rule.family == Family::Process && rule.arguments.is_some();
    listed.then(|| violation(rule.action))
}

/// Everything that `rule` does to `op`, to whomever and with whatever arguments.
fn effects(rule: &Rule, op: Op) -> impl Iterator<Item = Action> {
    let mismatch = mismatch(rule).filter(|_| op == Op::Exec);
    ASKERS
        .into_iter()
        .filter_map(move |asker| effect(rule, op, asker))
        .chain(mismatch)
}

/// Whether what the rule names can be what this operation is about.
fn faces(target: &Target, op: Op) -> bool {
    match (target, op) {
        (Target::Endpoint(endpoint), op) => endpoint.faces(op),
        (Target::Syscall(_), op) => op == Op::Syscall,
        (Target::SyscallAt { .. }, op) => op == Op::SyscallAt,
        (Target::Preset(named), op) => *named == op,
        _ => true,
    }
}

/// Whether `rule` does this to `op` for somebody.
pub(crate) fn may(rule: &Rule, op: Op, action: Action) -> bool {
    effects(rule, op).any(|effect| effect == action)
}

/// Whether `rule` says anything to anybody.
pub(crate) fn has_say(rule: &Rule) -> bool {
    let mut operations = operations(rule.family).iter();
    operations.any(|&op| effects(rule, op).next().is_some())
}

/// The strictest thing that `rule` does to anybody.
pub(crate) fn strictest(rule: &Rule) -> Action {
    operations(rule.family)
        .iter()
        .flat_map(|&op| effects(rule, op))
        .max()
        .unwrap_or(Action::Allow)
}

/// Whether `rule` refuses anybody anything about a path.
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
