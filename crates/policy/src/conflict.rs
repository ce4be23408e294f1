//! Rules about one target that repeat or contradict one another.

use std::{cmp::Reverse, collections::HashMap, fmt, hash::Hash, ops::RangeInclusive, sync::Arc};

use karmor_abi::{op::Op, table::Asker};

use crate::{
    alias::Aliases,
    diagnostic::quote,
    model::{Action, Endpoint, Family, Rule, Source, Target},
    semantics,
};

/// What makes two rules the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    family: Family,
    target: Target,
    /// Sorted.
    sources: Vec<Source>,
    arguments: Option<Arc<[String]>>,
    effect: Effect,
}

/// What a rule does to what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Effect {
    action: Action,
    read_only: bool,
    owner_only: bool,
    no_terminal: bool,
    /// It lists arguments, whichever.
    lists: bool,
}

impl Effect {
    pub(crate) fn of(rule: &Rule) -> Self {
        Self {
            action: rule.action,
            read_only: rule.read_only,
            owner_only: rule.owner_only,
            no_terminal: rule.no_terminal,
            lists: rule.arguments.is_some(),
        }
    }

    fn modifiers(self) -> impl Iterator<Item = &'static str> {
        let modifiers = [
            (self.read_only, "`readOnly`"),
            (self.owner_only, "`ownerOnly`"),
            (self.no_terminal, "`pts: false`"),
            (self.lists, "`allowedArgs`"),
        ];
        modifiers
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| name)
    }

    fn is_plain(self) -> bool {
        self.modifiers().next().is_none()
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.action)?;
        for (index, modifier) in self.modifiers().enumerate() {
            let word = if index == 0 { "with" } else { "and" };
            write!(f, " {word} {modifier}")?;
        }
        Ok(())
    }
}

/// What a rule says about an operation to who asks, by whether its list has every argument.
fn says(rule: &Rule, op: Op, asker: Asker, listed: bool) -> Option<Action> {
    let mismatch = semantics::mismatch(rule).filter(|_| op == Op::Exec && !listed);
    semantics::effect(rule, op, asker).max(mismatch)
}

/// Whether `rule` says all that `other` does, of what both match.
pub(crate) fn says_as_much(rule: &Rule, other: &Rule) -> bool {
    all(rule, other, |own, other| other.is_none() || own == other)
}

/// Whether somebody gets another answer than one of two equally specific rules gives him.
fn contradict(a: &Rule, b: &Rule) -> bool {
    !all(a, b, |a, b| a == b || a.is_none() || b.is_none())
}

/// Whether this holds of what two rules of a family say, whatever is asked and whoever asks.
fn all(a: &Rule, b: &Rule, holds: impl Fn(Option<Action>, Option<Action>) -> bool) -> bool {
    let has_more = |list: &Rule, than: &Rule| match (&list.arguments, &than.arguments) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(list), Some(than)) => list.iter().any(|text| !than.contains(text)),
    };
    // Of whose list arguments can be, and of whose they can be missing.
    let listings = [
        (true, true, true),
        (false, false, true),
        (true, false, has_more(a, b)),
        (false, true, has_more(b, a)),
    ];
    let holds = &holds;
    semantics::operations(a.family)
        .iter()
        .flat_map(|&op| semantics::ASKERS.map(|asker| (op, asker)))
        .all(|(op, asker)| {
            let mut possible = listings.iter().filter(|(_, _, can_be)| *can_be);
            possible
                .all(|&(in_a, in_b, _)| holds(says(a, op, asker, in_a), says(b, op, asker, in_b)))
        })
}

/// Where rules of one effect are equally specific: a target and a source, by their numbers. Small,
/// since a policy may have a million of them.
type Place = (u32, u32, Effect);

/// Most earlier rules of a place that a rule about endpoints is held against: a policy may have
/// thousands, with many ports each.
const COMPARED_MAX: usize = 100;

/// The source of a rule without sources.
const ANY: u32 = u32::MAX;

/// A rule seen before.
#[derive(Debug)]
struct Earlier<P> {
    target: Target,
    arguments: Option<Arc<[String]>>,
    sources: usize,
    at: P,
}

