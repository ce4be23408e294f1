//! Inheritance: what a rule does not say is said by its section, or else by its spec.

use std::sync::Arc;

use crate::{
    diagnostic::{nearest, quote},
    manifest::{
        Spanned,
        context::{Context, Problem},
        types::Attributes,
    },
    model::{Action, Meta},
};

const ACTIONS: [(&str, Action); 3] = [
    ("Allow", Action::Allow),
    ("Audit", Action::Audit),
    ("Block", Action::Block),
];

/// What holds at a level, the levels above it included.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) action: Action,
    pub(super) meta: Arc<Meta>,
}

impl Level {
    /// The level of a spec. Here, and only here, an action may be in lower case.
    pub(super) fn spec(attributes: Attributes<'_>, cx: &Context<'_>) -> Self {
        let top = Self {
            action: Action::Block,
            meta: Arc::default(),
        };
        top.resolve(attributes, true, cx)
    }

    /// The level of a section or rule below this one.
    pub(super) fn below(&self, attributes: Attributes<'_>, cx: &Context<'_>) -> Self {
        self.resolve(attributes, false, cx)
    }

    fn resolve(&self, attributes: Attributes<'_>, lower_case: bool, cx: &Context<'_>) -> Self {
        let severity = attributes
            .severity
            .and_then(|severity| check_severity(severity, cx));
        let tags = attributes.tags.filter(|tags| !tags.is_empty());
        let message = attributes.message.filter(|message| !message.is_empty());
        let own = attributes
            .action
            .and_then(|a| cx.at("action", || action(a, lower_case, cx)));
        let mut level = Self {
            action: own.unwrap_or(self.action),
            meta: Arc::clone(&self.meta),
        };
        if severity.is_some() || tags.is_some() || message.is_some() {
            let above = &self.meta;
            level.meta = Arc::new(Meta {
                severity: severity.unwrap_or(above.severity),
                tags: tags.map_or_else(
                    || above.tags.clone(),
                    |tags| tags.iter().map(|(_, tag)| tag.value.clone()).collect(),
                ),
                message: message.map_or_else(|| above.message.clone(), |m| m.value.clone()),
            });
        }
        level
    }
}

fn check_severity(severity: &Spanned<i32>, cx: &Context<'_>) -> Option<u8> {
    match u8::try_from(severity.value) {
        Ok(value @ 1..=10) => return Some(value),
        // Programs write 0 for unset.
        Ok(0) if cx.by_program() => return None,
        _ => {}
    }
    cx.at("severity", || {
        let message = format!("the severity {} is not between 1 and 10", severity.value);
        let problem = Problem::error(severity.span, message);
        let near = if severity.value > 10 { "10" } else { "1" };
        cx.report(if severity.value == 0 {
            problem.help("leave it out for a policy without severity")
        } else {
            problem.suggestion(near)
        });
    });
    None
}

/// Reads an action; empty is unset in what programs write.
pub(super) fn action(
    found: &Spanned<String>,
    lower_case: bool,
    cx: &Context<'_>,
) -> Option<Action> {
    let exact = ACTIONS.iter().find(|(name, _)| {
        *name == found.value || (lower_case && name.to_lowercase() == found.value)
    });
    if let Some((_, action)) = exact {
        return Some(*action);
    }
    if found.is_empty() && cx.by_program() {
        return None;
    }
    let names = ACTIONS.map(|(name, _)| name);
    let problem = Problem::error(found.span, format!("unknown action {}", quote(found)));
    let problem = problem.allowed(found, names);
    // Words of other tools.
    let meant = match found.to_lowercase().as_str() {
        "deny" | "drop" | "reject" | "forbid" | "enforce" => Some("Block"),
        "permit" | "accept" => Some("Allow"),
        "log" | "warn" | "alert" | "monitor" => Some("Audit"),
        _ => nearest(found, names),
    };
    cx.report(match meant {
        Some(meant) => problem.suggestion(meant),
        None => problem,
    });
    None
}
