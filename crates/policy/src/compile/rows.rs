//! Decision rows: who wins among the rules of a set, for every operation, source and owner.

use std::collections::HashMap;

use karmor_abi::{
    op::{Object, Op},
    table::{SET_BY_OWNER, SET_BY_SOURCE, Set},
    verdict::{NO_RULE, Reason, Verdict},
};

use crate::{
    model::{Action, Family, Posture, Rule, Target},
    select::Effective,
    semantics,
};

/// A row: one verdict an operation, in column order.
type Row = [Verdict; Op::ALL.len()];

/// The group of rules a set stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SetKey {
    /// Rules whose target matches, by index, sorted.
    pub rules: Box<[u32]>,
    /// Source class of the path.
    pub source: u32,
    /// First rule that guards the path as a directory, or [`NO_RULE`].
    pub guard: u32,
}

/// Builds rows and keeps each distinct group once.
pub(super) struct Rows<'a> {
    rules: Vec<Ranked<'a>>,
    posture: [Verdict; 2],
    /// For each rule with sources, the source classes it is satisfied by.
    classes_of_rule: HashMap<u32, Vec<u32>>,
    sources: u32,
    words: Vec<u64>,
    groups: HashMap<Box<[u64]>, u32>,
    /// Operations that some cell does not allow.
    ops: u32,
}

struct Ranked<'a> {
    rule: &'a Rule,
    rank: u16,
}

impl<'a> Rows<'a> {
    /// `classes` has the rules that each source class satisfies, class 0 first.
    pub(super) fn new(effective: &'a Effective, classes: &[Box<[u32]>]) -> Self {
        let rules = effective
            .rules()
            .map(|rule| Ranked {
                rule,
                rank: semantics::rank(rule, &effective.aliases),
            })
            .collect();
        let posture = [Family::Process, Family::File]
            .map(|family| posture(effective.posture, effective.is_whitelisted(family)));
        let mut classes_of_rule: HashMap<u32, Vec<u32>> = HashMap::new();
        for (class, satisfied) in (0..).zip(classes) {
            for &rule in satisfied {
                classes_of_rule.entry(rule).or_default().push(class);
            }
        }
        let sources = u32::try_from(classes.len()).unwrap_or(u32::MAX);
        Self {
            rules,
            posture,
            classes_of_rule,
            sources,
            words: Vec::new(),
            groups: HashMap::new(),
            ops: 0,
        }
    }

    /// The set word of paths, with its rows. `reachable` tells whether an access can end there.
    pub(super) fn path_set(&mut self, key: &SetKey, reachable: bool) -> Set {
        let mut rest = self.postures();
        if key.guard != NO_RULE {
            rest[Op::Move as usize] = moved(key.guard);
        }
        self.set(&key.rules, &rest, key.source, reachable)
    }

    /// The rules that name a class of objects, and its set word.
    pub(super) fn object_set(&mut self, object: Object) -> (Box<[u32]>, Set) {
        let named: Box<[u32]> = (0..)
            .zip(&self.rules)
            .filter(|(_, ranked)| ranked.rule.target == Target::Object(object))
            .map(|(index, _)| index)
            .collect();
        let rest = self.object_rest(object);
        let set = self.set(&named, &rest, 0, true);
        (named, set)
    }

