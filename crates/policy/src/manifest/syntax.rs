//! Why a text is not YAML, in words that help.
//!
//! The parser says which grammar rule failed; people need to hear what they did: most often a line
//! is indented wrongly or a value needs quotes.

use super::{context::Problem, source::Span};
use crate::diagnostic::quote;

/// Explains a parser's complaint about a byte offset.
pub(crate) fn explain(text: &str, at: usize, info: &str) -> Problem {
    let at = floor(text, at);
    let line = Line::at(text, at);
    tab(&line)
        .or_else(|| nested_in_value(text, &line, info))
        .or_else(|| needs_quotes(text, at, info))
        .or_else(|| misaligned(text, &line))
        .or_else(|| colon_without_space(text, &line, info))
        .or_else(|| brackets(text, at, info))
        .unwrap_or_else(|| {
            let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
            Problem::error(
                Span::new(at, end),
                format!("this is not valid YAML: {info}"),
            )
        })
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A line, taken apart as far as indentation goes.
struct Line<'t> {
    start: usize,
    text: &'t str,
    /// Column of the first character that is not a space, from 0.
    indent: usize,
    /// Column of the first character behind the dashes of list items.
    key_column: usize,
    /// The key, if the line has one.
    key: Option<&'t str>,
    /// What follows the key, without comment.
    value: &'t str,
}

impl<'t> Line<'t> {
    fn at(text: &'t str, at: usize) -> Self {
        let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
        Self::new(start, text[start..end].trim_end())
    }

    fn new(start: usize, text: &'t str) -> Self {
        let indent = text.len() - text.trim_start_matches(' ').len();
        let mut rest = &text[indent..];
        while let Some(item) = rest.strip_prefix("- ") {
            rest = item.trim_start_matches(' ');
        }
        let key_column = text.len() - rest.len();
        let colon = rest
            .match_indices(':')
            .map(|(i, _)| i)
            .find(|i| rest[i + 1..].is_empty() || rest[i + 1..].starts_with([' ', '\t']));
        let (key, value) = match colon {
            Some(i) if !rest.starts_with(['"', '\'', '#', '{', '[']) => {
                (Some(&rest[..i]), rest[i + 1..].trim())
            }
            _ => (None, rest),
        };
        let value = if value.starts_with('#') { "" } else { value };
        Self {
            start,
            text,
            indent,
            key_column,
            key,
            value,
        }
    }

    fn is_content(&self) -> bool {
        let text = self.text.trim();
        !text.is_empty() && !text.starts_with('#')
    }

    fn key_span(&self) -> Span {
        let start = self.start + self.key_column;
        Span::new(start, start + self.key.map_or(1, str::len))
    }

    /// The lines before this one that say something, nearest first, within the document.
    fn before(&self, text: &'t str) -> impl Iterator<Item = Line<'t>> + use<'t> {
        let mut end = self.start;
        std::iter::from_fn(move || {
            let line_end = end.checked_sub(1)?;
            let start = text[..line_end].rfind('\n').map_or(0, |i| i + 1);
            end = start;
            Some(Line::new(start, text[start..line_end].trim_end()))
        })
        .take_while(|line| !line.text.starts_with("---"))
        .filter(Self::is_content)
    }
}

fn tab(line: &Line<'_>) -> Option<Problem> {
    let blank = line.text.len() - line.text.trim_start().len();
    let tab = line.text[..blank].find('\t')?;
    let at = line.start + tab;
    Some(
        Problem::error(Span::new(at, at + 1), "a tab indents this line")
            .label("a tab")
            .help("YAML is indented with spaces only"),
    )
}

/// `dir: /x/` followed by a deeper `recursive: true`.
fn nested_in_value(text: &str, line: &Line<'_>, info: &str) -> Option<Problem> {
    if !info.contains("mapping values are not allowed") {
        return None;
    }
    let key = line.key?;
    let before = line.before(text).find(|b| b.indent < line.key_column)?;
    let deeper_than = before.key?;
    if line.key_column <= before.key_column || before.value.is_empty() {
        return None;
    }
    Some(
        Problem::error(
            line.key_span(),
            format!(
                "{} is indented deeper than {}",
                quote(key),
                quote(deeper_than)
            ),
        )
        .label(format!("column {}", line.key_column + 1))
        .related(
            before.key_span(),
            format!("column {}; this already has a value", before.key_column + 1),
        )
        .help(format!(
            "to be a field beside {}, {} must start in column {}",
            quote(deeper_than),
            quote(key),
            before.key_column + 1
        )),
    )
}

