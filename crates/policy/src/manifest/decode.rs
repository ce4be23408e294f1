//! Document to manifest types: every field is known by name, every problem is told.

use std::collections::HashMap;

use super::{
    context::{Context, Problem},
    node::{Entry, Node, NodeKind, ScalarType},
    source::{Span, Spanned},
};
use crate::diagnostic::quote;

/// A type that a node of a document can be read as.
pub(crate) trait Decode: Sized + Default {
    /// What is expected, for a message that says what was found.
    const EXPECTED: &'static str;

    /// Whether it makes a difference what it says.
    const IS_READ: bool = true;

    /// Reads a node; reports what is wrong with it and returns what is right, if that is enough.
    fn decode(node: &Node, cx: &Context<'_>) -> Option<Self>;
}

/// A type that a field of a mapping can have.
pub(crate) trait Field: Sized {
    /// Whether it makes a difference what it says.
    const IS_READ: bool;

    /// The field's value when it is not there, unless it must be.
    fn absent() -> Option<Self>;

    /// Whether the field is there; `key: ` without a value is not.
    fn present(node: &Node, cx: &Context<'_>) -> Option<Self>;

    /// What stands in for a field that is wrong or missing, so that the rest of its mapping is still
    /// checked; the error keeps the policy out all the same.
    fn stand_in(span: Span) -> Self;
}

impl<T: Decode> Field for Spanned<T> {
    const IS_READ: bool = T::IS_READ;

    fn absent() -> Option<Self> {
        None
    }

    fn present(node: &Node, cx: &Context<'_>) -> Option<Self> {
        T::decode(node, cx).map(|value| Self {
            value,
            span: node.span,
        })
    }

    fn stand_in(span: Span) -> Self {
        Self {
            value: T::default(),
            span,
        }
    }
}

impl<T: Field> Field for Option<T> {
    const IS_READ: bool = T::IS_READ;

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn present(node: &Node, cx: &Context<'_>) -> Option<Self> {
        // A wrong one is reported and then taken as absent.
        Some(T::present(node, cx))
    }

    fn stand_in(_: Span) -> Self {
        None
    }
}

/// A value that is accepted and not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored;

impl Decode for Ignored {
    const EXPECTED: &'static str = "anything";
    const IS_READ: bool = false;

    fn decode(_: &Node, _: &Context<'_>) -> Option<Self> {
        Some(Self)
    }
}

fn mismatch(node: &Node, expected: &str) -> Problem {
    Problem::error(
        node.span,
        format!("expected {expected}, found {}", node.describe()),
    )
}

impl Decode for String {
    const EXPECTED: &'static str = "text";

    fn decode(node: &Node, cx: &Context<'_>) -> Option<Self> {
        let NodeKind::Scalar(scalar) = &node.kind else {
            cx.report(mismatch(node, Self::EXPECTED));
            return None;
        };
        if scalar.kind() == ScalarType::Text {
            return Some(scalar.text.clone());
        }
        let problem = mismatch(node, Self::EXPECTED);
        cx.report(match scalar.kind() {
            ScalarType::Bool(_) | ScalarType::Number => {
                problem.help(format!("put it in quotes: \"{}\"", scalar.text))
            }
            ScalarType::Null | ScalarType::Text => problem,
        });
        None
    }
}

/// A port or a range of ports, as text: `443`, which is a number elsewhere, or `8000-8999`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port(pub String);

impl Decode for Port {
    const EXPECTED: &'static str = "a port or a range of ports";

    fn decode(node: &Node, cx: &Context<'_>) -> Option<Self> {
        if let NodeKind::Scalar(scalar) = &node.kind
            && matches!(scalar.kind(), ScalarType::Text | ScalarType::Number)
        {
            return Some(Self(scalar.text.clone()));
        }
        cx.report(mismatch(node, Self::EXPECTED));
        None
    }
}

impl Decode for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn decode(node: &Node, cx: &Context<'_>) -> Option<Self> {
        let NodeKind::Scalar(scalar) = &node.kind else {
            cx.report(mismatch(node, Self::EXPECTED));
            return None;
        };
        if let ScalarType::Bool(value) = scalar.kind() {
            return Some(value);
        }
        let meant = match scalar.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" | "1" => Some("true"),
            "false" | "no" | "n" | "off" | "0" => Some("false"),
            _ => None,
        };
        let mut problem = mismatch(node, Self::EXPECTED);
        if let Some(meant) = meant {
            problem = problem.suggestion(meant);
            if !scalar.plain {
                problem = problem.help("without quotes: in quotes it is text");
            }
        }
        cx.report(problem);
        None
    }
}

impl Decode for i32 {
    const EXPECTED: &'static str = "a whole number";

