//! Why an access is decided the way it is: the verdict, the rule that gave it, and every rule that
//! is about the same object and did not.

mod text;

use std::sync::Arc;

use karmor_abi::{
    op::{Object, Op},
    verdict::{Reason, Verdict},
};
use serde::Serialize;

use crate::{
    alias::Aliases,
    model::{Action, Family, Policy, Posture, Rule, Target},
    reference::{self, Access, AccessObject},
    select::Effective,
    semantics,
};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Operation.
    pub op: Op,
    /// Absolute path of the object, or `@anonymous`, `@unreachable`, `@too-long`.
    pub object: String,
    /// Path of the image that acts, when it matters.
    pub source: Option<String>,
    /// Path of the image that started it, when it matters.
    pub parent: Option<String>,
    /// The acting user.
    pub uid: u32,
    /// The object's owner.
    pub owner: u32,
    /// Default posture of files and processes.
    pub posture: Posture,
    /// Links in the workload's root.
    pub aliases: Aliases,
}

/// The answer. Serialises as what `-o json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `exec`, `map`, `read`, `write` or `move`.
    pub operation: &'static str,
    /// The object, as asked.
    pub object: String,
    /// The object's name as the kernel sees it, when links make it another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_object: Option<String>,
    /// Path of the image that acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Path of the image that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The acting user owns the object.
    pub is_owner: bool,
    /// `Allow`, `Audit` or `Block`.
    pub action: &'static str,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// The rule that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleView>,
    /// The Allow rule that made the posture decide, if that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whitelisted_by: Option<RuleView>,
    /// Other rules that match the object, in the order of the policies.
    pub others: Vec<Other>,
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DecidedBy {
    /// No rule has a say and the family is not restricted.
    Nothing,
    /// A rule.
    Rule,
    /// The default posture.
    Posture,
    /// The object has no decidable path, and rules restrict its family.
    Object,
    /// The object, or something in it, would shed a rule with its name.
    Move,
}

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
    /// Action as written.
    pub action: &'static str,
}

/// A rule that matches the object and did not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// The rule.
    pub rule: RuleView,
    /// It applied and lost; otherwise it did not apply.
    pub beaten: bool,
    /// Why.
    pub why: String,
}

/// Explains how policies that all apply to a workload decide an access.
#[must_use]
pub fn explain(policies: &[Policy], query: &Query) -> Explanation {
    let policies = policies.iter().cloned().map(Arc::new);
    let effective = Effective::new(policies, query.posture, query.aliases.clone());
    let real = |name: &String| query.aliases.resolve(name);
    let class = object_class(&query.object);
    let object = real(&query.object);
    let (source, parent) = (
        query.source.as_ref().map(real),
        query.parent.as_ref().map(real),
    );
    let access = Access {
        op: query.op,
        object: class.map_or(AccessObject::Path(object.as_bytes()), AccessObject::Class),
        source: source.as_deref().map(str::as_bytes),
        parent: parent.as_deref().map(str::as_bytes),
        owner: query.uid == query.owner,
    };
    let verdict = reference::decide(&effective, &access);
    let decided_by = match verdict.reason() {
        Reason::None | Reason::Fault => DecidedBy::Nothing,
        Reason::Rule => DecidedBy::Rule,
        Reason::Posture => DecidedBy::Posture,
        Reason::Object => DecidedBy::Object,
        Reason::Move => DecidedBy::Move,
    };
    let winner = matches!(decided_by, DecidedBy::Rule | DecidedBy::Move).then(|| verdict.rule());
    let whitelisted_by = (decided_by == DecidedBy::Posture)
        .then(|| {
            let family = semantics::family(query.op);
            let allows = |rule: &Rule| Some(rule.family) == family && rule.action == Action::Allow;
            effective.rules().position(allows)
        })
        .flatten();
    let view = |index: usize| view(&effective, index);
    let weigher = Weigher {
        effective: &effective,
        access,
        verdict,
    };
    let others = effective
        .rules()
        .enumerate()
        .filter(|&(index, rule)| {
            winner != u32::try_from(index).ok()
                && concerns(query.op, rule)
                && reference::rule_matches(&effective, rule, access.object)
        })
        .map(|(index, rule)| {
            let (beaten, why) = weigher.why_not(rule);
            Other {
                rule: view(index),
                beaten,
                why,
            }
        })
        .collect();
    Explanation {
        operation: operation(query.op),
        real_object: (object != query.object).then_some(object.clone()),
        object: query.object.clone(),
        source: query.source.clone(),
        parent: query.parent.clone(),
        is_owner: access.owner,
        action: action(verdict.action()),
        decided_by,
        rule: winner.map(|index| view(index as usize)),
        whitelisted_by: whitelisted_by.map(view),
        others,
    }
}

