//! Every map: what it holds, who writes it, how large it gets. Names as in `karmor_abi::names`.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use karmor_abi::{
    counters::Counters,
    event,
    label::{Handle, Label, Mark, MarkKey, Workload},
    limits::{PATH_COMPONENTS, TABLES_PER_CLASS, WORKLOADS as WORKLOAD_ENTRIES},
    names::REGISTRY_ENTRIES,
    table::CLASS_WORDS_LOG2,
    verdict::Verdict,
};

use crate::kernel::path::Place;

/// `BPF_F_NO_PREALLOC`: entries are allocated as tasks appear.
const NO_PREALLOC: usize = 1;

/// Task labels, by `task_struct` address. Written in `task_alloc` and when first resolved, removed
/// in `task_free`, which the kernel calls before it reuses the address. User space sets the number
/// of entries to the node's `threads-max`, at most this many; 16 bytes of buckets an entry, and
/// about 120 bytes a live task.
#[btf_map]
pub(crate) static LABELS: HashMap<u64, Label, 262_144, NO_PREALLOC> = HashMap::new();

/// Cgroup id to workload number. Written by user space. 16,384 × about 80 bytes when full.
#[btf_map]
pub(crate) static CGROUPS: HashMap<u64, u32, 16_384, NO_PREALLOC> = HashMap::new();

/// What applies to a workload. Written by user space. 65,536 × 24 bytes.
#[btf_map]
pub(crate) static WORKLOADS: Array<Workload, { WORKLOAD_ENTRIES as usize }> = Array::new();

/// Numbers that only grow. Written by user space; hooks read the epoch, and resolve host labels
/// older than it again.
#[btf_map]
pub(crate) static REGISTRY: Array<u64, REGISTRY_ENTRIES> = Array::new();

/// One table of `2^LOG2` words.
pub(crate) type Table<const WORDS: usize> = Array<[u64; WORDS], 1>;

/// Tables by size class. Written by user space; 8 bytes a slot and what is in use.
#[btf_map]
pub(crate) static TABLES_32K: ArrayOfMaps<
    Table<{ 1 << CLASS_WORDS_LOG2[0] }>,
    { TABLES_PER_CLASS as usize },
> = ArrayOfMaps::new();

/// As above.
#[btf_map]
pub(crate) static TABLES_256K: ArrayOfMaps<
    Table<{ 1 << CLASS_WORDS_LOG2[1] }>,
    { TABLES_PER_CLASS as usize },
> = ArrayOfMaps::new();

/// As above.
#[btf_map]
pub(crate) static TABLES_1M: ArrayOfMaps<
    Table<{ 1 << CLASS_WORDS_LOG2[2] }>,
    { TABLES_PER_CLASS as usize },
> = ArrayOfMaps::new();

/// As above.
#[btf_map]
pub(crate) static TABLES_4M: ArrayOfMaps<
    Table<{ 1 << CLASS_WORDS_LOG2[3] }>,
    { TABLES_PER_CLASS as usize },
> = ArrayOfMaps::new();

/// Marks of protected files that have other names. Written by user space.
#[btf_map]
pub(crate) static MARKS: HashMap<MarkKey, Mark, 65_536, NO_PREALLOC> = HashMap::new();

/// One component of a path under decision.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Name {
    /// Address of the name's bytes.
    pub(crate) text: u64,
    /// Bytes.
    pub(crate) len: u64,
}

/// What a hook asks, and what it found out so far.
#[repr(C)]
pub(crate) struct Access {
    /// Where the object lies.
    pub(crate) place: Place,
    /// Address of its inode, 0 for one that does not exist yet.
    pub(crate) inode: u64,
    /// The table that decides.
    pub(crate) handle: Handle,
    /// [`Label::exec_id`] of the task.
    pub(crate) exec_id: u64,
    /// Its workload.
    pub(crate) workload: u32,
    /// Not zero when files of that are marked.
    pub(crate) marks: u32,
    /// Class of its image.
    pub(crate) source: u32,
    /// Class of the image that forked it.
    pub(crate) parent: u32,
    /// Which operations, as a mask of [`karmor_abi::op::Op::bit`]s; the strictest verdict counts.
    pub(crate) ops: u32,
    /// Which hook ([`event::Hook`]).
    pub(crate) hook: u32,
    /// What the event reports as flags.
    pub(crate) flags: u32,
    /// State of the automaton after the object's other name, or [`NO_STATE`].
    pub(crate) other: u32,
    /// State of the automaton after the object's path.
    pub(crate) state: u32,
}

