//! Merging states that go on alike.
//!
//! A rule under a linked directory is known by two names, and both tails of the tree do the same;
//! so do the alternatives of a brace. One backward pass finds almost all of those that sharing nodes
//! has left: what a state leads to mostly has a higher number. It is not full minimisation, which
//! such automata, where almost every end is another rule's, would hardly profit from.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::dfa::{DEAD, Dfa, START};

/// Stands for the state itself in a signature.
const SELF: u32 = DEAD - 1;

/// An automaton whose states differ, without what led to them.
pub(super) struct Merged {
    pub dfa: Dfa,
    /// Set of each state.
    pub accept: Vec<u32>,
    /// State before the first byte; [`DEAD`] when no path matches anything.
    pub start: u32,
}

/// Keeps one of every group of states that do the same.
pub(super) fn merge(dfa: &Dfa, accept: &[u32]) -> Merged {
    let mut merge = Merge {
        dfa,
        accept,
        of: (0..).take(dfa.states.len()).collect(),
    };
    let mut known: HashMap<u64, u32> = HashMap::with_capacity(dfa.states.len());
    for (state, _) in (0..)
        .zip(&dfa.states)
        .collect::<Vec<(u32, _)>>()
        .into_iter()
        .rev()
    {
        if merge.is_dead(state) {
            merge.of[state as usize] = DEAD;
            continue;
        }
        let mut hasher = DefaultHasher::new();
        merge
            .signature(state)
            .for_each(|part| part.hash(&mut hasher));
        let like = *known.entry(hasher.finish()).or_insert(state);
        // Two signatures of one hash are rare, and not merging is always right.
        if like != state && merge.signature(like).eq(merge.signature(state)) {
            merge.of[state as usize] = like;
        }
    }
    merge.finish()
}

struct Merge<'a> {
    dfa: &'a Dfa,
    accept: &'a [u32],
    /// The state that stands for each.
    of: Vec<u32>,
}

impl Merge<'_> {
    /// What a state does: its set, its default, and every byte that leads elsewhere.
    fn signature(&self, index: u32) -> impl Iterator<Item = (u32, u32)> {
        let state = &self.dfa.states[index as usize];
        let target = move |target: u32| match target {
            DEAD => DEAD,
            own if own == index => SELF,
            other => self.of[other as usize],
        };
        let default = target(state.default);
        let edges = self
            .dfa
            .edges(state)
            .iter()
            .map(move |&(byte, to)| (u32::from(byte), target(to)))
            .filter(move |&(_, to)| to != default);
        [(self.accept[index as usize], default)]
            .into_iter()
            .chain(edges)
    }

    /// Whether nothing matches in a state or after it; an id of its own would keep the walk going.
    fn is_dead(&self, index: u32) -> bool {
        let mut signature = self.signature(index);
        matches!(signature.next(), Some((0, DEAD | SELF))) && signature.next().is_none()
    }

    fn finish(self) -> Merged {
        let mut number = vec![DEAD; self.of.len()];
        let mut kept = 0;
        for (index, &of) in self.of.iter().enumerate() {
            if of as usize == index {
                number[index] = kept;
                kept += 1;
            }
        }
        let target = |target: u32| match target {
            DEAD => DEAD,
            live => match self.of[live as usize] {
                DEAD => DEAD,
                of => number[of as usize],
            },
        };
        let mut merged = Merged {
            dfa: Dfa::default(),
            accept: Vec::new(),
            start: target(START),
        };
        for (index, state) in self.dfa.states.iter().enumerate() {
            if number[index] == DEAD {
                continue;
            }
            let default = target(state.default);
            let edges = self
                .dfa
                .edges(state)
                .iter()
                .map(|&(byte, to)| (byte, target(to)));
            merged
                .dfa
                .push(default, edges.filter(|&(_, to)| to != default));
            merged.accept.push(self.accept[index]);
        }
        merged
    }
}
