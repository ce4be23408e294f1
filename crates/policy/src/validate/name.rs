//! Names of Kubernetes objects.

use crate::{
    diagnostic::quote,
    manifest::{
        Spanned,
        context::{Context, Problem},
    },
    select::CONTAINER_NAMESPACE,
};

/// Checks a DNS-1123 subdomain, which `metadata.name` must be.
pub(super) fn subdomain(name: &Spanned<String>, cx: &Context<'_>) {
    let right = name.len() <= 253 && name.split('.').all(is_label);
    if !right {
        report(name, ", hyphens and dots", 253, cx);
    }
}

/// Checks a namespace: a DNS-1123 label, or the one of containers outside Kubernetes.
pub(super) fn namespace(name: &Spanned<String>, cx: &Context<'_>) {
    if name.value != CONTAINER_NAMESPACE && (name.len() > 63 || !is_label(name)) {
        report(name, " and hyphens", 63, cx);
    }
}

fn is_label(label: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(label.bytes().next())
        && edge(label.bytes().next_back())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn report(name: &Spanned<String>, marks: &str, longest: usize, cx: &Context<'_>) {
    if name.is_empty() {
        cx.report(Problem::error(name.span, "the name is empty"));
        return;
    }
    let problem = Problem::error(name.span, format!("{} is not a valid name", quote(name))).help(format!(
        "a name is at most {longest} lower-case letters, digits{marks}, and starts and ends with a letter or digit"
    ));
    let better = name.trim().to_lowercase().replace(['_', ' ', '/'], "-");
    cx.report(
        if better.len() <= longest && better.split('.').all(is_label) {
            problem.suggestion(better)
        } else {
            problem
        },
    );
}
