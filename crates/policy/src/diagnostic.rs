//! What is wrong with a text, and where: for people ([`render`]) and for programs (`serde`).

mod render;
mod text;

use std::ops::Range;

use serde::Serialize;

pub use self::render::{Style, render};
pub(crate) use self::text::{is_unsafe, list, nearest, quote};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy is accepted, but probably does not say what was meant.
    Warning,
    /// The policy is refused.
    Error,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// File, or `<stdin>`, or `<grpc>`.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// Byte offsets, after a byte order mark if there is one.
    #[serde(flatten)]
    pub span: Range<usize>,
}

/// Another place that has to do with the problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// What is there, as a fragment.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
}

/// One problem. All text is safe to print: control characters are escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Which field, such as `spec.process.matchPaths[1].path`; empty for a problem of the text.
    pub field: String,
    /// The same in a few words, to stand under the excerpt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Values or names that would be right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What was probably meant, ready to replace the text at `place`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
    /// Other places that have to do with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// How many problems it is about: more than one only for the last of a text, which says how
    /// many more there are.
    #[serde(skip)]
    pub stands_for: usize,
}

impl Diagnostic {
    /// The error that two texts say who is called what.
    pub(crate) fn repeated(message: String, place: Place, first: Place) -> Self {
        Self {
            severity: Severity::Error,
            message,
            place,
            field: "metadata.name".to_owned(),
            label: None,
            allowed: Vec::new(),
            suggestion: None,
            help: Vec::new(),
            related: vec![Related {
                message: "first here".to_owned(),
                place: first,
            }],
            stands_for: 1,
        }
    }

    /// The error that a policy cannot be put in force.
    pub(crate) fn not_compiled(message: String, help: String, place: Place) -> Self {
        Self {
            severity: Severity::Error,
            message,
            place,
            field: "spec".to_owned(),
            label: None,
            allowed: Vec::new(),
            suggestion: None,
            help: vec![help],
            related: Vec::new(),
            stands_for: 1,
        }
    }

    /// A warning of what a rule comes to beside another, and where that is.
    pub(crate) fn of_rules(
        message: String,
        label: Option<String>,
        help: Vec<String>,
        place: Place,
        field: String,
        other: Option<(String, Place)>,
    ) -> Self {
        let related = other.map(|(message, place)| Related { message, place });
        Self {
            severity: Severity::Warning,
            message,
            place,
            field,
            label,
            allowed: Vec::new(),
            suggestion: None,
            help,
            related: related.into_iter().collect(),
            stands_for: 1,
        }
    }

    /// Whether it is an error, which keeps its policy out of [`crate::Report::policies`].
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
