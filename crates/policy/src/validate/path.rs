//! Paths: those that the kernel can ever say are right, all others are told what they should be.

use karmor_abi::limits::{NAME_BYTES, PATH_BYTES, PATH_COMPONENTS};

use crate::{
    diagnostic::{is_unsafe, quote},
    manifest::{
        Spanned,
        context::{Context, Problem},
    },
};

/// Checks the path of a file or executable; the path if it is right.
pub(super) fn file(path: &Spanned<String>, cx: &Context<'_>) -> Option<String> {
    let errors = cx.errors();
    common(path, cx);
    if path.len() > 1 && path.ends_with('/') && cx.errors() == errors {
        cx.report(
            Problem::error(
                path.span,
                format!("the path {} ends with a slash", quote(path)),
            )
            .suggestion(path.trim_end_matches('/'))
            .help(format!(
                "for a directory and what is in it, use `matchDirectories` with `dir: {path}`",
                path = plain(path)
            )),
        );
    } else if path.value == "/" {
        cx.report(
            Problem::error(path.span, "`/` is a directory, not a file")
                .help("use `matchDirectories` with `dir: /`"),
        );
    }
    wildcards(path, cx);
    commas(path, ",/", cx);
    links(path, cx);
    hidden(path, cx);
    (cx.errors() == errors).then(|| path.value.clone())
}

/// Checks the path of a directory; the path if it is right.
pub(super) fn directory(path: &Spanned<String>, cx: &Context<'_>) -> Option<String> {
    let errors = cx.errors();
    common(path, cx);
    if !path.is_empty() && !path.ends_with('/') && cx.errors() == errors {
        cx.report(
            Problem::error(
                path.span,
                format!("the directory {} must end with a slash", quote(path)),
            )
            .suggestion(format!("{}/", path.value)),
        );
    }
    wildcards(path, cx);
    commas(path, ",/", cx);
    links(path, cx);
    hidden(path, cx);
    (cx.errors() == errors).then(|| path.value.clone())
}

/// Checks the base name of an executable; the name if it is right.
pub(super) fn name(name: &Spanned<String>, cx: &Context<'_>) -> Option<String> {
    let problem = if name.is_empty() {
        Problem::error(name.span, "the name is empty")
    } else if name.contains('/') {
        let problem = Problem::error(name.span, format!("{} is a path, not a name", quote(name)));
        let base = name
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let problem = problem.help("for one executable, use `path`");
        if base.is_empty() {
            problem
        } else {
            problem.suggestion(base)
        }
    } else if matches!(name.as_str(), "." | "..") {
        Problem::error(name.span, format!("no file is named {}", quote(name)))
    } else if name.len() > NAME_BYTES {
        Problem::error(
            name.span,
            format!(
                "the name has {} bytes; no file name has more than {NAME_BYTES}",
                name.len()
            ),
        )
    } else if let Some(problem) = control(name) {
        problem
    } else {
        wildcards(name, cx);
        commas(name, ",", cx);
        hidden(name, cx);
        return Some(name.value.clone());
    };
    cx.report(problem);
    None
}

fn plain(path: &str) -> String {
    quote(path).trim_matches('`').to_owned()
}

fn control(text: &Spanned<String>) -> Option<Problem> {
    let c = text.chars().find(|c| c.is_control())?;
    let message = format!(
        "the character {} is not allowed here",
        quote(&c.to_string())
    );
    Some(Problem::error(text.span, message))
}

/// What holds for every path. Reports one problem at most: the first in the way.
fn common(path: &Spanned<String>, cx: &Context<'_>) {
    if let Some(problem) = control(path).or_else(|| shape(path)).or_else(|| size(path)) {
        cx.report(problem);
    }
}

