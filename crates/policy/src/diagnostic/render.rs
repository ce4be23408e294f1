//! Diagnostics as text, in the form compilers have made familiar.

use std::{borrow::Cow, ops::Range};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Place, Severity, text::is_unsafe};

/// Longest line an excerpt shows, in bytes; a longer one is cut around the problem.
const LINE_BYTES: usize = 400;

/// Two places at most this far apart are shown in one excerpt.
const NEAR_LINES: u32 = 8;
const NEAR_BYTES: usize = 1_000;

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    #[default]
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// Renders diagnostics with excerpts of the text they are about, one empty line between two.
#[must_use]
pub fn render(text: &str, diagnostics: &[Diagnostic], style: Style) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group(text, diagnostic)]));
        out.push('\n');
    }
    out
}

fn group<'a>(text: &'a str, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let primary = Mark {
        place: &diagnostic.place,
        kind: AnnotationKind::Primary,
        label: diagnostic.label.as_deref(),
    };
    // Of another file there is no text here.
    let (here, elsewhere): (Vec<_>, Vec<_>) = diagnostic
        .related
        .iter()
        .partition(|related| related.place.file == diagnostic.place.file);
    let related = here.into_iter().map(|related| Mark {
        place: &related.place,
        kind: AnnotationKind::Context,
        label: Some(&related.message),
    });
    let (near, far): (Vec<_>, Vec<_>) = related.partition(|mark| mark.is_near(text, &primary));
    let near: Vec<_> = std::iter::once(primary).chain(near).collect();
    let mut group = level
        .primary_title(diagnostic.message.as_str())
        .element(snippet(text, &near));
    for mark in far {
        group = group.element(snippet(text, &[mark]));
    }
    for related in elsewhere {
        let Place {
            file, line, column, ..
        } = &related.place;
        let file = printable(file).replace('\n', "?");
        let note = format!("{}: {file}:{line}:{column}", related.message);
        group = group.element(Level::NOTE.message(note));
    }
    if !diagnostic.field.is_empty() {
        group = group.element(Level::NOTE.message(format!("field: {}", diagnostic.field)));
    }
    if !diagnostic.allowed.is_empty() {
        group = group
            .element(Level::NOTE.message(format!("allowed: {}", diagnostic.allowed.join(", "))));
    }
    if let Some(suggestion) = &diagnostic.suggestion {
        group = group
            .element(Level::HELP.message(format!("did you mean {}?", super::quote(suggestion))));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    group
}

/// Something to point at.
struct Mark<'a> {
    place: &'a Place,
    kind: AnnotationKind,
    label: Option<&'a str>,
}

impl Mark<'_> {
    /// Whether one excerpt can show both.
    fn is_near(&self, text: &str, other: &Self) -> bool {
        let (from, to) = order(self.place.span.start, other.place.span.start);
        self.place.line.abs_diff(other.place.line) <= NEAR_LINES
            && to - from <= NEAR_BYTES
            && longest_line(&text[floor(text, from)..floor(text, to)]) < LINE_BYTES / 2
    }
}

fn order(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn longest_line(text: &str) -> usize {
    text.lines().map(str::len).max().unwrap_or(0)
}

/// The lines of some marks, and nothing of the rest of the text: excerpts stay cheap in a large
/// file. More than one mark must be near one another.
fn snippet<'a>(text: &'a str, marks: &[Mark<'a>]) -> Snippet<'a, Annotation<'a>> {
    let starts = marks.iter().map(|mark| floor(text, mark.place.span.start));
    let (first, last) = starts.fold((usize::MAX, 0), |(a, b), at| (a.min(at), b.max(at)));
    let line = marks.iter().map(|mark| mark.place.line).min().unwrap_or(1);
    let file = marks
        .first()
        .map(|mark| printable(&mark.place.file).replace('\n', "?"));
    let excerpt = Excerpt::of(text, first.min(last), last);
    let annotations = marks.iter().map(|mark| {
        mark.kind
            .span(excerpt.range(text, &mark.place.span))
            .label(mark.label)
    });
    let annotations: Vec<_> = annotations.collect();
    Snippet::source(excerpt.text)
        .path(file.map(Cow::Owned))
        .line_start(line as usize)
        .annotations(annotations)
}

/// Some lines of a text, safe to show.
struct Excerpt {
    text: String,
    /// Byte offset in the whole text.
    start: usize,
}

impl Excerpt {
    /// The lines from the one of `first` to the one of `last`.
    fn of(text: &str, first: usize, last: usize) -> Self {
        let line_start = text[..first].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[last..].find('\n').map_or(text.len(), |i| last + i);
        // Of a line that is cut, what stands before the problem stays as far as it fits.
        let start = floor(text, line_start.max(first.saturating_sub(LINE_BYTES / 2)));
        let end = floor(text, line_end.min(last + LINE_BYTES / 2)).max(last);
        Self {
            text: printable(text[start..end].trim_end_matches('\r')),
            start,
        }
    }

    /// Where a range of the whole text is in the excerpt, cut to the end of its first line.
    fn range(&self, text: &str, span: &Range<usize>) -> Range<usize> {
        let from = floor(text, span.start);
        let line_end = text[from..].find('\n').map_or(text.len(), |i| from + i);
        let to = from
            + text[from..floor(text, span.end).clamp(from, line_end)]
                .trim_end()
                .len();
        let at = |at: usize| at.saturating_sub(self.start).min(self.text.len());
        at(from)..at(to)
    }
}

/// The nearest character boundary at or before a byte offset.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Replaces what a terminal would obey by as many bytes that it shows, so that offsets hold.
fn printable(lines: &str) -> String {
    lines
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\r' => ' ',
            c if !is_unsafe(c) => c,
            c => match c.len_utf8() {
                1 => '?',
                2 => '¿',
                _ => '\u{fffd}',
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, span: Range<usize>) -> (String, String) {
        let at = floor(text, span.start);
        let excerpt = Excerpt::of(text, at, at);
        let marked = excerpt.text[excerpt.range(text, &span)].to_owned();
        (excerpt.text, marked)
    }

    #[test]
    fn an_excerpt_keeps_its_offsets() {
        let text = "first\nsec\u{9b}ond value\r\nthird";
        let at = text.find("value").unwrap();
        let (line, marked) = excerpt(text, at..at + 5);
        assert_eq!(line, "sec¿ond value");
        assert_eq!(marked, "value");
    }

    #[test]
    fn offsets_outside_the_text_do_not_panic() {
        for span in [0..0, 5..9, 900..1000, 1..2] {
            let _ = excerpt("ä\nö", span.clone());
            let _ = excerpt("", span);
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_problem() {
        let text = format!("{}PROBLEM{}", "ä".repeat(5000), "ö".repeat(5000));
        let at = text.find("PROBLEM").unwrap();
        let (line, marked) = excerpt(&text, at..at + 7);
        assert!(line.len() <= LINE_BYTES + 8);
        assert_eq!(marked, "PROBLEM");
    }
}