/// Values that only quotes can hold together.
fn needs_quotes(text: &str, at: usize, info: &str) -> Option<Problem> {
    let rest = text[at..].lines().next().unwrap_or_default().trim_end();
    let first = rest.chars().next()?;
    let span = Span::new(at, at + rest.len());
    if info.contains("unknown anchor") {
        return Some(
            Problem::error(
                span,
                format!("no anchor is named {}", quote(rest.trim_start_matches('*'))),
            )
            .label("`*` at the start of a value refers to an anchor")
            .help(format!(
                "if this is a pattern, put it in quotes: \"{}\"",
                printable(rest)
            )),
        );
    }
    if info.contains("unexpected character") {
        return Some(
            Problem::error(
                span,
                format!("a value cannot start with {}", quote(&first.to_string())),
            )
            .help(format!("put it in quotes: \"{}\"", printable(rest))),
        );
    }
    if info.contains("unknown escape character") {
        return Some(
            Problem::error(
                span,
                "a backslash in double quotes starts an escape that YAML does not know",
            )
            .help("write `\\\\` for a backslash, or use single quotes"),
        );
    }
    if info.contains("Unicode character escape") {
        return Some(
            Problem::error(
                Span::new(at, at + 1),
                "an escape in this text stands for no character",
            )
            .help("write the character itself; half of one, such as `\\ud83d`, is for JSON only"),
        );
    }
    if info.contains("quoted scalar") && matches!(first, '"' | '\'') {
        return Some(
            Problem::error(
                Span::new(at, at + 1),
                "this quote is never closed, or closed in the wrong place",
            )
            .label("opened here")
            .help("text in quotes must be indented as far as the field that it belongs to"),
        );
    }
    if info.contains("mapping values are not allowed") {
        let line = Line::at(text, at);
        let key = line.key?;
        let start = line.start + line.key_column + key.len() + 1;
        let value = text.get(start..line.start + line.text.len())?;
        let value_at = start + value.len() - value.trim_start().len();
        return value.contains(": ").then(|| {
            Problem::error(
                Span::new(value_at, line.start + line.text.len()),
                "a value that contains `: ` needs quotes",
            )
            .help(format!(
                "write {}: \"{}\"",
                printable(key),
                printable(value.trim())
            ))
        });
    }
    if info.contains("unprintable") {
        return Some(Problem::error(
            Span::new(at, at + first.len_utf8()),
            format!(
                "the character {} is not allowed in YAML",
                quote(&first.to_string())
            ),
        ));
    }
    None
}

fn printable(text: &str) -> String {
    quote(text).trim_matches('`').to_owned()
}

/// A key that lines up with none of the keys before it.
fn misaligned(text: &str, line: &Line<'_>) -> Option<Problem> {
    let key = line.key?;
    let before = line.before(text).next()?;
    let other = before.key?;
    let between = line.key_column < before.key_column && line.indent > before.indent;
    let aligned = line
        .before(text)
        .filter(|b| b.key.is_some())
        .any(|b| b.key_column == line.key_column || b.indent == line.indent);
    if !between && (aligned || line.key_column > before.key_column) {
        return None;
    }
    Some(
        Problem::error(
            line.key_span(),
            format!("{} does not line up with any field before it", quote(key)),
        )
        .label(format!("column {}", line.key_column + 1))
        .related(
            before.key_span(),
            format!("column {}", before.key_column + 1),
        )
        .help(format!(
            "to be a field beside {}, {} must start in column {}",
            quote(other),
            quote(key),
            before.key_column + 1
        )),
    )
}

/// A list or mapping in brackets that goes on where it should not.
fn brackets(text: &str, at: usize, info: &str) -> Option<Problem> {
    let what = [
        "while parsing a flow",
        "expected node content",
        "illegal placement of ':'",
    ];
    let before = &text[..at];
    let open = before.matches(['[', '{']).count() > before.matches([']', '}']).count();
    let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    (open && what.iter().any(|what| info.contains(what))).then(|| {
        Problem::error(
            Span::new(at, end),
            "a `[` or `{` before this is not closed, or a comma is missing",
        )
    })
}

/// `dir:/etc/`.
fn colon_without_space(text: &str, line: &Line<'_>, info: &str) -> Option<Problem> {
    if !info.contains("simple key") && !info.contains("expected key") {
        return None;
    }
    let own = Line::new(line.start, line.text);
    let line = std::iter::once(own)
        .chain(line.before(text))
        .filter(Line::is_content)
        .take(2)
        .find(|l| l.key.is_none() && l.value.contains(':'))?;
    let (key, value) = line.value.split_once(':')?;
    let start = line.start + line.key_column;
    Some(
        Problem::error(
            Span::new(start, start + line.value.len()),
            "a space is missing behind `:`",
        )
        .suggestion(format!("{key}: {value}")),
    )
}
