//! Every map: what it holds, who writes it, how large it gets. Names as in `karmor_abi::names`.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};
use karmor_abi::{
    counters::Counters,
    descriptor::{SUSPECTS as SUSPECT_ENTRIES, Search, Suspect},
    event,
    guard::{Guard, Own},
    label::{Handle, Home, Label, Mark, MarkKey, Workload},
    limits::{
        COMM_BYTES, PATH_BYTES, PATH_COMPONENTS, TABLES_PER_CLASS, TTY_BYTES,
        WORKLOADS as WORKLOAD_ENTRIES,
    },
    names::REGISTRY_ENTRIES,
    pending::Pending,
    table::CLASS_WORDS_LOG2,
    verdict::Verdict,
    word::CALL_WORDS,
};

use crate::{dns::TEXT_BYTES, kernel::path::Place};

/// `BPF_F_NO_PREALLOC`: entries are allocated as tasks appear.
const NO_PREALLOC: usize = 1;

/// Task labels, by `task_struct` address. Written in `task_alloc` and when first resolved, removed
/// in `task_free`, which the kernel calls before it reuses the address. User space sets the number
/// of entries to the node's `threads-max`, at most this many; 16 bytes of buckets an entry, and
/// about 120 bytes a live task.
#[btf_map]
pub(crate) static LABELS: HashMap<u64, Label, 262_144, NO_PREALLOC> = HashMap::new();

/// Execs under way that have to show their arguments, by `task_struct` address: only while one does,
/// or when it failed then. Removed at its commit, at the task's next exec, and in `task_free`. User
/// space sets the number of entries to that of [`LABELS`]: no task has two.
#[btf_map]
pub(crate) static PENDING: HashMap<u64, Pending, 262_144, NO_PREALLOC> = HashMap::new();

/// What an entry of [`PENDING`] begins with; never written. It is too long for a stack.
#[btf_map]
pub(crate) static BLANK: Array<Pending, 1> = Array::new();

/// Cgroup id to workload number. Written by user space. 16,384 × about 80 bytes when full.
#[btf_map]
pub(crate) static CGROUPS: HashMap<u64, u32, 16_384, NO_PREALLOC> = HashMap::new();

/// What applies to a workload. Written by user space. 65,536 × 24 bytes.
#[btf_map]
pub(crate) static WORKLOADS: Array<Workload, { WORKLOAD_ENTRIES as usize }> = Array::new();

/// Where a workload's files have the names its policies mean. Written by user space, and by hooks
/// when the workload mounts. 65,536 × 20 bytes.
#[btf_map]
pub(crate) static HOMES: Array<Home, { WORKLOAD_ENTRIES as usize }> = Array::new();

/// Numbers that only grow. Written by user space; hooks read the epoch, and resolve host labels
/// older than it again.
#[btf_map]
pub(crate) static REGISTRY: Array<u64, REGISTRY_ENTRIES> = Array::new();

/// The system calls that some workload's policies ask about. Written by user space, before a table is
/// switched to and after one is left.
#[btf_map]
pub(crate) static CALLS: Array<u64, { CALL_WORDS as usize }> = Array::new();

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

/// Open files that a table in use refuses to somebody, by `struct file` address. About 64 bytes an
/// entry.
#[btf_map]
pub(crate) static SUSPECTS: HashMap<u64, Suspect, { SUSPECT_ENTRIES as usize }, NO_PREALLOC> =
    HashMap::new();

/// The search for them. 20 bytes.
#[btf_map]
pub(crate) static SEARCH: Array<Search, 1> = Array::new();

/// The daemon that runs. Written by user space.
#[btf_map]
pub(crate) static GUARD: Array<Guard, 1> = Array::new();

/// What is the daemon's own: inodes that user space names, and its maps and programs, which hooks
/// add as they come to be. About 64 bytes an entry.
#[btf_map]
pub(crate) static OWN: HashMap<Own, u32, 131_072, NO_PREALLOC> = HashMap::new();

/// Who listens on a socket: where a connection comes in, nobody asks that could be looked at.
#[repr(C)]
pub(crate) struct Listener {
    /// Odd while it is written, 0 when it never was.
    pub(crate) version: u64,
    /// [`Label::exec_id`].
    pub(crate) exec_id: u64,
    /// Its workload.
    pub(crate) workload: u32,
    /// Process id of it and its parent, in the initial namespace and in its own.
    pub(crate) host_pid: u32,
    /// As above.
    pub(crate) host_ppid: u32,
    /// As above.
    pub(crate) pid: u32,
    /// As above.
    pub(crate) ppid: u32,
    /// Real user id.
    pub(crate) uid: u32,
    /// Its name.
    pub(crate) comm: [u8; COMM_BYTES],
    /// Its terminal.
    pub(crate) tty: [u8; TTY_BYTES],
    /// Bytes of `exe`.
    pub(crate) exe_len: u64,
    /// Path of its image, whose class depends on the table.
    pub(crate) exe: [u8; PATH_BYTES + 1],
}

/// Listeners, in their sockets and with them gone. Written in `socket_listen`; 8 KiB a socket.
#[btf_map]
pub(crate) static LISTENERS: SkStorage<Listener> = SkStorage::new();

