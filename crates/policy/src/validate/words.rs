//! Rules that are not about paths: network, capabilities, presets.

use std::sync::Arc;

use karmor_abi::op::Op;

use super::{
    domain, endpoint,
    level::{self, Level},
    rules::{Rules, sources},
};
use crate::{
    diagnostic::quote,
    manifest::{
        Span, Spanned,
        context::{Context, Problem},
        types::{Attributed, CapabilitiesSection, FromSource, List, NetworkSection, Preset},
    },
    model::{Action, Family, Kind, Rule, Source, Target},
    names::{self, CAPABILITIES, PRESETS, PROTOCOLS},
};

pub(super) fn network(
    section: &Spanned<NetworkSection>,
    above: &Level,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    let level = above.below(section.attributes(), cx);
    let before = rules.written();
    cx.at("matchProtocols", || {
        each(section.match_protocols.as_ref(), cx, |rule| {
            let level = level.below(rule.attributes(), cx);
            let given = Given::new(
                Family::Network,
                rule.from_source.as_ref(),
                rule.pts.as_ref(),
                &level,
                rule.span,
                cx,
            );
            expand("protocol", &rule.protocol, rules, cx, |name, rules| {
                let name = name.to_ascii_lowercase();
                let kind = known("protocol", &name, &PROTOCOLS, &rule.protocol, cx);
                given.add(kind.map(Target::Socket), rules, cx);
            })
        });
    });
    cx.at("matchEndpoints", || {
        endpoint::endpoints(section.match_endpoints.as_ref(), &level, rules, cx);
    });
    cx.at("matchDNSQueries", || {
        each(section.match_dns_queries.as_ref(), cx, |rule| {
            let level = level.below(rule.attributes(), cx);
            let sources = rule.from_source.as_ref();
            let given = Given::new(Family::Dns, sources, None, &level, rule.span, cx);
            expand("domain", &rule.domain, rules, cx, |name, rules| {
                given.add(
                    domain::domain(name, &rule.domain, cx).map(Target::Domain),
                    rules,
                    cx,
                );
            })
        });
    });
    rules.expect_rules(
        before,
        section.span,
        "matchProtocols, matchEndpoints and matchDNSQueries",
    );
}

pub(super) fn capabilities(
    section: &Spanned<CapabilitiesSection>,
    above: &Level,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    let level = above.below(section.attributes(), cx);
    let before = rules.written();
    cx.at("matchCapabilities", || {
        each(section.match_capabilities.as_ref(), cx, |rule| {
            let level = level.below(rule.attributes(), cx);
            let sources = rule.from_source.as_ref();
            let given = Given::new(Family::Capabilities, sources, None, &level, rule.span, cx);
            expand("capability", &rule.capability, rules, cx, |name, rules| {
                given.add(capability(name, &rule.capability, cx), rules, cx);
            })
        });
    });
    rules.expect_rules(before, section.span, "matchCapabilities");
}

/// Presets: each says itself whether it blocks; the rest is the policy's.
pub(super) fn presets(
    presets: &List<Preset>,
    kind: Kind,
    above: &Level,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    each(Some(presets), cx, |preset| {
        let op = cx.at("name", || {
            known("preset", &preset.name, &PRESETS, &preset.name, cx)
        });
        let action = preset
            .action
            .as_ref()
            .and_then(|written| cx.at("action", || preset_action(written, cx)));
        let level = Level {
            action: action.unwrap_or(Action::Block),
            ..above.clone()
        };
        let room = rules.count(1, preset.span);
        if room {
            let unfit = op.filter(|_| kind == Kind::Host).and_then(not_of_hosts);
            if let Some(why) = unfit {
                let what = format!("{} is", quote(&preset.name));
                rules.not_enforced(preset.span, &what, why);
            } else {
                let given = Given::new(Family::Presets, None, None, &level, preset.span, cx);
                given.add(op.map(Target::Preset), rules, cx);
            }
        }
        room
    });
}

