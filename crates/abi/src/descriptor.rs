//! Descriptors that were open before the policy that forbids them.
//!
//! ```text
//! a table comes into force ──▶ task_file looks at every descriptor ──▶ SUSPECTS
//!                                                                        │
//! read, write, … ──▶ file_permission ──▶ is it one of them? ◀────────────┘
//!                                         └─ yes: decided like an open, by who uses it, now
//! ```
//!
//! A suspect is a question, not an answer: each use is decided by the table in force and by who uses
//! the descriptor. So it does no harm that a file is one for longer than need be.

/// An open file that a table in use refuses to somebody. 16 bytes, by `struct file` address.
///
/// Written by the search, removed by user space when no table refuses it any more, and in
/// `file_free_security`, which the kernel calls before it reuses the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Suspect {
    /// Address of the file's inode: what is left behind at an address is not the next file's.
    pub inode: u64,
    /// [`Search::number`] of the last search that met it.
    pub seen: u32,
    /// The same, of the last that found that a table refuses it.
    pub refused: u32,
}

/// A search through the descriptors of all tasks. 20 bytes. User space writes it before, and reads
/// what came of it after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Search {
    /// Its number; searches are counted from 1.
    pub number: u32,
    /// Not zero to note what is found, else it is only counted.
    pub notes: u32,
    /// Descriptors found.
    pub found: u32,
    /// Of those, such as found no room.
    pub unnoted: u32,
    /// Not zero while every open file is suspect, since some could not be noted. User space writes
    /// it, and the search when it finds no room.
    pub all: u32,
}

/// Open files noted at a time.
pub const SUSPECTS: u32 = 65_536;

const _: () = {
    assert!(size_of::<Suspect>() == 16 && align_of::<Suspect>() == 8);
    assert!(size_of::<Search>() == 20 && align_of::<Search>() == 4);
};