/// Who last sent over a socket to where names are asked for: a packet may leave in the name of
/// whichever task it interrupted.
#[repr(C)]
pub(crate) struct Sender {
    /// Who.
    pub(crate) who: Listener,
    /// Address of its image's `struct file`; 0 before anything has been sent.
    pub(crate) image: u64,
    /// The port that it named, or that the socket is connected to.
    pub(crate) port: u32,
    /// Not zero when others with another image have sent before: what leaves later may be theirs.
    pub(crate) shared: u32,
    /// Not zero when whoever connected the socket named the port where names are asked for, whatever
    /// the kernel was told to put in its place.
    pub(crate) connected: u32,
    pub(crate) reserved: u32,
}

/// Senders, in their sockets and with them gone. Written in `socket_sendmsg` and `socket_connect`; 8 KiB a socket.
#[btf_map]
pub(crate) static SENDERS: SkStorage<Sender> = SkStorage::new();

/// An address, of whom it was learned.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ResolvedKey {
    /// The workload that was answered.
    pub(crate) workload: u32,
    /// What its policies said of the name to whom they allow least; one name for each.
    pub(crate) strictest: u32,
    /// The address in network byte order; that of IPv4 as IPv6 has it.
    pub(crate) address: [u32; 4],
}

/// The name that an address was an answer about.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Resolved {
    /// Until when, in nanoseconds since the boot.
    pub(crate) until: u64,
    /// Where in `text` the byte before the name lies.
    pub(crate) next: u64,
    /// The name's word, which goes from its end: it ends where this ends.
    pub(crate) text: [u8; TEXT_BYTES],
    /// [`Resolved::until`] again. The kernel gives the memory of an entry to another one at once, so
    /// that a copy may be of both.
    pub(crate) until_again: u64,
}

/// Addresses that workloads held to names were given in answers. Written when an answer comes in; who
/// was asked for longest ago goes first. About 360 bytes an entry, 3 MiB.
#[btf_map]
pub(crate) static RESOLVED: LruHashMap<ResolvedKey, Resolved, 8192> = LruHashMap::new();

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
    /// Rules that want to see the arguments of an exec.
    pub(crate) arguments: u64,
    /// The argument that decided ([`event::Header::argument`]).
    pub(crate) argument: u64,
    /// For [`event::Hook::Committed`]: where the image lay that executed, and where the arguments
    /// of the new one begin, and how many there are.
    pub(crate) image: Place,
    /// As above.
    pub(crate) argv: u64,
    /// As above.
    pub(crate) argc: u64,
    /// Bytes of the word in [`Scratch::bytes`], for what has no path.
    pub(crate) word: u64,
    /// When the place counts as one that cannot be told ([`crate::decide::Unknown`]).
    pub(crate) unknown: u32,
    /// Operations asked about, before any was found to need no answer for the object's path.
    pub(crate) asked: u32,
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

impl Answer {
    /// Nothing to say.
    pub(crate) const ALLOW: Self = Self {
        verdict: Verdict::ALLOW,
        set: 0,
        op: 0,
    };
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
    /// The mount at the top of that mount namespace, and the root of what it shows.
    pub(crate) top: [u64; 2],
    /// The mount namespace that asks, and its inode number.
    pub(crate) namespace: u64,
    /// As above.
    pub(crate) inum: u64,
    /// Address of the mount namespace that asks instead of the running task's, else 0. Whoever sets
    /// it takes it back before the slot is given back.
    pub(crate) instead: u64,
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

/// Where a search for an object's other names stands.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Seek {
    /// The object's dentry.
    pub(crate) dentry: u64,
    /// Not zero for a character device.
    pub(crate) device: u64,
    /// Where the list of its super block's mounts begins, which is also where it ends.
    pub(crate) head: u64,
    /// The link to the next of them.
    pub(crate) link: u64,
    /// The running task's mount namespace.
    pub(crate) namespace: u64,
    /// Not zero when that is the workload's own.
    pub(crate) at_home: u64,
    /// Inode number of the workload's own mount namespace.
    pub(crate) home: u64,
    /// Names found in that.
    pub(crate) found: u64,
    /// Names found in either.
    pub(crate) named: u64,
    /// The mount whose name for the object gave the answer; 0 for the path that was asked for.
    pub(crate) mount: u64,
    /// How often the search began anew.
    pub(crate) restarts: u64,
    /// How it ended.
    pub(crate) end: u64,
}

/// Memory of one decision, 4.8 KiB. It is passed between the subprograms of a hook, whose frames
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
    /// Address of the other end, in network byte order; IPv4 as mapped into IPv6.
    pub(crate) remote: [u32; 4],
    /// State of the loops.
    pub(crate) climb: Climb,
    /// As above.
    pub(crate) feed: Feed,
    /// As above.
    pub(crate) seek: Seek,
    /// Components, from the object upwards.
    pub(crate) names: [Name; PATH_COMPONENTS],
    /// One component's bytes.
    pub(crate) bytes: [u8; 256],
}

/// Most slots of [`SCRATCH`].
pub(crate) const SCRATCH_SLOTS: usize = 1024;

/// Path scratch. User space sets the number of slots by the number of CPUs.
#[btf_map]
pub(crate) static SCRATCH: Array<Scratch, SCRATCH_SLOTS> = Array::new();

/// Bytes behind the header that texts may fill; a power of two above the longest event.
pub(crate) const EVENT_TEXT_BYTES: usize = 32_768;

/// Where the writing of a text stands.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Append {
    /// Components not yet written; for arguments that lie one behind the other, where the next is.
    pub(crate) left: u64,
    /// Address of the next argument's pointer, for a list of those; else 0.
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
