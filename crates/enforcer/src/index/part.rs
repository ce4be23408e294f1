//! What a workload gets when its policies do not compile together: a part of them, rather than none.

use super::{Index, Key, Member};
use crate::backend::Backend;

/// What becomes of workloads whose policies do not compile together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Those with which all was well keep what they have: the change will be undone.
    Keep,
    /// They get a part.
    Part,
}

/// Attempts that may fail before the rest is left out. Each may take a second.
const FAILURES_MAX: usize = 16;

impl Index {
    /// Gives a part of what they should have to workloads that are not to keep what they have.
    pub(super) fn make_do(
        &mut self,
        backend: &mut dyn Backend,
        whole: &Key,
        numbers: &[u32],
        unfit: Unfit,
    ) {
        let is_wanting = |m: &Member| unfit == Unfit::Part || m.key.is_none() || m.error.is_some();
        let mut wanting = numbers.to_vec();
        wanting.retain(|number| self.members.get(number).is_some_and(is_wanting));
        if wanting.is_empty() {
            return;
        }
        let part = self.part_of(whole);
        let lacks = |m: &Member| m.key.as_ref() != Some(&part);
        wanting.retain(|number| self.members.get(number).is_some_and(lacks));
        if !wanting.is_empty() {
            // Should this fail too, it is tried again with the whole.
            let _ = self.switch(backend, &part, &wanting);
        }
    }

    /// As many of the policies as compile together, in their order, which is that of their names and
    /// so the same after every restart. Each was found to compile alone when it came.
    fn part_of(&mut self, whole: &Key) -> Key {
        if let Some(part) = self.parts.get(whole) {
            return part.clone();
        }
        let of = |serials: Vec<u64>| Key {
            serials,
            ..whole.clone()
        };
        let mut part = of(Vec::new());
        let mut rest = whole.serials.as_slice();
        let (mut step, mut failures) = (1, 0);
        while !rest.is_empty() && failures < FAILURES_MAX {
            let (tried, behind) = rest.split_at(step.min(rest.len()));
            let with = of([&part.serials, tried].concat());
            if let Ok(table) = self.compiled(&with) {
                self.tables.insert(with.clone(), table);
                (part, rest, step) = (with, behind, 2 * tried.len());
                continue;
            }
            failures += 1;
            if tried.len() == 1 {
                rest = behind;
            } else {
                step = tried.len() / 2;
            }
        }
        self.parts.insert(whole.clone(), part.clone());
        part
    }
}
