//! Rules that never decide anything, because others are about the same and win everywhere.
//!
//! What never decides is read off the compiled table, which has a cell for everything that can be
//! asked: a rule that no cell names is shadowed. Nothing is guessed, and nothing depends on how the
//! rules are written.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use karmor_abi::{
    op::Op,
    table::{self, Asker, SET_BY_OWNER, SET_BY_SOURCE, SET_BY_TERMINAL, View, Words as _},
    verdict::{Action, Reason, Verdict},
};

use crate::{
    Report,
    alias::Aliases,
    compile::compile,
    compiled::Compiled,
    diagnostic::{Diagnostic, Place, quote},
    glob::{Glob, Token},
    model::{Kind, Location, Policy, Postures, Rule, Selector, Target},
    reference::{Access, AccessObject},
    select::Effective,
    semantics,
};

/// Most rules that are told of; a text with more has one cause for many.
const SHADOWED_MAX: usize = 100;

/// A file's text, and what was read from it.
#[derive(Debug)]
pub struct File<'f> {
    /// Its text.
    pub text: &'f str,
    /// Its policies and problems.
    pub report: &'f mut Report,
}

/// Warns of every rule that never decides, among the policies that are for the same workloads by
/// their selectors. Those of different selectors may meet on a workload as well; that depends on
/// the workload, and `explain` tells it.
pub fn warn_of_shadowed(files: &mut [File<'_>]) {
    let mut groups: Vec<(Key, Vec<Arc<Policy>>)> = Vec::new();
    for policy in files.iter().flat_map(|file| &file.report.policies) {
        let key = Key::of(policy);
        let policy = Arc::new(policy.clone());
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(policy),
            None => groups.push((key, vec![policy])),
        }
    }
    let mut warnings = BTreeMap::new();
    let mut untold = 0;
    for (_, group) in groups {
        let effective = Effective::new(group, Postures::default(), Aliases::merged_usr());
        let (found, more) = shadowed(&effective, SHADOWED_MAX.saturating_sub(warnings.len()));
        untold += more;
        for (rule, by) in found {
            let place = (rule.location.file.to_string(), rule.location.line);
            let key = (place, rule.location.column, rule.target.to_string());
            warnings.insert(key, (rule, by));
        }
    }
    let last = warnings.len().saturating_sub(1);
    for (index, (rule, by)) in warnings.into_values().enumerate() {
        let more = if index == last { untold } else { 0 };
        warn(files, &rule, by.as_ref(), more);
    }
}

/// What makes policies be about the same workloads.
#[derive(PartialEq, Eq)]
struct Key {
    kind: Kind,
    namespace: String,
    selector: Selector,
}

impl Key {
    fn of(policy: &Policy) -> Self {
        Self {
            kind: policy.kind,
            namespace: policy.namespace.clone(),
            selector: policy.selector.clone(),
        }
    }
}

/// Rules that never decide, at most so many, and of each one that decides instead; and how many
/// more there are.
fn shadowed(effective: &Effective, most: usize) -> (Vec<(Rule, Option<Rule>)>, usize) {
    // What does not compile together is told elsewhere.
    let Ok(compiled) = compile(effective) else {
        return (Vec::new(), 0);
    };
    let Ok(view) = View::parse(&compiled.words) else {
        return (Vec::new(), 0);
    };
    let deciding: HashSet<u32> = (0..view.header().sets.1)
        .flat_map(|set| winners(&view, set))
        .collect();
    let rule = |index: u32| effective.rules[index as usize].rule();
    let silent: Vec<u32> = (0..)
        .zip(effective.rules())
        // What has no say is not enforced, and that has been told.
        .filter(|(index, rule)| !deciding.contains(index) && semantics::has_say(rule))
        .map(|(index, _)| index)
        .collect();
    let told = silent.iter().take(most).map(|&index| {
        let family = rule(index).family;
        let by = winner_over(&view, &compiled, index, |other| {
            rule(other).family == family
        })
        .or_else(|| winner_at(&compiled, rule(index)));
        (rule(index).clone(), by.map(|by| rule(by).clone()))
    });
    (told.collect(), silent.len().saturating_sub(most))
}

/// Rules that the cells of a set name.
fn winners(view: &View<'_>, number: u32) -> impl Iterator<Item = u32> {
    let set = table::set(view, number);
    let has = |flag: u32| set.flags() & flag != 0;
    let sources = if has(SET_BY_SOURCE) {
        view.header().sources
    } else {
        1
    };
    let rows = sources << (u32::from(has(SET_BY_OWNER)) + u32::from(has(SET_BY_TERMINAL)));
    let first = view.header().rows.0 + set.row() * Op::COLUMNS;
    (first..first + rows * Op::COLUMNS)
        .filter(move |word| (word - first) % Op::COLUMNS != Op::ARGUMENTS)
        .map(|word| Verdict(view.word(word)))
        .filter(|verdict| matches!(verdict.reason(), Reason::Rule | Reason::Move))
        .map(|verdict| verdict.rule())
}

