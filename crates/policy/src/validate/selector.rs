//! Selectors: labels, expressions, and the labels that stand for names.

use regex_lite::Regex;

use super::name;
use crate::{
    diagnostic::{list, quote},
    manifest::{
        Labels, Span, Spanned,
        context::{Context, Problem},
        types::{
            ClusterExpression, ClusterSelector, LabelExpression, List, NodeSelector, PodSelector,
        },
    },
    model::{NameMatch, Pattern, Selector, Term},
    select::{self, IGNORED_LABELS, NAMESPACE_LABEL},
};

const CONTAINER_NAME: &str = "kubearmor.io/container.name";
const HOST_NAMES: [&str; 2] = ["kubearmor.io/hostname", "kubernetes.io/hostname"];
const HOST_NAME_PATTERNS: [&str; 2] = ["kubearmor.io/hostnamereg", "kubernetes.io/hostnamereg"];

/// `namespace` is that of the policy.
pub(super) fn pod(
    selector: Option<&Spanned<PodSelector>>,
    namespace: &str,
    cx: &Context<'_>,
) -> Selector {
    let Some(selector) = selector else {
        return Selector::default();
    };
    cx.at("selector", || {
        let errors = cx.errors();
        let mut terms = Vec::new();
        if let Some(labels) = &selector.match_labels {
            cx.at("matchLabels", || {
                each_label(labels, cx, |key, value| {
                    if key.value == CONTAINER_NAME && labels.0.len() > 1 {
                        beside_others(key, value, cx);
                    }
                    elsewhere(key, value, namespace, cx);
                    terms.extend(pod_term(key, value, cx))
                });
            });
        }
        let mut expressions = Expressions::default();
        each(
            selector.match_expressions.as_ref(),
            cx,
            |LabelExpression {
                 key,
                 operator,
                 values,
             },
             span| {
                expressions.add(
                    key.as_ref(),
                    operator.as_ref(),
                    values.as_ref(),
                    span,
                    &["label"],
                    cx,
                );
            },
        );
        terms.extend(expressions.terms());
        // What is wrong is missing from the terms.
        if cx.errors() == errors {
            contradiction(&terms, selector.span, cx);
        }
        Selector { terms }
    })
}

pub(super) fn cluster(selector: Option<&Spanned<ClusterSelector>>, cx: &Context<'_>) -> Selector {
    let Some(selector) = selector else {
        return Selector::default();
    };
    cx.at("selector", || {
        let errors = cx.errors();
        let mut expressions = Expressions::default();
        each(
            selector.match_expressions.as_ref(),
            cx,
            |ClusterExpression {
                 key,
                 operator,
                 values,
             },
             span| {
                let keys = ["namespace", "label"];
                expressions.add(
                    key.as_ref(),
                    operator.as_ref(),
                    values.as_ref(),
                    span,
                    &keys,
                    cx,
                );
            },
        );
        let terms = expressions.terms();
        // What is wrong is missing from the terms.
        if cx.errors() == errors {
            contradiction(&terms, selector.span, cx);
        }
        Selector { terms }
    })
}

/// Warns of terms that no container can satisfy together.
fn contradiction(terms: &[Term], span: Span, cx: &Context<'_>) {
    let wanted = |term: &Term| match term {
        Term::Label { key, value } => Some((key.clone(), value.clone())),
        _ => None,
    };
    let wanted: Vec<_> = terms.iter().filter_map(wanted).collect();
    let mut unwanted: &[(String, String)] = &[];
    let mut unwanted_namespaces: &[String] = &[];
    for term in terms {
        match term {
            Term::LabelNotIn(labels) => unwanted = labels,
            Term::NamespaceNotIn(names) => unwanted_namespaces = names,
            _ => {}
        }
    }
    let other_value = |(key, value): &(String, String)| {
        let mut wanted = wanted.iter();
        wanted.any(|(wanted, other)| wanted == key && other != value)
    };
    let why = terms.iter().find_map(|term| match term {
        Term::Label { key, value } => {
            let label = (key.clone(), value.clone());
            unwanted.contains(&label).then(|| {
                format!(
                    "{} is wanted and excluded",
                    quote(&format!("{key}={value}"))
                )
            })
        }
        Term::LabelIn(labels) => labels
            .iter()
            .all(|label| unwanted.contains(label) || other_value(label))
            .then(|| "every label of `In` is excluded".to_owned()),
        Term::NamespaceIn(names) => names
            .iter()
            .all(|name| unwanted_namespaces.contains(name))
            .then(|| "every namespace of `In` is excluded".to_owned()),
        _ => None,
    });
    if let Some(why) = why {
        let message = format!("the selector selects nothing: {why}");
        cx.report(Problem::warning(span, message));
    }
}

