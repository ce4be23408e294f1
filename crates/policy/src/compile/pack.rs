//! Row displacement: every state's cells go into gaps between those of others.
//!
//! A state has at most 257 columns and mostly uses one or two, so the rows interleave almost
//! without loss. See [`karmor_abi::table`] for what comes out.

use std::collections::HashMap;

use karmor_abi::table::{ABSORBING, ACCEPT, DEAD};

use super::dfa::{self, Dfa};

/// Places tried for a row of several cells before it goes behind everything else.
const TRIES_MAX: usize = 4096;

/// The automaton's region of a table.
pub(super) struct Cells {
    pub words: Vec<u64>,
    /// State before the first byte.
    pub start: u32,
}

/// Lays out the automaton; `accept` has the set of each state, 0 where nothing matches. `None`
/// when it takes more than `limit` words.
pub(super) fn pack(dfa: &Dfa, accept: &[u32], limit: usize) -> Option<Cells> {
    let shapes: Vec<Shape> = (0..dfa.states.len())
        .map(|s| shape(dfa, accept, s))
        .collect();
    let mut order: Vec<usize> = (0..shapes.len())
        .filter(|&state| !shapes[state].columns.is_empty())
        .collect();
    order.sort_by_key(|&state| std::cmp::Reverse(shapes[state].columns.len()));

    let mut layout = Layout::default();
    let mut ids = vec![DEAD; shapes.len()];
    for state in order {
        let shape = &shapes[state];
        let offset = layout.place(&shape.columns);
        if offset + ACCEPT as usize >= limit {
            return None;
        }
        let flag = if shape.absorbing { ABSORBING } else { 0 };
        ids[state] = u32::try_from(offset).ok()? | flag;
    }

    // Whole rows, so that no look-up reaches into the region behind.
    let end = layout.highest_offset + ACCEPT as usize + 1;
    let mut words = vec![0; end];
    let mut write = |id: u32, column: u32, value: u32| {
        words[((id & !ABSORBING) + column) as usize] = u64::from(value) | u64::from(id) << 32;
    };
    let id_of = |target: u32| {
        if target == dfa::DEAD {
            DEAD
        } else {
            ids[target as usize]
        }
    };
    for (index, state) in dfa.states.iter().enumerate() {
        let id = ids[index];
        if id == DEAD {
            continue;
        }
        let default = id_of(state.default);
        if default != DEAD {
            write(id, 0, default);
        }
        for &(byte, target) in dfa.edges(state) {
            if id_of(target) != default {
                write(id, u32::from(byte), id_of(target));
            }
        }
        if accept[index] != 0 {
            write(id, ACCEPT, accept[index]);
        }
    }
    Some(Cells {
        words,
        start: ids[dfa::START as usize],
    })
}

struct Shape {
    columns: Vec<u16>,
    absorbing: bool,
}

fn shape(dfa: &Dfa, accept: &[u32], index: usize) -> Shape {
    let state = &dfa.states[index];
    let edges = dfa.edges(state);
    let is_self = state.default as usize == index;
    let nowhere = edges.is_empty() && (is_self || state.default == dfa::DEAD);
    if nowhere && accept[index] == 0 {
        // As good as dead; an id of its own would keep the walk going.
        return Shape {
            columns: Vec::new(),
            absorbing: true,
        };
    }
    let mut columns = Vec::with_capacity(edges.len() + 2);
    if state.default != dfa::DEAD {
        columns.push(0);
    }
    columns.extend(edges.iter().map(|&(byte, _)| u16::from(byte)));
    if accept[index] != 0 {
        columns.push(ACCEPT as u16);
    }
    Shape {
        columns,
        absorbing: edges.is_empty() && is_self,
    }
}

#[derive(Default)]
struct Layout {
    used_cells: Bits,
    used_offsets: Bits,
    /// Where to go on looking for a row of these columns: what did not fit never will.
    resume: HashMap<Box<[u16]>, usize>,
    highest_offset: usize,
    end: usize,
}

impl Layout {
    /// Finds an offset at which all columns are free, and takes it.
    fn place(&mut self, columns: &[u16]) -> usize {
        let first = usize::from(columns[0]);
        // Offset 0 is what an empty cell names.
        let mut position = self.resume.get(columns).copied().unwrap_or(first + 1);
        let mut tries = 0;
        let offset = loop {
            position = self.used_cells.next_unset(position);
            let offset = position - first;
            let fits = !self.used_offsets.get(offset)
                && columns[1..]
                    .iter()
                    .all(|&c| !self.used_cells.get(offset + usize::from(c)));
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
            self.used_cells.set(offset + usize::from(column));
            self.end = self.end.max(offset + usize::from(column) + 1);
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
