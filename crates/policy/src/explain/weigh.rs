//! Why rules did not decide.

use karmor_abi::{op::Op, verdict::Verdict};

use super::view::action;
use crate::{
    model::{Action, Endpoint, Family, Rule, SocketKind, Target},
    reference::{self, Access},
    select::{Effective, EffectiveRule},
    semantics,
};

/// Why a more specific rule about arguments lost.
const STRICTER_ONLY: &str = "arguments only make a decision stricter, and it is already";

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
        if let Some(why) = self.not_from(rule) {
            return (false, why);
        }
        let Some(effect) = self.effect(rule) else {
            return (false, self.no_say(rule));
        };
        // A rule that applied can only have lost to another rule, but for what it says of arguments.
        let Some(winner) = self.effective.rules.get(self.verdict.rule() as usize) else {
            return (true, STRICTER_ONLY.to_owned());
        };
        let winner = winner.rule();
        let aliases = &self.effective.aliases;
        let (own, best) = (
            semantics::rank(rule, aliases),
            semantics::rank(winner, aliases),
        );
        let won = self.verdict.action();
        let why = if own > best {
            STRICTER_ONLY.to_owned()
        } else if own < best {
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

    /// What the rule does to the access, its arguments included.
    fn effect(&self, rule: &Rule) -> Option<Action> {
        let arguments = self.access.arguments;
        let mismatch = arguments
            .filter(|arguments| reference::unlisted(rule, arguments).is_some())
            .and_then(|_| semantics::mismatch(rule));
        mismatch.or_else(|| semantics::effect(rule, self.access.op, self.access.asker))
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
        if let Target::Endpoint(Endpoint {
            direction: Some(_), ..
        }) = rule.target
        {
            return "it is about the other direction".to_owned();
        }
        match self.access.op {
            Op::Map if rule.action != Action::Audit => {
                "Allow says nothing about mapping".to_owned()
            }
            // Only a condition that is met makes an Audit rule silent.
            _ if rule.owner_only => {
                "ownerOnly with Audit reports others, and the owner asks".to_owned()
            }
            _ if rule.no_terminal => {
                "pts: false with Audit reports terminals, and there is none".to_owned()
            }
            _ if rule.arguments.is_some() => match self.access.arguments {
                Some(_) => "allowedArgs with Audit reports other arguments only".to_owned(),
                None => {
                    "allowedArgs with Audit reports other arguments, and none were given".to_owned()
                }
            },
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
            Target::Socket(SocketKind::Protocol(_)) => "protocol".to_owned(),
            Target::Socket(_) => "type of socket".to_owned(),
            Target::Endpoint(endpoint) => format!("endpoint {endpoint}"),
            Target::Domain(name) => format!("domain {name} ({} bytes)", name.len()),
            Target::Capability(_) => "capability".to_owned(),
            Target::Syscall(_) => "system call".to_owned(),
            Target::SyscallAt { place, .. } => format!("system call at {place}"),
            Target::Preset(_) => "preset".to_owned(),
        };
        if rule.sources.is_empty() {
            what
        } else {
            what + " with fromSource"
        }
    }
}
