//! All patterns as one tree of tokens, so that common beginnings exist once.
//!
//! ```text
//! /etc/passwd   root ─ / ─ e ─ t ─ c ─ / ─ p ─ …
//! /etc/ (rec.)                     └accept └─ ** accept
//! ```
//!
//! A node reached by `*` or `**` also loops on what that matches, and is entered without reading
//! anything. Once all patterns are in, nodes that go on alike become one ([`Nfa::share_ends`]), so
//! that a node may have several parents. Children always follow their parents, which lets a single
//! backward pass find what is still reachable from every node.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    glob::{ByteSet, Token},
    model::Family,
};

/// What the end of a pattern stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Item {
    /// The target of the rule with this index.
    Rule(u32),
    /// The source path with this index.
    Source(u32),
    /// Whatever is of this family, which is a whitelist.
    Family(Family),
    /// An argument that the rule with this index lists.
    Argument(u32),
    /// What happens where an argument is missing from the list of the rule with this index.
    Mismatch(u32),
    /// A query that cannot be read.
    Unreadable,
}

/// What a node reads without leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Loop {
    None,
    /// Bytes other than `/`.
    Name,
    /// Any byte.
    Any,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// Children by byte, sorted.
    pub bytes: Vec<(u8, u32)>,
    /// Children by index of a class, sorted once the ends are shared.
    pub classes: Vec<(u32, u32)>,
    /// Children by `*` and `**`.
    pub star: Option<u32>,
    pub double_star: Option<u32>,
    pub looping: Loop,
    /// Patterns that end here, sorted once the ends are shared.
    pub items: Vec<Item>,
    /// First of the rules whose protected name (of directories: their own) ends here, by place in
    /// [`crate::semantics::precedence`].
    guards: u32,
    /// First of the rules that guard the directory itself that ends here, likewise.
    guards_self: u32,
}

impl Node {
    const fn new(looping: Loop) -> Self {
        Self {
            bytes: Vec::new(),
            classes: Vec::new(),
            star: None,
            double_star: None,
            looping,
            items: Vec::new(),
            guards: NO_PLACE,
            guards_self: NO_PLACE,
        }
    }

    pub(super) fn byte(&self, byte: u8) -> Option<u32> {
        let at = self.bytes.binary_search_by_key(&byte, |&(b, _)| b).ok()?;
        Some(self.bytes[at].1)
    }

    /// Children that are entered without reading anything.
    pub(super) fn free(&self) -> impl Iterator<Item = u32> {
        [self.star, self.double_star].into_iter().flatten()
    }

    /// All children.
    pub(super) fn children(&self) -> impl Iterator<Item = u32> {
        let bytes = self.bytes.iter().map(|&(_, child)| child);
        bytes
            .chain(self.classes.iter().map(|&(_, child)| child))
            .chain(self.free())
    }

    fn renumber(&mut self, number: impl Fn(u32) -> u32) {
        let children = self.bytes.iter_mut().map(|(_, child)| child);
        children
            .chain(self.classes.iter_mut().map(|(_, child)| child))
            .chain(&mut self.star)
            .chain(&mut self.double_star)
            .for_each(|child| *child = number(*child));
    }

    /// Whether the node reads single bytes into one child each and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        self.looping == Loop::None && self.classes.is_empty() && self.free().next().is_none()
    }
}

#[derive(Debug)]
pub(super) struct Nfa {
    pub nodes: Vec<Node>,
    pub classes: Vec<ByteSet>,
    class_index: BTreeMap<ByteSet, u32>,
}

/// Stands for no rule among places.
pub(super) const NO_PLACE: u32 = u32::MAX;

/// The node before the first byte.
pub(super) const ROOT: u32 = 0;

/// The node of the path `/` itself; part of no other path's state.
pub(super) const ROOT_DIRECTORY: u32 = 1;

/// The node before the first byte of a word that is no path: a pattern of paths may begin with
/// `**`, and would match every word.
pub(super) const WORDS: u32 = 2;

impl Nfa {
    pub(super) fn new() -> Self {
        let mut nfa = Self {
            nodes: vec![Node::new(Loop::None)],
            classes: Vec::new(),
            class_index: BTreeMap::new(),
        };
        let root_directory = nfa.child(ROOT, Token::Byte(b'/'));
        debug_assert_eq!(root_directory, ROOT_DIRECTORY);
        nfa.nodes.push(Node::new(Loop::None));
        nfa
    }

    /// Adds a pattern of paths and returns the node where it ends.
    pub(super) fn insert(&mut self, tokens: impl IntoIterator<Item = Token>, item: Item) -> u32 {
        self.insert_below(ROOT, tokens, item)
    }

    /// Adds a pattern of words.
    pub(super) fn insert_word(&mut self, tokens: impl IntoIterator<Item = Token>, item: Item) {
        self.insert_below(WORDS, tokens, item);
    }

    fn insert_below(
        &mut self,
        root: u32,
        tokens: impl IntoIterator<Item = Token>,
        item: Item,
    ) -> u32 {
        let end = tokens
            .into_iter()
            .fold(root, |node, token| self.child(node, token));
        self.nodes[end as usize].items.push(item);
        end
    }

