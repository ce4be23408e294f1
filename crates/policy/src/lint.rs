//! Rules that never decide anything, because others are about the same and win everywhere.
//!
//! What never decides is read off the compiled table, which has a cell for everything that can be
//! asked: a rule that no cell names is shadowed. Nothing is guessed, and nothing depends on how the
//! rules are written.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use karmor_abi::{
    op::Op,
    table::{self, SET_BY_OWNER, SET_BY_SOURCE, SET_BY_TERMINAL, View, Words as _},
    verdict::{Action, Reason, Verdict},
    word::{Protocol, SOCK_DGRAM, SOCK_PACKET, SOCK_SEQPACKET, SOCK_STREAM},
};

use crate::{
    Report,
    alias::Aliases,
    compile::compile,
    compiled::Compiled,
    diagnostic::{Diagnostic, Place, quote},
    glob::{Glob, Token},
    model::{Kind, Location, Policy, Postures, Rule, Selector, SocketKind, Source, Target},
    reference::{Access, AccessObject},
    select::Effective,
    semantics,
    syscall::Syscall,
};

/// `IPPROTO_TCP`, as rules name it.
const TCP: u8 = 6;

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
    let examples = Example::of(&rule.target);
    let source = rule.sources.first().map(|source| match source {
        Source::Path(path) => path.clone(),
        Source::Directory { path, .. } => format!("{path}x"),
    });
    let asked = semantics::operations(rule.family)
        .iter()
        .flat_map(|&op| semantics::ASKERS.map(|asker| (op, asker)))
        .filter(|&(op, asker)| semantics::effect(rule, op, asker).is_some());
    asked
        .flat_map(|asked| examples.iter().map(move |example| (asked, example)))
        .find_map(|((op, asker), example)| {
            let verdict = compiled.decide(&Access {
                op,
                object: example.object(),
                source: source.as_deref().map(str::as_bytes),
                parent: None,
                asker,
                trusted: true,
                arguments: None,
            });
            (verdict.reason() == Reason::Rule).then(|| verdict.rule())
        })
}

/// Something that a rule names.
enum Example {
    Path(Vec<u8>),
    Domain(Vec<u8>),
    SyscallAt(Syscall, Vec<u8>),
    /// What holds no text.
    Other(AccessObject<'static>),
}

impl Example {
    /// One, or one for each alternative.
    fn of(target: &Target) -> Vec<Self> {
        vec![match target {
            Target::Path(_) | Target::ExecName(_) | Target::Directory { .. } => {
                Self::Path(path(target))
            }
            Target::Glob(text) => {
                let Ok(glob) = Glob::parse(text) else {
                    return Vec::new();
                };
                let alternatives = glob.alternatives().iter();
                return alternatives
                    .map(|tokens| Self::Path(text_of(tokens)))
                    .collect();
            }
            Target::Domain(name) => Self::Domain(name.clone().into_bytes()),
            Target::SyscallAt { syscall, place } => Self::SyscallAt(*syscall, path(place)),
            Target::Object(object) => Self::Other(AccessObject::Class(*object)),
            Target::Socket(kind) => Self::Other(socket(*kind)),
            Target::Endpoint(endpoint) => Self::Other(AccessObject::Endpoint {
                address: endpoint
                    .network
                    .map_or(Ipv4Addr::LOCALHOST.into(), |network| network.network()),
                protocol: endpoint.protocol.unwrap_or(TCP),
                port: endpoint.ports.first().map_or(1, |ports| *ports.start()),
            }),
            Target::Capability(number) => Self::Other(AccessObject::Capability(*number)),
            Target::Syscall(syscall) => Self::Other(AccessObject::Syscall(*syscall)),
            Target::Preset(_) => Self::Other(AccessObject::Preset),
        }]
    }

    fn object(&self) -> AccessObject<'_> {
        match self {
            Self::Path(path) => AccessObject::Path(path),
            Self::Domain(name) => AccessObject::Domain(name),
            Self::SyscallAt(syscall, path) => AccessObject::SyscallAt(*syscall, path),
            Self::Other(object) => *object,
        }
    }
}

fn path(place: &Target) -> Vec<u8> {
    match place {
        Target::ExecName(name) => format!("/{name}").into_bytes(),
        Target::Directory { path, .. } => format!("{path}x").into_bytes(),
        other => other.path().unwrap_or_default().into(),
    }
}

fn text_of(tokens: &[Token]) -> Vec<u8> {
    let byte = |token: &Token| match *token {
        Token::Byte(byte) => Some(byte),
        Token::Class(set) => {
            let lower = set.iter().find(u8::is_ascii_lowercase);
            lower.or_else(|| set.iter().find(|&byte| byte != 0))
        }
        Token::Star | Token::DoubleStar => None,
    };
    tokens.iter().filter_map(byte).collect()
}

fn socket(kind: SocketKind) -> AccessObject<'static> {
    let (kind, protocol) = match kind {
        SocketKind::All => (SOCK_STREAM, Protocol::Tcp),
        SocketKind::Type(kind) => (kind, Protocol::Other),
        SocketKind::Protocol(Protocol::Tcp) => (SOCK_STREAM, Protocol::Tcp),
        SocketKind::Protocol(Protocol::Sctp) => (SOCK_SEQPACKET, Protocol::Sctp),
        SocketKind::Protocol(protocol) => (SOCK_DGRAM, protocol),
        SocketKind::Packet => (SOCK_PACKET, Protocol::Packet),
    };
    AccessObject::Socket(kind, protocol)
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
    // Repetitions and contradictions within a policy have been told, with the other place and what
    // to do.
    let told = file.report.diagnostics.iter().any(|known| {
        (known.place.line, known.place.column) == (place.line, place.column)
            && !known.related.is_empty()
    });
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
