//! Who asks: the label every task carries, and the entry its workload number leads to.

/// Workload number of the host: every process outside a known container.
pub const HOST: u32 = 0;

/// Workload number of the self-test at the daemon's start; neither it nor its entry is given to a
/// container.
pub const SELF_TEST: u32 = crate::limits::WORKLOADS - 1;

/// What the kernel remembers of a task. 32 bytes, one a live task.
///
/// Written by the task itself (at fork for its child, at exec, when stale), read by its hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Label {
    /// Number of the workload, or [`HOST`]. A container's number sticks: nothing the task does to
    /// its namespaces, cgroups or parents changes it.
    pub workload: u32,
    /// Value of the registry's epoch when a host label was last resolved from the cgroup; a host
    /// label with an older one is resolved again.
    pub epoch: u32,
    /// Identity of the table `source` and `parent` were computed with ([`Handle::uid`]); another
    /// table, or 0 after exec, makes them stale.
    pub table: u32,
    /// Class of the task's own image.
    pub source: u32,
    /// Class of the image that forked the task.
    pub parent: u32,
    /// Not zero when an essential program executed the task's image. Counts for what has no path: runc
    /// executes itself from memory.
    pub heir: u32,
    /// Number of the exec session that brought the task into its container from outside
    /// (`kubectl exec`), or 0 for the container's own processes: its first, and what descends from
    /// that.
    pub exec_id: u64,
    /// The process that forked the task, in the initial pid namespace; 0 when that is not known. Who is an
    /// orphan now has another parent.
    pub forker: u32,
    /// How often that process had executed something by then.
    pub forker_execs: u32,
    /// Address of its memory descriptor then, which an exec changes before it is counted.
    pub forker_mm: u64,
}

impl Label {
    /// A host task of which nothing else is known yet.
    pub const EMPTY: Self = Self {
        workload: HOST,
        epoch: 0,
        table: 0,
        source: 0,
        parent: 0,
        heir: 0,
        exec_id: 0,
        forker: 0,
        forker_execs: 0,
        forker_mm: 0,
    };
}

/// Where a workload's compiled table is, and how it is asked: one word, so that a switch is one
/// store.
///
/// Bits, from the lowest: 8 size class, 23 slot in that class's array of tables, 1 whether the table
/// tells source classes apart, 32 table identity. All zero: no policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Handle(pub u64);

impl Handle {
    /// No policy.
    pub const NONE: Self = Self(0);

    /// Packs a handle. `uid` must not be 0, `slot` must fit 23 bits.
    #[must_use]
    pub const fn new(class: u8, slot: u32, sourced: bool, uid: u32) -> Self {
        Self(class as u64 | (slot as u64) << 8 | (sourced as u64) << 31 | (uid as u64) << 32)
    }

    /// Index into [`crate::table::CLASS_WORDS_LOG2`].
    #[must_use]
    pub const fn class(self) -> u32 {
        (self.0 & 0xff) as u32
    }

    /// Slot in the class's array of tables.
    #[must_use]
    pub const fn slot(self) -> u32 {
        (self.0 >> 8 & 0x7f_ffff) as u32
    }

    /// Whether the table tells source classes apart, so that a label must have its task's.
    #[must_use]
    pub const fn sourced(self) -> bool {
        self.0 >> 31 & 1 != 0
    }

    /// Identity of the table, never reused while the kernel half is loaded.
    #[must_use]
    pub const fn uid(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What applies to a workload. 24 bytes; user space writes, hooks read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Workload {
    /// The compiled table.
    pub handle: Handle,
    /// Operations that the table may not allow; the others are not even looked up.
    pub ops: u32,
    /// Number of the workload this entry belongs to: entries are reused, numbers are not, and a
    /// task left over from an earlier holder must not be judged by this one's policies.
    pub workload: u32,
    /// Not zero when files of this workload are marked ([`Mark`]).
    pub marks: u32,
    /// The epoch that began when the last of its cgroups became known. Who was the host's from then on,
    /// and is in one, has joined it; who was only before may have been in it all the time.
    pub since: u32,
}

/// Where a workload's files have the names that its policies mean, and what it was started with. 24
/// bytes.
///
/// User space writes the entry when it learns of the workload; from then on hooks set
/// [`Home::mounted`] and [`Home::event`], and nobody takes that back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Home {
    /// Number of the workload this entry belongs to.
    pub workload: u32,
    /// Inode number of the mount namespace the workload was started in; 0 when that is not known,
    /// and the namespace that asks stands for it; [`Home::LOST`].
    pub namespace: u32,
    /// Not zero once the workload, or somebody else there, has mounted something: its objects may have
    /// other names since.
    pub mounted: u32,
    /// Its first process, in the initial pid namespace; 0 when that is not known.
    pub init: u32,
    /// `super_block.s_dev` of the root it was started with ([`MarkKey::device`]); 0 when that is not
    /// known.
    pub root: u32,
    /// When something was last mounted or unmounted there before the workload's first policy came into
    /// force, which is seen at an access or by the search for descriptors: `mnt_namespace.event`, doubled,
    /// and one more; 0 until then.
    pub event: u32,
}

impl Home {
    /// [`Home::namespace`] of a workload whose own is no more: its files have lost the names that its
    /// policies mean, and are unreachable. No namespace has this number.
    pub const LOST: u32 = u32::MAX;
}

/// A file of a workload, whatever name it is reached by. 16 bytes.
///
/// The numbers name the file rather than the kernel's object for it: that one leaves the cache
/// under memory pressure, and an overlay makes one for each name of a file of its lower layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct MarkKey {
    /// Number of the workload.
    pub workload: u32,
    /// `super_block.s_dev`: the major number times 2^20, and the minor number.
    pub device: u32,
    /// `inode.i_ino`.
    pub inode: u64,
}

impl MarkKey {
    /// A device on which some file is marked: no inode has the number 0.
    #[must_use]
    #[inline(always)]
    pub const fn device(workload: u32, device: u32) -> Self {
        Self {
            workload,
            device,
            inode: 0,
        }
    }
}

/// What a marked file is to a table. 12 bytes; user space writes, hooks read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Mark {
    /// [`Handle::uid`] of the table; the mark says nothing to another.
    pub table: u32,
    /// The set that the file's ruled path has there.
    pub set: u32,
    /// Operations it speaks of, as a mask of [`crate::op::Op::bit`]s.
    pub ops: u32,
}

const _: () = {
    assert!(size_of::<Label>() == 48 && align_of::<Label>() == 8);
    assert!(size_of::<Workload>() == 24 && align_of::<Workload>() == 8);
    assert!(size_of::<Home>() == 24 && align_of::<Home>() == 4);
    assert!(size_of::<MarkKey>() == 16 && size_of::<Mark>() == 12);
};
