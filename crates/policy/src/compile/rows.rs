//! Decision rows: who wins among the rules of a set, for every operation, source and owner.

use std::{
    collections::HashMap,
    ops::{Index, IndexMut},
};

use karmor_abi::{
    op::{Object, Op},
    table::{
        Asker, SET_BY_OWNER, SET_BY_SOURCE, SET_BY_TERMINAL, SET_REFUSES_READ, SET_REFUSES_WRITE,
        Set,
    },
    verdict::{NO_RULE, Reason, Verdict},
};

use super::arguments::Arguments;
use crate::{
    model::{Action, Family, Posture, Rule, Target},
    select::Effective,
    semantics,
};

/// A row: one verdict an operation, by [`Op::column`], and the rules that want to see arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    verdicts: [Verdict; Op::COLUMNS as usize],
    arguments: u64,
}

/// Rows for who asks, in the order of [`semantics::ASKERS`].
type Askers = [Row; semantics::ASKERS.len()];

const SILENT: Row = Row {
    verdicts: [Verdict::ALLOW; Op::COLUMNS as usize],
    arguments: 0,
};

impl Row {
    fn words(&self) -> impl Iterator<Item = u64> {
        (0..Op::COLUMNS)
            .zip(self.verdicts)
            .map(|(column, verdict)| match column {
                Op::ARGUMENTS => self.arguments,
                _ => verdict.0,
            })
    }
}

impl Index<Op> for Row {
    type Output = Verdict;

    fn index(&self, op: Op) -> &Verdict {
        &self.verdicts[op.column() as usize]
    }
}

impl IndexMut<Op> for Row {
    fn index_mut(&mut self, op: Op) -> &mut Verdict {
        &mut self.verdicts[op.column() as usize]
    }
}

/// Operations that rules decide about a path. [`Op::Move`] follows from the others.
const PATHS: &[Op] = &[Op::Exec, Op::Map, Op::Read, Op::Write];

/// The group of rules a set stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SetKey {
    /// Rules whose target matches, by index, sorted.
    pub rules: Box<[u32]>,
    /// Source class of the path.
    pub source: u32,
    /// First rule that guards the path as a directory, or [`NO_RULE`].
    pub guard: u32,
    /// The family that is a whitelist, of words of one that is.
    pub family: Option<Family>,
    /// Rules that list the argument, by index, sorted.
    pub listing: Box<[u32]>,
    /// The rule whose mismatch the word stands for.
    pub mismatch: Option<u32>,
    /// The word is that of a query that cannot be read.
    pub unreadable: bool,
}

