//! Rules as they are shown: always as they were written.

use karmor_abi::op::{Object, Op};
use serde::Serialize;

use crate::{
    model::{Action, Family, NotEnforced, Policy, Rule, Target},
    select::EffectiveRule,
};

/// A rule, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// `metadata.name` of its policy.
    pub policy: String,
    /// `metadata.namespace` of its policy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// File it stands in.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// `process` or `file`.
    pub family: &'static str,
    /// What it names, such as `directory /etc/ (recursive)`.
    pub target: String,
    /// Executables it is limited to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_source: Vec<String>,
    /// `readOnly`, `ownerOnly`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modifiers: Vec<&'static str>,
    /// Modifiers that are not enforced, and what becomes of the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<PartView>,
    /// Action as written.
    pub action: &'static str,
}

/// A modifier that is not enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartView {
    /// `pts` or `allowedArgs`.
    pub field: String,
    /// What becomes of the rule, as a fragment.
    pub why: String,
}

impl RuleView {
    /// Which modifiers are not enforced, and what becomes of the rule, as a sentence.
    pub(super) fn why_not_enforced(&self) -> String {
        let fields: Vec<_> = self.not_enforced.iter().map(|p| p.field.as_str()).collect();
        let is = if fields.len() > 1 { "are" } else { "is" };
        let why = self.not_enforced.first().map_or("", |part| &part.why);
        let join = if why.starts_with("so ") { "," } else { ";" };
        let fields = fields.join(" and ");
        format!("{fields} {is} not enforced in this version{join} {why}")
    }
}

/// A rule in force.
pub(super) fn applied(entry: &EffectiveRule) -> RuleView {
    let parts = parts(&entry.policy, |narrowed| narrowed == Some(entry.index));
    // What is in force instead of a rule is nothing that anybody wrote.
    let written = parts.first().and_then(|part| part.rule.as_ref());
    let rule = written.map_or(entry.rule(), |narrowed| &narrowed.written);
    view(&entry.policy, rule, &parts)
}

/// The rules of a policy that are left out for a modifier that is not enforced.
pub(super) fn left_out(policy: &Policy) -> impl Iterator<Item = (&Rule, RuleView)> {
    let parts = parts(policy, |applied| applied.is_none());
    let mut views: Vec<(&Rule, RuleView)> = Vec::new();
    // The modifiers of one rule stand next to each other.
    for same in parts.chunk_by(|a, b| a.rule == b.rule) {
        let rule = same.first().and_then(|part| part.rule.as_ref());
        views.extend(rule.map(|rule| (&rule.written, view(policy, &rule.written, same))));
    }
    views.into_iter()
}

/// The modifiers that are not enforced of the rules that are applied so.
fn parts(policy: &Policy, is_applied: impl Fn(Option<usize>) -> bool) -> Vec<&NotEnforced> {
    let parts = policy.not_enforced.iter();
    parts
        .filter(|part| {
            part.rule
                .as_ref()
                .is_some_and(|rule| is_applied(rule.applied))
        })
        .collect()
}

fn view(policy: &Policy, rule: &Rule, parts: &[&NotEnforced]) -> RuleView {
    let modifiers = [(rule.read_only, "readOnly"), (rule.owner_only, "ownerOnly")];
    let parts = parts.iter().map(|part| PartView {
        field: part.field.rsplit('.').next().unwrap_or_default().to_owned(),
        why: part.why.clone(),
    });
    RuleView {
        policy: policy.name.clone(),
        namespace: policy.namespace.clone(),
        file: rule.location.file.to_string(),
        line: rule.location.line,
        column: rule.location.column,
        family: match rule.family {
            Family::Process => "process",
            Family::File => "file",
        },
        target: match &rule.target {
            Target::Path(path) => format!("path {path}"),
            Target::ExecName(name) => format!("execname {name}"),
            Target::Directory {
                path,
                recursive: true,
            } => format!("directory {path} (recursive)"),
            Target::Directory {
                path,
                recursive: false,
            } => format!("directory {path}"),
            Target::Glob(pattern) => format!("pattern {pattern}"),
            Target::Object(object) => format!("pattern {}", object_name(*object)),
        },
        from_source: rule.sources.clone(),
        modifiers: modifiers.into_iter().filter(|m| m.0).map(|m| m.1).collect(),
        not_enforced: parts.collect(),
        action: action(rule.action),
    }
}

pub(super) const fn operation(op: Op) -> &'static str {
    match op {
        Op::Exec => "exec",
        Op::Map => "map",
        Op::Read => "read",
        Op::Write => "write",
        Op::Move => "move",
    }
}

pub(super) const fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Audit => "Audit",
        Action::Block => "Block",
    }
}

pub(super) const fn object_name(object: Object) -> &'static str {
    match object {
        Object::Anonymous => "@anonymous",
        Object::Unreachable => "@unreachable",
        Object::TooLong => "@too-long",
    }
}
