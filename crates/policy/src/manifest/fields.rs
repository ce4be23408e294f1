//! Which field of a policy stands at a place of its text: rules know only where they stand.

use std::collections::{HashMap, HashSet};

use super::{
    Source,
    context::Context,
    node::{Node, NodeKind},
    parse,
};

/// The list items that begin at these bytes of a text, as `spec.process.matchPaths[1]`.
pub(crate) fn items(text: &str, wanted: &HashSet<usize>) -> HashMap<usize, String> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return found;
    }
    let source = Source::new("", text);
    let cx = Context::new(&source, false);
    for document in parse::documents(&cx, text) {
        walk(&document.node, wanted, &cx, &mut found);
    }
    found
}

fn walk(
    node: &Node,
    wanted: &HashSet<usize>,
    cx: &Context<'_>,
    found: &mut HashMap<usize, String>,
) {
    match &node.kind {
        NodeKind::Scalar(_) => {}
        NodeKind::Mapping(entries) => {
            for entry in entries {
                cx.at(&entry.key, || walk(&entry.value, wanted, cx, found));
            }
        }
        NodeKind::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                cx.index(index, || {
                    let start = item.span.start as usize;
                    if wanted.contains(&start) {
                        found.entry(start).or_insert_with(|| cx.field());
                    }
                    walk(item, wanted, cx, found);
                });
            }
        }
    }
}
