//! Text of untrusted origin to checked policies.

use std::sync::Arc;

use jiff::Timestamp;
use karmor_policy::{
    Report,
    diagnostic::{self, Severity, Style},
    model::{Kind, Policy},
};
use karmor_proto::karmor::v1::Diagnostic;

/// Most bytes of one text.
pub const MAX_BYTES: usize = 1 << 20;

/// A checked policy and its text.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it means.
    pub policy: Arc<Policy>,
    /// Its text alone, which says the same wherever it is read: as it was written, if it stood on
    /// its own among the other documents. Equal texts under one name are the same policy.
    pub text: Arc<str>,
    /// Since when it says so, when it has been accepted before.
    pub since: Option<Timestamp>,
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

/// Reads policies that have been accepted before. `file` is what the diagnostics call the text.
#[must_use]
pub fn read(text: &str, file: &str) -> Reading {
    bounded(text, file, || karmor_policy::read(file, text))
}

/// The same for a policy that a program sent: a JSON object whose kind is known.
#[must_use]
pub fn read_object(kind: Kind, text: &str, file: &str) -> Reading {
    bounded(text, file, || {
        karmor_policy::read_object(kind, text.as_bytes())
    })
}

/// Reads policies that are new, and refuses besides what could not be put in force even alone: where
/// no workload is selected yet, nobody else would find out in time. May take seconds.
#[must_use]
pub fn read_new(text: &str, file: &str) -> Reading {
    bounded(text, file, || compilable(karmor_policy::read(file, text)))
}

/// The same for a policy that a program sends: a JSON object whose kind is known.
#[must_use]
pub fn read_new_object(kind: Kind, text: &str, file: &str) -> Reading {
    bounded(text, file, || {
        compilable(karmor_policy::read_object(kind, text.as_bytes()))
    })
}

fn compilable(mut report: Report) -> Report {
    report.refuse_uncompilable();
    report
}

fn bounded(text: &str, file: &str, read: impl FnOnce() -> Report) -> Reading {
    if text.len() > MAX_BYTES {
        return Reading::error(file, too_large(text.len()));
    }
    let report = read();
    let rendered = report.render(text, Style::Plain);
    let documents = report
        .policies
        .into_iter()
        .zip(report.texts)
        .map(|(policy, text)| Document {
            policy: Arc::new(policy),
            text: text.into(),
            since: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: a}\nspec:\n  process: {matchPaths: [{path: /bin/a}]}\n  action: Block\n";

    fn listed(names: impl IntoIterator<Item = String>) -> String {
        let items = names.into_iter().map(|name| {
            let item = POLICY.replace("name: a", &format!("name: {name}"));
            format!("- {}\n", item.trim_end().replace('\n', "\n  "))
        });
        format!(
            "apiVersion: v1\nkind: List\nitems:\n{}",
            items.collect::<String>()
        )
    }

    #[test]
    fn the_policies_of_a_list_share_its_size() {
        let text = listed((0..100).map(|i| format!("p{i}")));
        let reading = read(&text, "p.yaml");
        assert_eq!(reading.documents.len(), 100, "{}", reading.rendered);
        let bytes: usize = reading.documents.iter().map(|d| d.text.len()).sum();
        assert!(bytes <= 2 * text.len(), "{bytes} bytes of {}", text.len());
    }

    #[test]
    fn a_text_above_the_limit_is_not_parsed() {
        let reading = read(&"- a\n".repeat(MAX_BYTES / 4 + 1), "f.yaml");
        assert!(reading.failed());
        assert!(reading.summary().contains("1 MiB"), "{}", reading.summary());
    }
}
