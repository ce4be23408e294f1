//! Rules that never decide, read off the compiled table.

use std::collections::HashSet;

use karmor_abi::{
    op::Op,
    table::{self, SET_BY_OWNER, SET_BY_SOURCE, SET_BY_TERMINAL, View, Words as _},
    verdict::{Reason, Verdict},
};

use super::{example, reach};
use crate::{
    compiled::Compiled,
    model::{Family, Rule},
    select::Effective,
    semantics,
};

/// The rules that never decide, by index, and of each one that decides instead.
pub(super) fn shadowed(
    effective: &Effective,
    compiled: &Compiled,
    is_asked: impl Fn(u32) -> bool,
) -> Vec<(u32, Option<u32>)> {
    let Ok(view) = View::parse(&compiled.words) else {
        return Vec::new();
    };
    let words = [Family::Network, Family::Endpoints];
    let is_word = |index: u32| words.contains(&effective.rules[index as usize].rule().family);
    let has_words = (0..)
        .zip(effective.rules())
        .any(|(index, _)| is_word(index));
    let reached = if has_words {
        reach::sets(&view)
    } else {
        HashSet::new()
    };
    let can_be = |set: u32, rules: &[u32]| {
        let mut rules = rules.iter();
        reached.contains(&set) || !rules.any(|&rule| is_word(rule))
    };
    let deciding: HashSet<u32> = (0..view.header().sets.1)
        .zip(&compiled.sets)
        .filter(|(set, rules)| can_be(*set, rules))
        .flat_map(|(set, rules)| deciding(&view, set, rules))
        .collect();
    (0..)
        .zip(effective.rules())
        .filter(|&(index, _)| is_asked(index) && !deciding.contains(&index))
        // What has no say is not enforced, and that has been told.
        .filter(|(_, rule)| semantics::has_say(rule))
        .map(|(index, rule)| (index, winner(compiled, rule)))
        .collect()
}

/// Rules that decide about something in a set, which `rules` match.
fn deciding(view: &View<'_>, number: u32, rules: &[u32]) -> Vec<u32> {
    let set = table::set(view, number);
    let has = |flag: u32| set.flags() & flag != 0;
    let sources = if has(SET_BY_SOURCE) {
        view.header().sources
    } else {
        1
    };
    let rows = sources << (u32::from(has(SET_BY_OWNER)) + u32::from(has(SET_BY_TERMINAL)));
    let first = view.header().rows.0 + set.row() * Op::COLUMNS;
    let mut deciding = Vec::new();
    for row in (0..rows).map(|row| first + row * Op::COLUMNS) {
        let columns = (0..Op::COLUMNS).filter(|&column| column != Op::ARGUMENTS);
        let verdicts = columns.map(|column| Verdict(view.word(row + column)));
        // What no rule matches is an argument, or one that is missing from a list: it is only asked
        // about for the rows that want to know.
        let counts = |verdict: &Verdict| match verdict.reason() {
            Reason::Rule => !rules.is_empty(),
            reason => reason == Reason::Move,
        };
        deciding.extend(verdicts.filter(counts).map(Verdict::rule));
        if !rules.is_empty() {
            deciding.extend(missing_arguments(view, row));
        }
    }
    deciding
}

/// The rules that change what a row says of an exec, by an argument that is not in their list.
fn missing_arguments(view: &View<'_>, row: u32) -> impl Iterator<Item = u32> {
    let mask = view.word(row + Op::ARGUMENTS);
    let listed = table::verdict_at(view, row, Op::Exec).action();
    (0..u64::BITS)
        .filter(move |bit| mask & (1 << bit) != 0)
        .map(|bit| table::mismatch(view, 1 << bit))
        .filter(move |missing| missing.action() > listed)
        .map(Verdict::rule)
}

/// The rule that decides about an example of what `rule` is about.
fn winner(compiled: &Compiled, rule: &Rule) -> Option<u32> {
    example::find_map(rule, |access| {
        let verdict = compiled.decide(access);
        (verdict.reason() == Reason::Rule).then(|| verdict.rule())
    })
}
