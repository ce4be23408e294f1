//! What an exec under way has still to show: its arguments.
//!
//! Whether it may go on is decided before the kernel builds the new image, and what the caller
//! passed can change until then. So the decision is noted here, and the new image's own arguments
//! are held against it before their first use.

use crate::{label::Handle, limits::ARGUMENT_BYTES};

/// Most passes of one exec: the kernel follows five interpreters of scripts. A power of two.
pub const PASSES: usize = 8;

/// Bytes of an argument that are looked at in one go, a NUL included.
pub const CHUNK: usize = 32;

/// [`Check::found`] when the arguments cannot be read.
pub const UNREADABLE: u64 = u16::MAX as u64;

/// A file of an exec that rules allow if its arguments are listed: the program, a script, an
/// interpreter. 56 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pass {
    /// The table that decided.
    pub table: Handle,
    /// The rules that want to see the arguments ([`crate::table::Execution::arguments`]).
    pub rules: u64,
    /// The verdict if they list all of them.
    pub verdict: u64,
    /// Addresses of the file's mount and dentry.
    pub place: [u64; 2],
    /// Address of its inode.
    pub inode: u64,
    /// Set of patterns that it matched.
    pub set: u32,
    /// How many arguments it has: of those of the new image the last, since each interpreter puts
    /// its own before them.
    pub arguments: u32,
}

/// Where the look at the arguments of one pass stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Check {
    /// The table that is asked.
    pub table: Handle,
    /// The rules that want to see them.
    pub rules: u64,
    /// Those of them that miss one.
    pub missing: u64,
    /// The argument, from 1, that the first of those misses; [`UNREADABLE`].
    pub found: u64,
    /// Address of the next argument's pointer; 0 where the texts lie one behind the other.
    pub pointers: u64,
    /// Address of the next bytes.
    pub address: u64,
    /// Arguments before the first that counts.
    pub skipped: u64,
    /// Arguments not yet looked at to their end.
    pub left: u64,
    /// The one that is looked at, from 1.
    pub position: u64,
    /// Not 0 inside an argument.
    pub begun: u64,
    /// The automaton's state there.
    pub state: u64,
    /// The bytes.
    pub bytes: [u8; CHUNK],
}

impl Check {
    /// Nothing to look at.
    pub const EMPTY: Self = Self {
        table: Handle::NONE,
        rules: 0,
        missing: 0,
        found: 0,
        pointers: 0,
        address: 0,
        skipped: 0,
        left: 0,
        position: 0,
        begun: 0,
        state: 0,
        bytes: [0; CHUNK],
    };
}

/// An exec under way, by its task. Written and read by that task's hooks; user space looks which
/// tables are still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// Its files so far.
    pub passes: [Pass; PASSES],
    /// How many.
    pub count: u64,
    /// Addresses of mount and dentry of the image that executes.
    pub image: [u64; 2],
    /// [`crate::label::Label::exec_id`] of the task.
    pub exec_id: u64,
    /// Its workload.
    pub workload: u32,
    /// Class of its image.
    pub source: u32,
    /// Class of the image that forked it.
    pub parent: u32,
    /// Zero; fills the entry up.
    pub reserved: u32,
    /// The look at one pass.
    pub check: Check,
}

impl Pending {
    /// The identities of the tables it needs.
    pub fn tables(&self) -> impl Iterator<Item = u32> {
        let count = usize::try_from(self.count).unwrap_or(PASSES).min(PASSES);
        self.passes
            .into_iter()
            .take(count)
            .map(|pass| pass.table.uid())
    }
}

/// Most chunks of what a check looks at: 64 arguments, and before them what interpreters and names
/// of programs take, of which the kernel lets each have 128 KiB.
pub const CHUNKS: u32 = 1 << 17;

const _: () = {
    assert!(size_of::<Pass>() == 56 && align_of::<Pass>() == 8);
    assert!(size_of::<Check>() == 120 && align_of::<Check>() == 8);
    assert!(size_of::<Pending>() == PASSES * 56 + 168);
    let arguments = crate::limits::ARGUMENTS as usize * (ARGUMENT_BYTES / (CHUNK - 1) + 2);
    assert!(arguments < CHUNKS as usize / 2);
};