/// Why a preset is not enforced on hosts.
const fn not_of_hosts(op: Op) -> Option<&'static str> {
    match op {
        Op::ExecSession => Some("nobody comes into a host as into a container"),
        Op::Drift => Some("a host has no image to drift from"),
        Op::Bpf => Some("it would keep the enforcer from its own work"),
        _ => None,
    }
}

fn preset_action(written: &Spanned<String>, cx: &Context<'_>) -> Option<Action> {
    let action = level::action(written, false, cx)?;
    if action == Action::Allow {
        let problem = Problem::warning(
            written.span,
            "a preset cannot allow: Allow blocks like Block",
        );
        cx.report(problem.help("write Block or Audit, or remove the preset"));
    }
    (action == Action::Audit).then_some(action)
}

/// What the rules that a list item stands for have in common.
pub(super) struct Given<'l> {
    family: Family,
    sources: Option<Vec<Source>>,
    no_terminal: bool,
    level: &'l Level,
    span: Span,
}

impl<'l> Given<'l> {
    pub(super) fn new(
        family: Family,
        from_source: Option<&List<FromSource>>,
        pts: Option<&Spanned<bool>>,
        level: &'l Level,
        span: Span,
        cx: &Context<'_>,
    ) -> Self {
        Self {
            family,
            sources: sources(from_source, cx),
            no_terminal: pts.is_some_and(|pts| !pts.value),
            level,
            span,
        }
    }

    pub(super) fn add(&self, target: Option<Target>, rules: &mut Rules<'_, '_>, cx: &Context<'_>) {
        let (Some(target), Some(sources)) = (target, &self.sources) else {
            return;
        };
        let rule = Rule {
            family: self.family,
            target,
            sources: sources.clone(),
            read_only: false,
            owner_only: false,
            no_terminal: self.no_terminal,
            spares: false,
            arguments: None,
            action: self.level.action,
            meta: Arc::clone(&self.level.meta),
            location: cx.location(self.span),
        };
        rules.push(rule, self.span);
    }
}

/// Runs `f` for each item until it says `false`.
pub(super) fn each<T>(
    list: Option<&List<T>>,
    cx: &Context<'_>,
    mut f: impl FnMut(&Spanned<T>) -> bool,
) {
    for (index, item) in list.into_iter().flat_map(|list| list.iter()) {
        if !cx.index(index, || f(item)) {
            return;
        }
    }
}

/// Takes a comma list apart: each part is a rule of its own.
fn expand<'r, 'c, 't>(
    field: &'static str,
    list: &Spanned<String>,
    rules: &'r mut Rules<'c, 't>,
    cx: &Context<'_>,
    mut f: impl FnMut(&str, &mut Rules<'c, 't>),
) -> bool {
    if !rules.count(list.split(',').count(), list.span) {
        return false;
    }
    cx.at(field, || {
        for part in list.split(',').map(str::trim) {
            if part.is_empty() {
                let message = if list.trim().is_empty() {
                    "is empty"
                } else {
                    "has an empty part between commas"
                };
                cx.report(Problem::error(list.span, format!("`{field}` {message}")));
            } else {
                f(part, rules);
            }
        }
    });
    true
}

/// What a name stands for; an unknown one is reported with the known.
pub(super) fn known<T: Copy>(
    what: &str,
    name: &str,
    table: &[(&'static str, T)],
    found: &Spanned<String>,
    cx: &Context<'_>,
) -> Option<T> {
    let entry = table.iter().find(|(known, _)| *known == name);
    if entry.is_none() {
        let problem = Problem::error(found.span, format!("unknown {what} {}", quote(name)));
        cx.report(problem.allowed(name, table.iter().map(|&(known, _)| known)));
    }
    entry.map(|&(_, entry)| entry)
}

fn capability(name: &str, found: &Spanned<String>, cx: &Context<'_>) -> Option<Target> {
    let number = names::capability_named(name);
    if number.is_none() {
        let lower = name.to_ascii_lowercase();
        let bare = lower.strip_prefix("cap_").unwrap_or(&lower);
        let message = format!("unknown capability {}", quote(name));
        cx.report(Problem::error(found.span, message).allowed(bare, CAPABILITIES));
    }
    number.map(Target::Capability)
}
