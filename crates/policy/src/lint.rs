//! What rules do to one another, within a policy and among policies that surely apply together.
//!
//! What never decides is read off the compiled table, which has a cell for everything that can be
//! asked: a rule that no cell names is shadowed. Nothing is guessed, and nothing depends on how the
//! rules are written.

mod example;
mod group;
mod reach;
mod shadow;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use self::group::Group;
use crate::{
    Report,
    alias::Aliases,
    compile::{self, compile},
    conflict::{self, Effect, Seen},
    diagnostic::{Diagnostic, Place, quote},
    manifest::fields,
    model::{Action, Location, Policy, Postures, Rule},
    select::Effective,
    semantics,
};

/// Most warnings; a text with more has one cause for many.
const TOLD_MAX: usize = 100;

/// Words of tables that are compiled, and rules that are looked at for them, for the sake of other
/// policies than those of equal selectors: a few seconds' worth.
const WORDS_MAX: usize = 4 * compile::WORDS_MAX;

/// A file's text, and what was read from it.
#[derive(Debug)]
pub struct File<'f> {
    /// Its text.
    pub text: &'f str,
    /// Its policies and problems.
    pub report: &'f mut Report,
}

/// Warns of every rule that never decides, and of every two rules of different policies that
/// contradict each other, among policies that surely apply together: those for the same workloads
/// by their selectors, and those for more workloads, which count for the ones for fewer. Policies that
/// may meet on some workload are left to `explain`.
pub fn check(files: &mut [File<'_>]) {
    let policies: Vec<Arc<Policy>> = files
        .iter()
        .flat_map(|file| &file.report.policies)
        .map(|policy| Arc::new(policy.clone()))
        .collect();
    let groups = group::collect(policies);
    let mut room = WORDS_MAX;
    let mut findings = Vec::new();
    let mut not_compared: Vec<&Policy> = Vec::new();
    for group in &groups {
        let mut wider = relevant(group, &groups);
        let mut is_compared = !group.is_alone;
        if room == 0 && !wider.is_empty() {
            is_compared = false;
            wider.clear();
        }
        findings.extend(contradictions(group, &wider));
        let mut shadowed = shadowed(group, &wider);
        if !wider.is_empty() {
            let took = shadowed.as_ref().map(|&(_, took)| took);
            room = room.saturating_sub(took.unwrap_or(compile::WORDS_MAX));
            if shadowed.is_none() {
                is_compared = false;
                shadowed = self::shadowed(group, &[]);
            }
        }
        // What does not compile together is told elsewhere.
        findings.extend(shadowed.into_iter().flat_map(|(findings, _)| findings));
        if !is_compared {
            not_compared.extend(group.policies.iter().map(Arc::as_ref));
        }
    }
    tell(files, findings);
    if let Some(&first) = not_compared.first() {
        tell_not_compared(files, first, not_compared.len());
    }
}

/// The policies for more workloads, of groups that have rules of a group's families.
fn relevant<'g>(group: &Group, groups: &'g [Group]) -> Vec<&'g Arc<Policy>> {
    let wider = group.wider.iter().map(|&at| &groups[at]);
    wider
        .filter(|wider| !wider.families.is_disjoint(&group.families))
        .flat_map(|wider| &wider.policies)
        .collect()
}

/// What is to be told of a rule.
struct Finding {
    at: Location,
    message: String,
    label: Option<String>,
    help: Vec<String>,
    /// Another rule that has to do with it.
    other: Option<(Location, String)>,
}

/// The rules of a group that contradict one of another policy.
fn contradictions(group: &Group, wider: &[&Arc<Policy>]) -> Vec<Finding> {
    let mut seen = Seen::new();
    let mut findings = Vec::new();
    let families = &group.families;
    for policy in wider {
        for rule in policy
            .rules
            .iter()
            .filter(|rule| families.contains(&rule.family))
        {
            seen.add(rule, (Arc::as_ptr(policy), &rule.location), |_| false);
        }
    }
    for policy in &group.policies {
        let own = Arc::as_ptr(policy);
        for rule in &policy.rules {
            // Those within a policy were told when it was read.
            let conflict = seen.add(rule, (own, &rule.location), |&(of, _)| of != own);
            let Some(conflict) = conflict.filter(|conflict| !conflict.repeats) else {
                continue;
            };
            let ((_, earlier), what) = conflict.earlier;
            findings.push(Finding {
                at: rule.location.clone(),
                message: conflict.message,
                label: Some(conflict.label),
                help: conflict.help,
                other: Some((earlier.clone(), what)),
            });
        }
    }
    findings
}

