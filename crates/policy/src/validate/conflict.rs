//! Rules of one policy that repeat or contradict one another.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    diagnostic::quote,
    manifest::{
        Span,
        context::{Context, Problem},
    },
    model::{Action, Family, Rule, Target},
};

/// What makes two rules about the same thing.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    family: Family,
    target: Target,
    /// Sorted.
    sources: Vec<String>,
    read_only: bool,
    owner_only: bool,
}

/// The rules seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<Subject, (Action, Span)>);

impl Seen {
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
        };
        match self.0.entry(subject) {
            Entry::Vacant(vacant) => {
                vacant.insert((rule.action, span));
            }
            Entry::Occupied(mut occupied) => {
                let (action, first) = *occupied.get();
                cx.report(problem(rule, span, action, first));
                if rule.action > action {
                    occupied.insert((rule.action, span));
                }
            }
        }
    }
}

fn problem(rule: &Rule, span: Span, action: Action, first: Span) -> Problem {
    let what = quote(&describe(&rule.target));
    if rule.action == action {
        return Problem::warning(
            span,
            format!("this rule repeats an earlier one about {what}"),
        )
        .label("again here")
        .related(first, "first here")
        .help("remove one of them");
    }
    let winner = rule.action.max(action);
    Problem::warning(
        span,
        format!(
            "two rules about {what} contradict each other: {:?} and {action:?}",
            rule.action
        ),
    )
    .label(format!("{:?} here", rule.action))
    .related(first, format!("{action:?} here"))
    .help(format!("{winner:?} wins: Block beats Audit beats Allow"))
}

fn describe(target: &Target) -> String {
    match target {
        Target::Path(text) | Target::ExecName(text) | Target::Glob(text) => text.clone(),
        Target::Directory { path, .. } => path.clone(),
        Target::Object(object) => super::rules::object_name(*object).to_owned(),
    }
}
