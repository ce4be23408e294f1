//! What a workload gets when its policies do not compile together: a part of them, rather than none.

use std::collections::BTreeSet;

use super::{Index, Key, Member};
use crate::backend::Backend;

/// Attempts that may fail before the rest is left out. Each may take a second.
const FAILURES_MAX: usize = 8;

impl Index {
    /// Gives a part of what they should have to those of the workloads that have nothing to keep.
    pub(super) fn make_do(&mut self, backend: &mut dyn Backend, whole: &Key, numbers: &[u32]) {
        let is_wanting = |member: &Member| member.key.is_none() || member.error.is_some();
        let has = |index: &Self, number: &u32, what: &dyn Fn(&Member) -> bool| {
            index.members.get(number).is_some_and(what)
        };
        let mut wanting = numbers.to_vec();
        wanting.retain(|number| has(self, number, &is_wanting));
        if wanting.is_empty() {
            return;
        }
        let part = self.part_of(whole);
        wanting.retain(|number| has(self, number, &|member| member.key.as_ref() != Some(&part)));
        if !wanting.is_empty() {
            // Should this fail too, it is tried again with the whole.
            let _ = self.switch(backend, &part, &wanting);
        }
    }

    /// As many of the policies as compile together, the oldest first: what came last is what does
    /// not fit, as where it is refused because the workload runs already.
    fn part_of(&mut self, whole: &Key) -> Key {
        if let Some(part) = self.parts.get(whole) {
            return part.clone();
        }
        let mut by_age = whole.serials.clone();
        by_age.sort_unstable();
        let mut part = BTreeSet::new();
        let mut rest = by_age.as_slice();
        let mut failures = 0;
        while !rest.is_empty() && failures < FAILURES_MAX {
            // How many of the rest fit, and how many do not.
            let (mut fit, mut excess) = (0, rest.len() + 1);
            let mut tried = rest.len();
            while excess - fit > 1 && failures < FAILURES_MAX {
                let with = part.iter().chain(&rest[..tried]).copied().collect();
                if self.compiled(&reduced(whole, &with)).is_ok() {
                    fit = tried;
                } else {
                    excess = tried;
                    failures += 1;
                }
                tried = usize::midpoint(fit, excess);
            }
            part.extend(&rest[..fit]);
            rest = rest.get(fit + 1..).unwrap_or_default();
        }
        let part = reduced(whole, &part);
        self.parts.insert(whole.clone(), part.clone());
        part
    }
}

/// The same with these policies only.
fn reduced(whole: &Key, serials: &BTreeSet<u64>) -> Key {
    let kept = whole
        .serials
        .iter()
        .filter(|serial| serials.contains(serial));
    Key {
        serials: kept.copied().collect(),
        ..whole.clone()
    }
}
