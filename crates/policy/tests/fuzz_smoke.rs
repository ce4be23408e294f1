//! Runs the body of the fuzz target on tables that are valid, broken a little, and noise.

mod common;
#[path = "../fuzz/bodies/table.rs"]
mod table;

use karmor_policy::{
    alias::Aliases,
    compile::compile,
    model::{Action, Family, Posture, Rule, Target},
};
use proptest::{prelude::*, sample::Index};

/// A small table with sources and owners, and a path behind it.
fn valid() -> Vec<u8> {
    let rules = vec![
        common::rule(
            Family::Process,
            Target::Path("/bin/sh".into()),
            Action::Block,
        ),
        Rule {
            owner_only: true,
            sources: vec!["/bin/sh".into(), "/bin/cat".into()],
            ..common::rule(
                Family::File,
                Target::Glob("/[a-z]*/**.key".into()),
                Action::Allow,
            )
        },
    ];
    let effective = common::effective(rules, Posture::Block, Aliases::merged_usr());
    let compiled = compile(&effective).expect("compiles");
    let mut bytes: Vec<u8> = compiled
        .words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    bytes.extend(b"/etc/ssl/abc.key");
    bytes
}

#[test]
fn a_valid_table_is_read() {
    assert!(table::run(&valid()));
    assert!(!table::run(&[]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn broken_tables_do_no_harm(
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let mut bytes = valid();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        table::run(&bytes);
    }

    #[test]
    fn noise_does_no_harm(noise in prop::collection::vec(any::<u8>(), 0..512)) {
        table::run(&noise);
    }
}