fn shape(path: &Spanned<String>) -> Option<Problem> {
    let span = path.span;
    if path.is_empty() {
        return Some(Problem::error(span, "the path is empty"));
    }
    if path.trim() != path.value {
        let message = format!("the path {} starts or ends with a space", quote(path));
        return Some(Problem::error(span, message).suggestion(path.trim()));
    }
    if !path.starts_with('/') {
        let problem = Problem::error(span, format!("the path {} is not absolute", quote(path)));
        return Some(match path.chars().next() {
            Some('~' | '$') => {
                problem.help("nothing expands `~` or variables here; write the whole path")
            }
            Some('*') => problem.help("for a pattern, use `matchPatterns`"),
            _ if path.split('/').any(|c| matches!(c, "." | "..")) => problem,
            _ => problem.suggestion(format!("/{}", path.value)),
        });
    }
    let mut components = path.split('/').skip(1).peekable();
    let mut wrong = None;
    while let Some(component) = components.next() {
        match component {
            "" if components.peek().is_some() => wrong = wrong.or(Some("//")),
            "." => wrong = wrong.or(Some(".")),
            ".." => wrong = wrong.or(Some("..")),
            _ => {}
        }
    }
    let message = match wrong? {
        "//" => "has an empty component (`//`)",
        "." => "has a `.` component",
        _ => "has a `..` component",
    };
    Some(
        Problem::error(span, format!("the path {} {message}", quote(path)))
            .suggestion(clean(path))
            .help("the kernel compares with the real path, which has none"),
    )
}

/// The path without `.`, `..` and `//`.
fn clean(path: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            component => components.push(component),
        }
    }
    let slash = if path.ends_with('/') && !components.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{slash}", components.join("/"))
}

fn size(path: &Spanned<String>) -> Option<Problem> {
    let span = path.span;
    if path.len() > PATH_BYTES {
        let message = format!("the path has {} bytes, more than {PATH_BYTES}", path.len());
        return Some(Problem::error(span, message).help("no system call takes a longer path"));
    }
    if let Some(long) = path.split('/').find(|c| c.len() > NAME_BYTES) {
        let message = format!(
            "the path can never match: {} has {} bytes, and no file name has more than {NAME_BYTES}",
            quote(long),
            long.len()
        );
        return Some(Problem::error(span, message));
    }
    let components = path.split('/').filter(|c| !c.is_empty()).count();
    if components > PATH_COMPONENTS {
        let message = format!(
            "the path can never match: it has {components} components, and more than {PATH_COMPONENTS} are not resolved"
        );
        return Some(
            Problem::error(span, message).help("the pattern `@too-long` names such paths"),
        );
    }
    None
}

/// A wildcard where none is expected is a file name with a `*` in it, which is hardly meant.
fn wildcards(path: &Spanned<String>, cx: &Context<'_>) {
    if path.contains(['*', '?']) {
        cx.report(
            Problem::warning(
                path.span,
                format!(
                    "{} is taken as it is: nothing is expanded here",
                    quote(path)
                ),
            )
            .help("for a pattern, use `matchPatterns`"),
        );
    }
}

/// A comma that looks like one between items. Lists of names are taken apart elsewhere, but here it is
/// part of a file name.
pub(super) fn commas(text: &Spanned<String>, between: &str, cx: &Context<'_>) {
    if text.replace(", ", ",").contains(between) {
        let message = format!(
            "{} is one name: a comma separates nothing here",
            quote(text)
        );
        cx.report(Problem::warning(text.span, message).help("write a rule for each"));
    }
}

/// Links that every system has, and that lead somewhere else for everybody who asks.
const LINKS: [&str; 6] = [
    "/proc/self",
    "/proc/thread-self",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
];

/// Warns of a path or pattern that begins with such a link.
pub(super) fn links(text: &Spanned<String>, cx: &Context<'_>) {
    let is_of = |link: &&str| {
        let rest = text.strip_prefix(*link);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(link) = LINKS.into_iter().find(is_of) {
        let message = format!(
            "{} can hardly match: {} is a link, and the kernel sees where it leads",
            quote(text),
            quote(link)
        );
        let help = match link.starts_with("/proc/") {
            true => {
                "for processes, use a pattern such as `/proc/*/environ`, or the preset `protectProc`"
            }
            false => "name what is opened: `/dev/pts/*`, or `@anonymous` for pipes",
        };
        cx.report(Problem::warning(text.span, message).help(help));
    }
}

/// Warns of characters that nobody sees.
pub(super) fn hidden(text: &Spanned<String>, cx: &Context<'_>) {
    if let Some(hidden) = text.chars().find(|&c| is_unsafe(c) && !c.is_control()) {
        let message = format!(
            "{} has a character that nobody sees: {}",
            quote(text),
            quote(&hidden.to_string())
        );
        let plain: String = text.chars().filter(|&c| !is_unsafe(c)).collect();
        cx.report(Problem::warning(text.span, message).suggestion(plain));
    }
}
