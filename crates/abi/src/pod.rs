//! `aya::Pod` for what crosses the kernel line.

use crate::{
    counters::Counters,
    descriptor::{Search, Suspect},
    guard::{Guard, Own},
    label::{Home, Label, Mark, MarkKey, Workload},
    pending::Pending,
};

// SAFETY: `repr(C)`, only integers, no padding (asserted by the size checks beside each type), and
// every bit pattern is valid.
unsafe impl aya::Pod for Label {}
// SAFETY: as above.
unsafe impl aya::Pod for Home {}
// SAFETY: as above.
unsafe impl aya::Pod for Workload {}
// SAFETY: as above.
unsafe impl aya::Pod for MarkKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Mark {}
// SAFETY: as above.
unsafe impl aya::Pod for Counters {}
// SAFETY: as above.
unsafe impl aya::Pod for Pending {}
// SAFETY: as above.
unsafe impl aya::Pod for Guard {}
// SAFETY: as above.
unsafe impl aya::Pod for Own {}
// SAFETY: as above.
unsafe impl aya::Pod for Suspect {}
// SAFETY: as above.
unsafe impl aya::Pod for Search {}