/// Builds rows and keeps each distinct group once.
pub(super) struct Rows<'a> {
    rules: Vec<Ranked<'a>>,
    arguments: &'a Arguments,
    /// What holds where no rule has a say, by family.
    postures: [Verdict; Family::ALL.len()],
    /// For each rule with sources, the source classes it is satisfied by.
    classes_of_rule: HashMap<u32, Vec<u32>>,
    sources: u32,
    /// The first class of essential programs.
    essential: u32,
    /// No policy includes essential programs.
    spares_throughout: bool,
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
    pub(super) fn new(
        effective: &'a Effective,
        classes: &[Box<[u32]>],
        essential: u32,
        arguments: &'a Arguments,
    ) -> Self {
        let rules = effective
            .rules()
            .map(|rule| Ranked {
                rule,
                rank: semantics::rank(rule, &effective.aliases),
            })
            .collect();
        let mut classes_of_rule: HashMap<u32, Vec<u32>> = HashMap::new();
        for (class, satisfied) in (0..).zip(classes) {
            for &rule in satisfied {
                classes_of_rule.entry(rule).or_default().push(class);
            }
        }
        let sources = u32::try_from(classes.len()).unwrap_or(u32::MAX);
        Self {
            rules,
            arguments,
            postures: Family::ALL.map(|family| posture(effective, family)),
            classes_of_rule,
            sources,
            essential,
            spares_throughout: effective.spares_throughout(),
            words: Vec::new(),
            groups: HashMap::new(),
            ops: 0,
        }
    }

    /// The set word of paths or words, with its rows. `reachable` tells whether an access can end
    /// there.
    pub(super) fn named_set(&mut self, key: &SetKey, reachable: bool) -> Set {
        if !key.listing.is_empty() || key.mismatch.is_some() {
            return self.argument_set(key);
        }
        if key.unreadable {
            // It may ask for what any rule names.
            let mut rest = SILENT;
            rest[Op::Query] = self.restricted(Op::Query, self.posture(Family::Dns));
            return self.set(&[], &[Op::Query], &rest, key.source, true);
        }
        let family = key.family.or_else(|| {
            let first = *key.rules.first()?;
            Some(self.rules[first as usize].rule.family)
        });
        match family {
            Some(family) if !family.is_about_paths() => self.word_set(key, family),
            _ => {
                let mut rest = self.path_postures();
                if key.guard != NO_RULE {
                    rest[Op::Move] = moved(key.guard);
                }
                self.set(&key.rules, PATHS, &rest, key.source, reachable)
            }
        }
    }

    /// The set of an argument, or of what follows from one that is missing from a list.
    fn argument_set(&mut self, key: &SetKey) -> Set {
        let mut row = SILENT;
        for &rule in &key.listing {
            row.arguments |= self.arguments.mask(rule);
        }
        if let Some(index) = key.mismatch {
            let ranked = &self.rules[index as usize];
            if let Some(action) = semantics::mismatch(ranked.rule) {
                row[Op::Exec] = Verdict::new(action, Reason::Rule, ranked.rank, index);
            }
        }
        Set::new(self.intern(row.words().collect()), 0, key.source)
    }

    fn word_set(&mut self, key: &SetKey, family: Family) -> Set {
        let preset = key.rules.first().and_then(|&first| {
            let Target::Preset(op) = self.rules[first as usize].rule.target else {
                return None;
            };
            Op::PRESETS.iter().find(|&&preset| preset == op)
        });
        let ops = preset.map_or(semantics::operations(family), std::slice::from_ref);
        let mut rest = SILENT;
        if key.family.is_some() {
            for op in ops {
                rest[*op] = self.posture(family);
            }
        }
        self.set(&key.rules, ops, &rest, key.source, true)
    }

    /// The rules that name a class of objects, and its set word.
    pub(super) fn object_set(&mut self, object: Object) -> (Box<[u32]>, Set) {
        let named: Box<[u32]> = (0..)
            .zip(&self.rules)
            .filter(|(_, ranked)| ranked.rule.target == Target::Object(object))
            .map(|(index, _)| index)
            .collect();
        let rest = self.object_rest(object);
        let set = self.set(&named, PATHS, &rest, 0, true);
        (named, set)
    }

    /// Words of all rows so far.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(super) const fn ops(&self) -> u32 {
        self.ops
    }

    /// What holds for a path that no rule has a say about.
    fn path_postures(&self) -> Row {
        let file = self.posture(Family::File);
        row([
            (Op::Exec, self.posture(Family::Process)),
            (Op::Read, file),
            (Op::Write, file),
        ])
    }

    const fn posture(&self, family: Family) -> Verdict {
        self.postures[family as usize]
    }

    /// The strictest that any rule does to this operation, but for those that name a class.
    fn strictest(&self, op: Op) -> Verdict {
        let by_name = self
            .rules
            .iter()
            .filter(|r| !matches!(r.rule.target, Target::Object(_)));
        let mut verdict = Verdict::ALLOW;
        for ranked in by_name {
            if semantics::may(ranked.rule, op, Action::Block) {
                return unplaced(Action::Block);
            }
            if semantics::may(ranked.rule, op, Action::Audit) {
                verdict = unplaced(Action::Audit);
            }
        }
        verdict
    }

    /// What holds for what may be anything that a rule names.
    fn restricted(&self, op: Op, posture: Verdict) -> Verdict {
        match self.strictest(op) {
            verdict if verdict.action() == Action::Block => verdict,
            verdict => posture.stricter(verdict),
        }
    }

    /// What holds for an object without a path where no rule names its class.
    fn object_rest(&self, object: Object) -> Row {
        let file = self.posture(Family::File);
        let exec = self.restricted(Op::Exec, self.posture(Family::Process));
        if object == Object::Anonymous {
            // What has no name is not what a path rule meant, save that an image's origin cannot
            // be told. Compilers at run time map anonymous memory all the time.
            return row([(Op::Exec, exec), (Op::Read, file), (Op::Write, file)]);
        }
        let any_block = self
            .rules
            .iter()
            .any(|r| !matches!(r.rule.target, Target::Object(_)) && semantics::may_block(r.rule));
        let moves = if any_block {
            unplaced(Action::Block)
        } else {
            Verdict::ALLOW
        };
        row([
            (Op::Exec, exec),
            (Op::Map, self.strictest(Op::Map)),
            (Op::Read, self.restricted(Op::Read, file)),
            (Op::Write, self.restricted(Op::Write, file)),
            (Op::Move, moves),
        ])
    }

    /// A set of what these rules match and these operations are about.
    fn set(
        &mut self,
        rules: &[u32],
        ops: &'static [Op],
        rest: &Row,
        source: u32,
        reachable: bool,
    ) -> Set {
        let mut rest = *rest;
        let guard = rest[Op::Move];
        let guarding = (guard.reason() == Reason::Move).then(|| guard.rule());
        let rank = |rule: u32| self.rules[rule as usize].rank;
        let refusing = rules
            .iter()
            .copied()
            .filter(|&rule| semantics::pins_name(self.rules[rule as usize].rule))
            .chain(guarding)
            .min_by_key(|&rule| (std::cmp::Reverse(rank(rule)), rule));
        if let Some(rule) = refusing {
            rest[Op::Move] = moved(rule);
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
        let is_essential = source >= self.essential;
        let askers = |class: u32| -> Askers {
            let extra = by_class.get(&class).map_or(&[][..], Vec::as_slice);
            let spared = Spared {
                everything: class >= self.essential,
                execution: is_essential,
            };
            semantics::ASKERS
                .map(|asker| self.row(free.iter().chain(extra), ops, asker, &rest, spared))
        };
        // No rule names the first class.
        let common = askers(0);
        let special: HashMap<u32, Askers> = by_class
            .keys()
            .copied()
            .chain(self.essential..self.sources)
            .map(|class| (class, askers(class)))
            .filter(|(_, rows)| *rows != common)
            .collect();
        let any = |differ: fn(&Askers) -> bool| special.values().chain([&common]).any(differ);
        let by_owner = any(|rows| rows[..2] != rows[2..]);
        let by_terminal = any(|rows| rows[0] != rows[1] || rows[2] != rows[3]);
        let by_source = !special.is_empty();

        let classes = if by_source { self.sources } else { 1 };
        let mut group = Vec::new();
        let (mut refuses_read, mut refuses_write) = (false, false);
        for class in 0..classes {
            let rows = special.get(&class).unwrap_or(&common);
            for (asker, row) in semantics::ASKERS.iter().zip(rows) {
                if (asker.owner && !by_owner) || (asker.terminal && !by_terminal) {
                    continue;
                }
                group.extend(row.words());
                refuses_read |= refuses(row, ops, Op::Read);
                refuses_write |= refuses(row, ops, Op::Write);
                if reachable {
                    self.ops |= refusing_or_reporting(row, ops);
                }
            }
        }
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = flag(by_source, SET_BY_SOURCE)
            | flag(by_owner, SET_BY_OWNER)
            | flag(by_terminal, SET_BY_TERMINAL)
            | flag(refuses_read, SET_REFUSES_READ)
            | flag(refuses_write, SET_REFUSES_WRITE);
        Set::new(self.intern(group), flags, source)
    }

    fn row<'r>(
        &self,
        rules: impl Iterator<Item = &'r u32> + Clone,
        ops: &[Op],
        asker: Asker,
        rest: &Row,
        spared: Spared,
    ) -> Row {
        let mut row = *rest;
        row[Op::Move] = self.spare(row[Op::Move], spared.everything);
        for &op in ops {
            let is_spared = spared.covers(op);
            row[op] = self.spare(row[op], is_spared);
            let winner = rules
                .clone()
                .filter_map(|&index| {
                    let ranked = &self.rules[index as usize];
                    let action = semantics::effect(ranked.rule, op, asker)?;
                    let action = spare(action, is_spared && ranked.rule.spares);
                    Some((ranked.rank, action, std::cmp::Reverse(index)))
                })
                .max();
            if let Some((rank, action, std::cmp::Reverse(index))) = winner {
                row[op] = Verdict::new(action, Reason::Rule, rank, index);
            }
            if op == Op::Exec {
                let least = row[op].rank();
                row.arguments = rules
                    .clone()
                    .filter(|&&index| {
                        let ranked = &self.rules[index as usize];
                        ranked.rank >= least && !(is_spared && ranked.rule.spares)
                    })
                    .fold(0, |mask, &index| mask | self.arguments.mask(index));
            }
        }
        row
    }

    /// A verdict that holds where no rule has a say, or that a rule has by guarding a name, when the
    /// subject or object is spared or not.
    fn spare(&self, verdict: Verdict, is_spared: bool) -> Verdict {
        let is_spared = is_spared
            && match verdict.reason() {
                Reason::Move => self.rules[verdict.rule() as usize].rule.spares,
                _ => self.spares_throughout,
            };
        let action = spare(verdict.action(), is_spared);
        Verdict::new(action, verdict.reason(), verdict.rank(), verdict.rule())
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

/// What becomes of a refusal of what is spared.
const fn spare(action: Action, is_spared: bool) -> Action {
    match action {
        Action::Block if is_spared => Action::Audit,
        other => other,
    }
}

/// What is spared for the sake of essential programs.
#[derive(Clone, Copy)]
struct Spared {
    /// All that one of them does.
    everything: bool,
    /// Executing one, whoever does.
    execution: bool,
}

impl Spared {
    const fn covers(self, op: Op) -> bool {
        self.everything || (self.execution && matches!(op, Op::Exec | Op::Map | Op::Read))
    }
}

/// What holds where no rule of a family has a say.
fn posture(effective: &Effective, family: Family) -> Verdict {
    let action = match effective.postures.of(family) {
        Posture::Audit => Action::Audit,
        Posture::Block => Action::Block,
        Posture::Allow => return Verdict::ALLOW,
    };
    if effective.is_whitelisted(family) {
        Verdict::new(action, Reason::Posture, 0, NO_RULE)
    } else {
        Verdict::ALLOW
    }
}

/// A row that says this, and nothing about the rest.
fn row<const N: usize>(verdicts: [(Op, Verdict); N]) -> Row {
    let mut row = SILENT;
    for (op, verdict) in verdicts {
        row[op] = verdict;
    }
    row
}

/// Operations that a row does not allow, of those it is about.
fn refusing_or_reporting(row: &Row, ops: &[Op]) -> u32 {
    let moves: &[Op] = if ops == PATHS { &[Op::Move] } else { &[] };
    let may = |op: Op| row[op].action() != Action::Allow || (op == Op::Exec && row.arguments != 0);
    ops.iter()
        .chain(moves)
        .filter(|&&op| may(op))
        .fold(0, |mask, op| mask | op.bit())
}

/// Whether a row refuses an operation, if it is about that.
fn refuses(row: &Row, ops: &[Op], op: Op) -> bool {
    ops.contains(&op) && row[op].action() == Action::Block
}

const fn moved(rule: u32) -> Verdict {
    Verdict::new(Action::Block, Reason::Move, 0, rule)
}

const fn unplaced(action: Action) -> Verdict {
    Verdict::new(action, Reason::Object, 0, NO_RULE)
}
