//! Subset construction: the tree of patterns becomes one deterministic automaton.
//!
//! A state is a set of tree nodes. Its transitions are kept as one default and the bytes that
//! differ from it: almost every state of a path tree has one or two.

use std::{collections::HashMap, ops::Range};

use crate::glob::ByteSet;

use super::{
    nfa::{Loop, Nfa, ROOT, ROOT_DIRECTORY, WORDS},
    prune::Pruner,
};

/// Most states. Each takes at least a word of the table, so more would not fit anyway.
pub const STATES_MAX: usize = 1 << 19;

/// Most tree nodes remembered for states that consist of several: 32 MiB, held twice.
pub(super) const MEMBERS_MAX: usize = 1 << 23;

/// Most tree nodes looked at while building, which bounds the time to a few seconds.
pub(super) const WORK_MAX: usize = 1 << 27;

/// The state from which nothing matches.
pub(super) const DEAD: u32 = u32::MAX;

/// The state before the first byte.
pub(super) const START: u32 = 0;

#[derive(Debug, Default)]
pub(super) struct Dfa {
    pub states: Vec<State>,
    edges: Vec<(u8, u32)>,
    members: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    edges: Range<usize>,
    members: Range<usize>,
    /// Target of bytes without an edge.
    pub default: u32,
}

/// The automaton outgrew its budget; the nodes with a loop, by how many states hold them.
#[derive(Debug)]
pub(super) struct Explosion {
    pub states: usize,
    pub loops: HashMap<u32, usize>,
}

impl Dfa {
    /// Bytes whose target is not the default, sorted.
    pub(super) fn edges(&self, state: &State) -> &[(u8, u32)] {
        &self.edges[state.edges.clone()]
    }

    /// Adds a state that has forgotten its tree nodes.
    pub(super) fn push(&mut self, default: u32, edges: impl Iterator<Item = (u8, u32)>) {
        let from = self.edges.len();
        self.edges.extend(edges);
        let edges = from..self.edges.len();
        self.states.push(State {
            edges,
            default,
            ..State::default()
        });
    }

    /// Tree nodes of a state, sorted.
    pub(super) fn members(&self, state: &State) -> &[u32] {
        &self.members[state.members.clone()]
    }
}

/// Builds the automaton of all absolute paths and all words.
pub(super) fn determinise(nfa: &Nfa, pruner: &Pruner) -> Result<Dfa, Explosion> {
    let mut builder = Builder {
        nfa,
        pruner,
        dfa: Dfa::default(),
        single: vec![DEAD; nfa.nodes.len()],
        sets: HashMap::new(),
        set: Vec::new(),
        work: 0,
    };
    builder.start();
    let mut next = 1;
    while next < builder.dfa.states.len() {
        let dfa = &builder.dfa;
        if dfa.states.len() > STATES_MAX
            || dfa.members.len() > MEMBERS_MAX
            || builder.work > WORK_MAX
        {
            return Err(builder.explosion());
        }
        builder.expand(next);
        next += 1;
    }
    Ok(builder.dfa)
}

struct Builder<'a> {
    nfa: &'a Nfa,
    pruner: &'a Pruner,
    dfa: Dfa,
    /// States of one node, the bulk of them, by that node.
    single: Vec<u32>,
    /// States of several.
    sets: HashMap<Box<[u32]>, u32>,
    /// The set being put together.
    set: Vec<u32>,
    work: usize,
}

