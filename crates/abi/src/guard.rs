//! What protects the enforcer itself: who it is, and what is its own.

/// Clock ticks a second in which `/proc/PID/stat` tells when a process was started (`USER_HZ`).
const TICKS: u64 = 100;

/// Nanoseconds of one such tick.
pub const TICK_NS: u64 = 1_000_000_000 / TICKS;

/// Most levels of a directory that are the daemon's own with it.
pub const DEPTH: u32 = 2;

/// Stands in the place of such a number for a directory above what is the daemon's own: it keeps its
/// name, and nothing is mounted over it.
pub const PLACE: u32 = u32::MAX;

/// The daemon that runs, and whom it is protected from. 40 bytes; user space writes, hooks read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Guard {
    /// Process id in the initial namespace, or 0.
    pub tgid: u32,
    /// From whom it is protected: [`Guard::NOBODY`], [`Guard::CONTAINERS`], [`Guard::EVERYBODY`].
    pub from: u32,
    /// When it was started, in [`TICK_NS`] since boot: process ids are used again.
    pub started: u64,
    /// Its executable. Host processes that run it may do what others may not.
    pub image: Own,
    /// Inode number of its mount namespace.
    pub namespace: u32,
    /// Zero; fills the entry up.
    pub reserved: u32,
}

impl Guard {
    /// Nothing is protected.
    pub const NOBODY: u32 = 0;
    /// Protected from what runs in containers.
    pub const CONTAINERS: u32 = 1;
    /// Protected from the host's processes too.
    pub const EVERYBODY: u32 = 2;
}

/// Something of the daemon's own. 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Own {
    /// `super_block.s_dev` for an inode; [`Own::MAP`] or [`Own::PROGRAM`].
    pub space: u32,
    /// Zero; keeps the next field aligned.
    pub reserved: u32,
    /// `inode.i_ino`, 0 for the device itself; or the id of the map or program.
    pub number: u64,
}

impl Own {
    /// [`Own::space`] of maps. No device has such a number: its major would be above `MKDEV`'s 12
    /// bits.
    pub const MAP: u32 = u32::MAX;
    /// [`Own::space`] of programs.
    pub const PROGRAM: u32 = u32::MAX - 1;

    /// An inode.
    #[must_use]
    #[inline(always)]
    pub const fn inode(device: u32, inode: u64) -> Self {
        Self::new(device, inode)
    }

    /// A device that some inode of the daemon's is on: no inode has the number 0.
    #[must_use]
    #[inline(always)]
    pub const fn device(device: u32) -> Self {
        Self::new(device, 0)
    }

    /// A map, by its id.
    #[must_use]
    #[inline(always)]
    pub const fn map(id: u32) -> Self {
        Self::new(Self::MAP, id as u64)
    }

    /// A program, by its id.
    #[must_use]
    #[inline(always)]
    pub const fn program(id: u32) -> Self {
        Self::new(Self::PROGRAM, id as u64)
    }

    const fn new(space: u32, number: u64) -> Self {
        Self {
            space,
            reserved: 0,
            number,
        }
    }
}

/// What is protected, as alerts name it. The byte behind [`crate::word::GUARDED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Guarded {
    /// The daemon's process.
    Process = 1,
    /// Its maps in the kernel.
    Map = 2,
    /// Its programs in the kernel.
    Program = 3,
    /// What it pinned, its sockets and its files.
    File = 4,
    /// The switch that detaches every program from every hook.
    Ftrace = 5,
    /// The keys that end every process.
    Sysrq = 6,
    /// What names a program that the kernel executes, which no policy for a container is about.
    Helper = 7,
    /// What keeps kernel memory from every program that is loaded from then on.
    Lockdown = 8,
    /// Which file is the image of a process, by which rules tell it from others.
    Image = 9,
    /// A process that is not the workload's own, and does what the workload may not.
    Outside = 10,
}

impl Guarded {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Process,
        Self::Map,
        Self::Program,
        Self::File,
        Self::Ftrace,
        Self::Sysrq,
        Self::Helper,
        Self::Lockdown,
        Self::Image,
        Self::Outside,
    ];
}

const _: () = assert!(size_of::<Guard>() == 40 && size_of::<Own>() == 16);
