//! Names of maps and programs, shared so that neither side spells them.
//!
//! The kernel keeps 15 bytes of a map's name; these are unique in their first 15.

/// Directory under the BPF filesystem that holds everything pinned.
pub const PIN_DIR: &str = "karmor";

/// `HASH`: `task_struct` address → [`crate::label::Label`].
pub const LABELS: &str = "LABELS";
/// `HASH`: cgroup id → workload number.
pub const CGROUPS: &str = "CGROUPS";
/// `ARRAY`: workload number modulo [`crate::limits::WORKLOADS`] → [`crate::label::Workload`].
pub const WORKLOADS: &str = "WORKLOADS";
/// `ARRAY` of [`REGISTRY_ENTRIES`] numbers that only ever grow; indexed by [`EPOCH`] and the others.
pub const REGISTRY: &str = "REGISTRY";
/// Index in [`REGISTRY`]: counts changes of the set of workloads; an older host label is stale.
pub const EPOCH: u32 = 0;
/// Index in [`REGISTRY`]: the table identity given out last.
pub const LAST_TABLE: u32 = 1;
/// Entries of [`REGISTRY`].
pub const REGISTRY_ENTRIES: usize = 2;
/// `ARRAY_OF_MAPS`, one a size class: slot → `ARRAY` of one table.
pub const TABLES: [&str; 4] = ["TABLES_32K", "TABLES_256K", "TABLES_1M", "TABLES_4M"];
/// `ARRAY` of [`crate::word::CALL_WORDS`] numbers: the system calls that some table in force asks about.
pub const CALLS: &str = "CALLS";
/// `HASH`: [`crate::label::MarkKey`] → [`crate::label::Mark`].
pub const MARKS: &str = "MARKS";
/// `HASH`: `struct file` address → [`crate::descriptor::Suspect`].
pub const SUSPECTS: &str = "SUSPECTS";
/// `ARRAY` of one [`crate::descriptor::Search`].
pub const SEARCH: &str = "SEARCH";
/// `HASH`: `task_struct` address → [`crate::pending::Pending`].
pub const PENDING: &str = "PENDING";
/// `ARRAY`: workload number modulo [`crate::limits::WORKLOADS`] → [`crate::label::Home`].
pub const HOMES: &str = "HOMES";
/// `SK_STORAGE`: who listens on a socket.
pub const LISTENERS: &str = "LISTENERS";
/// `SK_STORAGE`: who last sent over a socket to where names are asked for.
pub const SENDERS: &str = "SENDERS";
/// `LRU_HASH`: a workload and an address → the name that the address was an answer about.
pub const RESOLVED: &str = "RESOLVED";
/// `ARRAY` of one [`crate::guard::Guard`].
pub const GUARD: &str = "GUARD";
/// `HASH`: [`crate::guard::Own`] → how many levels of a directory are its own with it, up to
/// [`crate::guard::DEPTH`].
pub const OWN: &str = "OWN";
/// `ARRAY` of path scratch, claimed by hooks.
pub const SCRATCH: &str = "SCRATCH";
/// `ARRAY` of event scratch, claimed by hooks.
pub const EVENT_SCRATCH: &str = "EVENT_SCRATCH";
/// `RINGBUF` of refusals.
pub const DENIALS: &str = "DENIALS";
/// `RINGBUF` of audited accesses.
pub const AUDITS: &str = "AUDITS";
/// `RINGBUF` of what the self-test causes: it must not depend on room that others fill.
pub const SELF_TESTS: &str = "SELF_TESTS";
/// `PERCPU_ARRAY` of one [`crate::counters::Counters`].
pub const COUNTERS: &str = "COUNTERS";