    /// Words of all rows so far.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(super) const fn ops(&self) -> u32 {
        self.ops
    }

    /// What holds where no rule has a say.
    const fn postures(&self) -> Row {
        let [process, file] = self.posture;
        [process, Verdict::ALLOW, file, file, Verdict::ALLOW]
    }

    /// What holds for an object without a path where no rule names its class.
    fn object_rest(&self, object: Object) -> Row {
        let strictest = |op: Op| {
            let by_path = self
                .rules
                .iter()
                .filter(|r| !matches!(r.rule.target, Target::Object(_)));
            let mut verdict = Verdict::ALLOW;
            for ranked in by_path {
                if semantics::may(ranked.rule, op, Action::Block) {
                    return unplaced(Action::Block);
                }
                if semantics::may(ranked.rule, op, Action::Audit) {
                    verdict = unplaced(Action::Audit);
                }
            }
            verdict
        };
        let restricted = |op: Op, posture: Verdict| match strictest(op) {
            verdict if verdict.action() == Action::Block => verdict,
            verdict => posture.stricter(verdict),
        };
        let [process, file] = self.posture;
        let exec = restricted(Op::Exec, process);
        if object == Object::Anonymous {
            // What has no name is not what a path rule meant, save that an image's origin cannot
            // be told. Compilers at run time map anonymous memory all the time.
            return [exec, Verdict::ALLOW, file, file, Verdict::ALLOW];
        }
        let any_block = self
            .rules
            .iter()
            .any(|r| !matches!(r.rule.target, Target::Object(_)) && semantics::may_block(r.rule));
        [
            exec,
            strictest(Op::Map),
            restricted(Op::Read, file),
            restricted(Op::Write, file),
            if any_block {
                unplaced(Action::Block)
            } else {
                Verdict::ALLOW
            },
        ]
    }

    fn set(&mut self, rules: &[u32], rest: &Row, source: u32, reachable: bool) -> Set {
        let mut rest = *rest;
        let guard = rest[Op::Move as usize];
        let guarding = (guard.reason() == Reason::Move).then(|| guard.rule());
        let rank = |rule: u32| self.rules[rule as usize].rank;
        let refusing = rules
            .iter()
            .copied()
            .filter(|&rule| semantics::pins_name(self.rules[rule as usize].rule))
            .chain(guarding)
            .min_by_key(|&rule| (std::cmp::Reverse(rank(rule)), rule));
        if let Some(rule) = refusing {
            rest[Op::Move as usize] = moved(rule);
        }

        // Rules that hold for any source, and what else holds for some classes.
        let (sourced, free): (Vec<u32>, Vec<u32>) = rules
            .iter()
            .partition(|&&rule| !self.rules[rule as usize].rule.sources.is_empty());
        let mut by_class: HashMap<u32, Vec<u32>> = HashMap::new();
        for &rule in &sourced {
            for &class in self.classes_of_rule.get(&rule).into_iter().flatten() {
                by_class.entry(class).or_default().push(rule);
            }
        }
        let pair = |extra: &[u32]| {
            [false, true].map(|owner| self.row(free.iter().chain(extra), owner, &rest))
        };
        let common = pair(&[]);
        let special: HashMap<u32, [Row; 2]> = by_class
            .iter()
            .map(|(&class, extra)| (class, pair(extra)))
            .filter(|(_, rows)| *rows != common)
            .collect();
        let by_owner = special
            .values()
            .chain([&common])
            .any(|rows| rows[0] != rows[1]);
        let by_source = !special.is_empty();

        let classes = if by_source { self.sources } else { 1 };
        let mut group = Vec::new();
        for class in 0..classes {
            let rows = special.get(&class).unwrap_or(&common);
            for row in &rows[..if by_owner { 2 } else { 1 }] {
                group.extend(row.iter().map(|verdict| verdict.0));
                group.resize(
                    group.len() + Op::COLUMNS as usize - row.len(),
                    Verdict::ALLOW.0,
                );
                if reachable {
                    self.ops |= ops(row);
                }
            }
        }
        let flags =
            if by_source { SET_BY_SOURCE } else { 0 } | if by_owner { SET_BY_OWNER } else { 0 };
        Set::new(self.intern(group), flags, source)
    }

    fn row<'r>(
        &self,
        rules: impl Iterator<Item = &'r u32> + Clone,
        owner: bool,
        rest: &Row,
    ) -> Row {
        let mut row = *rest;
        for op in [Op::Exec, Op::Map, Op::Read, Op::Write] {
            let winner = rules
                .clone()
                .filter_map(|&index| {
                    let ranked = &self.rules[index as usize];
                    let action = semantics::effect(ranked.rule, op, owner)?;
                    Some((ranked.rank, action, std::cmp::Reverse(index)))
                })
                .max();
            if let Some((rank, action, std::cmp::Reverse(index))) = winner {
                row[op as usize] = Verdict::new(action, Reason::Rule, rank, index);
            }
        }
        row
    }

    /// Index of the group's first row.
    fn intern(&mut self, group: Vec<u64>) -> u32 {
        let fresh = u32::try_from(self.words.len()).unwrap_or(u32::MAX) / Op::COLUMNS;
        let group = group.into_boxed_slice();
        if let Some(&row) = self.groups.get(&group) {
            return row;
        }
        self.words.extend_from_slice(&group);
        self.groups.insert(group, fresh);
        fresh
    }
}

/// Operations that a row does not allow.
fn ops(row: &Row) -> u32 {
    Op::ALL
        .into_iter()
        .filter(|&op| row[op as usize].action() != Action::Allow)
        .fold(0, |mask, op| mask | op.bit())
}

const fn posture(posture: Posture, whitelisted: bool) -> Verdict {
    let action = match posture {
        Posture::Audit => Action::Audit,
        Posture::Block => Action::Block,
        Posture::Allow => return Verdict::ALLOW,
    };
    if whitelisted {
        Verdict::new(action, Reason::Posture, 0, NO_RULE)
    } else {
        Verdict::ALLOW
    }
}

const fn moved(rule: u32) -> Verdict {
    Verdict::new(Action::Block, Reason::Move, 0, rule)
}

const fn unplaced(action: Action) -> Verdict {
    Verdict::new(action, Reason::Object, 0, NO_RULE)
}
