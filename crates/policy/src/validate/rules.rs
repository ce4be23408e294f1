//! Process and file rules.

use std::sync::Arc;

use karmor_abi::limits::ARGUMENT_BYTES;

use super::{level::Level, path, pattern, spared};
use crate::{
    conflict::Seen,
    manifest::{
        Span, Spanned,
        context::{Context, Problem},
        limits,
        types::{
            Attributed, Attributes, FileSection, FromSource, List, ProcessPath, ProcessSection,
        },
    },
    model::{Family, NotEnforced, Rule, Source, Target},
};

/// Most items of `allowedArgs`.
const ALLOWED_ARGS: usize = 64;

/// What a rule about paths says besides its target.
#[derive(Default)]
struct Modifiers<'m> {
    read_only: Option<&'m Spanned<bool>>,
    owner_only: Option<&'m Spanned<bool>>,
    pts: Option<&'m Spanned<bool>>,
    allowed_args: Option<&'m List<String>>,
    from_source: Option<&'m List<FromSource>>,
    attributes: Attributes<'m>,
}

/// The rules of a policy, as they are collected.
pub(super) struct Rules<'c, 't> {
    cx: &'c Context<'t>,
    pub(super) rules: Vec<Rule>,
    pub(super) not_enforced: Vec<NotEnforced>,
    seen: Seen<Span>,
    /// The policy spares essential programs.
    spares: bool,
    /// The last rule that has been told to be about one.
    spared: Option<Span>,
    written: usize,
}

impl<'c, 't> Rules<'c, 't> {
    pub(super) fn new(cx: &'c Context<'t>, spares: bool) -> Self {
        Self {
            cx,
            rules: Vec::new(),
            not_enforced: Vec::new(),
            seen: Seen::new(),
            spares,
            spared: None,
            written: 0,
        }
    }

    /// Rules so far, of all families, right or wrong.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Counts rules; `false` if there are too many to go on.
    pub(super) fn count(&mut self, rules: usize, span: Span) -> bool {
        let before = self.written;
        self.written = before.saturating_add(rules);
        if self.written > limits::RULES && before <= limits::RULES {
            let message = format!("the policy has more than {} rules", limits::RULES);
            let help = "name directories or patterns, or split it into several policies";
            self.cx.report(Problem::error(span, message).help(help));
        }
        self.written <= limits::RULES
    }

    /// Records a part of the policy that is valid and not enforced.
    pub(super) fn not_enforced(&mut self, span: Span, what: &str, why: &str) {
        self.unenforced(span, what, why, |problem| problem);
    }

    /// The same, with more to say about it.
    pub(super) fn unenforced(
        &mut self,
        span: Span,
        what: &str,
        why: &str,
        more: impl FnOnce(Problem) -> Problem,
    ) {
        let problem = Problem::warning(span, format!("{what} not enforced")).label(why);
        self.cx.report(more(problem));
        self.not_enforced.push(NotEnforced {
            field: self.cx.field(),
            why: why.to_owned(),
            location: self.cx.location(span),
        });
    }

    /// Warns of a section without rules.
    pub(super) fn expect_rules(&self, before: usize, span: Span, lists: &str) {
        // After an error, the rules may just be what could not be read.
        if self.written == before && self.cx.errors() == 0 && !self.cx.by_program() {
            let problem = Problem::warning(span, "this section has no rules");
            self.cx
                .report(problem.help(format!("rules stand in {lists}")));
        }
    }

    pub(super) fn process(&mut self, section: &Spanned<ProcessSection>, above: &Level) {
        let cx = self.cx;
        let level = above.below(section.attributes(), cx);
        let before = self.written;
        self.each("matchPaths", section.match_paths.as_ref(), |rules, rule| {
            rules.process_path(rule, &level);
        });
        self.each(
            "matchDirectories",
            section.match_directories.as_ref(),
            |rules, rule| {
                let target = directory(&rule.dir, rule.recursive.as_ref(), cx);
                let modifiers = Modifiers {
                    owner_only: rule.owner_only.as_ref(),
                    pts: rule.pts.as_ref(),
                    from_source: rule.from_source.as_ref(),
                    attributes: rule.attributes(),
                    ..Modifiers::default()
                };
                rules.add(Family::Process, target, &modifiers, rule.span, &level);
            },
        );
        self.each(
            "matchPatterns",
            section.match_patterns.as_ref(),
            |rules, rule| {
                let target = cx.at("pattern", || pattern::target(&rule.pattern, cx));
                let modifiers = Modifiers {
                    owner_only: rule.owner_only.as_ref(),
                    attributes: rule.attributes(),
                    ..Modifiers::default()
                };
                rules.add(Family::Process, target, &modifiers, rule.span, &level);
            },
        );
        self.expect_rules(
            before,
            section.span,
            "matchPaths, matchDirectories and matchPatterns",
        );
    }