    /// Guards the directories above the name that ends at `node` for the rule in this place.
    pub(super) fn guard(&mut self, node: u32, place: u32) {
        let guards = &mut self.nodes[node as usize].guards;
        *guards = place.min(*guards);
    }

    /// Guards the directory that ends at `node` for the rule in this place.
    pub(super) fn guard_self(&mut self, node: u32, place: u32) {
        let guards = &mut self.nodes[node as usize].guards_self;
        *guards = place.min(*guards);
    }

    /// Makes one node of those that go on alike: behind the alternatives of a brace, behind the
    /// two names of a linked directory.
    ///
    /// Apart, they would multiply: after `**` a state remembers which of them have been met, and
    /// there are as many answers to that as sets of alternatives.
    pub(super) fn share_ends(&mut self) {
        // From the last node on, so that children are known; numbers are of this order till the end.
        let mut kept: Vec<Node> = Vec::new();
        let mut of = vec![0; self.nodes.len()];
        let mut known: HashMap<u64, u32> = HashMap::with_capacity(self.nodes.len());
        while let Some(mut node) = self.nodes.pop() {
            node.renumber(|child| of[child as usize]);
            node.classes.sort_unstable();
            node.items.sort_unstable();
            node.items.dedup();
            let index = self.nodes.len();
            let mut hasher = DefaultHasher::new();
            node.hash(&mut hasher);
            let fresh = u32::try_from(kept.len()).unwrap_or(u32::MAX);
            let like = *known.entry(hasher.finish()).or_insert(fresh);
            // Two nodes of one hash are rare, and not sharing is always right.
            let shared = like != fresh && index > WORDS as usize && kept[like as usize] == node;
            of[index] = if shared { like } else { fresh };
            if !shared {
                kept.push(node);
            }
        }
        let last = u32::try_from(kept.len()).unwrap_or(u32::MAX) - 1;
        kept.reverse();
        for node in &mut kept {
            node.renumber(|child| last - child);
        }
        self.nodes = kept;
    }

    fn child(&mut self, parent: u32, token: Token) -> u32 {
        let class = match token {
            Token::Class(set) => self.class(set),
            _ => 0,
        };
        let fresh = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let node = &mut self.nodes[parent as usize];
        let (found, looping) = match token {
            Token::Byte(byte) => match node.bytes.binary_search_by_key(&byte, |&(b, _)| b) {
                Ok(at) => (node.bytes[at].1, Loop::None),
                Err(at) => {
                    node.bytes.insert(at, (byte, fresh));
                    (fresh, Loop::None)
                }
            },
            Token::Class(_) => match node.classes.iter().find(|&&(c, _)| c == class) {
                Some(&(_, child)) => (child, Loop::None),
                None => {
                    node.classes.push((class, fresh));
                    (fresh, Loop::None)
                }
            },
            Token::Star => (*node.star.get_or_insert(fresh), Loop::Name),
            Token::DoubleStar => (*node.double_star.get_or_insert(fresh), Loop::Any),
        };
        if found == fresh {
            self.nodes.push(Node::new(looping));
        }
        found
    }

    fn class(&mut self, set: ByteSet) -> u32 {
        let fresh = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        let index = *self.class_index.entry(set).or_insert(fresh);
        if index == fresh {
            self.classes.push(set);
        }
        index
    }

    /// Which nodes are of words.
    pub(super) fn words(&self) -> Vec<bool> {
        let mut words = vec![false; self.nodes.len()];
        words[WORDS as usize] = true;
        for (index, node) in self.nodes.iter().enumerate() {
            if words[index] {
                node.children()
                    .for_each(|child| words[child as usize] = true);
            }
        }
        words
    }

    /// For every node, the place of the first rule that guards a path that ends there as a directory: one that
    /// `/` and at least one more byte can turn into a protected name.
    pub(super) fn guarded_directories(&self) -> Vec<u32> {
        let count = self.nodes.len();
        // First guarding rule reachable by any number of bytes, and by at least one.
        let mut near = vec![NO_PLACE; count];
        let mut far = vec![NO_PLACE; count];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            let reading = node
                .bytes
                .iter()
                .map(|&(_, child)| child)
                .chain(node.classes.iter().map(|&(_, child)| child))
                .map(|child| near[child as usize]);
            let free = node.free().map(|child| far[child as usize]);
            far[index] = reading.chain(free).min().unwrap_or(NO_PLACE);
            let staying = node.free().map(|child| near[child as usize]);
            near[index] = staying
                .chain([node.guards, far[index]])
                .min()
                .unwrap_or(NO_PLACE);
            if node.looping != Loop::None {
                far[index] = near[index];
            }
        }
        let below = |(index, node): (usize, &Node)| {
            let slash = node
                .byte(b'/')
                .map_or(NO_PLACE, |child| far[child as usize]);
            let stay = if node.looping == Loop::Any {
                far[index]
            } else {
                NO_PLACE
            };
            slash.min(stay).min(node.guards_self)
        };
        self.nodes.iter().enumerate().map(below).collect()
    }
}
