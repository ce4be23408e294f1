//! Counters are the truth, events are best effort.

/// Which ring an event goes to. The discriminant indexes [`Counters`] arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Refusals; a ring of their own, so that no other traffic can push them out.
    Denial = 0,
    /// Audited accesses.
    Audit = 1,
}

/// Number of event classes.
pub const CLASSES: usize = 2;

/// Per-CPU counters. Every increment is atomic: a hook can be preempted by another on its CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Events that were due, by class. Always equals delivered + `lost` once the rings are drained.
    pub emitted: [u64; CLASSES],
    /// Events that found no room, by class.
    pub lost: [u64; CLASSES],
    /// Verdicts chosen for safety, by [`Fault`].
    pub faults: [u64; FAULTS],
}

impl Counters {
    /// All CPUs together.
    #[must_use]
    pub fn sum(per_cpu: &[Self]) -> Self {
        let mut sum = Self::default();
        for cpu in per_cpu {
            let pairs = sum.emitted.iter_mut().zip(cpu.emitted);
            let pairs = pairs.chain(sum.lost.iter_mut().zip(cpu.lost));
            for (total, value) in pairs.chain(sum.faults.iter_mut().zip(cpu.faults)) {
                *total += value;
            }
        }
        sum
    }
}

/// Why the kernel half could not decide. The answer is refusal for a subject under policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fault {
    /// Every scratch slot was in use.
    NoScratch = 0,
    /// The workload's table was gone twice in a row.
    NoTable = 1,
    /// Kernel memory that must be readable was not.
    Read = 2,
    /// A contained task's child could not be labelled; the fork was refused.
    NoLabel = 3,
    /// There was no room to note what an exec has still to show.
    NoPending = 4,
    /// There was no room to note an open file that a policy came after; every open file is decided
    /// at each use.
    NoSuspect = 5,
}

/// Number of fault kinds.
pub const FAULTS: usize = 6;

const _: () = assert!(size_of::<Counters>() == 80);
