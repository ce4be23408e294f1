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

/// Most tree nodes that every byte by itself would have one look at while building. Bytes that no
/// node tells apart are looked at together, so that this bounds the time to a few seconds.
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

/// The automaton outgrew its budget; for every node with a loop, how many states hold it.
#[derive(Debug)]
pub(super) struct Explosion {
    pub states: usize,
    pub loops: Vec<usize>,
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
        entered: Entered::of(nfa),
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
    entered: Entered,
    /// The set being put together.
    set: Vec<u32>,
    work: usize,
}

/// What is entered with each node: itself, and what can be reached for free.
struct Entered {
    /// Where the list of each begins; one more at the end.
    starts: Vec<usize>,
    nodes: Vec<u32>,
}

impl Entered {
    fn of(nfa: &Nfa) -> Self {
        fn enter(nfa: &Nfa, node: u32, nodes: &mut Vec<u32>) {
            nodes.push(node);
            for free in nfa.nodes[node as usize].free() {
                enter(nfa, free, nodes);
            }
        }
        let mut starts = Vec::with_capacity(nfa.nodes.len() + 1);
        let mut nodes = Vec::with_capacity(nfa.nodes.len());
        for (node, _) in (0..).zip(&nfa.nodes) {
            starts.push(nodes.len());
            enter(nfa, node, &mut nodes);
        }
        starts.push(nodes.len());
        Self { starts, nodes }
    }

    fn with(&self, node: u32) -> &[u32] {
        &self.nodes[self.starts[node as usize]..self.starts[node as usize + 1]]
    }
}

/// Nodes that a state keeps by looping, the same for every byte but `/`: sorted, each once.
struct Staying {
    nodes: Vec<u32>,
    /// How many they were before, for the work that they stand for.
    looked_at: usize,
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
        self.set.extend_from_slice(self.entered.with(node));
    }

    /// The nodes that these keep by looping, at a slash or at any other byte.
    fn staying(&self, members: &[u32], slash: bool) -> Staying {
        let mut nodes = Vec::new();
        for &member in members {
            let looping = self.nfa.nodes[member as usize].looping;
            if looping == Loop::Any || (looping == Loop::Name && !slash) {
                nodes.extend_from_slice(self.entered.with(member));
            }
        }
        let looked_at = nodes.len();
        nodes.sort_unstable();
        nodes.dedup();
        Staying { nodes, looked_at }
    }

    /// The state after `byte` in a state of these nodes.
    fn step(&mut self, members: &[u32], byte: u8) -> u32 {
        let staying = self.staying(members, byte == b'/');
        self.step_alike(members, &staying, byte, 1)
    }

    /// The same for so many bytes that all of these nodes read alike.
    fn step_alike(&mut self, members: &[u32], staying: &Staying, byte: u8, bytes: usize) -> u32 {
        self.set.clear();
        self.set.extend_from_slice(&staying.nodes);
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
        }
        let read = self.set.len() - staying.nodes.len();
        self.work += (members.len() + staying.looked_at + read) * bytes;
        self.intern()
    }

    /// The state of the nodes in `self.set`.
    fn intern(&mut self) -> u32 {
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
                    self.work += self.set.len();
                    let target = self.intern();
                    self.dfa.edges.push((byte, target));
                }
                DEAD
            }
            _ => {
                let named = named(nfa, &members);
                // All unnamed bytes behave alike, so one of them tells.
                let mut unnamed = named.complement();
                unnamed.remove(0);
                let staying = self.staying(&members, false);
                let default = match unnamed.first() {
                    Some(b'/') => self.step(&members, b'/'),
                    Some(byte) => self.step_alike(&members, &staying, byte, 1),
                    None => DEAD,
                };
                for alike in alike(nfa, &members, named) {
                    let Some(first) = alike.first() else { continue };
                    let target = match first {
                        b'/' => self.step(&members, first),
                        _ => self.step_alike(&members, &staying, first, alike.len() as usize),
                    };
                    if target != default {
                        let edges = alike.iter().map(|byte| (byte, target));
                        self.dfa.edges.extend(edges);
                    }
                }
                self.dfa.edges[from..].sort_unstable();
                default
            }
        };
        let edges = from..self.dfa.edges.len();
        let state = &mut self.dfa.states[state];
        state.edges = edges;
        state.default = default;
    }

    fn explosion(&self) -> Explosion {
        let mut loops = vec![0; self.nfa.nodes.len()];
        for &member in &self.dfa.members {
            if self.nfa.nodes[member as usize].looping != Loop::None {
                loops[member as usize] += 1;
            }
        }
        Explosion {
            states: self.dfa.states.len(),
            loops,
        }
    }
}