/// What a rule has with an earlier one, to be told.
#[derive(Debug)]
pub(crate) struct Conflict<P> {
    /// The earlier one says the same; otherwise they contradict each other.
    pub(crate) repeats: bool,
    pub(crate) message: String,
    /// What the later rule is.
    pub(crate) label: String,
    /// Where the earlier one stands, and what it is.
    pub(crate) earlier: (P, String),
    pub(crate) help: Vec<String>,
}

/// The rules seen so far, each with where it stands.
#[derive(Debug)]
pub(crate) struct Seen<P> {
    aliases: Aliases,
    same: HashMap<Subject, P>,
    /// Numbers of what is named, by the names that hold where the usual links are.
    targets: HashMap<(Family, Target), u32>,
    sources: HashMap<Source, u32>,
    /// The effects that there are: at most as many as combinations.
    effects: Vec<(Family, Effect)>,
    /// The first rule at each place, by its index in `rules`; all of those about endpoints, of which
    /// two may have only some ports in common.
    places: HashMap<Place, usize>,
    endpoints: HashMap<Place, Vec<usize>>,
    rules: Vec<Earlier<P>>,
}

impl<P: Clone> Seen<P> {
    pub(crate) fn new() -> Self {
        Self {
            aliases: Aliases::merged_usr(),
            same: HashMap::new(),
            targets: HashMap::new(),
            sources: HashMap::new(),
            effects: Vec::new(),
            places: HashMap::new(),
            endpoints: HashMap::new(),
            rules: Vec::new(),
        }
    }

    /// Remembers a rule, and tells what it has with an earlier one that `is_rival`.
    pub(crate) fn add(
        &mut self,
        rule: &Rule,
        at: P,
        is_rival: impl Fn(&P) -> bool,
    ) -> Option<Conflict<P>> {
        let effect = Effect::of(rule);
        let subject = {
            let mut sources = rule.sources.clone();
            sources.sort_unstable();
            Subject {
                family: rule.family,
                target: rule.target.clone(),
                sources,
                arguments: rule.arguments.clone(),
                effect,
            }
        };
        let (target, sources) = (self.target(rule), self.sources(rule));
        let first = self.same.get(&subject).cloned();
        let contradiction = self.contradiction(rule, target, &sources, &is_rival);
        let Some(first) = first else {
            if !self.effects.contains(&(rule.family, effect)) {
                self.effects.push((rule.family, effect));
            }
            for source in sources {
                let place = (target, source, effect);
                let index = self.rules.len();
                if rule.family == Family::Endpoints {
                    self.endpoints.entry(place).or_default().push(index);
                } else {
                    self.places.entry(place).or_insert(index);
                }
            }
            self.rules.push(Earlier {
                target: rule.target.clone(),
                arguments: rule.arguments.clone(),
                sources: rule.sources.len(),
                at: at.clone(),
            });
            self.same.insert(subject, at);
            return contradiction;
        };
        contradiction.or_else(|| is_rival(&first).then(|| repetition(rule, first)))
    }

    fn target(&mut self, rule: &Rule) -> u32 {
        let target = match &rule.target {
            Target::Path(path) => Target::Path(self.aliases.resolve(path)),
            Target::Directory { path, recursive } => Target::Directory {
                path: self.aliases.resolve(path),
                recursive: *recursive,
            },
            Target::Endpoint(endpoint) => Target::Endpoint(place_of(endpoint)),
            other => other.clone(),
        };
        number(&mut self.targets, (rule.family, target))
    }

    fn sources(&mut self, rule: &Rule) -> Vec<u32> {
        if rule.sources.is_empty() {
            return vec![ANY];
        }
        let names = rule.sources.iter().map(|source| match source {
            Source::Path(path) => Source::Path(self.aliases.resolve(path)),
            Source::Directory { path, recursive } => Source::Directory {
                path: self.aliases.resolve(path),
                recursive: *recursive,
            },
        });
        let sources = &mut self.sources;
        names.map(|name| number(sources, name)).collect()
    }

