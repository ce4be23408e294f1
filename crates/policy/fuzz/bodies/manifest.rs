//! What must hold for any bytes that are read as policies.

use karmor_policy::{Report, diagnostic::Style, model::Kind, read, read_bytes, read_object};

/// Reads some bytes in every way and checks what holds for every report.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(text, &read("fuzz.yaml", text));
        check(text, &read_object(Kind::Host, bytes));
    }
    let _ = read_object(Kind::Container, bytes);
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
                .all(|s| s.starts_with('/'))
        );
    }
}