    fn decode(node: &Node, cx: &Context<'_>) -> Option<Self> {
        if let NodeKind::Scalar(scalar) = &node.kind {
            let number = scalar.text.parse::<Self>();
            if let (ScalarType::Number, Ok(number)) = (scalar.kind(), &number) {
                return Some(*number);
            }
            let mut problem = mismatch(node, Self::EXPECTED);
            if let Ok(number) = number {
                problem = problem
                    .suggestion(number.to_string())
                    .help("without quotes: in quotes it is text");
            }
            cx.report(problem);
        } else {
            cx.report(mismatch(node, Self::EXPECTED));
        }
        None
    }
}

/// The items of a list that could be read at least in part, each with its index in the list as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items<T> {
    items: Vec<(usize, Spanned<T>)>,
    /// Items as written, those that could not be read included.
    written: usize,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            written: 0,
        }
    }
}

impl<T> Items<T> {
    /// The items that could be read, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Spanned<T>)> {
        self.items.iter().map(|(index, item)| (*index, item))
    }

    /// Items as written, those that could not be read included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.written
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }
}

impl<T> FromIterator<Spanned<T>> for Items<T> {
    fn from_iter<I: IntoIterator<Item = Spanned<T>>>(items: I) -> Self {
        let items: Vec<_> = items.into_iter().enumerate().collect();
        Self {
            written: items.len(),
            items,
        }
    }
}

impl<T: Decode> Decode for Items<T> {
    const EXPECTED: &'static str = "a list";

    fn decode(node: &Node, cx: &Context<'_>) -> Option<Self> {
        let NodeKind::Sequence(nodes) = &node.kind else {
            let problem = mismatch(node, Self::EXPECTED);
            cx.report(match &node.kind {
                NodeKind::Mapping(_) => problem.help("start each item with `- `"),
                NodeKind::Scalar(_) | NodeKind::Sequence(_) => problem.help(format!(
                    "each item is {}, on a line of its own that starts with `- `",
                    T::EXPECTED
                )),
            });
            return None;
        };
        let mut items = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            cx.index(index, || {
                let errors = cx.errors();
                items.extend(T::decode(node, cx).map(|value| {
                    let span = node.span;
                    (index, Spanned { value, span })
                }));
                if cx.errors() > errors {
                    cx.note_broken(node.span);
                }
            });
        }
        Some(Self {
            items,
            written: nodes.len(),
        })
    }
}

/// A mapping of names to text, in the order of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<(Spanned<String>, Spanned<String>)>);

impl Decode for Labels {
    const EXPECTED: &'static str = "a mapping of names to text";

    fn decode(node: &Node, cx: &Context<'_>) -> Option<Self> {
        let NodeKind::Mapping(entries) = &node.kind else {
            cx.report(mismatch(node, Self::EXPECTED).help("write `key: value`"));
            return None;
        };
        let mut labels = Vec::with_capacity(entries.len());
        for Entry { key, value } in entries {
            cx.at(&key.value, || {
                let text = if value.is_null() {
                    if !cx.by_program() {
                        let message =
                            format!("{} has no value: the empty text is taken", quote(key));
                        let problem = Problem::warning(value.span, message);
                        cx.report(problem.help("write `\"\"` if that is meant"));
                    }
                    Some(String::new())
                } else {
                    String::decode(value, cx)
                };
                labels.extend(text.map(|text| {
                    (
                        key.clone(),
                        Spanned {
                            value: text,
                            span: value.span,
                        },
                    )
                }));
            });
        }
        Some(Self(labels))
    }
}

/// The fields of a mapping, handed out by name; what is left over is unknown.
pub(crate) struct Fields<'n> {
    span: Span,
    entries: HashMap<&'n str, &'n Node>,
}

/// `action: Block` for `action:Block`.
fn missing_space(text: &str, known: &[&str]) -> Option<String> {
    let (key, value) = text.split_once(':')?;
    known.contains(&key).then(|| format!("{key}: {value}"))
}