    pub(super) fn file(&mut self, section: &Spanned<FileSection>, above: &Level) {
        let cx = self.cx;
        let level = above.below(section.attributes(), cx);
        let before = self.written;
        self.each("matchPaths", section.match_paths.as_ref(), |rules, rule| {
            let target = cx
                .at("path", || path::file(&rule.path, cx))
                .map(Target::Path);
            let modifiers = Modifiers {
                read_only: rule.read_only.as_ref(),
                owner_only: rule.owner_only.as_ref(),
                pts: rule.pts.as_ref(),
                from_source: rule.from_source.as_ref(),
                attributes: rule.attributes(),
                ..Modifiers::default()
            };
            rules.add(Family::File, target, &modifiers, rule.span, &level);
        });
        self.each(
            "matchDirectories",
            section.match_directories.as_ref(),
            |rules, rule| {
                let target = directory(&rule.dir, rule.recursive.as_ref(), cx);
                let modifiers = Modifiers {
                    read_only: rule.read_only.as_ref(),
                    owner_only: rule.owner_only.as_ref(),
                    pts: rule.pts.as_ref(),
                    from_source: rule.from_source.as_ref(),
                    attributes: rule.attributes(),
                    ..Modifiers::default()
                };
                rules.add(Family::File, target, &modifiers, rule.span, &level);
            },
        );
        self.each(
            "matchPatterns",
            section.match_patterns.as_ref(),
            |rules, rule| {
                let target = cx.at("pattern", || pattern::target(&rule.pattern, cx));
                let modifiers = Modifiers {
                    read_only: rule.read_only.as_ref(),
                    owner_only: rule.owner_only.as_ref(),
                    attributes: rule.attributes(),
                    ..Modifiers::default()
                };
                rules.add(Family::File, target, &modifiers, rule.span, &level);
            },
        );
        self.expect_rules(
            before,
            section.span,
            "matchPaths, matchDirectories and matchPatterns",
        );
    }

    fn each<T>(
        &mut self,
        list: &'static str,
        rules: Option<&List<T>>,
        mut f: impl FnMut(&mut Self, &Spanned<T>),
    ) {
        let cx = self.cx;
        cx.at(list, || {
            for (index, rule) in rules.into_iter().flat_map(|list| list.iter()) {
                if !self.count(1, rule.span) {
                    return;
                }
                cx.index(index, || f(self, rule));
            }
        });
    }

    fn process_path(&mut self, rule: &Spanned<ProcessPath>, level: &Level) {
        let cx = self.cx;
        // Programs write empty text for absent.
        let given = |field: Option<&'_ Spanned<String>>| {
            field.is_some_and(|text| !(cx.by_program() && text.is_empty()))
        };
        let target = match (rule.path.as_ref(), rule.execname.as_ref()) {
            (path, Some(execname)) if given(path) && given(Some(execname)) => {
                let path = path.map_or(rule.span, |path| path.span);
                cx.report(
                    Problem::error(execname.span, "the rule has both `path` and `execname`")
                        .related(path, "`path` is here")
                        .help("keep `path` for one executable, or `execname` for all of that name"),
                );
                None
            }
            (_, Some(name)) if given(Some(name)) => cx
                .at("execname", || path::name(name, cx))
                .map(Target::ExecName),
            (Some(path), _) if given(Some(path)) => {
                cx.at("path", || path::file(path, cx)).map(Target::Path)
            }
            _ => {
                let problem = Problem::error(rule.span, "the rule names no executable");
                cx.report(problem.help("give it `path` or `execname`"));
                None
            }
        };
        let modifiers = Modifiers {
            owner_only: rule.owner_only.as_ref(),
            pts: rule.pts.as_ref(),
            allowed_args: rule.allowed_args.as_ref(),
            from_source: rule.from_source.as_ref(),
            attributes: rule.attributes(),
            ..Modifiers::default()
        };
        self.add(Family::Process, target, &modifiers, rule.span, level);
    }

    fn add(
        &mut self,
        family: Family,
        target: Option<Target>,
        modifiers: &Modifiers<'_>,
        span: Span,
        above: &Level,
    ) {
        let level = above.below(modifiers.attributes, self.cx);
        let sources = sources(modifiers.from_source, self.cx);
        let arguments = arguments(modifiers.allowed_args, self.cx);
        let (Some(target), Some(sources)) = (target, sources) else {
            return;
        };
        let rule = Rule {
            family,
            target,
            sources,
            read_only: modifiers.read_only.is_some_and(|b| b.value),
            owner_only: modifiers.owner_only.is_some_and(|b| b.value),
            // `true` is the same as absent.
            no_terminal: modifiers.pts.is_some_and(|pts| !pts.value),
            spares: false,
            arguments,
            action: level.action,
            meta: level.meta,
            location: self.cx.location(span),
        };
        self.push(rule, span);
    }

    /// Adds a rule that is enforced as it is written.
    pub(super) fn push(&mut self, rule: Rule, span: Span) {
        // Of half a rule it cannot be told what it comes to beside others.
        if self.cx.is_broken(span) {
            return;
        }
        if let Some(conflict) = self.seen.add(&rule, span, |_| true) {
            let (earlier, what) = conflict.earlier;
            let problem = Problem::warning(span, conflict.message)
                .label(conflict.label)
                .related(earlier, what);
            self.cx
                .report(conflict.help.into_iter().fold(problem, Problem::help));
        }
        // A list of targets is one rule to who wrote it.
        if self.spares
            && self.spared != Some(span)
            && let Some(problem) = spared::problem(&rule, span)
        {
            self.cx.report(problem);
            self.spared = Some(span);
        }
        self.rules.push(Rule {
            spares: self.spares,
            ..rule
        });
    }
}

