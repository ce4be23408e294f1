//! Diagnostics as text, in the form compilers have made familiar.

use std::{borrow::Cow, ops::Range};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Place, Severity, text::is_unsafe};

/// Longest line an excerpt shows, in bytes; a longer one is cut around the problem.
const LINE_BYTES: usize = 400;

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
    let mut group = level
        .primary_title(diagnostic.message.as_str())
        .element(snippet(
            text,
            &diagnostic.place,
            AnnotationKind::Primary,
            diagnostic.label.as_deref(),
        ));
    for related in &diagnostic.related {
        group = group.element(snippet(
            text,
            &related.place,
            AnnotationKind::Context,
            Some(&related.message),
        ));
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

/// The line of a place, and nothing of the rest of the text: excerpts stay cheap in a large file.
fn snippet<'a>(
    text: &'a str,
    place: &'a Place,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Snippet<'a, Annotation<'a>> {
    let excerpt = Excerpt::of(text, &place.span);
    Snippet::source(excerpt.text)
        .path(Cow::Owned(printable(&place.file)))
        .line_start(place.line as usize)
        .annotation(kind.span(excerpt.span).label(label))
}

struct Excerpt {
    text: String,
    span: Range<usize>,
}

impl Excerpt {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let at = floor(text, span.start);
        let line_start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[at..].find('\n').map_or(text.len(), |i| at + i);
        // A cut keeps what stands before the problem only as far as it fits.
        let start = floor(text, line_start.max(at.saturating_sub(LINE_BYTES / 2)));
        let end = floor(text, line_end.min(start + LINE_BYTES)).max(at);
        let line = text[start..end].trim_end_matches('\r');
        let from = (at - start).min(line.len());
        let to = floor(text, span.end).clamp(at, end) - start;
        let to = to.min(line.len()).max(from);
        Self {
            text: printable(line),
            span: from..to,
        }
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
fn printable(line: &str) -> String {
    line.chars()
        .map(|c| match (is_unsafe(c) && c != '\t', c.len_utf8()) {
            (false, _) => c,
            (true, 1) => '?',
            (true, 2) => '¿',
            (true, _) => '\u{fffd}',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_keeps_its_offsets() {
        let text = "first\nsec\u{9b}ond value\r\nthird";
        let at = text.find("value").unwrap();
        let e = Excerpt::of(text, &(at..at + 5));
        assert_eq!(e.text, "sec¿ond value");
        assert_eq!(&e.text[e.span], "value");
    }

    #[test]
    fn offsets_outside_the_text_do_not_panic() {
        for span in [0..0, 5..2, 900..1000, 1..2] {
            let _ = Excerpt::of("ä\nö", &span);
            let _ = Excerpt::of("", &span);
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_problem() {
        let text = format!("{}PROBLEM{}", "ä".repeat(5000), "ö".repeat(5000));
        let at = text.find("PROBLEM").unwrap();
        let e = Excerpt::of(&text, &(at..at + 7));
        assert!(e.text.len() <= LINE_BYTES);
        assert_eq!(&e.text[e.span], "PROBLEM");
    }
}