/// Bytes that may lead elsewhere than the rest. Never contains 0.
fn named(nfa: &Nfa, members: &[u32]) -> ByteSet {
    let mut named = ByteSet::default();
    for &member in members {
        let node = &nfa.nodes[member as usize];
        for &(byte, _) in &node.bytes {
            named.insert(byte);
        }
        for &(class, _) in &node.classes {
            let set = nfa.classes[class as usize];
            named.union(&if set.len() <= 128 {
                set
            } else {
                set.complement()
            });
        }
        if node.looping == Loop::Name {
            named.insert(b'/');
        }
    }
    named.remove(0);
    named
}

/// The named bytes in sets that no member tells apart, by the first byte of each: so the states
/// get their numbers in the order of the bytes.
fn alike(nfa: &Nfa, members: &[u32], named: ByteSet) -> Vec<ByteSet> {
    let (mut single, mut classes) = (ByteSet::default(), Vec::new());
    for &member in members {
        let node = &nfa.nodes[member as usize];
        for &(byte, _) in &node.bytes {
            single.insert(byte);
        }
        for &(class, _) in &node.classes {
            let set = nfa.classes[class as usize];
            if set.len() == 1 {
                single.union(&set);
            } else {
                classes.push(class);
            }
        }
    }
    // Not every member stays at it.
    single.insert(b'/');
    classes.sort_unstable();
    classes.dedup();
    let mut sets = vec![named.intersection(&single.complement())];
    for class in classes {
        let class = nfa.classes[class as usize];
        let complement = class.complement();
        for at in 0..sets.len() {
            let inside = sets[at].intersection(&class);
            let outside = sets[at].intersection(&complement);
            if !inside.is_empty() && !outside.is_empty() {
                sets[at] = inside;
                sets.push(outside);
            }
        }
    }
    sets.extend(single.intersection(&named).iter().map(ByteSet::only));
    sets.sort_unstable_by_key(ByteSet::first);
    sets
}

/// Whether the state is the one of the path `/`, which cannot be moved.
pub(super) fn is_root_directory(members: &[u32]) -> bool {
    members.contains(&ROOT_DIRECTORY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile::nfa::Item, glob::Glob};

    #[test]
    fn bytes_that_nobody_tells_apart_are_looked_at_together() {
        let mut nfa = Nfa::new();
        for (rule, text) in (0..).zip(["/**[a-m]??[n-z]", "/**[a-f]/x", "/**[^x]q"]) {
            let glob = Glob::parse(text).expect("a glob");
            for tokens in glob.alternatives() {
                nfa.insert(tokens.iter().copied(), Item::Rule(rule));
            }
        }
        let all: Vec<u32> = (0..).zip(&nfa.nodes).map(|(node, _)| node).collect();
        let named = named(&nfa, &all);
        let sets = alike(&nfa, &all, named);
        let mut together = ByteSet::default();
        sets.iter().for_each(|set| together.union(set));
        assert_eq!(together, named);
        let sizes: Vec<u32> = sets.iter().map(ByteSet::len).collect();
        assert_eq!(sizes.iter().sum::<u32>(), named.len());
        // `/`, a-f, g-m, n-p with r-w and y-z, q, x.
        assert_eq!(sizes, [1, 6, 7, 11, 1, 1]);
        let firsts: Vec<_> = sets.iter().filter_map(ByteSet::first).collect();
        assert_eq!(firsts, *b"/agnqx");
    }
}
