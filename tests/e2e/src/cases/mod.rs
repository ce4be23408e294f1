//! What must hold on a real kernel. One file per subject; each lists its cases in `CASES`.

mod alerts;
mod args;
mod bad_input;
mod cluster;
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
mod spared;
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

/// Every case there is, by subject. Those that share an enforcer come first: starting one takes longest.
fn subjects() -> Vec<Subject> {
    vec![
        everywhere(rig::CASES),
        everywhere(seeds::CASES),
        on_the_oldest(corpus::BLOCK_CASES),
        everywhere(corpus::AUDIT_CASES),
        everywhere(escapes::CASES.concat()),
        everywhere(args::CASES),
        everywhere(network::CASES),
        everywhere(dns::CASES),
        everywhere(presets::CASES),
        everywhere(spared::CASES),
        everywhere(syscalls::CASES),
        everywhere(verifier::CASES),
        on_the_oldest(alerts::CASES),
        on_the_oldest(bad_input::CASES),
        on_the_oldest(cluster::CASES),
        on_the_oldest(runtime::CASES),
        on_the_oldest(postures::CASES),
        on_the_oldest(swap::CASES),
        on_the_oldest(preempt::CASES),
        on_the_oldest(ring::CASES),
        on_the_oldest(differential::CASES),
        on_the_oldest(trial::CASES),
        on_the_oldest(crash::CASES),
        everywhere(guard::CASES),
        on_the_oldest(guard::HOST_CASES),
    ]
}

/// The kernel on which everything runs.
const OLDEST: KernelVersion = KernelVersion::new(6, 1);

/// The cases for a kernel. Not every subject is tried on every kernel, unless `full`.
#[must_use]
pub fn of(kernel: KernelVersion, full: bool) -> Vec<Case> {
    subjects()
        .into_iter()
        .filter(|subject| full || kernel == OLDEST || subject.is_everywhere)
        .flat_map(|subject| subject.cases)
        .collect()
}

/// A policy with which nothing is wrong; else it takes a VM to find out.
#[cfg(test)]
fn assert_sound(text: &str) {
    let report = karmor_policy::read("case.yaml", text);
    let sound = report.policies.len() == 1 && report.diagnostics.is_empty();
    assert!(sound, "{:?}\n{text}", report.diagnostics);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_identifiers() {
        let names: Vec<String> = of(OLDEST, true).iter().map(Case::full_name).collect();
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
    fn everything_runs_on_the_oldest_kernel_and_on_demand() {
        let count = |kernel, full| of(kernel, full).len();
        let newer = KernelVersion::new(7, 2);
        assert_eq!(count(OLDEST, false), count(newer, true));
        assert!(count(newer, false) < count(newer, true));
    }
}