/// Checks `allowedArgs`; the arguments, each once, if there is a list.
fn arguments(list: Option<&List<String>>, cx: &Context<'_>) -> Option<Arc<[String]>> {
    let list = list?;
    if list.is_empty() {
        if !cx.by_program() {
            cx.at("allowedArgs", || {
                let message = "`allowedArgs` is empty, so the rule allows any arguments";
                cx.report(
                    Problem::warning(list.span, message).help("name arguments, or remove it"),
                );
            });
        }
        return None;
    }
    cx.at("allowedArgs", || {
        if list.len() > ALLOWED_ARGS {
            let message = format!("{} arguments are more than {ALLOWED_ARGS}", list.len());
            cx.report(Problem::error(list.span, message));
        }
        for (index, argument) in list.iter() {
            cx.index(index, || argument_text(argument, cx));
        }
    });
    let mut arguments: Vec<String> = list.iter().map(|(_, text)| text.value.clone()).collect();
    arguments.sort_unstable();
    arguments.dedup();
    Some(arguments.into())
}

fn argument_text(argument: &Spanned<String>, cx: &Context<'_>) {
    if argument.contains('\0') {
        let message = "an argument cannot contain a NUL byte";
        cx.report(Problem::error(argument.span, message));
    }
    if argument.len() > ARGUMENT_BYTES {
        let message = format!(
            "the argument has {} bytes, more than the {ARGUMENT_BYTES} that are compared",
            argument.len()
        );
        cx.report(Problem::error(argument.span, message));
    }
}

/// Warns of a list that looks like a condition and is none.
pub(super) fn expect_sources<T>(list: &List<T>, cx: &Context<'_>) {
    if list.is_empty() && !cx.by_program() {
        let message = "`fromSource` is empty, so the rule is for every executable";
        cx.report(Problem::warning(list.span, message).help("name an executable, or remove it"));
    }
}

/// Checks `fromSource`; the paths if all are right.
pub(super) fn sources(list: Option<&List<FromSource>>, cx: &Context<'_>) -> Option<Vec<Source>> {
    let Some(list) = list else {
        return Some(Vec::new());
    };
    cx.at("fromSource", || {
        expect_sources(list, cx);
        let check = |(index, source): (usize, &Spanned<FromSource>)| {
            cx.index(index, || cx.at("path", || path::file(&source.path, cx)))
        };
        let checked: Vec<Option<String>> = list.iter().map(check).collect();
        checked
            .into_iter()
            .map(|path| path.map(Source::Path))
            .collect()
    })
}

fn directory(
    dir: &Spanned<String>,
    recursive: Option<&Spanned<bool>>,
    cx: &Context<'_>,
) -> Option<Target> {
    let path = cx.at("dir", || path::directory(dir, cx))?;
    Some(Target::Directory {
        path,
        recursive: recursive.is_some_and(|b| b.value),
    })
}