    /// What there is with the strictest earlier rule that is about the same and says another thing.
    fn contradiction(
        &self,
        rule: &Rule,
        target: u32,
        sources: &[u32],
        is_rival: impl Fn(&P) -> bool,
    ) -> Option<Conflict<P>> {
        let mut effects: Vec<Effect> = self
            .effects
            .iter()
            .filter(|(family, _)| *family == rule.family)
            .map(|&(_, effect)| effect)
            .collect();
        effects.sort_by_key(|effect| Reverse(effect.action));
        let mut other = rule.clone();
        effects.into_iter().find_map(|effect| {
            other.action = effect.action;
            other.read_only = effect.read_only;
            other.owner_only = effect.owner_only;
            other.no_terminal = effect.no_terminal;
            sources.iter().enumerate().find_map(|(at, &source)| {
                let earlier = self.earlier(&(target, source, effect)).find(|earlier| {
                    other.target.clone_from(&earlier.target);
                    other.arguments.clone_from(&earlier.arguments);
                    is_rival(&earlier.at)
                        && contradict(rule, &other)
                        && overlap(&rule.target, &earlier.target)
                })?;
                let source = rule.sources.get(at);
                let source = source.filter(|_| rule.sources.len().max(earlier.sources) > 1);
                Some(contradiction(rule, effect, earlier, source))
            })
        })
    }

    /// The rules at a place that a later one is held against.
    fn earlier(&self, place: &Place) -> impl Iterator<Item = &Earlier<P>> {
        let endpoints = self.endpoints.get(place).into_iter().flatten();
        let first = self.places.get(place).into_iter();
        let indices = first.chain(endpoints.take(COMPARED_MAX));
        indices.map(|&index| &self.rules[index])
    }
}

/// What endpoints have in common that weigh the same and may be about the same.
fn place_of(endpoint: &Endpoint) -> Endpoint {
    let ports = (!endpoint.ports.is_empty()).then_some(1..=u16::MAX);
    Endpoint {
        ports: ports.into_iter().collect(),
        direction: None,
        ..*endpoint
    }
}

/// Whether two targets of a place have something in common.
fn overlap(one: &Target, other: &Target) -> bool {
    let (Target::Endpoint(one), Target::Endpoint(other)) = (one, other) else {
        return true;
    };
    let meets = |range: &RangeInclusive<u16>| {
        let mut others = other.ports.iter();
        others.any(|other| range.start() <= other.end() && other.start() <= range.end())
    };
    one.ports.is_empty() || one.ports.iter().any(meets)
}

/// The number of a key, which gets the next if it has none.
fn number<K: Eq + Hash>(numbers: &mut HashMap<K, u32>, key: K) -> u32 {
    // A text is far too short for as many.
    let next = u32::try_from(numbers.len()).unwrap_or(ANY);
    *numbers.entry(key).or_insert(next)
}

fn repetition<P>(rule: &Rule, first: P) -> Conflict<P> {
    let what = quote(&rule.target.to_string());
    Conflict {
        repeats: true,
        message: format!("this rule repeats an earlier one about {what}"),
        label: "again here".to_owned(),
        earlier: (first, "first here".to_owned()),
        help: vec!["remove one of them".to_owned()],
    }
}

fn contradiction<P: Clone>(
    rule: &Rule,
    other: Effect,
    earlier: &Earlier<P>,
    source: Option<&Source>,
) -> Conflict<P> {
    let what = quote(&rule.target.to_string());
    let own = Effect::of(rule);
    let how = if own == other {
        "their `allowedArgs` differ".to_owned()
    } else {
        format!("{own} and {other}")
    };
    let mut help = Vec::new();
    if earlier.target != rule.target {
        let other = quote(&earlier.target.to_string());
        help.push(match rule.family {
            Family::Endpoints => format!("{other} has some of it in common"),
            _ => format!("{other} is the same file where the usual links are"),
        });
    }
    if let Some(source) = source {
        help.push(format!("both are for the source {}", quote(source.path())));
    }
    help.push(if own == other {
        "an argument has to be in both lists".to_owned()
    } else if own.is_plain() && other.is_plain() {
        let winner = own.action.max(other.action);
        format!("{winner:?} wins: Block beats Audit beats Allow")
    } else {
        "where they differ, Block beats Audit beats Allow".to_owned()
    });
    Conflict {
        repeats: false,
        message: format!("two rules about {what} contradict each other: {how}"),
        label: format!("{own} here"),
        earlier: (earlier.at.clone(), format!("{other} here")),
        help,
    }
}
