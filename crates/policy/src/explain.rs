//! Why an access is decided the way it is: the verdict, the rule that gave it, and every rule that
//! is about the same object and did not.

mod text;
mod view;
mod weigh;

use std::{collections::BTreeMap, sync::Arc};

use karmor_abi::{
    op::{Object, Op},
    verdict::{Reason, Verdict},
};
use serde::Serialize;

pub use self::view::{PartView, RuleView};
use self::weigh::Weigher;
use crate::{
    alias::Aliases,
    model::{Action, Kind, Policy, Posture, Rule},
    reference::{self, Access, AccessObject},
    select::{Effective, WorkloadKind},
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
    /// Whose process it is: no process is subject to the policies of containers and of hosts.
    pub workload: WorkloadKind,
    /// Default posture of files and processes.
    pub posture: Posture,
    /// Links by which the names in rules are extended.
    pub aliases: Aliases,
    /// The workload's root has these links, so that the kernel sees other names than were asked
    /// for.
    pub has_links: bool,
}

/// The answer. Serialises as what `-o json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `exec`, `map`, `read`, `write` or `move`.
    pub operation: &'static str,
    /// `container` or `host`.
    pub workload: &'static str,
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
    /// One of these names runs through a link that the root is taken to have.
    pub links_assumed: bool,
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
    /// What is decided about the file being opened, which an exec does first; absent when no rule
    /// is about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opening: Option<Box<Explanation>>,
    /// Policies that are about another kind of workload, by kind: how many.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<&'static str, usize>,
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
    /// The exec has to open the file, and that is decided more strictly.
    Opening,
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

/// Explains how policies that all apply to a workload decide an access. Policies of kinds that are
/// not about such a workload are left out.
#[must_use]
pub fn explain(policies: &[Policy], query: &Query) -> Explanation {
    let is_about =
        |policy: &&Policy| (policy.kind == Kind::Host) == (query.workload == WorkloadKind::Host);
    let (about, other): (Vec<_>, Vec<_>) = policies.iter().partition(is_about);
    let policies: Vec<_> = about.into_iter().cloned().map(Arc::new).collect();
    let effective = Effective::new(
        policies.iter().map(Arc::clone),
        query.posture,
        query.aliases.clone(),
    );
    let (mut explanation, verdict) = answer(&effective, &policies, query);
    if query.op == Op::Exec {
        let opening = Query {
            op: Op::Read,
            parent: None,
            ..query.clone()
        };
        explanation.opens(answer(&effective, &policies, &opening), verdict);
    }
    for policy in other {
        *explanation
            .left_out
            .entry(policy.kind.as_str())
            .or_default() += 1;
    }
    explanation
}

/// Explains one operation.
fn answer(
    effective: &Effective,
    policies: &[Arc<Policy>],
    query: &Query,
) -> (Explanation, Verdict) {
    let real = |name: &String| {
        if query.has_links {
            query.aliases.resolve(name)
        } else {
            name.clone()
        }
    };
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
    let verdict = reference::decide(effective, &access);
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
    let view = |index: usize| view::applied(&effective.rules[index]);
    let weigher = Weigher {
        effective,
        access,
        verdict,
    };
    let matches = |rule: &Rule| {
        concerns(query.op, rule) && reference::rule_matches(effective, rule, access.object)
    };
    let others = effective
        .rules
        .iter()
        .enumerate()
        .filter(|&(index, entry)| winner != u32::try_from(index).ok() && matches(entry.rule()))
        .map(|(index, entry)| {
            let (beaten, why) = weigher.why_not(entry);
            Other {
                rule: view(index),
                beaten,
                why,
            }
        });
    let left_out = policies
        .iter()
        .flat_map(|policy| view::left_out(policy))
        .filter(|(rule, _)| matches(rule))
        .map(|(_, view)| Other {
            beaten: false,
            why: view.why_not_enforced(),
            rule: view,
        });
    let others = others.chain(left_out).collect();
    let explanation = Explanation {
        operation: view::operation(query.op),
        workload: match query.workload {
            WorkloadKind::Container => "container",
            WorkloadKind::Host => "host",
        },
        links_assumed: object != query.object || source != query.source || parent != query.parent,
        real_object: (object != query.object).then_some(object.clone()),
        object: query.object.clone(),
        source: query.source.clone(),
        parent: query.parent.clone(),
        is_owner: access.owner,
        action: view::action(verdict.action()),
        decided_by,
        rule: winner.map(|index| view(index as usize)),
        whitelisted_by: whitelisted_by.map(view),
        others,
        opening: None,
        left_out: BTreeMap::new(),
    };
    (explanation, verdict)
}

impl Explanation {
    /// Adds what is decided about opening the file that is executed. The stricter answer counts.
    fn opens(&mut self, opening: (Self, Verdict), verdict: Verdict) {
        let (opening, opened) = opening;
        if opening.decided_by == DecidedBy::Nothing && opening.others.is_empty() {
            return;
        }
        if opened.action() > verdict.action() {
            if let Some(rule) = self.rule.take() {
                let why = format!("{} loses to {} at opening", self.action, opening.action);
                let beaten = Other {
                    rule,
                    beaten: true,
                    why,
                };
                self.others.insert(0, beaten);
            }
            self.whitelisted_by = None;
            self.decided_by = DecidedBy::Opening;
            self.action = opening.action;
        }
        self.opening = Some(Box::new(opening));
    }
}

/// Whether a rule of this family can have a say.
fn concerns(op: Op, rule: &Rule) -> bool {
    match semantics::family(op) {
        Some(family) => rule.family == family,
        None => semantics::pins_name(rule),
    }
}

fn object_class(text: &str) -> Option<Object> {
    Object::ALL
        .into_iter()
        .find(|&object| view::object_name(object) == text)
}