/// A rule that decides about something that `index` matches as well.
fn winner_over(
    view: &View<'_>,
    compiled: &Compiled,
    index: u32,
    is_rival: impl Fn(u32) -> bool,
) -> Option<u32> {
    let sets = (0..view.header().sets.1).zip(&compiled.sets);
    sets.filter(|(_, rules)| rules.contains(&index))
        .flat_map(|(number, _)| winners(view, number))
        .find(|&winner| is_rival(winner))
}

/// The rule that decides about an example of what `rule` names: one that loses to a rule that goes on
/// for ever is dropped on the way, and then no set has it.
fn winner_at(compiled: &Compiled, rule: &Rule) -> Option<u32> {
    let example = example(&rule.target)?;
    let object = match &rule.target {
        Target::Domain(_) => AccessObject::Domain(&example),
        _ => AccessObject::Path(&example),
    };
    semantics::operations(rule.family).iter().find_map(|&op| {
        let verdict = compiled.decide(&Access {
            op,
            object,
            source: rule.sources.first().map(|source| source.path().as_bytes()),
            parent: None,
            asker: Asker::default(),
            trusted: true,
            arguments: None,
        });
        (verdict.reason() == Reason::Rule).then(|| verdict.rule())
    })
}

fn example(target: &Target) -> Option<Vec<u8>> {
    Some(match target {
        Target::Path(text) | Target::Domain(text) => text.clone().into_bytes(),
        Target::ExecName(name) => format!("/{name}").into_bytes(),
        Target::Directory { path, .. } => format!("{path}x").into_bytes(),
        Target::Glob(text) => {
            let glob = Glob::parse(text).ok()?;
            let tokens = glob.alternatives().first()?.iter();
            let byte = |token: &Token| match *token {
                Token::Byte(byte) => Some(byte),
                Token::Class(set) => set.iter().find(u8::is_ascii_lowercase),
                Token::Star | Token::DoubleStar => None,
            };
            tokens.filter_map(byte).collect()
        }
        _ => return None,
    })
}

fn warn(files: &mut [File<'_>], rule: &Rule, by: Option<&Rule>, more: usize) {
    let by_place = by.and_then(|by| {
        let file = files.iter().find(|file| is_of(file, &by.location))?;
        Some((by, place(file.text, &by.location)))
    });
    let Some(file) = files.iter_mut().find(|file| is_of(file, &rule.location)) else {
        return;
    };
    let place = place(file.text, &rule.location);
    // Repetitions and contradictions within a policy have been told, with what to do.
    let told = file
        .report
        .diagnostics
        .iter()
        .any(|known| (known.place.line, known.place.column) == (place.line, place.column));
    if told {
        return;
    }
    let what = quote(&rule.target.to_string());
    let message = format!("this rule about {what} never decides");
    let mut help = vec![match by {
        Some(by) if by.action == rule.action => {
            "another rule says the same and wins; remove one of them".to_owned()
        }
        Some(by) => format!(
            "{:?} wins wherever {:?} could: see `karmor policy explain`",
            by.action, rule.action
        ),
        None => "other rules win wherever it matches".to_owned(),
    }];
    if rule.action == Action::Allow && semantics::is_whitelist_family(rule.family) {
        let section = rule.family.section();
        help.push(format!(
            "it makes a whitelist of the {section} rules all the same"
        ));
    }
    if more > 0 {
        help.push(format!("{more} more rules never decide"));
    }
    let related = by_place.map(|(by, place)| {
        let what = quote(&by.target.to_string());
        (format!("{:?} {what} decides instead", by.action), place)
    });
    file.report
        .insert(Diagnostic::shadowed(message, help, place, related));
}

fn is_of(file: &File<'_>, location: &Location) -> bool {
    let mut policies = file.report.policies.iter();
    policies.any(|policy| policy.location.file == location.file)
}

/// The rest of the line from a location on.
fn place(text: &str, location: &Location) -> Place {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = body.split_inclusive('\n');
    let before: usize = lines
        .clone()
        .take(location.line.saturating_sub(1) as usize)
        .map(str::len)
        .sum();
    let line = body[before..].lines().next().unwrap_or_default();
    let columns = location.column.saturating_sub(1) as usize;
    let inside: usize = line.chars().take(columns).map(char::len_utf8).sum();
    Place {
        file: location.file.to_string(),
        line: location.line,
        column: location.column,
        span: before + inside..before + line.trim_end().len().max(inside),
    }
}
