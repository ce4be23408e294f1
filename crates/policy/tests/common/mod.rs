//! Policies and accesses, made by hand and at random.
#![allow(dead_code, reason = "every test binary uses its own part")]

pub(crate) mod case;

use std::sync::Arc;

use karmor_abi::{table::View, verdict::Verdict};
use karmor_policy::{
    alias::Aliases,
    compiled::Compiled,
    model::{
        Action, Family, Kind, Location, Meta, Policy, Posture, Postures, Rule, Selector, Target,
    },
    reference::Access,
    select::Effective,
};

/// A rule that does nothing special.
pub(crate) fn rule(family: Family, target: Target, action: Action) -> Rule {
    Rule {
        family,
        target,
        sources: Vec::new(),
        read_only: false,
        owner_only: false,
        no_terminal: false,
        spares: false,
        arguments: None,
        action,
        meta: Arc::new(Meta::default()),
        location: Location {
            file: "test.yaml".into(),
            line: 1,
            column: 1,
        },
    }
}

/// A policy of these rules; the line of each is its number.
pub(crate) fn policy(name: &str, rules: Vec<Rule>) -> Policy {
    let numbered = (1..).zip(rules).map(|(line, mut rule)| {
        rule.location.line = line;
        rule
    });
    Policy {
        kind: Kind::Container,
        name: name.into(),
        namespace: "default".into(),
        selector: Selector::default(),
        rules: numbered.collect(),
        not_enforced: Vec::new(),
        location: Location {
            file: "test.yaml".into(),
            line: 1,
            column: 1,
        },
    }
}

/// These rules, and what is in force with them.
pub(crate) fn effective(rules: Vec<Rule>, posture: Posture, aliases: Aliases) -> Effective {
    Effective::new(
        [Arc::new(policy("p", rules))],
        Postures::all(posture),
        aliases,
    )
}

/// What the kernel half does with an access, on the host.
pub(crate) fn matcher(compiled: &Compiled, access: &Access<'_>) -> Verdict {
    let view = View::parse(&compiled.words).expect("compiled tables are valid");
    let verdict = compiled.decide(access);
    // The kernel half does not even look when no cell of the operation can refuse or report.
    if view.header().ops & access.op.bit() == 0 {
        assert_eq!(
            verdict.action(),
            Action::Allow,
            "operation left out of the mask"
        );
    }
    verdict
}
