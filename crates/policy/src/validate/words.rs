//! Rules that are not about paths: network, capabilities, presets.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

use ipnet::IpNet;
use karmor_abi::op::Op;

use super::{
    level::{self, Level},
    rules::{Rules, sources},
};
use crate::{
    diagnostic::quote,
    manifest::{
        Port, Span, Spanned,
        context::{Context, Problem},
        types::{
            Attributed, CapabilitiesSection, Endpoint as WrittenEndpoint, FromSource, List,
            NetworkSection, Preset,
        },
    },
    model::{Action, Direction, Endpoint, Family, Kind, Rule, Source, Target},
    names::{self, CAPABILITIES, IP_PROTOCOLS, PRESETS, PROTOCOLS},
};

/// Most ports and ranges of one rule.
const PORTS: usize = 64;

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
        each(section.match_endpoints.as_ref(), cx, |rule| {
            let level = level.below(rule.attributes(), cx);
            let given = Given::new(
                Family::Endpoints,
                rule.from_source.as_ref(),
                rule.pts.as_ref(),
                &level,
                rule.span,
                cx,
            );
            let room = rules.count(1, rule.span);
            if room && let Some(endpoint) = endpoint(rule, cx) {
                let never = never_decided(&endpoint);
                if never {
                    not_decided(rule, level.action, rules, cx);
                }
                // An Allow rule makes a whitelist all the same.
                if !never || level.action == Action::Allow {
                    given.add(Some(Target::Endpoint(endpoint)), rules, cx);
                }
            }
            room
        });
    });
    cx.at("matchDNSQueries", || {
        each(section.match_dns_queries.as_ref(), cx, |rule| {
            let level = level.below(rule.attributes(), cx);
            let sources = rule.from_source.as_ref();
            let given = Given::new(Family::Dns, sources, None, &level, rule.span, cx);
            expand("domain", &rule.domain, rules, cx, |name, rules| {
                given.add(
                    domain(name, &rule.domain, cx).map(Target::Domain),
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
struct Given<'l> {
    family: Family,
    sources: Option<Vec<Source>>,
    no_terminal: bool,
    level: &'l Level,
    span: Span,
}

impl<'l> Given<'l> {
    fn new(
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

    fn add(&self, target: Option<Target>, rules: &mut Rules<'_, '_>, cx: &Context<'_>) {
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
fn known<T: Copy>(
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

/// A domain as it is compared: in lower case, without dots at its ends.
fn domain(name: &str, found: &Spanned<String>, cx: &Context<'_>) -> Option<String> {
    let bare = name.trim_matches('.');
    let right = !bare.is_empty()
        && bare.len() <= 253
        && bare.split('.').all(|label| {
            let chars = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !label.is_empty() && label.len() <= 63 && label.bytes().all(chars)
        });
    if right {
        if bare.parse::<IpAddr>().is_ok() {
            let message = format!(
                "{} is an address: nobody asks for it as a name",
                quote(bare)
            );
            let help = "for an address, use `matchEndpoints` with `cidr`";
            cx.report(Problem::warning(found.span, message).help(help));
        }
        return Some(bare.to_ascii_lowercase());
    }
    let problem = Problem::error(found.span, format!("{} is not a domain name", quote(bare)));
    cx.report(if bare.contains('*') {
        problem.help("a domain includes its sub-domains; leave the `*.` out")
    } else if bare.contains('/') {
        problem.help("write only the name, without `https://` or path")
    } else {
        problem
    });
    None
}

fn endpoint(rule: &Spanned<WrittenEndpoint>, cx: &Context<'_>) -> Option<Endpoint> {
    let given = |field: &&Spanned<String>| !(cx.by_program() && field.is_empty());
    let errors = cx.errors();
    let cidr = rule.cidr.as_ref().filter(given);
    let network = cidr.and_then(|cidr| cx.at("cidr", || network_of(cidr, cx)));
    let protocol = rule.protocol.as_ref().filter(given).and_then(|written| {
        let name = written.to_ascii_lowercase();
        cx.at("protocol", || {
            known("protocol", &name, &IP_PROTOCOLS, written, cx)
        })
    });
    let direction = rule.direction.as_ref().filter(given).and_then(|written| {
        const DIRECTIONS: [(&str, Direction); 2] = [
            ("egress", Direction::Egress),
            ("ingress", Direction::Ingress),
        ];
        cx.at("direction", || {
            known("direction", written, &DIRECTIONS, written, cx)
        })
    });
    let ports = rule.ports.as_ref();
    let ports = ports.map_or_else(Vec::new, |list| cx.at("ports", || ports_of(list, cx)));
    if cx.errors() > errors {
        return None;
    }
    if let (false, Some(number)) = (ports.is_empty(), protocol)
        && !matches!(number, 6 | 17 | 132)
    {
        let name = names::ip_protocol(number).unwrap_or_default();
        let message = format!("{name} has no ports, so the rule can never match");
        cx.report(Problem::error(rule.span, message).help("leave `ports` or `protocol` out"));
        return None;
    }
    if network.is_none() && ports.is_empty() && protocol.is_none() && direction.is_none() {
        let problem = Problem::error(rule.span, "the rule names no endpoint");
        cx.report(problem.help("give it `cidr`, `ports`, `protocol` or `direction`"));
        return None;
    }
    Some(Endpoint {
        network,
        ports,
        protocol,
        direction,
    })
}

/// Whether it is only about what comes in over a protocol of which nothing that comes in is decided.
fn never_decided(endpoint: &Endpoint) -> bool {
    [Op::Egress, Op::Ingress]
        .into_iter()
        .all(|op| !endpoint.faces(op))
}

fn not_decided(
    rule: &Spanned<WrittenEndpoint>,
    action: Action,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    let Some(protocol) = &rule.protocol else {
        return;
    };
    cx.at("protocol", || {
        let what = format!("`direction: ingress` over {} is", quote(protocol));
        let why = "what comes in is decided for tcp only";
        rules.unenforced(protocol.span, &what, why, |problem| {
            let problem = problem.allowed(protocol, ["tcp"]).without_suggestion();
            let problem = problem.help("without `protocol` it is about tcp as well");
            if action == Action::Allow {
                problem.help("it makes a whitelist of the endpoints all the same")
            } else {
                problem
            }
        });
    });
}

/// Reads a network or a single address. An IPv4 network mapped into IPv6 is one of IPv4, as which
/// the kernel half sees its addresses.
fn network_of(cidr: &Spanned<String>, cx: &Context<'_>) -> Option<IpNet> {
    let text = cidr.trim();
    let parsed = text
        .parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(net) = parsed else {
        let message = format!("{} is not a network", quote(text));
        let help = "write an address and the bits that count: 10.0.0.0/8, 2001:db8::/32";
        cx.report(Problem::error(cidr.span, message).help(help));
        return None;
    };
    if net.addr() != net.network() {
        let message = format!("{net} has bits behind its prefix, which do not count");
        let problem = Problem::warning(cidr.span, message);
        cx.report(problem.suggestion(net.trunc().to_string()));
    }
    let net = net.trunc();
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let net = IpNet::new(v4.into(), v6.prefix_len() - 96).ok()?;
        return Some(somewhere(net, cidr, cx));
    }
    Some(somewhere(net, cidr, cx))
}

/// Warns of a network that no packet goes to or comes from: what is sent to the unspecified address
/// goes to the host itself.
fn somewhere(net: IpNet, cidr: &Spanned<String>, cx: &Context<'_>) -> IpNet {
    if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
        let (host, all) = match net {
            IpNet::V4(_) => ("127.0.0.1/32", "0.0.0.0/0"),
            IpNet::V6(_) => ("::1/128", "::/0"),
        };
        let message = format!("{net} can never match: the kernel takes it for the host itself");
        let problem = Problem::warning(cidr.span, message)
            .help(format!("for the host itself, write {host}"))
            .help(format!(
                "for every address, write {all}, or leave `cidr` out"
            ));
        cx.report(problem);
    }
    net
}

fn ports_of(list: &List<Port>, cx: &Context<'_>) -> Vec<RangeInclusive<u16>> {
    if list.len() > PORTS {
        let message = format!("{} ports and ranges are more than {PORTS}", list.len());
        cx.report(Problem::error(list.span, message).help("use ranges, or several rules"));
    }
    if list.is_empty() && !cx.by_program() {
        let problem = Problem::error(list.span, "`ports` is empty");
        cx.report(problem.help("name ports, or leave it out for every port"));
    }
    let mut ports = Vec::new();
    each(Some(list), cx, |port| {
        ports.extend(port_range(port, cx));
        true
    });
    ports
}

fn port_range(port: &Spanned<Port>, cx: &Context<'_>) -> Option<RangeInclusive<u16>> {
    let text = port.value.0.trim();
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let number = |digits: &str| digits.trim().parse::<u16>().ok().filter(|&port| port > 0);
    let (Some(low), Some(high)) = (number(low), number(high)) else {
        let message = format!("{} is not a port", quote(text));
        let help = "ports are from 1 to 65535; write 443, or 8000-8999 for a range";
        cx.report(Problem::error(port.span, message).help(help));
        return None;
    };
    if low > high {
        let problem = Problem::error(port.span, format!("the range {low}-{high} is empty"));
        cx.report(problem.suggestion(format!("{high}-{low}")));
        return None;
    }
    Some(low..=high)
}
