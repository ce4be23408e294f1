//! Patterns: globs over whole paths, and the names of objects without a path.

use karmor_abi::limits::{NAME_BYTES, PATH_BYTES, PATH_COMPONENTS};

use super::path;
use crate::{
    diagnostic::quote,
    glob::{ByteSet, Glob, Token},
    manifest::{
        Spanned,
        context::{Context, Problem},
    },
    model::Target,
    names::OBJECTS,
};

/// Checks a pattern; what it names, if it is right.
pub(super) fn target(pattern: &Spanned<String>, cx: &Context<'_>) -> Option<Target> {
    if pattern.starts_with('@') {
        if let Some((_, object)) = OBJECTS.iter().find(|(name, _)| *name == pattern.value) {
            return Some(Target::Object(*object));
        }
        let problem = Problem::error(
            pattern.span,
            format!("no objects are named {}", quote(pattern)),
        );
        cx.report(problem.allowed(pattern, OBJECTS.map(|(name, _)| name)));
        return None;
    }
    let glob = glob(pattern, cx)?;
    foreign_class(pattern, cx);
    path::links(pattern, cx);
    path::hidden(pattern, cx);
    // Between braces they separate alternatives.
    if !pattern.contains('{') {
        path::commas(pattern, ",/", cx);
    }
    let alternatives = glob.alternatives();
    let dead: Vec<_> = alternatives
        .iter()
        .filter_map(|tokens| Some((tokens, never(tokens)?)))
        .collect();
    if let Some(&(tokens, never)) = dead.first() {
        if dead.len() == alternatives.len() {
            cx.report(never_matches(pattern, never));
            return None;
        }
        let message = format!(
            "{} of the {} alternatives of {} can never match: {}, for {}",
            dead.len(),
            alternatives.len(),
            quote(pattern),
            quote(&text(tokens)),
            never.why(),
        );
        cx.report(Problem::warning(pattern.span, message));
    }
    Some(Target::Glob(pattern.value.clone()))
}

fn glob(pattern: &Spanned<String>, cx: &Context<'_>) -> Option<Glob> {
    let span = pattern.span;
    let problem = if pattern.is_empty() {
        Problem::error(span, "the pattern is empty")
    } else if pattern.len() > PATH_BYTES {
        let bytes = pattern.len();
        let message = format!("the pattern has {bytes} bytes, more than {PATH_BYTES}");
        Problem::error(span, message)
    } else if let Some(c) = pattern.chars().find(|c| c.is_control()) {
        let c = quote(&c.to_string());
        Problem::error(span, format!("the character {c} is not allowed here"))
    } else {
        match Glob::parse(pattern) {
            Ok(glob) => return Some(glob),
            Err(error) => {
                let before = pattern.get(..error.offset);
                let at = before.map_or(error.offset, |t| t.chars().count()) + 1;
                let message = format!("{} is not a pattern: {}", quote(pattern), error.kind);
                Problem::error(span, message).label(format!("character {at} of the pattern"))
            }
        }
    };
    cx.report(problem);
    None
}

/// Warns of classes that shells and regular expressions have, and that mean something else here.
fn foreign_class(pattern: &Spanned<String>, cx: &Context<'_>) {
    let mut meant = String::new();
    let mut named = false;
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        meant.push(c);
        match c {
            '\\' => meant.extend(chars.next()),
            '[' if !in_class => {
                in_class = true;
                // A `!` alone is one that is meant.
                let mut rest = chars.clone();
                if rest.next() == Some('!') && rest.next() != Some(']') {
                    chars.next();
                    meant.push('^');
                }
            }
            '[' => named |= chars.peek() == Some(&':'),
            ']' => in_class = false,
            _ => {}
        }
    }
    if meant != pattern.value {
        let message = format!(
            "in {}, `!` is one of the characters of a class",
            quote(pattern)
        );
        cx.report(
            Problem::warning(pattern.span, message)
                .suggestion(meant)
                .help("`[^a]` is any character but `a`"),
        );
    }
    if named {
        let message = format!(
            "{} names no class: it is taken by its letters",
            quote("[:…:]")
        );
        cx.report(
            Problem::warning(pattern.span, message).help("write the characters: `[a-zA-Z0-9]`"),
        );
    }
}

/// Why a glob without braces matches no path.
#[derive(Clone, Copy)]
enum Never {
    Start,
    Component,
    End,
    LongName,
    Deep,
    Long,
}

impl Never {
    fn why(self) -> String {
        match self {
            Self::Start => "every path starts with `/`".to_owned(),
            Self::Component => "no path has `.`, `..` or `//` in it".to_owned(),
            Self::End => "no path ends with a slash".to_owned(),
            Self::LongName => format!("no file name has more than {NAME_BYTES} bytes"),
            Self::Deep => {
                format!("paths of more than {PATH_COMPONENTS} components are not resolved")
            }
            Self::Long => format!("no path has more than {PATH_BYTES} bytes"),
        }
    }
}

