//! Documents to manifests: kind, version, metadata, lists.

use std::sync::Arc;

use super::{
    Manifest, Spec,
    context::{Context, Problem},
    decode::{Decode, Field, Fields, Ignored},
    limits,
    node::{Node, NodeKind},
    parse::Document,
    source::{Span, Spanned},
    types::{ClusterPolicySpec, HostPolicySpec, List, Metadata, PolicySpec},
    write::Written,
};
use crate::{diagnostic::quote, model::Kind};

/// `apiVersion` of the policies.
pub const API_VERSION: &str = "security.kubearmor.com/v1";

const KINDS: [Kind; 3] = [Kind::Container, Kind::Cluster, Kind::Host];

/// Kinds of the same makers that are no policies for this program.
const OTHER_KINDS: [&str; 2] = ["KubeArmorNetworkPolicy", "KubeArmorConfig"];

/// Reads the manifests of a document: one, or a list of them. `kind` is the kind if the caller
/// knows it.
pub(crate) fn manifests(
    document: &Document,
    kind: Option<Kind>,
    cx: &Context<'_>,
    out: &mut Vec<Manifest>,
) {
    let node = &document.node;
    if kind.is_none() && is_list(node) {
        list(node, cx, out);
        return;
    }
    let before = out.len();
    one(node, kind, None, cx, out);
    if let Some(part) = document.part {
        for manifest in out.iter_mut().skip(before) {
            manifest.written = Written::Part(part);
        }
    }
}

fn is_list(node: &Node) -> bool {
    let kind = node.get("kind").map(|kind| &kind.kind);
    matches!(kind, Some(NodeKind::Scalar(kind)) if kind.text == "List" || KINDS.iter().any(|k| kind.text.strip_suffix("List") == Some(k.as_str())))
}

fn list(node: &Arc<Node>, cx: &Context<'_>, out: &mut Vec<Manifest>) {
    let Some(fields) = Fields::of(node, &["apiVersion", "kind", "metadata", "items"], cx) else {
        return;
    };
    // Looked at as a list first, so that each item keeps the errors of its own.
    let Some(items) = node.get("items").filter(|items| !items.is_null()) else {
        return;
    };
    let NodeKind::Sequence(items) = &items.kind else {
        let _ = fields.take::<Option<List<Ignored>>>("items", cx);
        return;
    };
    cx.at("items", || {
        for (index, item) in items.iter().enumerate() {
            if out.len() == limits::DOCUMENTS {
                let message = format!("the text has more than {} policies", limits::DOCUMENTS);
                cx.report(Problem::error(item.span, message));
                return;
            }
            cx.index(index, || one(item, None, Some(index), cx, out));
        }
    });
}

fn one(
    node: &Arc<Node>,
    kind: Option<Kind>,
    item: Option<usize>,
    cx: &Context<'_>,
    out: &mut Vec<Manifest>,
) {
    let errors = cx.errors();
    let manifest = manifest(node, kind, cx);
    out.extend(manifest.map(|m| Manifest {
        item,
        failed: cx.errors() > errors,
        ..m
    }));
}

fn manifest(node: &Arc<Node>, given: Option<Kind>, cx: &Context<'_>) -> Option<Manifest> {
    if !matches!(node.kind, NodeKind::Mapping(_)) {
        let message = format!("a policy is a mapping, not {}", node.describe());
        cx.report(
            Problem::error(node.span, message).help("it starts with `apiVersion:` and `kind:`"),
        );
        return None;
    }
    // Kind and version first: of a document that is something else, the fields say nothing.
    let kind = kind(node, given, cx)?;
    version(node, given, cx);
    let fields = Fields::of(
        node,
        &["apiVersion", "kind", "metadata", "spec", "status"],
        cx,
    )?;
    let metadata = fields.take::<Spanned<Metadata>>("metadata", cx);
    let spec = match kind {
        Kind::Container => spec::<PolicySpec>(&fields, cx, |s| Spec::Container(Box::new(s))),
        Kind::Cluster => spec::<ClusterPolicySpec>(&fields, cx, |s| Spec::Cluster(Box::new(s))),
        Kind::Host => spec::<HostPolicySpec>(&fields, cx, |s| Spec::Host(Box::new(s))),
    };
    // Without a name the rest is still worth checking.
    let metadata = metadata.map(|m| m.value).unwrap_or_default();
    Some(Manifest {
        metadata,
        spec: spec?,
        span: node.span,
        item: None,
        failed: false,
        written: Written::Tree(Arc::clone(node)),
    })
}

fn spec<S: Decode>(
    fields: &Fields<'_>,
    cx: &Context<'_>,
    wrap: impl FnOnce(S) -> Spec,
) -> Option<Spanned<Spec>> {
    let spec: Spanned<S> = fields.take("spec", cx)?;
    Some(Spanned {
        value: wrap(spec.value),
        span: spec.span,
    })
}

/// Reads a text field without complaining about its absence.
fn text(node: &Node, name: &str, cx: &Context<'_>) -> Option<Spanned<String>> {
    let node = node.get(name).filter(|node| !node.is_null())?;
    cx.at(name, || Spanned::present(node, cx))
}

fn kind(node: &Node, given: Option<Kind>, cx: &Context<'_>) -> Option<Kind> {
    let names = KINDS.map(Kind::as_str);
    let Some(found) = text(node, "kind", cx).filter(|kind| !kind.is_empty()) else {
        if given.is_none() && node.get("kind").is_none_or(|kind| kind.is_null()) {
            cx.at("kind", || {
                let problem = Problem::error(first_line(node), "`kind` is missing");
                cx.report(problem.allowed("", names));
            });
        }
        return given;
    };
    let kind = KINDS.into_iter().find(|kind| kind.as_str() == found.value);
    cx.at("kind", || match (kind, given) {
        (Some(kind), Some(given)) if kind != given => {
            let message = format!(
                "this is a {}, but a {} is expected here",
                kind.as_str(),
                given.as_str()
            );
            cx.report(Problem::error(found.span, message));
            None
        }
        (Some(kind), _) => Some(kind),
        (None, _) => {
            let name = quote(&found.value);
            cx.report(if OTHER_KINDS.contains(&found.value.as_str()) {
                Problem::error(found.span, format!("{name} is not supported")).allowed("", names)
            } else {
                Problem::error(found.span, format!("unknown kind {name}"))
                    .allowed(&found.value, names)
            });
            None
        }
    })
}

fn version(node: &Node, given: Option<Kind>, cx: &Context<'_>) {
    let Some(found) = text(node, "apiVersion", cx) else {
        if given.is_none()
            && node
                .get("apiVersion")
                .is_none_or(|version| version.is_null())
        {
            cx.at("apiVersion", || {
                let problem = Problem::error(first_line(node), "`apiVersion` is missing");
                cx.report(problem.help(format!("add `apiVersion: {API_VERSION}`")));
            });
        }
        return;
    };
    let unset = found.is_empty() && given.is_some();
    if found.value != API_VERSION && !unset {
        cx.at("apiVersion", || {
            let message = format!("unknown version {}", quote(&found.value));
            cx.report(Problem::error(found.span, message).suggestion(API_VERSION));
        });
    }
}

/// The first key of a mapping, to point at without underlining a whole document.
fn first_line(node: &Node) -> Span {
    match &node.kind {
        NodeKind::Mapping(entries) => entries.first().map_or(node.span, |e| e.key.span),
        NodeKind::Scalar(_) | NodeKind::Sequence(_) => node.span,
    }
}
