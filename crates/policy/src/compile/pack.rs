//! Row displacement: every state's cells go into gaps between those of others.
//!
//! A state has at most 257 columns and mostly uses one or two, so the rows interleave almost
//! without loss. See [`karmor_abi::table`] for what comes out.

use std::collections::HashMap;

use karmor_abi::table::{ABSORBING, ACCEPT, DEAD};

use super::{dfa, merge::Merged};

/// Places tried for a row of several cells before it goes behind everything else.
const TRIES_MAX: usize = 4096;

/// The automaton's region of a table.
pub(super) struct Cells {
    pub words: Vec<u64>,
    /// State before the first byte.
    pub start: u32,
}

/// Lays out the automaton. `None` when it takes more than `limit` words.
pub(super) fn pack(automaton: &Merged, limit: usize) -> Option<Cells> {
    let Merged { dfa, accept, start } = automaton;
    let columns: Vec<Vec<u32>> = (0..dfa.states.len())
        .map(|s| columns(automaton, s))
        .collect();
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&state| std::cmp::Reverse(columns[state].len()));

    let mut layout = Layout::default();
    let mut ids = vec![DEAD; columns.len()];
    for state in order {
        let offset = layout.place(&columns[state]);
        if offset + ACCEPT as usize >= limit {
            return None;
        }
        let is_self = dfa.states[state].default as usize == state;
        let absorbing = is_self && dfa.edges(&dfa.states[state]).is_empty();
        ids[state] = u32::try_from(offset).ok()? | if absorbing { ABSORBING } else { 0 };
    }

    // Whole rows, so that no look-up reaches into the region behind.
    let mut words = vec![0; layout.highest_offset + ACCEPT as usize + 1];
    let id_of = |state: u32| {
        if state == dfa::DEAD {
            DEAD
        } else {
            ids[state as usize]
        }
    };
    for (index, columns) in columns.iter().enumerate() {
        let (id, state) = (ids[index], &dfa.states[index]);
        let mut edges = dfa.edges(state).iter();
        for &column in columns {
            let value = match column {
                0 => id_of(state.default),
                ACCEPT => accept[index],
                // Columns between are the edges, in their order.
                _ => edges.next().map_or(DEAD, |&(_, target)| id_of(target)),
            };
            words[((id & !ABSORBING) + column) as usize] = u64::from(value) | u64::from(id) << 32;
        }
    }
    Some(Cells {
        words,
        start: id_of(*start),
    })
}

/// The columns a state uses, sorted. Every state has one: it matches something, or leads on.
fn columns(automaton: &Merged, index: usize) -> Vec<u32> {
    let state = &automaton.dfa.states[index];
    let edges = automaton.dfa.edges(state);
    let mut columns = Vec::with_capacity(edges.len() + 2);
    if state.default != dfa::DEAD {
        columns.push(0);
    }
    columns.extend(edges.iter().map(|&(byte, _)| u32::from(byte)));
    if automaton.accept[index] != 0 {
        columns.push(ACCEPT);
    }
    columns
}

#[derive(Default)]
struct Layout {
    used_cells: Bits,
    used_offsets: Bits,
    /// Where to go on looking for a row of these columns: what did not fit never will.
    resume: HashMap<Box<[u32]>, usize>,
    highest_offset: usize,
    end: usize,
}

impl Layout {
    /// Finds an offset at which all columns are free, and takes it.
    fn place(&mut self, columns: &[u32]) -> usize {
        let Some(&first) = columns.first() else {
            return 0;
        };
        let first = first as usize;
        // Offset 0 is what an empty cell names.
        let mut position = self.resume.get(columns).copied().unwrap_or(first + 1);
        let mut tries = 0;
        let offset = loop {
            position = self.used_cells.next_unset(position);
            let offset = position - first;
            let fits = !self.used_offsets.get(offset)
                && columns[1..]
                    .iter()
                    .all(|&c| !self.used_cells.get(offset + c as usize));
            position += 1;
            if fits {
                break offset;
            }
            tries += 1;
            if tries == TRIES_MAX && columns.len() > 1 {
                break self.end.max(1);
            }
        };
        match self.resume.get_mut(columns) {
            Some(resume) => *resume = position,
            None => {
                self.resume.insert(columns.into(), position);
            }
        }
        self.used_offsets.set(offset);
        for &column in columns {
            self.used_cells.set(offset + column as usize);
            self.end = self.end.max(offset + column as usize + 1);
        }
        self.highest_offset = self.highest_offset.max(offset);
        offset
    }
}

/// A set of numbers that grows as needed.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn get(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    fn set(&mut self, index: usize) {
        if index / 64 >= self.0.len() {
            self.0.resize(index / 64 + 1, 0);
        }
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// The first number from `from` on that is not in the set.
    fn next_unset(&self, from: usize) -> usize {
        let mut index = from;
        while let Some(word) = self.0.get(index / 64) {
            let free = (!word >> (index % 64)).trailing_zeros() as usize;
            if free < 64 - index % 64 {
                return index + free;
            }
            index = (index / 64 + 1) * 64;
        }
        index
    }
}
