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

impl Case {
    /// The name with the kernel it begins with: `k6_1_subject_holds`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("k{}_{}_{}", self.since.major, self.since.minor, self.name)
    }
}

/// Every case there is. Those that want the same enforcer are beside each other: it starts once
/// for them.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        rig::CASES,
        corpus::CASES,
        &escapes::cases(),
        args::CASES,
        network::CASES,
        dns::CASES,
        syscalls::CASES,
        presets::CASES,
        verifier::CASES,
        alerts::CASES,
        bad_input::CASES,
        seeds::CASES,
        swap::CASES,
        preempt::CASES,
        runtime::CASES,
        guard::CASES,
        trial::CASES,
        postures::CASES,
        ring::CASES,
        differential::CASES,
        crash::CASES,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_identifiers() {
        let names: Vec<String> = all().iter().map(Case::full_name).collect();
        let unique: BTreeSet<&String> = names.iter().collect();
        assert_eq!(names.len(), unique.len(), "{names:?}");
        for name in names {
            assert!(
                name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "{name}"
            );
        }
    }
}
