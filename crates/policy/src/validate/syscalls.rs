//! Rules about system calls: they are told of, whatever their action.

use std::sync::Arc;

use super::{
    level::Level,
    path,
    rules::{Rules, expect_sources},
    words::each,
};
use crate::{
    diagnostic::quote,
    manifest::{
        Span, Spanned,
        context::{Context, Problem},
        types::{Attributed, List, SyscallPath, SyscallSource, SyscallsSection},
    },
    model::{Action, Family, Rule, Source, Target},
    names::SYSCALLS,
    syscall::Syscall,
};

pub(super) fn syscalls(
    section: &Spanned<SyscallsSection>,
    above: &Level,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    let level = above.below(section.attributes(), cx);
    let before = rules.written();
    cx.at("matchSyscalls", || {
        each(section.match_syscalls.as_ref(), cx, |rule| {
            let level = level.below(rule.attributes(), cx);
            let sources = sources(rule.from_source.as_ref(), cx);
            let named = named(rule.syscall.as_ref(), rule.span, rules, cx, |_| true);
            for syscall in named.calls {
                add(
                    Target::Syscall(syscall),
                    &sources,
                    &level,
                    rule.span,
                    rules,
                    cx,
                );
            }
            named.room
        });
    });
    cx.at("matchPaths", || {
        each(section.match_paths.as_ref(), cx, |rule| {
            let level = level.below(rule.attributes(), cx);
            let sources = sources(rule.from_source.as_ref(), cx);
            let place = place(rule, cx);
            let shows = Syscall::shows_path;
            let named = named(rule.syscall.as_ref(), rule.span, rules, cx, shows);
            for syscall in named.calls {
                if let Some(place) = &place {
                    let place = Box::new(place.clone());
                    let target = Target::SyscallAt { syscall, place };
                    add(target, &sources, &level, rule.span, rules, cx);
                }
            }
            named.room
        });
    });
    rules.expect_rules(before, section.span, "matchSyscalls and matchPaths");
}

fn add(
    target: Target,
    sources: &Option<Vec<Source>>,
    level: &Level,
    span: Span,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    let Some(sources) = sources else { return };
    let rule = Rule {
        family: Family::Syscalls,
        target,
        sources: sources.clone(),
        read_only: false,
        owner_only: false,
        no_terminal: false,
        spares: false,
        arguments: None,
        action: Action::Audit,
        meta: Arc::clone(&level.meta),
        location: cx.location(span),
    };
    rules.push(rule, span);
}

/// What a list of names stands for.
struct Named {
    /// The system calls that a rule can be about here.
    calls: Vec<Syscall>,
    /// There is room for more rules.
    room: bool,
}

/// Reads a list of names: each is a rule of its own. Those that `is_seen` says no to are recorded as
/// not enforced.
fn named(
    names: Option<&List<String>>,
    span: Span,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
    is_seen: impl Fn(Syscall) -> bool,
) -> Named {
    let mut calls = Vec::new();
    let room = rules.count(names.map_or(1, |names| names.len().max(1)), span);
    cx.at("syscall", || {
        if names.is_none_or(|names| names.is_empty()) {
            let span = names.map_or(span, |names| names.span);
            cx.report(Problem::error(span, "the rule names no system call"));
        }
        if !room {
            return;
        }
        each(names, cx, |name| {
            let Some(syscall) = Syscall::named(name) else {
                cx.report(unknown(name));
                return true;
            };
            let quoted = quote(name);
            if syscall.numbers().is_empty() {
                let what = format!("rules about {quoted} are");
                rules.not_enforced(
                    name.span,
                    &what,
                    "this architecture has no such system call",
                );
            } else if is_seen(syscall) {
                calls.push(syscall);
            } else {
                let what = format!("rules about {quoted} and a path are");
                rules.not_enforced(name.span, &what, "its path is not seen");
            }
            true
        });
    });
    Named { calls, room }
}

/// What is to be said of a name that no system call has.
fn unknown(name: &Spanned<String>) -> Problem {
    let problem = Problem::error(name.span, format!("unknown system call {}", quote(name)));
    if matches!(name.trim().to_ascii_lowercase().as_str(), "all" | "any") || name.contains('*') {
        return problem.help("nothing stands for all or several: write each that is meant");
    }
    if name.trim().contains([',', ' ', '|']) {
        return problem.help("write an item of the list for each: [read, write]");
    }
    let problem = problem.one_of_many(name, SYSCALLS);
    let problem = match Syscall::meant(name) {
        Some(meant) => problem.suggestion(meant.name()),
        None => problem,
    };
    problem.help("names are those of x86-64, as in syscalls(2): read, openat, umount2")
}

/// The path or directory of a rule.
fn place(rule: &Spanned<SyscallPath>, cx: &Context<'_>) -> Option<Target> {
    let recursive = rule.recursive.as_ref().filter(|recursive| recursive.value);
    let Some(path) = rule.path.as_ref().filter(|path| !path.is_empty()) else {
        cx.report(Problem::error(rule.span, "`path` is missing"));
        return None;
    };
    cx.at("path", || {
        if path.ends_with('/') {
            let path = path::directory(path, cx)?;
            let recursive = recursive.is_some();
            return Some(Target::Directory { path, recursive });
        }
        if let Some(recursive) = recursive {
            let help = format!("a directory ends in a slash: {}/", path.value);
            cx.report(of_a_file(recursive).help(help));
        }
        path::file(path, cx).map(Target::Path)
    })
}

fn of_a_file(recursive: &Spanned<bool>) -> Problem {
    Problem::warning(recursive.span, "`recursive` says nothing of a file")
}

/// Checks `fromSource`; the executables if all are right.
fn sources(list: Option<&List<SyscallSource>>, cx: &Context<'_>) -> Option<Vec<Source>> {
    let mut all = Some(Vec::new());
    cx.at("fromSource", || {
        if let Some(list) = list {
            expect_sources(list, cx);
        }
        each(list, cx, |written| {
            match (source(written, cx), &mut all) {
                (Some(source), Some(all)) => all.push(source),
                _ => all = None,
            }
            true
        });
    });
    all
}

fn source(source: &Spanned<SyscallSource>, cx: &Context<'_>) -> Option<Source> {
    let given = |text: &&Spanned<String>| !text.is_empty();
    let path = source.path.as_ref().filter(given);
    let dir = source.dir.as_ref().filter(given);
    match (path, dir) {
        (None, None) => {
            let message = "the source names neither `path` nor `dir`";
            cx.report(Problem::error(source.span, message));
            None
        }
        (Some(path), Some(dir)) => {
            let problem = Problem::error(dir.span, "the source has both `path` and `dir`");
            cx.report(problem.related(path.span, "`path` is here"));
            None
        }
        (Some(path), None) => {
            if let Some(recursive) = source.recursive.as_ref().filter(|b| b.value) {
                let help = format!("name a directory: dir: {}/", path.value);
                cx.report(of_a_file(recursive).help(help));
            }
            cx.at("path", || path::file(path, cx)).map(Source::Path)
        }
        (None, Some(dir)) => {
            // A slash at the end is optional here.
            let path = cx.at("dir", || {
                if dir.ends_with('/') {
                    path::directory(dir, cx)
                } else {
                    path::file(dir, cx).map(|path| path + "/")
                }
            })?;
            let recursive = source.recursive.as_ref().is_some_and(|b| b.value);
            Some(Source::Directory { path, recursive })
        }
    }
}
