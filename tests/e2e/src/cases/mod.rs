//! What must hold on a real kernel. One file per subject; each lists its cases in `CASES`.

mod alerts;
mod args;
mod bad_input;
mod corpus;
mod crash;
mod differential;
mod dns;
mod escapes;
mod guard;
mod network;
mod postures;
mod preempt;
mod presets;
mod rig;
mod ring;
mod runtime;
mod seeds;
mod swap;
mod syscalls;
mod trial;
mod verifier;

use anyhow::Result;

use crate::support::{Guest, KernelVersion};

/// One thing that must hold.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What holds, as an identifier.
    pub name: &'static str,
    /// The oldest kernel it must hold on.
    pub since: KernelVersion,
    /// Tries it; an error says what did not hold.
    pub run: fn(&Guest) -> Result<()>,
}

/// One that must hold on every kernel.
const fn case(name: &'static str, run: fn(&Guest) -> Result<()>) -> Case {
    Case {
        name,
        since: OLDEST,
        run,
    }
}

impl Case {
    /// The name with the kernel it begins with: `k6_1_subject_holds`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("k{}_{}_{}", self.since.major, self.since.minor, self.name)
    }
}

/// Cases that go together.
struct Subject {
    cases: Vec<Case>,
    /// Tried on each kernel; else on the oldest, unless everything is everywhere.
    is_everywhere: bool,
}

/// What rules mean, and ways round them.
fn everywhere(cases: impl Into<Vec<Case>>) -> Subject {
    Subject {
        cases: cases.into(),
        is_everywhere: true,
    }
}

/// What takes long, or is about the daemon, to which one kernel is like the other.
fn on_the_oldest(cases: impl Into<Vec<Case>>) -> Subject {
    Subject {
        cases: cases.into(),
        is_everywhere: false,
    }
}

/// Every case there is, by subject. Those that want the same enforcer are beside each other: it starts
/// once for them, and that is what takes longest.
fn subjects() -> Vec<Subject> {
    vec![
        everywhere(rig::CASES),
        on_the_oldest(corpus::BLOCK_CASES),
        everywhere(corpus::AUDIT_CASES),
        everywhere(syscalls::HOST_CASES),
        everywhere(presets::HOST_CASES),
        everywhere(dns::HOST_CASES),
        on_the_oldest(trial::HOST_CASES),
        everywhere(dns::POSTURE_CASES),
        everywhere(seeds::POSTURE_CASES),
        everywhere(escapes::cases()),
        everywhere(args::CASES),
        everywhere(network::CASES),
        everywhere(dns::CASES),
        everywhere(presets::CASES),
        everywhere(syscalls::CASES),
        everywhere(verifier::CASES),
        everywhere(seeds::CASES),
        on_the_oldest(alerts::CASES),
        on_the_oldest(bad_input::CASES),
        on_the_oldest(runtime::CASES),
        on_the_oldest(guard::CASES),
        on_the_oldest(trial::CASES),
        on_the_oldest(postures::CASES),
        on_the_oldest(swap::CASES),
        on_the_oldest(preempt::CASES),
        on_the_oldest(ring::CASES),
        on_the_oldest(differential::CASES),
        on_the_oldest(crash::CASES),
        on_the_oldest(crash::SEARCH_CASES),
    ]
}

/// The kernel on which everything runs.
const OLDEST: KernelVersion = KernelVersion::new(6, 1);

/// A share of the cases for a kernel, of `of` that are about equal; `part` counts from 1. Not every
/// subject is tried on every kernel, unless `full`.
#[must_use]
pub fn part(part: usize, of: usize, kernel: KernelVersion, full: bool) -> Vec<Case> {
    let mut subjects = subjects();
    subjects.retain(|subject| full || kernel == OLDEST || subject.is_everywhere);
    let all: usize = subjects.iter().map(|subject| subject.cases.len()).sum();
    let mut before = 0;
    let mut share = Vec::new();
    for Subject { cases, .. } in subjects {
        if before * of / all + 1 == part {
            share.extend_from_slice(&cases);
        }
        before += cases.len();
    }
    share
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_identifiers() {
        let names: Vec<String> = part(1, 1, OLDEST, true)
            .iter()
            .map(Case::full_name)
            .collect();
        let unique: BTreeSet<&String> = names.iter().collect();
        assert_eq!(names.len(), unique.len(), "{names:?}");
        for name in names {
            assert!(
                name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "{name}"
            );
        }
    }

    #[test]
    fn every_case_is_in_one_part() {
        let names = |cases: Vec<Case>| cases.into_iter().map(|case| case.name).collect::<Vec<_>>();
        for (kernel, of) in [(OLDEST, 2), (OLDEST, 4), (KernelVersion::new(6, 12), 2)] {
            let parts = (1..=of).map(|number| part(number, of, kernel, false));
            let parts: Vec<_> = parts.collect();
            assert!(parts.iter().all(|cases| !cases.is_empty()), "{of} parts");
            assert_eq!(names(parts.concat()), names(part(1, 1, kernel, false)));
        }
    }

    #[test]
    fn everything_runs_on_the_oldest_kernel_and_on_demand() {
        let count = |kernel, full| part(1, 1, kernel, full).len();
        let newer = KernelVersion::new(7, 2);
        assert_eq!(count(OLDEST, false), count(newer, true));
        assert!(count(newer, false) < count(newer, true));
    }
}
