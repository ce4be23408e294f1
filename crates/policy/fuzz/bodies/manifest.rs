//! What must hold for any bytes that are read as policies.

use karmor_policy::{
    Report,
    diagnostic::Style,
    model::{Kind, Location, Policy},
    read, read_bytes, read_object,
};

/// Reads some bytes in every way and checks what holds for every report.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(text, &read("fuzz.yaml", text));
        check(text, &read_object(Kind::Host, bytes));
        alone(&read("fuzz.yaml", text), |text| read("alone.yaml", text));
    }
    alone(&read_object(Kind::Container, bytes), |text| {
        read_object(Kind::Container, text.as_bytes())
    });
    let (text, report) = read_bytes("fuzz.yaml", bytes);
    check(&text, &report);
}

fn check(text: &str, report: &Report) {
    for style in [Style::Plain, Style::Coloured] {
        let _ = report.render(text, style);
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    for diagnostic in &report.diagnostics {
        let related = diagnostic.related.iter().map(|related| &related.place);
        for place in related.chain([&diagnostic.place]) {
            assert!(place.line >= 1 && place.column >= 1, "{diagnostic:?}");
            assert!(
                body.get(place.span.clone()).is_some(),
                "{diagnostic:?} lies outside the text"
            );
        }
        assert!(
            !diagnostic.message.chars().any(char::is_control),
            "{diagnostic:?}"
        );
    }
    for policy in &report.policies {
        assert!(!policy.name.is_empty());
        assert!(
            policy
                .rules
                .iter()
                .flat_map(|r| &r.sources)
                .all(|s| s.path().starts_with('/'))
        );
    }
}

/// The text of each policy alone says what it said among the others.
pub(crate) fn alone(report: &Report, read: impl Fn(&str) -> Report) {
    assert_eq!(report.policies.len(), report.texts.len());
    for (policy, text) in report.policies.iter().zip(&report.texts) {
        let again = read(text);
        assert!(!again.has_errors(), "{text:?}: {:?}", again.diagnostics);
        let [other] = again.policies.as_slice() else {
            panic!("{text:?} has {} policies", again.policies.len());
        };
        assert_eq!(placeless(policy), placeless(other), "{text:?}");
        assert_eq!(again.texts.first(), Some(text), "it is kept as it is");
    }
}

/// A policy wherever it stands.
fn placeless(policy: &Policy) -> Policy {
    let nowhere = Location {
        file: "".into(),
        line: 0,
        column: 0,
    };
    let mut policy = policy.clone();
    let rules = policy.rules.iter_mut().map(|rule| &mut rule.location);
    let others = policy
        .not_enforced
        .iter_mut()
        .map(|other| &mut other.location);
    for location in rules.chain(others) {
        *location = nowhere.clone();
    }
    policy.location = nowhere;
    policy
}
