//! Forgetting what can no longer matter.
//!
//! After `/**/.git/` the pattern `/**/.git/**` matches whatever follows. What else might match is
//! then only of interest if it could win; without this, an automaton would remember every subset
//! of such patterns met so far, and a dozen of them would be too many.
//!
//! A rule that *lasts* in a state (to the end of the path, or of the component) makes the state
//! drop every tree node from which only rules that lose to it can be reached.

use karmor_abi::{op::Op, verdict::Action};

use super::nfa::{Item, Loop, Nfa, Node, ROOT_DIRECTORY};
use crate::{
    model::{Endpoint, Family, Rule, Target},
    select::Effective,
    semantics,
};

/// Decides which tree nodes a state may drop.
pub(super) struct Pruner {
    reach: Vec<Reach>,
    /// Rules that last where this node is part of a state.
    lasting: Vec<Option<Lasting>>,
}

/// Whether a rule's refusal may come to less than that of another: it spares essential programs, and
/// some rule does not.
fn may_be_less(rule: &Rule, effective: &Effective) -> bool {
    rule.spares && !effective.spares_throughout()
}

/// What can be reached from a node, the node itself included.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// A source path or an argument, which decides nothing and is always wanted.
    source: bool,
    /// Families of the rules, as a mask.
    families: u8,
    /// A rule that can block anything about a path.
    blocks: bool,
    /// Something behind the next `/`.
    crosses: bool,
    /// Most specific rule.
    rank: u16,
    /// Strictest thing that a rule can do to somebody.
    action: Action,
    /// First rule.
    first: u32,
}

impl Reach {
    const NOTHING: Self = Self {
        source: false,
        families: 0,
        blocks: false,
        crosses: false,
        rank: 0,
        action: Action::Allow,
        first: u32::MAX,
    };

    fn join(self, other: Self) -> Self {
        Self {
            source: self.source || other.source,
            families: self.families | other.families,
            blocks: self.blocks || other.blocks,
            crosses: self.crosses || other.crosses,
            rank: self.rank.max(other.rank),
            action: self.action.max(other.action),
            first: self.first.min(other.first),
        }
    }
}

const fn bit(family: Family) -> u8 {
    1 << family as u8
}

/// A rule that goes on matching.
#[derive(Clone, Copy, Debug)]
struct Lasting {
    family: Family,
    action: Action,
    rank: u16,
    index: u32,
    /// To the end of the path, not only of the component.
    whole: bool,
}

impl Lasting {
    /// A rule without conditions, which decides every operation of its family.
    fn new(rule: &Rule, rank: u16, index: u32, whole: bool) -> Option<Self> {
        let both_ways = |to: &Endpoint| to.faces(Op::Egress) && to.faces(Op::Ingress);
        let one_way = matches!(&rule.target, Target::Endpoint(to) if !both_ways(to));
        let conditions = rule.is_conditional() || one_way || !rule.sources.is_empty();
        // An Allow rule leaves the mapping of a file to other rules.
        let silent = rule.family == Family::Process && rule.action == Action::Allow;
        let Rule { family, action, .. } = *rule;
        (!conditions && !silent).then_some(Self {
            family,
            action,
            rank,
            index,
            whole,
        })
    }

    /// Whether no rule that can be reached could win against this one, nor refuse a move that
    /// this one would not refuse in its own name.
    fn beats(&self, reach: &Reach) -> bool {
        let other_family = reach.families & !bit(self.family) != 0;
        if reach.source || other_family || (reach.crosses && !self.whole) {
            return false;
        }
        let order = std::cmp::Reverse;
        let moves = !reach.blocks
            || (self.action == Action::Block
                && (self.rank, order(self.index)) >= (reach.rank, order(reach.first)));
        // Where it is the best of what can be reached itself, it has won already.
        moves
            && (self.rank, self.action, order(self.index))
                >= (reach.rank, reach.action, order(reach.first))
    }
}

impl Pruner {
    pub(super) fn new(nfa: &Nfa, effective: &Effective) -> Self {
        let ranks: Vec<u16> = effective
            .rules()
            .map(|rule| semantics::rank(rule, &effective.aliases))
            .collect();
        let rule = |index: u32| {
            (
                effective.rules[index as usize].rule(),
                ranks[index as usize],
            )
        };
        let mut reach = vec![Reach::NOTHING; nfa.nodes.len()];
        for (index, node) in nfa.nodes.iter().enumerate().rev() {
            let items = node.items.iter().map(|item| match *item {
                Item::Source(_) | Item::Argument(_) | Item::Mismatch(_) | Item::Unreadable => {
                    Reach {
                        source: true,
                        ..Reach::NOTHING
                    }
                }
                Item::Family(family) => Reach {
                    families: bit(family),
                    ..Reach::NOTHING
                },
                Item::Rule(index) => {
                    let (rule, rank) = rule(index);
                    Reach {
                        families: bit(rule.family),
                        blocks: semantics::may_block(rule),
                        rank,
                        action: semantics::strictest(rule),
                        first: index,
                        ..Reach::NOTHING
                    }
                }
            });
            let below = node.children().map(|child| reach[child as usize]);
            let crosses = node.looping == Loop::Any || node.byte(b'/').is_some();
            let own = Reach {
                crosses,
                ..Reach::NOTHING
            };
            reach[index] = items.chain(below).fold(own, Reach::join);
        }
        let lasting = |node: &Node| {
            let whole = match node.looping {
                Loop::None => return None,
                Loop::Name => false,
                Loop::Any => true,
            };
            let rules = node.items.iter().filter_map(|item| match *item {
                Item::Rule(index) => {
                    let (rule, rank) = rule(index);
                    let lasting = Lasting::new(rule, rank, index, whole);
                    lasting.filter(|_| !may_be_less(rule, effective))
                }
                Item::Source(_)
                | Item::Family(_)
                | Item::Argument(_)
                | Item::Mismatch(_)
                | Item::Unreadable => None,
            });
            rules.max_by_key(|l| (l.action, l.rank, std::cmp::Reverse(l.index)))
        };
        let lasting = nfa.nodes.iter().map(lasting).collect();
        Self { reach, lasting }
    }

    /// Drops nodes from a set.
    pub(super) fn prune(&self, set: &mut Vec<u32>) {
        if set.len() < 2 {
            return;
        }
        // By index, since the set changes; what was dropped had been beaten by what was kept.
        let mut at = 0;
        while at < set.len() {
            let keeper = set[at];
            if let Some(lasting) = &self.lasting[keeper as usize] {
                set.retain(|&node| {
                    node == keeper
                        || node == ROOT_DIRECTORY
                        || !lasting.beats(&self.reach[node as usize])
                });
                at = set.iter().position(|&node| node == keeper).unwrap_or(at);
            }
            at += 1;
        }
    }
}