/// No state of any automaton.
pub(crate) const NO_STATE: u32 = u32::MAX;

/// What a climb from an object found.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Walk {
    /// Components noted in [`Scratch::names`].
    pub(crate) count: u64,
    /// [`event::OBJECT_PATH`], or the [`karmor_abi::op::Object`] the place turned out to be.
    pub(crate) object: u64,
}

/// What the table says.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Answer {
    /// The verdict.
    pub(crate) verdict: Verdict,
    /// Set of patterns that the object matched.
    pub(crate) set: u32,
    /// The operation the verdict is about.
    pub(crate) op: u32,
}

/// Where a climb towards the root stands.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Climb {
    /// The dentry reached, and the mount (a `struct mount`) it is seen through.
    pub(crate) dentry: u64,
    /// As above.
    pub(crate) mount: u64,
    /// `mnt_parent`, `mnt_mountpoint` and `mnt.mnt_root` of `mount`, which lie side by side (user
    /// space checks that before it loads the programs).
    pub(crate) edges: [u64; 3],
    /// The mount at the top of the running task's mount namespace, and the root of what it shows.
    pub(crate) top: [u64; 2],
    /// Components noted.
    pub(crate) count: u64,
    /// Bytes of the path so far.
    pub(crate) bytes: u64,
    /// Why the climb ended.
    pub(crate) end: u64,
}

/// Where the automaton stands on the way back down.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Feed {
    /// Components not yet begun.
    pub(crate) left: u64,
    /// Bytes of the current one that have been fed.
    pub(crate) fed: u64,
    /// Its length.
    pub(crate) len: u64,
    /// The automaton's state.
    pub(crate) state: u64,
}

/// Memory of one decision, 4.6 KiB. It is passed between the subprograms of a hook, whose frames
/// together may not exceed 512 bytes.
///
/// LSM programs are preemptible and have no recursion guard, so a slot belongs to whoever swapped a
/// 1 into `claimed`, until they store 0 again; per-CPU memory alone would be shared by a hook and
/// the hook that preempted it.
#[repr(C)]
pub(crate) struct Scratch {
    /// 0 free, 1 taken.
    pub(crate) claimed: u64,
    /// The question.
    pub(crate) access: Access,
    /// The object's path, while [`Scratch::names`] holds it.
    pub(crate) walk: Walk,
    /// The answer.
    pub(crate) answer: Answer,
    /// State of the loops.
    pub(crate) climb: Climb,
    /// As above.
    pub(crate) feed: Feed,
    /// Components, from the object upwards.
    pub(crate) names: [Name; PATH_COMPONENTS],
    /// One component's bytes.
    pub(crate) bytes: [u8; 256],
}

/// Path scratch. User space sets the number of slots by the number of CPUs.
#[btf_map]
pub(crate) static SCRATCH: Array<Scratch, 1024> = Array::new();

/// Bytes behind the header that texts may fill; a power of two above the longest event.
pub(crate) const EVENT_TEXT_BYTES: usize = 32_768;

/// Where the writing of a text stands.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Append {
    /// Components not yet written.
    pub(crate) left: u64,
    /// Address of the next argument's pointer, for a list of arguments.
    pub(crate) argv: u64,
    /// Where the text starts.
    pub(crate) start: u64,
    /// Where it ends so far.
    pub(crate) end: u64,
}

/// Memory in which one event is put together, 33 KiB; claimed like [`Scratch`].
#[repr(C)]
pub(crate) struct EventScratch {
    /// 0 free, 1 taken.
    pub(crate) claimed: u64,
    /// State of the loops.
    pub(crate) append: Append,
    /// The record's fixed part.
    pub(crate) header: event::Header,
    /// Texts, and room for one component past the last full one.
    pub(crate) text: [u8; EVENT_TEXT_BYTES + 1024],
}

/// Event scratch. User space sets the number of slots by the number of CPUs.
#[btf_map]
pub(crate) static EVENT_SCRATCH: Array<EventScratch, 256> = Array::new();

/// Refusals, 4 MiB. Read by user space.
#[btf_map]
pub(crate) static DENIALS: RingBuf<u8, { 4 << 20 }> = RingBuf::new();

/// Audited accesses, 4 MiB. Read by user space.
#[btf_map]
pub(crate) static AUDITS: RingBuf<u8, { 4 << 20 }> = RingBuf::new();

/// What the self-test causes, 64 KiB. Read by user space.
#[btf_map]
pub(crate) static SELF_TESTS: RingBuf<u8, { 64 << 10 }> = RingBuf::new();

/// Counters, one set a CPU.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