/// The rules of a group that never decide, and what it took to tell, in rules and words of the table;
/// nothing if there is no table.
fn shadowed(group: &Group, wider: &[&Arc<Policy>]) -> Option<(Vec<Finding>, usize)> {
    let families = &group.families;
    let own: HashSet<*const Policy> = group.policies.iter().map(Arc::as_ptr).collect();
    let together = group.policies.iter().chain(wider.iter().copied()).cloned();
    let mut effective = Effective::new(together, Postures::default(), Aliases::merged_usr());
    let rules = effective.rules.len();
    effective
        .rules
        .retain(|entry| families.contains(&entry.rule().family));
    if effective.rules.len() < 2 {
        return Some((Vec::new(), rules));
    }
    let compiled = compile(&effective).ok()?;
    let is_own = |index: u32| own.contains(&Arc::as_ptr(&effective.rules[index as usize].policy));
    let rule = |index: u32| effective.rules[index as usize].rule();
    let findings = shadow::shadowed(&effective, &compiled, is_own)
        .into_iter()
        .map(|(index, by)| never_decides(rule(index), by.map(rule)))
        .collect();
    Some((findings, rules + compiled.words.len()))
}

fn never_decides(rule: &Rule, by: Option<&Rule>) -> Finding {
    let what = quote(&rule.target.to_string());
    let mut help = vec![match by {
        Some(by) if conflict::says_as_much(by, rule) => {
            "another rule says the same and wins; remove one of them".to_owned()
        }
        Some(by) => format!(
            "{} wins wherever {} could: see `karmor policy explain`",
            Effect::of(by),
            Effect::of(rule)
        ),
        None => "other rules win wherever it matches".to_owned(),
    }];
    if rule.action == Action::Allow && semantics::is_whitelist_family(rule.family) {
        let section = rule.family.section();
        help.push(format!(
            "it makes a whitelist of the {section} rules all the same"
        ));
    }
    Finding {
        at: rule.location.clone(),
        message: format!("this rule about {what} never decides"),
        label: None,
        help,
        other: by.map(|by| {
            let what = quote(&by.target.to_string());
            let told = format!("{} {what} decides instead", Effect::of(by));
            (by.location.clone(), told)
        }),
    }
}

/// Where a rule stands.
type Spot = (String, u32, u32);

fn spot(at: &Location) -> Spot {
    (at.file.to_string(), at.line, at.column)
}

fn spot_of(place: &Place) -> Spot {
    (place.file.clone(), place.line, place.column)
}

/// Two rules, whichever is told of.
fn pair(one: Spot, other: Spot) -> [Spot; 2] {
    let mut pair = [one, other];
    pair.sort_unstable();
    pair
}

/// Adds what was found, but for what has been told of the same two rules.
fn tell(files: &mut [File<'_>], mut findings: Vec<Finding>) {
    let mut told = HashSet::new();
    for known in files.iter().flat_map(|file| &file.report.diagnostics) {
        let related = known.related.iter();
        told.extend(related.map(|other| pair(spot_of(&known.place), spot_of(&other.place))));
    }
    findings.retain(|finding| {
        let other = finding.other.as_ref().map(|(at, _)| spot(at));
        told.insert(pair(spot(&finding.at), other.unwrap_or_default()))
    });
    if findings.len() > TOLD_MAX {
        let more = findings.len() - TOLD_MAX;
        findings.truncate(TOLD_MAX);
        if let Some(last) = findings.last_mut() {
            last.help.push(format!(
                "{more} more rules never decide or contradict others"
            ));
        }
    }
    let fields = fields(files, &findings);
    for finding in findings {
        let related = finding.other.and_then(|(other, what)| {
            let file = files.iter().find(|file| is_of(file, &other))?;
            Some((what, place(file.text, &other)))
        });
        let Some(index) = files.iter().position(|file| is_of(file, &finding.at)) else {
            continue;
        };
        let file = &mut files[index];
        let place = place(file.text, &finding.at);
        let field = fields[index].get(&place.span.start).cloned();
        let Finding {
            message,
            label,
            help,
            ..
        } = finding;
        let field = field.unwrap_or_default();
        let diagnostic = Diagnostic::of_rules(message, label, help, place, field, related);
        file.report.insert(diagnostic);
    }
}

/// Of each file, the fields of the rules that something is found about, by where they begin.
fn fields(files: &[File<'_>], findings: &[Finding]) -> Vec<HashMap<usize, String>> {
    let of = |file: &File<'_>| {
        let own = findings.iter().filter(|finding| is_of(file, &finding.at));
        let starts = own.map(|finding| place(file.text, &finding.at).span.start);
        fields::items(without_mark(file.text), &starts.collect())
    };
    files.iter().map(of).collect()
}

fn tell_not_compared(files: &mut [File<'_>], first: &Policy, policies: usize) {
    let Some(file) = files.iter_mut().find(|file| is_of(file, &first.location)) else {
        return;
    };
    let message = format!(
        "there are too many policies: {policies}, of which this is the first, were not held against \
         those for more workloads"
    );
    let help = vec!["check fewer files at a time".to_owned()];
    let place = place(file.text, &first.location);
    let diagnostic = Diagnostic::of_rules(message, None, help, place, "spec".to_owned(), None);
    file.report.insert(diagnostic);
}

fn is_of(file: &File<'_>, location: &Location) -> bool {
    let mut policies = file.report.policies.iter();
    policies.any(|policy| policy.location.file == location.file)
}

/// A text without its byte order mark, from which places count.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The rest of the line from a location on.
fn place(text: &str, location: &Location) -> Place {
    let body = without_mark(text);
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