pub(super) fn node(
    selector: Option<&Spanned<NodeSelector>>,
    spec: Span,
    cx: &Context<'_>,
) -> Selector {
    cx.at("nodeSelector", || {
        let labels = selector.and_then(|s| s.match_labels.as_ref());
        let Some(labels) = labels.filter(|labels| !labels.0.is_empty()) else {
            let span = selector.map_or(spec, |s| s.span);
            cx.report(
                Problem::error(span, "the policy selects no host")
                    .label("`nodeSelector.matchLabels` is missing or empty")
                    .help("to select every host: `nodeSelector: {matchLabels: {kubearmor.io/hostname: \"*\"}}`"),
            );
            return Selector::default();
        };
        let mut terms = Vec::new();
        cx.at("matchLabels", || {
            each_label(labels, cx, |key, value| terms.extend(node_term(key, value, cx)));
        });
        Selector { terms }
    })
}

fn each<T>(expressions: Option<&List<T>>, cx: &Context<'_>, mut f: impl FnMut(&T, Span)) {
    cx.at("matchExpressions", || {
        for (index, expression) in expressions.into_iter().flat_map(|list| list.iter()) {
            cx.index(index, || f(expression, expression.span));
        }
    });
}

fn each_label(
    labels: &Labels,
    cx: &Context<'_>,
    mut f: impl FnMut(&Spanned<String>, &Spanned<String>),
) {
    for (key, value) in &labels.0 {
        cx.at(key, || {
            if key.trim().is_empty() {
                cx.report(Problem::error(key.span, "the label has no name"));
            } else {
                f(key, value);
            }
        });
    }
}

fn pod_term(key: &Spanned<String>, value: &Spanned<String>, cx: &Context<'_>) -> Option<Term> {
    if key.value == CONTAINER_NAME {
        return container_name(value, cx).map(Term::ContainerName);
    }
    if HOST_NAMES.contains(&key.as_str()) || HOST_NAME_PATTERNS.contains(&key.as_str()) {
        cx.report(
            Problem::warning(
                key.span,
                format!(
                    "{} is a label of hosts; no container carries it",
                    quote(key)
                ),
            )
            .help("to select hosts, write a KubeArmorHostPolicy"),
        );
    }
    uncounted(&key.value, key.span, cx);
    Some(Term::Label {
        key: key.value.clone(),
        value: value.value.clone(),
    })
}

/// Warns of a namespace that is not the policy's, which is about containers of its own.
fn elsewhere(key: &Spanned<String>, value: &Spanned<String>, namespace: &str, cx: &Context<'_>) {
    if key.value == NAMESPACE_LABEL && !select::is_in(&value.value, namespace) {
        let message = format!(
            "the selector selects nothing: the policy is about containers of {}",
            quote(namespace)
        );
        let help = "write `metadata.namespace`, or a KubeArmorClusterPolicy";
        cx.report(Problem::warning(value.span, message).help(help));
    }
}

/// Warns of labels that change at each rollout, which workloads are taken not to have.
fn uncounted(key: &str, span: Span, cx: &Context<'_>) {
    if IGNORED_LABELS.contains(&key) {
        let message = format!("{} never counts: it changes at each rollout", quote(key));
        cx.report(Problem::warning(span, message).help("select by other labels"));
    }
}

fn node_term(key: &Spanned<String>, value: &Spanned<String>, cx: &Context<'_>) -> Option<Term> {
    if HOST_NAMES.contains(&key.as_str()) {
        return names(value, value, cx).map(Term::HostName);
    }
    if HOST_NAME_PATTERNS.contains(&key.as_str()) {
        // As these policies have always been read, a `*` stands for any text, never for a
        // repetition: `*-prod` is written more often than a regular expression.
        return pattern(&value.replace('*', ".*"), value, cx).map(Term::HostNameRegex);
    }
    let message = if key.value == CONTAINER_NAME {
        "is a label of containers; no host carries it"
    } else {
        "is carried by no host: it has no labels but its name"
    };
    let message = format!("{} {message}", quote(key));
    let name = HOST_NAMES[0];
    cx.report(
        Problem::warning(key.span, message)
            .help(format!("to select hosts, use `{name}`; `*` selects all")),
    );
    Some(Term::Label {
        key: key.value.clone(),
        value: value.value.clone(),
    })
}

/// Warns of a container's name among other labels. In Kubernetes it is often there, in brackets.
fn beside_others(key: &Spanned<String>, value: &Spanned<String>, cx: &Context<'_>) {
    let text = value.trim();
    if !matches!(text, "" | "*") && !text.starts_with('[') {
        let message = format!("{} stands beside other labels", quote(key));
        cx.report(
            Problem::warning(key.span, message)
                .label("KubeArmor refuses this outside Kubernetes")
                .help("here all labels must hold; keep one of them, or write the name in brackets"),
        );
    }
}

/// `[a, b]`, or `*`, or a regular expression.
fn container_name(value: &Spanned<String>, cx: &Context<'_>) -> Option<NameMatch> {
    let text = value.trim();
    if matches!(text, "" | "*" | "[]") {
        return Some(NameMatch::Any);
    }
    match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        // Empty items are ignored, and nothing but empty items is no condition.
        Some(items) if items.split(',').all(|item| item.trim().is_empty()) => Some(NameMatch::Any),
        Some(items) => names(value, items, cx),
        None => pattern(text, value, cx).map(NameMatch::Regex),
    }
}