fn never_matches(pattern: &Spanned<String>, never: Never) -> Problem {
    let message = format!("{} never matches: {}", quote(pattern), never.why());
    let problem = Problem::error(pattern.span, message);
    match never {
        Never::Start if pattern.starts_with('*') => {
            problem.suggestion(format!("/**{}", pattern.trim_start_matches('*')))
        }
        Never::Start => {
            let rest = pattern.trim_start_matches(['.', '/']);
            problem.suggestion(format!("/**/{rest}"))
        }
        Never::End if pattern.ends_with('/') => problem.suggestion(format!("{}**", pattern.value)),
        Never::Deep | Never::Long => problem.help("the pattern `@too-long` names such paths"),
        Never::Component | Never::End | Never::LongName => problem,
    }
}

/// Why the elements of a glob can never be a path that the kernel knows: absolute, without empty
/// components, `.` and `..`, and within the limits.
fn never(tokens: &[Token]) -> Option<Never> {
    let mut ends = Ends::NOTHING;
    let (mut name, mut bytes, mut components) = (0, 0, 0);
    for token in tokens {
        let next = match token {
            Token::Byte(byte) => ends.step(*byte),
            Token::Class(set) => {
                let other = set.len() > u32::from(set.contains(b'.'));
                let dot = ends.step(b'.').only_if(set.contains(b'.'));
                dot.or(ends.step(b'x').only_if(other))
            }
            Token::Star => ends.run(b".x"),
            Token::DoubleStar => ends.run(b"/.x"),
        };
        if next.is_empty() {
            return Some(if ends == Ends::NOTHING {
                Never::Start
            } else {
                Never::Component
            });
        }
        ends = next;
        match token {
            Token::Byte(b'/') => {
                name = 0;
                bytes += 1;
                components += 1;
            }
            Token::Byte(_) | Token::Class(_) => {
                name += 1;
                bytes += 1;
            }
            Token::Star => {}
            // May hold a slash.
            Token::DoubleStar => name = 0,
        }
        if name > NAME_BYTES {
            return Some(Never::LongName);
        }
    }
    if components > PATH_COMPONENTS {
        return Some(Never::Deep);
    }
    if bytes > PATH_BYTES {
        return Some(Never::Long);
    }
    match ends {
        Ends::NOTHING => Some(Never::Start),
        Ends::SLASH => Some(Never::End),
        ends if ends.is_path() => None,
        _ => Some(Never::Component),
    }
}

/// What the beginning of a path can end in, as a set.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends(u8);

impl Ends {
    /// Nothing has been read.
    const NOTHING: Self = Self(1);
    /// The slash every path begins with.
    const ROOT: Self = Self(1 << 1);
    /// Another slash.
    const SLASH: Self = Self(1 << 2);
    /// A component that is `.` so far.
    const DOT: Self = Self(1 << 3);
    /// A component that is `..` so far.
    const DOTS: Self = Self(1 << 4);
    /// Any other component.
    const NAME: Self = Self(1 << 5);

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn only_if(self, condition: bool) -> Self {
        if condition { self } else { Self(0) }
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn is_path(self) -> bool {
        self.has(Self::ROOT.or(Self::NAME))
    }

    /// After one more byte.
    fn step(self, byte: u8) -> Self {
        let start = Self::ROOT.or(Self::SLASH);
        match byte {
            b'/' => Self::ROOT
                .only_if(self.has(Self::NOTHING))
                .or(Self::SLASH.only_if(self.has(Self::NAME))),
            b'.' => Self::DOT
                .only_if(self.has(start))
                .or(Self::DOTS.only_if(self.has(Self::DOT)))
                .or(Self::NAME.only_if(self.has(Self::DOTS.or(Self::NAME)))),
            _ => Self::NAME.only_if(self.has(start.or(Self::DOT).or(Self::DOTS).or(Self::NAME))),
        }
    }

    /// After any number of these bytes.
    fn run(self, bytes: &[u8]) -> Self {
        let more = bytes
            .iter()
            .fold(self, |ends, &byte| ends.or(self.step(byte)));
        if more == self { self } else { more.run(bytes) }
    }
}

/// Elements as they might have been written.
fn text(tokens: &[Token]) -> String {
    let mut text = Vec::new();
    for token in tokens {
        match token {
            Token::Byte(byte) => text.push(*byte),
            Token::Class(ByteSet::NAME) => text.push(b'?'),
            Token::Class(_) => text.extend("[…]".bytes()),
            Token::Star => text.push(b'*'),
            Token::DoubleStar => text.extend(b"**"),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alias::Aliases, reference::matches};

    /// Everything of at most `length` elements of an alphabet.
    fn texts(alphabet: &[&str], length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let longer = all[from..]
                .iter()
                .flat_map(|text| alphabet.iter().map(move |more| format!("{text}{more}")))
                .collect::<Vec<_>>();
            from = all.len();
            all.extend(longer);
        }
        all
    }

    fn is_real(path: &str) -> bool {
        let parts = |rest: &str| rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
        path == "/" || path.strip_prefix('/').is_some_and(parts)
    }

    #[test]
    fn what_never_matches_is_what_matches_no_path() {
        let mut paths = texts(&["/", ".", "a"], 6);
        paths.retain(|path| is_real(path));
        for text in texts(&["/", ".", "[.a]", "*", "{**}", "?"], 4) {
            let glob = Glob::parse(&text).expect("a glob");
            let target = Target::Glob(text.clone());
            let is_matched = paths
                .iter()
                .any(|path| matches(&target, &Aliases::none(), path.as_bytes()));
            assert_eq!(
                never(&glob.alternatives()[0]).is_none(),
                is_matched,
                "{text}"
            );
        }
    }
}
