//! Rules about the other end: its address, ports and protocol.

use std::{net::IpAddr, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;
use karmor_abi::op::Op;

use super::{
    level::Level,
    rules::Rules,
    words::{Given, each, known},
};
use crate::{
    diagnostic::quote,
    manifest::{
        Port, Spanned,
        context::{Context, Problem},
        types::{Attributed, Endpoint as Written, List},
    },
    model::{Action, Direction, Endpoint, Family, Rule, Target},
    names::{self, IP_PROTOCOLS},
};

/// Most ports and ranges of one rule.
const PORTS: usize = 64;

/// Checks `matchEndpoints`.
pub(super) fn endpoints(
    list: Option<&List<Written>>,
    above: &Level,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    let before = rules.rules.len();
    let mut added = Vec::new();
    each(list, cx, |rule| {
        let level = above.below(rule.attributes(), cx);
        let sources = rule.from_source.as_ref();
        let given = Given::new(
            Family::Endpoints,
            sources,
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
        added.push(rules.rules.len() - before);
        room
    });
    half_closed(list, &added, &rules.rules[before..], cx);
}

/// Warns of the first Block rule for all addresses of one family where nothing is said of the other.
/// `added` says how many rules there were after each item.
fn half_closed(list: Option<&List<Written>>, added: &[usize], rules: &[Rule], cx: &Context<'_>) {
    let mut before = 0;
    let mut added = added.iter();
    each(list, cx, |written| {
        let Some(&after) = added.next() else {
            return false;
        };
        let own = rules[before..after].first();
        before = after;
        let open = own.and_then(|rule| open_family(rule, rules));
        let (Some((family, all)), Some(cidr)) = (open, &written.cidr) else {
            return true;
        };
        let message = format!("{} says nothing of {family}", quote(cidr));
        let help = format!("for every address, leave `cidr` out, or add a rule for {all}");
        let problem = Problem::warning(cidr.span, message).help(help);
        cx.at("cidr", || cx.report(problem));
        false
    });
}

/// The family, and the network that is all of it, of which nothing is said beside a rule that
/// refuses the other one.
fn open_family(rule: &Rule, all: &[Rule]) -> Option<(&'static str, &'static str)> {
    let own = whole(rule)?;
    // No more than one family has ICMP.
    if rule.action != Action::Block || own.protocol.is_some_and(|number| !names::has_ports(number))
    {
        return None;
    }
    let is_v4 = matches!(own.network, Some(IpNet::V4(_)));
    let covers = |other: &Rule| {
        let is_as_wide = (other.sources.is_empty() || other.sources == rule.sources)
            && (!other.no_terminal || rule.no_terminal);
        whole(other).is_some_and(|end| {
            is_as_wide
                && end
                    .network
                    .is_none_or(|net| matches!(net, IpNet::V4(_)) != is_v4)
                && (end.ports.is_empty() || end.ports == own.ports)
                && (end.protocol.is_none() || end.protocol == own.protocol)
                && (end.direction.is_none() || end.direction == own.direction)
        })
    };
    let open = if is_v4 {
        ("IPv6", "::/0")
    } else {
        ("IPv4", "0.0.0.0/0")
    };
    (own.network.is_some() && !all.iter().any(covers)).then_some(open)
}

/// What a rule names that is about all addresses, of one family or of both.
fn whole(rule: &Rule) -> Option<&Endpoint> {
    match &rule.target {
        Target::Endpoint(end) => end
            .network
            .is_none_or(|net| net.prefix_len() == 0)
            .then_some(end),
        _ => None,
    }
}

fn endpoint(rule: &Spanned<Written>, cx: &Context<'_>) -> Option<Endpoint> {
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
    rule: &Spanned<Written>,
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
    let parsed = parse(text);
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

/// An address and, unless it is a network of one, the bits that count. Zeros in front of a number are
/// octal to some and nothing to others.
fn parse(text: &str) -> Option<IpNet> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    match bits {
        Some(bits) => IpNet::new(address, number(bits)?).ok(),
        None => Some(address.into()),
    }
}

/// A number in digits, without zeros in front.
fn number<N: FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// Warns of a network that no packet goes to or comes from: what is sent to the unspecified address
/// goes to the host itself.
fn somewhere(net: IpNet, cidr: &Spanned<String>, cx: &Context<'_>) -> IpNet {
    if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
        let (host, family, all) = match net {
            IpNet::V4(_) => ("127.0.0.1/32", "IPv4", "0.0.0.0/0"),
            IpNet::V6(_) => ("::1/128", "IPv6", "::/0"),
        };
        let message = format!("{net} can never match: the kernel takes it for the host itself");
        let problem = Problem::warning(cidr.span, message)
            .help(format!("for the host itself, write {host}"))
            .help(format!(
                "for every {family} address, write {all}; for every address, leave `cidr` out"
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
    let port_of = |text: &str| number(text.trim()).filter(|&port: &u16| port > 0);
    let (Some(low), Some(high)) = (port_of(low), port_of(high)) else {
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
