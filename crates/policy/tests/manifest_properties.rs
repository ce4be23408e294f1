//! What must hold for any text at all.

use proptest::prelude::*;

/// The body of the fuzz target, so that it is built and run here too.
#[path = "../fuzz/bodies/manifest.rs"]
mod target;

const EXAMPLES: &str = include_str!("cases/examples.yaml");
const EVERY_FIELD: &str = include_str!("cases/every-field.yaml");

#[test]
fn the_corpus_breaks_nothing() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/manifest");
    let files: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert!(files.len() >= 5);
    for file in files {
        target::run(&std::fs::read(file).unwrap());
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in any::<String>()) {
        target::run(text.as_bytes());
    }

    #[test]
    fn no_yaml_like_text_breaks_the_reader(
        text in "(apiVersion|kind|spec|process|matchPaths|path|dir|a|[-:?&*!|>{}\\[\\],#'\" \t\r\n%@`~<]|---|\u{e4}|\u{feff}|\u{1f600}|\\\\){0,60}"
    ) {
        target::run(text.as_bytes());
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
        target::run(chars.into_iter().collect::<String>().as_bytes());
    }

    #[test]
    fn no_bytes_break_the_reader_of_objects(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        target::run(&bytes);
    }
}
