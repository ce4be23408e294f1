//! A document as a tree whose every node knows where it stands.

use std::sync::Arc;

use super::source::{Span, Spanned};

/// A value of a document. Aliases share what is in the node of their anchor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: NodeKind,
    /// Nodes in this tree, aliases counted as often as they are used.
    pub(crate) size: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NodeKind {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Spanned<String>,
    pub(crate) value: Arc<Node>,
}

/// A scalar as written; only a plain one can be anything but text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) plain: bool,
}

/// What a scalar is in YAML 1.2's core schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarType {
    Null,
    Bool(bool),
    Number,
    Text,
}

impl Scalar {
    pub(crate) fn kind(&self) -> ScalarType {
        if !self.plain {
            return ScalarType::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => ScalarType::Null,
            "true" | "True" | "TRUE" => ScalarType::Bool(true),
            "false" | "False" | "FALSE" => ScalarType::Bool(false),
            text if is_number(text) => ScalarType::Number,
            _ => ScalarType::Text,
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() - digits.len() > 1 {
        return false;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.bytes().all(|b| (b'0'..=b'7').contains(&b));
    }
    match digits.to_ascii_lowercase().as_str() {
        ".inf" => true,
        ".nan" => digits.len() == text.len(),
        float => {
            float.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && float.bytes().any(|b| b.is_ascii_digit())
                && float.parse::<f64>().is_ok()
        }
    }
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar(s) if s.kind() == ScalarType::Null)
    }

    /// What was found, for a message that says what was expected.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            NodeKind::Sequence(_) => "a list".into(),
            NodeKind::Mapping(_) => "a mapping".into(),
            NodeKind::Scalar(scalar) => match scalar.kind() {
                ScalarType::Null => "nothing".into(),
                ScalarType::Bool(_) => {
                    format!("the boolean {}", crate::diagnostic::quote(&scalar.text))
                }
                ScalarType::Number => {
                    format!("the number {}", crate::diagnostic::quote(&scalar.text))
                }
                ScalarType::Text => format!("the text {}", crate::diagnostic::quote(&scalar.text)),
            },
        }
    }

    /// The text of a scalar, or nothing.
    pub(crate) fn text(&self) -> &str {
        match &self.kind {
            NodeKind::Scalar(scalar) => &scalar.text,
            NodeKind::Sequence(_) | NodeKind::Mapping(_) => "",
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Self>> {
        match &self.kind {
            NodeKind::Mapping(entries) => entries
                .iter()
                .find(|e| e.key.value == key)
                .map(|e| &e.value),
            NodeKind::Scalar(_) | NodeKind::Sequence(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_types_of_yaml_1_2() {
        let kind = |text: &str| {
            Scalar {
                text: text.into(),
                plain: true,
            }
            .kind()
        };
        for number in [
            "1", "-1", "+1", "0x1F", "0o17", "1.5", "1e3", ".5", "5.", ".inf", "-.inf", ".nan",
        ] {
            assert_eq!(kind(number), ScalarType::Number, "{number}");
        }
        for text in [
            "yes", "on", "1.2.3", "--1", "inf", "nan", "0x", "e3", "1_000", ".", "/",
        ] {
            assert_eq!(kind(text), ScalarType::Text, "{text}");
        }
        assert_eq!(kind("~"), ScalarType::Null);
        assert_eq!(kind("True"), ScalarType::Bool(true));
        assert_eq!(
            Scalar {
                text: "true".into(),
                plain: false
            }
            .kind(),
            ScalarType::Text
        );
    }
}
