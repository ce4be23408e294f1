//! Why rules did not decide.

use karmor_abi::{op::Op, verdict::Verdict};

use super::view::{self, action};
use crate::{
    model::{Action, Family, Rule, Target},
    reference::{self, Access},
    select::{Effective, EffectiveRule},
    semantics,
};

/// Says why rules that match did not decide.
pub(super) struct Weigher<'a> {
    pub(super) effective: &'a Effective,
    pub(super) access: Access<'a>,
    pub(super) verdict: Verdict,
}

impl Weigher<'_> {
    /// Whether the rule applied, and why it did not decide.
    pub(super) fn why_not(&self, entry: &EffectiveRule) -> (bool, String) {
        let rule = entry.rule();
        if self.access.op == Op::Move {
            return (
                true,
                "would refuse it as well; the most specific rule is named".to_owned(),
            );
        }
        let written = view::applied(entry);
        if rule.action == Action::Allow && !written.not_enforced.is_empty() {
            return (false, written.why_not_enforced());
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
