//! Rules as they are shown: always as they were written.

use karmor_abi::op::Op;
use serde::Serialize;

use crate::{
    model::{Action, Policy, Rule, Target},
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
    /// `process`, `file`, `network`, `capabilities` or `presets`.
    pub family: &'static str,
    /// What it names, such as `directory /etc/ (recursive)`.
    pub target: String,
    /// Executables it is limited to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_source: Vec<String>,
    /// `readOnly`, `ownerOnly`, `pts: false`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modifiers: Vec<&'static str>,
    /// The only arguments that it has nothing against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_args: Option<Vec<String>>,
    /// Action as written.
    pub action: &'static str,
}

/// A rule in force.
pub(super) fn applied(entry: &EffectiveRule) -> RuleView {
    view(&entry.policy, entry.rule())
}

fn view(policy: &Policy, rule: &Rule) -> RuleView {
    let modifiers = [
        (rule.read_only, "readOnly"),
        (rule.owner_only, "ownerOnly"),
        (rule.no_terminal, "pts: false"),
    ];
    RuleView {
        policy: policy.name.clone(),
        namespace: policy.namespace.clone(),
        file: rule.location.file.to_string(),
        line: rule.location.line,
        column: rule.location.column,
        family: rule.family.section(),
        target: target(&rule.target),
        from_source: rule.sources.iter().map(ToString::to_string).collect(),
        modifiers: modifiers.into_iter().filter(|m| m.0).map(|m| m.1).collect(),
        allowed_args: rule.arguments.as_ref().map(|list| list.to_vec()),
        action: action(rule.action),
    }
}

fn target(target: &Target) -> String {
    let what = match target {
        Target::Path(_) => "path",
        Target::ExecName(_) => "execname",
        Target::Directory { .. } => "directory",
        Target::Glob(_) | Target::Object(_) => "pattern",
        Target::Socket(_) => "protocol",
        Target::Endpoint(_) => "endpoint",
        Target::Domain(_) => "domain",
        Target::Capability(_) => "capability",
        Target::Syscall(_) | Target::SyscallAt { .. } => "system call",
        Target::Preset(_) => "preset",
    };
    let is_recursive = |place: &Target| {
        matches!(
            place,
            Target::Directory {
                recursive: true,
                ..
            }
        )
    };
    let below = match target {
        Target::Directory {
            recursive: true, ..
        } => " (recursive)",
        Target::SyscallAt { place, .. } if is_recursive(place) => " (recursive)",
        _ => "",
    };
    format!("{what} {target}{below}")
}

pub(super) const fn operation(op: Op) -> &'static str {
    match op {
        Op::Exec => "exec",
        Op::Map => "map",
        Op::Read => "read",
        Op::Write => "write",
        Op::Move => "move",
        Op::Socket => "socket",
        Op::Egress => "connect",
        Op::Ingress => "accept",
        Op::Query => "query",
        Op::Capable => "capability",
        Op::Syscall | Op::SyscallAt => "syscall",
        _ => "preset",
    }
}

pub(super) const fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Audit => "Audit",
        Action::Block => "Block",
    }
}