/// Says why rules that match did not decide.
struct Weigher<'a> {
    effective: &'a Effective,
    access: Access<'a>,
    verdict: Verdict,
}

impl Weigher<'_> {
    /// Whether the rule applied, and why it did not decide.
    fn why_not(&self, rule: &Rule) -> (bool, String) {
        if self.access.op == Op::Move {
            return (
                true,
                "would refuse it as well; the most specific rule is named".to_owned(),
            );
        }
        if let Some(why) = self.not_from(rule) {
            return (false, why);
        }
        let Some(effect) = semantics::effect(rule, self.access.op, self.access.owner) else {
            return (false, self.no_say(rule));
        };
        // A rule that applied can only have lost to another rule.
        let winner = self.effective.rules[self.verdict.rule() as usize].rule();
        let aliases = &self.effective.aliases;
        let (own, best) = (
            semantics::rank(rule, aliases),
            semantics::rank(winner, aliases),
        );
        let won = self.verdict.action();
        let why = if own < best {
            format!("{} loses to {}", self.weight(rule), self.weight(winner))
        } else if effect < won {
            format!(
                "{} loses to {} at the same level",
                action(effect),
                action(won)
            )
        } else {
            "says the same at the same level".to_owned()
        };
        (true, why)
    }

    /// Why the rule is not about the images that act.
    fn not_from(&self, rule: &Rule) -> Option<String> {
        let with_parent = semantics::family(self.access.op) == Some(Family::Process);
        let images = [
            Some(self.access.source),
            with_parent.then_some(self.access.parent),
        ];
        let mut images = images.into_iter().flatten();
        if images.any(|image| reference::source_listed(self.effective, rule, image)) {
            return None;
        }
        let named: Vec<_> = [
            self.access.source,
            self.access.parent.filter(|_| with_parent),
        ]
        .into_iter()
        .flatten()
        .map(String::from_utf8_lossy)
        .collect();
        Some(if named.is_empty() {
            "fromSource limits it, and no source was given".to_owned()
        } else {
            format!("fromSource does not include {}", named.join(" or "))
        })
    }

    /// Why the rule has no effect on the operation.
    fn no_say(&self, rule: &Rule) -> String {
        let owner = rule.owner_only && self.access.owner && rule.action == Action::Audit;
        match self.access.op {
            _ if owner => "ownerOnly with Audit reports others, and the owner asks".to_owned(),
            Op::Map => "Allow says nothing about mapping".to_owned(),
            _ => "readOnly with Audit reports writes only".to_owned(),
        }
    }

    /// How specific a rule is, in words.
    fn weight(&self, rule: &Rule) -> String {
        let what = match &rule.target {
            Target::Path(_) => "path".to_owned(),
            Target::ExecName(_) => "execname".to_owned(),
            Target::Directory { path, .. } => {
                let length = self.effective.aliases.resolve(path).len();
                format!("directory {path} ({length} bytes)")
            }
            Target::Glob(_) => "pattern".to_owned(),
            Target::Object(_) => "object class".to_owned(),
        };
        if rule.sources.is_empty() {
            what
        } else {
            what + " with fromSource"
        }
    }
}

/// Whether a rule of this family can have a say.
fn concerns(op: Op, rule: &Rule) -> bool {
    match semantics::family(op) {
        Some(family) => rule.family == family,
        None => semantics::pins_name(rule),
    }
}

fn view(effective: &Effective, index: usize) -> RuleView {
    let entry = &effective.rules[index];
    let rule = entry.rule();
    let modifiers = [(rule.read_only, "readOnly"), (rule.owner_only, "ownerOnly")];
    RuleView {
        policy: entry.policy.name.clone(),
        namespace: entry.policy.namespace.clone(),
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
        action: action(rule.action),
    }
}

const fn operation(op: Op) -> &'static str {
    match op {
        Op::Exec => "exec",
        Op::Map => "map",
        Op::Read => "read",
        Op::Write => "write",
        Op::Move => "move",
    }
}

const fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Audit => "Audit",
        Action::Block => "Block",
    }
}

const fn object_name(object: Object) -> &'static str {
    match object {
        Object::Anonymous => "@anonymous",
        Object::Unreachable => "@unreachable",
        Object::TooLong => "@too-long",
    }
}

fn object_class(text: &str) -> Option<Object> {
    Object::ALL
        .into_iter()
        .find(|&object| object_name(object) == text)
}
