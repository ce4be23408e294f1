//! What protects the enforcer itself: who it is, and what is its own.

/// Clock ticks a second in which `/proc/PID/stat` tells when a process was started (`USER_HZ`).
const TICKS: u64 = 100;

/// Nanoseconds of one such tick.
pub const TICK_NS: u64 = 1_000_000_000 / TICKS;

/// Most levels of a directory that are the daemon's own with it.
pub const DEPTH: u32 = 2;

/// The daemon that runs, and whom it is protected from. 32 bytes; user space writes, hooks read.
///
/// All zero: nothing is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Guard {
    /// Process id in the initial namespace, or 0.
    pub tgid: u32,
    /// Not zero when it is protected from the host's processes too.
    pub from_host: u32,
    /// When it was started, in [`TICK_NS`] since boot: process ids are used again.
    pub started: u64,
    /// Its executable. Host processes that run it may do what others may not.
    pub image: Own,
}

/// Something of the daemon's own. 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Own {
    /// `super_block.s_dev` for an inode; [`Own::MAP`] or [`Own::PROGRAM`].
    pub space: u32,
    /// Zero; keeps the next field aligned.
    pub reserved: u32,
    /// `inode.i_ino`, or the id of the map or program.
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
}

impl Guarded {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Process, Self::Map, Self::Program, Self::File];
}

const _: () = assert!(size_of::<Guard>() == 32 && size_of::<Own>() == 16);