/// `*`, or names separated by commas.
fn names(value: &Spanned<String>, items: &str, cx: &Context<'_>) -> Option<NameMatch> {
    let names: Vec<String> = items
        .split(',')
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect();
    if names.iter().any(|name| name == "*") {
        return Some(NameMatch::Any);
    }
    if names.is_empty() {
        cx.report(
            Problem::error(value.span, "no name is given, so nothing is selected")
                .help("`*` selects all"),
        );
        return None;
    }
    if let Some(wild) = names.iter().find(|name| name.contains('*')) {
        let message = format!(
            "{} is compared as it is: only a `*` alone stands for all names",
            quote(wild)
        );
        cx.report(Problem::warning(value.span, message));
    }
    Some(NameMatch::OneOf(names))
}

/// The regular expression `text`, which was written as `value`.
fn pattern(text: &str, value: &Spanned<String>, cx: &Context<'_>) -> Option<Pattern> {
    match Regex::new(text) {
        Ok(regex) => Some(Pattern(regex)),
        Err(error) => {
            // The error may repeat the text.
            let error = quote(&error.to_string());
            let message = format!(
                "{} is not a regular expression: {}",
                quote(value),
                error.trim_matches('`')
            );
            cx.report(Problem::error(value.span, message));
            None
        }
    }
}

/// Expressions, collected by key and operator: several of one kind count as one with all values,
/// which is how these policies have always been read.
#[derive(Debug, Default)]
struct Expressions {
    label_in: Option<Vec<(String, String)>>,
    label_not_in: Option<Vec<(String, String)>>,
    namespace_in: Option<Vec<String>>,
    namespace_not_in: Option<Vec<String>>,
}

impl Expressions {
    fn add(
        &mut self,
        key: Option<&Spanned<String>>,
        operator: Option<&Spanned<String>>,
        values: Option<&List<String>>,
        span: Span,
        keys: &[&'static str],
        cx: &Context<'_>,
    ) {
        let key = choice("key", key, keys, span, cx);
        let operator = choice("operator", operator, &["In", "NotIn"], span, cx);
        let Some(given) = values.filter(|values| !values.is_empty()) else {
            cx.at("values", || {
                let span = values.map_or(span, |v| v.span);
                cx.report(
                    Problem::error(span, "`values` is missing or empty")
                        .help("name at least one value"),
                );
            });
            return;
        };
        let (Some(key), Some(operator)) = (key, operator) else {
            return;
        };
        cx.at("values", || {
            for (index, value) in given.iter() {
                cx.index(index, || match (key, operator) {
                    ("namespace", "In") => self
                        .namespace_in
                        .get_or_insert_default()
                        .extend(namespace(value, cx)),
                    ("namespace", _) => self
                        .namespace_not_in
                        .get_or_insert_default()
                        .extend(namespace(value, cx)),
                    (_, "In") => self
                        .label_in
                        .get_or_insert_default()
                        .extend(label(value, cx)),
                    _ => self
                        .label_not_in
                        .get_or_insert_default()
                        .extend(label(value, cx)),
                });
            }
        });
    }

    fn terms(self) -> Vec<Term> {
        let terms = [
            self.namespace_in.map(Term::NamespaceIn),
            self.namespace_not_in.map(Term::NamespaceNotIn),
            self.label_in.map(Term::LabelIn),
            self.label_not_in.map(Term::LabelNotIn),
        ];
        terms.into_iter().flatten().collect()
    }
}

fn choice(
    field: &'static str,
    found: Option<&Spanned<String>>,
    names: &[&'static str],
    span: Span,
    cx: &Context<'_>,
) -> Option<&'static str> {
    cx.at(field, || {
        let Some(found) = found else {
            let problem = Problem::error(span, format!("`{field}` is missing"));
            cx.report(problem.help(format!("it is {}", list(names))));
            return None;
        };
        let name = names.iter().find(|name| **name == found.value);
        if name.is_none() {
            let problem = Problem::error(found.span, format!("unknown {field} {}", quote(found)));
            cx.report(problem.allowed(found, names.iter().copied()));
        }
        name.copied()
    })
}

fn namespace(value: &Spanned<String>, cx: &Context<'_>) -> Option<String> {
    let errors = cx.errors();
    name::namespace(value, cx);
    (cx.errors() == errors).then(|| value.value.clone())
}

fn label(value: &Spanned<String>, cx: &Context<'_>) -> Option<(String, String)> {
    match value.split_once('=') {
        Some((key, label)) if !key.trim().is_empty() => {
            uncounted(key.trim(), value.span, cx);
            Some((key.trim().into(), label.trim().into()))
        }
        _ => {
            let problem = Problem::error(value.span, format!("{} is not a label", quote(value)));
            let problem = problem.help("write `name=value`");
            cx.report(match value.split_once(':') {
                Some((key, label)) => {
                    problem.suggestion(format!("{}={}", key.trim(), label.trim()))
                }
                None => problem,
            });
            None
        }
    }
}
