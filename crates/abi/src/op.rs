//! What is asked: the operations, and what an object can be when it is not a plain path.

/// An operation that a policy decides. The discriminant is the column in a decision row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Op {
    /// `execve` of the object, as program, script or interpreter (process family).
    Exec = 0,
    /// Mapping the object executable although it is not the task's own image, as `ld.so PATH`
    /// does (process family). Only explicit Block and Audit rules apply: shared libraries are
    /// mapped the same way, so a default posture says nothing here.
    Map = 1,
    /// Opening for reading (file family).
    Read = 2,
    /// Opening for writing, and every change of the object or its name (file family).
    Write = 3,
    /// Giving the object another name: rename or hard link. Refused for a directory on the way to
    /// something protected, and for an executable that a Block rule names: both would be reachable
    /// under a name no rule knows.
    Move = 4,
}

impl Op {
    /// All operations, in column order.
    pub const ALL: [Self; 5] = [Self::Exec, Self::Map, Self::Read, Self::Write, Self::Move];

    /// Columns reserved in a decision row; a power of two, with room for later families.
    pub const COLUMNS: u32 = 8;

    /// This operation's bit in an operation mask such as [`crate::label::Workload::ops`].
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What an object is when its path cannot be told.
///
/// The discriminant indexes [`crate::table::Header::class_sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Object {
    /// It has no name in any mount: memfd, pipe, socket, other kernel-internal mounts.
    Anonymous = 0,
    /// It lies in a mount that is attached nowhere (detached or lazily unmounted).
    Unreachable = 1,
    /// Its path has more than [`crate::limits::PATH_COMPONENTS`] components or
    /// [`crate::limits::PATH_BYTES`] bytes.
    TooLong = 2,
}

impl Object {
    /// All classes, in discriminant order.
    pub const ALL: [Self; 3] = [Self::Anonymous, Self::Unreachable, Self::TooLong];
}
