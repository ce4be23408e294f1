//! Rules of one policy that repeat or contradict one another.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use crate::{
    alias::Aliases,
    diagnostic::quote,
    manifest::{
        Span,
        context::{Context, Problem},
    },
    model::{Action, Family, Rule, Source, Target},
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
struct Effect {
    action: Action,
    read_only: bool,
    owner_only: bool,
    no_terminal: bool,
    /// It lists arguments, whichever.
    lists: bool,
}

impl Effect {
    fn of(rule: &Rule) -> Self {
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

/// What a rule says about each operation of its family, to each who may ask.
type Says = Vec<Option<Action>>;

fn says(rule: &Rule) -> Says {
    semantics::operations(rule.family)
        .iter()
        .flat_map(|&op| semantics::ASKERS.map(|asker| semantics::effect(rule, op, asker)))
        .collect()
}

/// Where rules of one effect are equally specific: a target and a source, by their numbers. Small,
/// since a policy may have a million of them.
type Place = (u32, u32, Effect);

/// The source of a rule without sources.
const ANY: u32 = u32::MAX;

/// A rule seen before.
#[derive(Debug)]
struct Earlier {
    target: Target,
    sources: usize,
    span: Span,
}

/// The rules seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    aliases: Aliases,
    same: HashMap<Subject, Span>,
    /// Numbers of what is named, by the names that hold where the usual links are.
    targets: HashMap<(Family, Target), u32>,
    sources: HashMap<Source, u32>,
    /// What the effects come to that there are: at most as many as combinations.
    effects: Vec<(Family, Effect, Says)>,
    /// The first rule at each place, by its index in `rules`.
    places: HashMap<Place, usize>,
    rules: Vec<Earlier>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            aliases: Aliases::merged_usr(),
            same: HashMap::new(),
            targets: HashMap::new(),
            sources: HashMap::new(),
            effects: Vec::new(),
            places: HashMap::new(),
            rules: Vec::new(),
        }
    }

    /// Remembers a rule, and warns if there was one about the same.
    pub(super) fn add(&mut self, rule: &Rule, span: Span, cx: &Context<'_>) {
        let subject = {
            let mut sources = rule.sources.clone();
            sources.sort_unstable();
            Subject {
                family: rule.family,
                target: rule.target.clone(),
                sources,
                arguments: rule.arguments.clone(),
                effect: Effect::of(rule),
            }
        };
        let (target, sources) = (self.target(rule), self.sources(rule));
        let first = self.same.get(&subject).copied();
        if let Some(problem) = self.contradiction(rule, span, target, &sources) {
            cx.report(problem);
        } else if let Some(first) = first {
            cx.report(repetition(rule, span, first));
        }
        if first.is_some() {
            return;
        }
        let effect = (rule.family, subject.effect, says(rule));
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
        for source in sources {
            let place = (target, source, subject.effect);
            self.places.entry(place).or_insert(self.rules.len());
        }
        self.rules.push(Earlier {
            target: rule.target.clone(),
            sources: rule.sources.len(),
            span,
        });
        self.same.insert(subject, span);
    }

    fn target(&mut self, rule: &Rule) -> u32 {
        let target = match &rule.target {
            Target::Path(path) => Target::Path(self.aliases.resolve(path)),
            Target::Directory { path, recursive } => Target::Directory {
                path: self.aliases.resolve(path),
                recursive: *recursive,
            },
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

    /// The problem with the strictest earlier rule that is about the same and says another thing.
    fn contradiction(
        &self,
        rule: &Rule,
        span: Span,
        target: u32,
        sources: &[u32],
    ) -> Option<Problem> {
        let own = says(rule);
        let mut others: Vec<Effect> = self
            .effects
            .iter()
            .filter(|(family, effect, says)| {
                *family == rule.family && effect.action != rule.action && differ(says, &own)
            })
            .map(|&(_, effect, _)| effect)
            .collect();
        others.sort_by_key(|effect| std::cmp::Reverse(effect.action));
        others.into_iter().find_map(|effect| {
            let (at, earlier) = sources.iter().enumerate().find_map(|(at, &source)| {
                let earlier = self.places.get(&(target, source, effect))?;
                Some((at, &self.rules[*earlier]))
            })?;
            let source = rule.sources.get(at);
            let source = source.filter(|_| rule.sources.len().max(earlier.sources) > 1);
            Some(contradiction(rule, span, effect, earlier, source))
        })
    }
}

/// The number of a key, which gets the next if it has none.
fn number<K: Eq + Hash>(numbers: &mut HashMap<K, u32>, key: K) -> u32 {
    // A text is far too short for as many.
    let next = u32::try_from(numbers.len()).unwrap_or(ANY);
    *numbers.entry(key).or_insert(next)
}

fn differ(a: &Says, b: &Says) -> bool {
    a.iter()
        .zip(b)
        .any(|(a, b)| a.is_some() && b.is_some() && a != b)
}

fn repetition(rule: &Rule, span: Span, first: Span) -> Problem {
    let what = quote(&rule.target.to_string());
    let message = format!("this rule repeats an earlier one about {what}");
    Problem::warning(span, message)
        .label("again here")
        .related(first, "first here")
        .help("remove one of them")
}

fn contradiction(
    rule: &Rule,
    span: Span,
    other: Effect,
    earlier: &Earlier,
    source: Option<&Source>,
) -> Problem {
    let what = quote(&rule.target.to_string());
    let own = Effect::of(rule);
    let message = format!("two rules about {what} contradict each other: {own} and {other}");
    let mut problem = Problem::warning(span, message)
        .label(format!("{own} here"))
        .related(earlier.span, format!("{other} here"));
    if earlier.target != rule.target {
        let other = quote(&earlier.target.to_string());
        let help = format!("{other} is the same file where the usual links are");
        problem = problem.help(help);
    }
    if let Some(source) = source {
        problem = problem.help(format!("both are for the source {}", quote(source.path())));
    }
    problem.help(if own.is_plain() && other.is_plain() {
        let winner = own.action.max(other.action);
        format!("{winner:?} wins: Block beats Audit beats Allow")
    } else {
        "where they differ, Block beats Audit beats Allow".to_owned()
    })
}
