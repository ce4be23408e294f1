//! Rules of one policy that repeat or contradict one another.

use std::collections::{HashMap, hash_map::Entry};

use karmor_abi::op::Op;

use super::pattern::object_name;
use crate::{
    alias::Aliases,
    diagnostic::quote,
    manifest::{
        Span,
        context::{Context, Problem},
    },
    model::{Action, Family, Rule, Target},
    semantics,
};

/// What makes two rules the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    family: Family,
    target: Target,
    /// Sorted.
    sources: Vec<String>,
    read_only: bool,
    owner_only: bool,
    action: Action,
}

/// What makes two rules equally specific: the object and one source, under the names that they
/// have where the usual links are.
type Place = (Family, Target, Option<String>);

/// A rule seen before.
#[derive(Debug)]
struct Earlier {
    target: Target,
    sources: Vec<String>,
    read_only: bool,
    owner_only: bool,
    action: Action,
    says: Says,
    span: Span,
}

/// What a rule says about each operation, for the owner and for others.
type Says = [Option<Action>; 6];

fn says(rule: &Rule) -> Says {
    let ops = [Op::Exec, Op::Read, Op::Write].into_iter();
    let mut says = ops.flat_map(|op| [true, false].map(|owner| semantics::effect(rule, op, owner)));
    std::array::from_fn(|_| says.next().flatten())
}

/// The rules seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    aliases: Aliases,
    same: HashMap<Subject, Span>,
    /// By place, as numbers in `rules`; of rules that only differ in their sources, one is enough.
    places: HashMap<Place, Vec<usize>>,
    rules: Vec<Earlier>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            aliases: Aliases::merged_usr(),
            same: HashMap::new(),
            places: HashMap::new(),
            rules: Vec::new(),
        }
    }

    /// Remembers a rule, and warns if there was one about the same.
    pub(super) fn add(&mut self, rule: &Rule, span: Span, cx: &Context<'_>) {
        let mut sources = rule.sources.clone();
        sources.sort_unstable();
        let subject = Subject {
            family: rule.family,
            target: rule.target.clone(),
            sources,
            read_only: rule.read_only,
            owner_only: rule.owner_only,
            action: rule.action,
        };
        let says = says(rule);
        let places = self.places(rule);
        let contradicting = places
            .iter()
            .filter_map(|place| self.places.get(place))
            .flatten()
            .map(|&earlier| &self.rules[earlier])
            .filter(|earlier| earlier.action != rule.action && differ(&earlier.says, &says))
            .max_by_key(|earlier| (earlier.action, std::cmp::Reverse(earlier.span.start)));
        let same = self.same.entry(subject);
        if let Some(earlier) = contradicting {
            cx.report(contradiction(rule, span, earlier));
        } else if let Entry::Occupied(first) = &same {
            cx.report(repetition(rule, span, *first.get()));
        }
        let Entry::Vacant(vacant) = same else { return };
        vacant.insert(span);
        let number = self.rules.len();
        self.rules.push(Earlier {
            target: rule.target.clone(),
            sources: rule.sources.clone(),
            read_only: rule.read_only,
            owner_only: rule.owner_only,
            action: rule.action,
            says,
            span,
        });
        for place in places {
            let there = self.places.entry(place).or_default();
            // No more than there are actions and modifiers, so that looking through them is cheap.
            if there.iter().all(|&earlier| {
                let earlier = &self.rules[earlier];
                (earlier.action, &earlier.says) != (rule.action, &says)
            }) {
                there.push(number);
            }
        }
    }

    fn places(&self, rule: &Rule) -> Vec<Place> {
        let target = match &rule.target {
            Target::Path(path) => Target::Path(self.aliases.resolve(path)),
            Target::Directory { path, recursive } => Target::Directory {
                path: self.aliases.resolve(path),
                recursive: *recursive,
            },
            target @ (Target::ExecName(_) | Target::Glob(_) | Target::Object(_)) => target.clone(),
        };
        let at = |source: Option<String>| (rule.family, target.clone(), source);
        if rule.sources.is_empty() {
            return vec![at(None)];
        }
        let sources = rule.sources.iter();
        sources
            .map(|source| at(Some(self.aliases.resolve(source))))
            .collect()
    }
}

fn differ(a: &Says, b: &Says) -> bool {
    a.iter()
        .zip(b)
        .any(|(a, b)| a.is_some() && b.is_some() && a != b)
}

fn repetition(rule: &Rule, span: Span, first: Span) -> Problem {
    let what = quote(describe(&rule.target));
    let message = format!("this rule repeats an earlier one about {what}");
    Problem::warning(span, message)
        .label("again here")
        .related(first, "first here")
        .help("remove one of them")
}

fn contradiction(rule: &Rule, span: Span, earlier: &Earlier) -> Problem {
    let what = quote(describe(&rule.target));
    let own = weight(rule.action, rule.read_only, rule.owner_only);
    let other = weight(earlier.action, earlier.read_only, earlier.owner_only);
    let is_plain = !(rule.read_only || rule.owner_only || earlier.read_only || earlier.owner_only);
    let message = format!("two rules about {what} contradict each other: {own} and {other}");
    let mut problem = Problem::warning(span, message)
        .label(format!("{own} here"))
        .related(earlier.span, format!("{other} here"));
    if earlier.target != rule.target {
        let other = quote(describe(&earlier.target));
        problem = problem.help(format!(
            "{other} is the same file where the usual links are"
        ));
    }
    let mut sources = rule.sources.iter();
    if sources.any(|source| !earlier.sources.contains(source)) {
        problem = problem.help("they share a source of `fromSource`");
    }
    problem.help(if is_plain {
        let winner = rule.action.max(earlier.action);
        format!("{winner:?} wins: Block beats Audit beats Allow")
    } else {
        "where they differ, Block beats Audit beats Allow".to_owned()
    })
}

/// An action with what modifies it.
fn weight(action: Action, read_only: bool, owner_only: bool) -> String {
    let modifiers = match (read_only, owner_only) {
        (false, false) => "",
        (true, false) => " with `readOnly`",
        (false, true) => " with `ownerOnly`",
        (true, true) => " with `readOnly` and `ownerOnly`",
    };
    format!("{action:?}{modifiers}")
}

fn describe(target: &Target) -> &str {
    match target {
        Target::Path(text) | Target::ExecName(text) | Target::Glob(text) => text,
        Target::Directory { path, .. } => path,
        Target::Object(object) => object_name(*object),
    }
}