impl Builder<'_> {
    /// Every path begins with `/`, every word with another byte that is its domain's; nothing else
    /// leaves the first state.
    fn start(&mut self) {
        self.dfa.states.push(State {
            default: DEAD,
            ..State::default()
        });
        let domains: Vec<u8> = self.nfa.nodes[WORDS as usize]
            .bytes
            .iter()
            .map(|&(byte, _)| byte)
            .collect();
        debug_assert!(domains.iter().all(|&domain| domain < b'/'));
        for domain in domains {
            let first = self.step(&[WORDS], domain);
            self.dfa.edges.push((domain, first));
        }
        self.set.clear();
        self.enter(ROOT);
        let before = std::mem::take(&mut self.set);
        let first = self.step(&before, b'/');
        self.dfa.edges.push((b'/', first));
        self.dfa.states[START as usize].edges = 0..self.dfa.edges.len();
    }

    /// Adds a node and what is entered from it for free.
    fn enter(&mut self, node: u32) {
        self.set.push(node);
        let nfa = self.nfa;
        for free in nfa.nodes[node as usize].free() {
            self.enter(free);
        }
    }

    /// The state after `byte` in a state of these nodes.
    fn step(&mut self, members: &[u32], byte: u8) -> u32 {
        self.set.clear();
        self.work += members.len();
        let nfa = self.nfa;
        for &member in members {
            let node = &nfa.nodes[member as usize];
            if let Some(child) = node.byte(byte) {
                self.enter(child);
            }
            for &(class, child) in &node.classes {
                if nfa.classes[class as usize].contains(byte) {
                    self.enter(child);
                }
            }
            if node.looping == Loop::Any || (node.looping == Loop::Name && byte != b'/') {
                self.enter(member);
            }
        }
        self.intern()
    }

    /// The state of the nodes in `self.set`.
    fn intern(&mut self) -> u32 {
        self.work += self.set.len();
        self.set.sort_unstable();
        self.set.dedup();
        self.pruner.prune(&mut self.set);
        let fresh = u32::try_from(self.dfa.states.len()).unwrap_or(DEAD);
        match *self.set.as_slice() {
            [] => return DEAD,
            [node] => {
                let known = &mut self.single[node as usize];
                if *known != DEAD {
                    return *known;
                }
                *known = fresh;
            }
            ref set => {
                if let Some(&known) = self.sets.get(set) {
                    return known;
                }
                self.sets.insert(set.into(), fresh);
            }
        }
        let from = self.dfa.members.len();
        self.dfa.members.extend_from_slice(&self.set);
        self.dfa.states.push(State {
            members: from..self.dfa.members.len(),
            ..State::default()
        });
        fresh
    }

    /// Finds the transitions of a state.
    fn expand(&mut self, state: usize) {
        let members = self.dfa.members(&self.dfa.states[state]).to_vec();
        let from = self.dfa.edges.len();
        let nfa = self.nfa;
        let default = match *members.as_slice() {
            [only] if nfa.nodes[only as usize].is_plain() => {
                for &(byte, child) in &nfa.nodes[only as usize].bytes {
                    self.set.clear();
                    self.enter(child);
                    let target = self.intern();
                    self.dfa.edges.push((byte, target));
                }
                DEAD
            }
            _ => {
                let named = self.named(&members);
                // All unnamed bytes behave alike, so one of them tells.
                let default = match named.complement().iter().find(|&byte| byte != 0) {
                    Some(byte) => self.step(&members, byte),
                    None => DEAD,
                };
                for byte in named.iter() {
                    let target = self.step(&members, byte);
                    if target != default {
                        self.dfa.edges.push((byte, target));
                    }
                }
                default
            }
        };
        let edges = from..self.dfa.edges.len();
        let state = &mut self.dfa.states[state];
        state.edges = edges;
        state.default = default;
    }

    /// Bytes that may lead elsewhere than the rest. Never contains 0.
    fn named(&self, members: &[u32]) -> ByteSet {
        let mut named = ByteSet::default();
        for &member in members {
            let node = &self.nfa.nodes[member as usize];
            for &(byte, _) in &node.bytes {
                named.insert(byte);
            }
            for &(class, _) in &node.classes {
                let set = self.nfa.classes[class as usize];
                if set.len() <= 128 {
                    named.union(&set);
                } else {
                    set.complement()
                        .iter()
                        .filter(|&b| b != 0)
                        .for_each(|b| named.insert(b));
                }
            }
            if node.looping == Loop::Name {
                named.insert(b'/');
            }
        }
        named
    }

    fn explosion(&self) -> Explosion {
        let mut loops = HashMap::new();
        for &member in &self.dfa.members {
            if self.nfa.nodes[member as usize].looping != Loop::None {
                *loops.entry(member).or_insert(0) += 1;
            }
        }
        Explosion {
            states: self.dfa.states.len(),
            loops,
        }
    }
}

/// Whether the state is the one of the path `/`, which cannot be moved.
pub(super) fn is_root_directory(members: &[u32]) -> bool {
    members.contains(&ROOT_DIRECTORY)
}
