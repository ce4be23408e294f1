//! What must hold for any text at all.

use karmor_policy::{diagnostic::Style, model::Kind, read, read_object};
use proptest::prelude::*;

const EXAMPLES: &str = include_str!("cases/examples.yaml");
const EVERY_FIELD: &str = include_str!("cases/every-field.yaml");

/// Reads and renders a text, and checks what holds for every report.
fn survive(text: &str) {
    let report = read("f", text);
    for style in [Style::Plain, Style::Coloured] {
        let _ = report.render(text, style);
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    for d in &report.diagnostics {
        let spans = d.related.iter().map(|r| &r.place).chain([&d.place]);
        for place in spans {
            assert!(place.line >= 1 && place.column >= 1);
            assert!(
                body.get(place.span.clone()).is_some(),
                "{d:?} lies outside {text:?}"
            );
        }
        assert!(!d.message.chars().any(char::is_control), "{d:?}");
    }
    for policy in &report.policies {
        assert!(!policy.name.is_empty());
        assert!(
            policy
                .rules
                .iter()
                .all(|r| r.sources.iter().all(|s| s.starts_with('/')))
        );
    }
    let _ = read_object(Kind::Host, text.as_bytes());
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in any::<String>()) {
        survive(&text);
    }

    #[test]
    fn no_yaml_like_text_breaks_the_reader(
        text in "(apiVersion|kind|spec|process|matchPaths|path|dir|a|[-:?&*!|>{}\\[\\],#'\" \t\r\n%@`~<]|---|\u{e4}|\u{feff}|\u{1f600}|\\\\){0,60}"
    ) {
        survive(&text);
    }

    #[test]
    fn no_damage_to_a_policy_breaks_the_reader(
        every_field in any::<bool>(),
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..20, "[-:?&*!|>{}\\[\\],#'\" \t\r\na/@0\u{e4}\u{0}]{0,4}"), 1..6),
    ) {
        let mut chars: Vec<char> = if every_field { EVERY_FIELD } else { EXAMPLES }.chars().collect();
        for (at, length, text) in cuts {
            let at = at.index(chars.len());
            let end = (at + length).min(chars.len());
            chars.splice(at..end, text.chars());
            if chars.is_empty() {
                break;
            }
        }
        survive(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn no_bytes_break_the_reader_of_objects(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_object(Kind::Container, &bytes);
    }
}