impl<'n> Fields<'n> {
    /// Takes a mapping apart and reports the fields that are not among `known`.
    pub(crate) fn of(node: &'n Node, known: &[&'static str], cx: &Context<'_>) -> Option<Self> {
        let NodeKind::Mapping(entries) = &node.kind else {
            let problem = mismatch(node, "a mapping");
            cx.report(match missing_space(node.text(), known) {
                Some(meant) => problem
                    .suggestion(meant)
                    .help("a space is missing behind `:`"),
                None => problem.help(format!("its fields are {}", known.join(", "))),
            });
            return None;
        };
        for Entry { key, .. } in entries {
            if !known.contains(&key.value.as_str()) {
                cx.at(&key.value, || {
                    cx.report(
                        Problem::error(key.span, format!("unknown field {}", quote(&key.value)))
                            .allowed(&key.value, known.iter().copied()),
                    );
                });
            }
        }
        let entries = entries.iter().map(|e| (e.key.value.as_str(), &*e.value));
        Some(Self {
            span: node.span,
            entries: entries.collect(),
        })
    }

    /// Reads a field, or what stands in for it.
    pub(crate) fn part<F: Field>(&self, name: &'static str, cx: &Context<'_>) -> F {
        self.take(name, cx).unwrap_or_else(|| {
            let span = self.entries.get(name).map_or(self.span, |node| node.span);
            cx.note_broken(span);
            F::stand_in(span)
        })
    }

    /// Reads a field.
    pub(crate) fn take<F: Field>(&self, name: &'static str, cx: &Context<'_>) -> Option<F> {
        cx.at(name, || {
            let node = self.entries.get(name);
            if let Some(node) = node.filter(|node| !node.is_null()) {
                return F::present(node, cx);
            }
            let absent = F::absent();
            if absent.is_none() {
                let span = node.map_or(self.span, |node| node.span);
                cx.report(Problem::error(span, format!("{} is missing", quote(name))));
            } else if let Some(node) = node
                && F::IS_READ
                && !cx.by_program()
            {
                cx.report(empty(name, node.span, cx));
            }
            absent
        })
    }
}

/// What holds without a field, where an empty one looks like a condition and is none.
const WITHOUT: [(&str, &str); 8] = [
    ("fromSource", "the rule is for every executable"),
    ("allowedArgs", "the rule allows any arguments"),
    ("cidr", "the rule is for every address"),
    ("ports", "the rule is for every port"),
    ("selector", "no workload is left out"),
    ("matchLabels", "no label is asked for"),
    ("matchExpressions", "no expression is asked for"),
    ("action", "that of the level above holds"),
];

/// What holds without an action where there is no level above, or none that counts.
const WITHOUT_ACTION: &str = "Block holds";

/// A field without a value: as the API server has it, it is as if it were not there.
pub(crate) fn empty(name: &str, span: Span, cx: &Context<'_>) -> Problem {
    let is_above_all = name == "action" && (cx.is_at(&["spec", name]) || cx.is_below("presets"));
    let without = WITHOUT.iter().find(|(field, _)| *field == name);
    let without = without.map(|&(_, what)| if is_above_all { WITHOUT_ACTION } else { what });
    let message = match without {
        Some(what) => format!("{} is empty, so {what}", quote(name)),
        None => format!("{} is empty: it is as if it were not there", quote(name)),
    };
    Problem::warning(span, message).help("give it a value, or remove it")
}

/// Defines a mapping of the manifest: the type, how it is read, and its schema, from one list of
/// fields, so that the three cannot disagree. `with attributes` adds the fields that every rule
/// and section may carry.
macro_rules! mapping {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $json:literal $field:ident: $ty:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[cfg_attr(
            feature = "crd",
            derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)
        )]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[cfg_attr(feature = "crd", serde(rename = $json))]
                pub $field: $ty,
            )*
        }

        impl $crate::manifest::decode::Decode for $name {
            const EXPECTED: &'static str = "a mapping";

            fn decode(
                node: &$crate::manifest::node::Node,
                cx: &$crate::manifest::context::Context<'_>,
            ) -> Option<Self> {
                let fields = $crate::manifest::decode::Fields::of(node, &[$($json),*], cx)?;
                Some(Self { $( $field: fields.part($json, cx), )* })
            }
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident with attributes {
            $($fields:tt)*
        }
    ) => {
        mapping! {
            $(#[$meta])*
            pub struct $name with alert attributes {
                $($fields)*
                /// What happens: `Allow`, `Audit` or `Block`.
                #[cfg_attr(feature = "crd", schemars(extend("enum" = ["Allow", "Audit", "Block"])))]
                "action" action: Option<Spanned<String>>,
            }
            action: |this| this.action.as_ref(),
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident with alert attributes {
            $($fields:tt)*
        }
        action: |$this:ident| $action:expr,
    ) => {
        mapping! {
            $(#[$meta])*
            pub struct $name {
                $($fields)*
                /// Severity of its alerts, from 1 to 10.
                #[cfg_attr(feature = "crd", schemars(range(min = 1, max = 10)))]
                "severity" severity: Option<Spanned<i32>>,
                /// Tags of its alerts.
                "tags" tags: Option<$crate::manifest::types::List<String>>,
                /// Message of its alerts.
                "message" message: Option<Spanned<String>>,
            }
        }

        impl $crate::manifest::types::Attributed for $name {
            fn attributes(&self) -> $crate::manifest::types::Attributes<'_> {
                let $this = self;
                $crate::manifest::types::Attributes {
                    severity: self.severity.as_ref(),
                    tags: self.tags.as_ref(),
                    message: self.message.as_ref(),
                    action: $action,
                }
            }
        }
    };
}
pub(crate) use mapping;
