//! Text of untrusted origin to checked policies.

use std::sync::Arc;

use karmor_policy::{
    Report,
    diagnostic::{self, Severity, Style},
    model::{Kind, Policy},
};
use karmor_proto::karmor::v1::Diagnostic;

/// Most bytes of one text.
pub const MAX_BYTES: usize = 1 << 20;

/// A checked policy and the text it was written as.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it means.
    pub policy: Arc<Policy>,
    /// As it was written, without the documents around it.
    pub text: Arc<str>,
}

/// What a text says.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Its sound documents.
    pub documents: Vec<Document>,
    /// Everything wrong with the others, and warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// The same for people.
    pub rendered: String,
    /// Part of the text is neither YAML nor JSON.
    pub damaged: bool,
}

impl Reading {
    /// Something in the text cannot be meant.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == ERROR)
    }

    /// The first error and how many more there are, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut errors = self.diagnostics.iter().filter(|d| d.severity == ERROR);
        let Some(first) = errors.next() else {
            return String::new();
        };
        let place = if first.line == 0 {
            first.file.clone()
        } else {
            format!("{}:{}:{}", first.file, first.line, first.column)
        };
        let more = match errors.count() {
            0 => String::new(),
            n => format!(" (and {n} more problems)"),
        };
        format!("{place}: {}{more}", first.message)
    }

    fn error(file: &str, message: String) -> Self {
        let rendered = format!("error: {file}: {message}\n");
        let diagnostic = Diagnostic {
            severity: ERROR.into(),
            message,
            file: file.into(),
            ..Diagnostic::default()
        };
        Self {
            diagnostics: vec![diagnostic],
            rendered,
            ..Self::default()
        }
    }
}

const ERROR: &str = "error";

/// What is said about a text above the limit.
#[must_use]
pub fn too_large(bytes: usize) -> String {
    format!("{bytes} bytes of policies, more than the 1 MiB one text may have; split it")
}

/// Reads policies. `file` is what the diagnostics call the text.
#[must_use]
pub fn read(text: &str, file: &str) -> Reading {
    if text.len() > MAX_BYTES {
        return Reading::error(file, too_large(text.len()));
    }
    reading(karmor_policy::read(file, text), text)
}

/// Reads one policy as programs send it: a JSON object whose kind is known.
#[must_use]
pub fn read_object(kind: Kind, text: &str, file: &str) -> Reading {
    if text.len() > MAX_BYTES {
        return Reading::error(file, too_large(text.len()));
    }
    reading(karmor_policy::read_object(kind, text.as_bytes()), text)
}

fn reading(report: Report, text: &str) -> Reading {
    let rendered = report.render(text, Style::Plain);
    let parts = split(text);
    let documents = report
        .policies
        .into_iter()
        .map(|policy| Document {
            text: part(&parts, policy.location.line).into(),
            policy: Arc::new(policy),
        })
        .collect();
    let diagnostics = report.diagnostics.into_iter().map(wire).collect();
    Reading {
        documents,
        diagnostics,
        rendered,
        damaged: report.damaged,
    }
}

/// A diagnostic for clients.
fn wire(from: diagnostic::Diagnostic) -> Diagnostic {
    let mut help = from.help;
    if let Some(suggestion) = from.suggestion {
        help.insert(0, format!("did you mean `{suggestion}`?"));
    }
    if !from.allowed.is_empty() {
        help.push(format!("allowed: {}", from.allowed.join(", ")));
    }
    Diagnostic {
        severity: match from.severity {
            Severity::Error => ERROR,
            Severity::Warning => "warning",
        }
        .into(),
        message: from.message,
        file: from.place.file,
        line: from.place.line,
        column: from.place.column,
        field: from.field,
        help: help.join("; "),
    }
}

/// The text of each document, by the line it starts on, from 1.
///
/// A line that starts with `---` separates documents wherever it stands: YAML forbids it even
/// inside block scalars.
fn split(text: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|r| r.is_empty() || r.starts_with([' ', '\t', '\r', '\n'])) {
            parts.push((first, &text[start..offset]));
            (start, first) = (offset + 3, number);
        }
        offset += line.len();
    }
    parts.push((first, &text[start..]));
    parts
}

/// The part that a document on this line is in.
fn part<'a>(parts: &[(u32, &'a str)], line: u32) -> &'a str {
    let after = parts.partition_point(|(first, _)| *first <= line);
    parts
        .get(after.saturating_sub(1))
        .map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_separators_only() {
        let text = "a: 1\n---\nb: |\n  --- no\n--- # yes\nc: 1\n";
        let parts = split(text);
        let lines: Vec<u32> = parts.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 5]);
        assert_eq!(part(&parts, 1), "a: 1\n");
        assert_eq!(part(&parts, 3), "\nb: |\n  --- no\n");
        assert_eq!(part(&parts, 6), " # yes\nc: 1\n");
    }

    #[test]
    fn a_text_above_the_limit_is_not_parsed() {
        let reading = read(&"- a\n".repeat(MAX_BYTES / 4 + 1), "f.yaml");
        assert!(reading.failed());
        assert!(reading.summary().contains("1 MiB"), "{}", reading.summary());
    }
}
