//! Reads bytes as a table and asks it everything. Shared with an ordinary test, so that it cannot
//! rot.

use karmor_abi::{
    op::{Object, Op},
    table::{self, Asker, View},
};

/// Bytes of path behind the words.
const PATH_BYTES: usize = 16;

/// Panics when the reader does; returns whether the words were a table.
pub(crate) fn run(data: &[u8]) -> bool {
    let (words, path) = data.split_at(data.len().saturating_sub(PATH_BYTES));
    let words: Vec<u64> = words
        .chunks_exact(8)
        .map(|word| {
            word.iter()
                .rev()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        })
        .collect();
    let Ok(view) = View::parse(&words) else {
        return false;
    };
    let header = *view.header();
    let objects = Object::ALL.map(|object| table::object_set(&view, object));
    for number in [table::walk(&view, path)].into_iter().chain(objects) {
        assert!(number < header.sets.1, "a walk ends in a set that exists");
        let set = table::set(&view, number);
        assert!(
            set.source() < header.sources,
            "a set has a source class that exists"
        );
        for op in Op::ALL {
            for source in [0, set.source(), header.sources - 1] {
                for (owner, terminal) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let asker = Asker { owner, terminal };
                    let _ = table::verdict(&view, set, op, source, asker);
                    let rows = table::rows(&view, set, source, 0, asker);
                    let _ = table::verdict_of_both(&view, rows, op);
                }
            }
        }
    }
    true
}
