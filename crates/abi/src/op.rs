//! What is asked: the operations, and what an object can be when it is not a plain path.

/// An operation that a policy decides. The discriminant is the bit in a mask of operations.
///
/// Each is about one kind of object: the first group about paths, each other about a word of its
/// own ([`crate::word`]).
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
    /// Giving the object another name, or its name to something else: rename, hard link, mounts.
    /// Refused for a directory on the way to something protected, and for an executable that a Block
    /// rule names: both would be reachable under a name no rule knows.
    Move = 4,

    /// Making a socket of some kind, or using one: bind, listen, connect, accept, send.
    Socket = 8,
    /// Sending to an address, or connecting to it.
    Egress = 9,
    /// Accepting a connection from an address.
    Ingress = 10,
    /// Asking for a name over the network.
    Query = 11,
    /// Using a capability.
    Capable = 12,
    /// Making a system call, whatever it is about.
    Syscall = 14,
    /// Making a system call about a path.
    SyscallAt = 15,

    /// Making memory executable that no file backs, or that was written to.
    AnonymousMapExec = 16,
    /// Executing what lies in no lasting file system: memory, or a deleted file.
    FilelessExec = 17,
    /// Reading the environment of another process.
    ProtectEnv = 18,
    /// Looking at another process through `/proc`.
    ProtectProc = 19,
    /// Executing in a container from outside.
    ExecSession = 20,
    /// Executing what did not come with the container's image.
    Drift = 21,
    /// Tracing or looking into another process.
    Ptrace = 22,
    /// Changing what is mounted.
    Mount = 23,
    /// Making or entering a namespace.
    Namespace = 24,
    /// Loading code into the kernel.
    KernelModule = 25,
    /// Using `bpf`.
    Bpf = 26,
    /// Using `io_uring`.
    IoUring = 27,
}

impl Op {
    /// All operations.
    pub const ALL: [Self; 24] = [
        Self::Exec,
        Self::Map,
        Self::Read,
        Self::Write,
        Self::Move,
        Self::Socket,
        Self::Egress,
        Self::Ingress,
        Self::Query,
        Self::Capable,
        Self::Syscall,
        Self::SyscallAt,
        Self::AnonymousMapExec,
        Self::FilelessExec,
        Self::ProtectEnv,
        Self::ProtectProc,
        Self::ExecSession,
        Self::Drift,
        Self::Ptrace,
        Self::Mount,
        Self::Namespace,
        Self::KernelModule,
        Self::Bpf,
        Self::IoUring,
    ];

    /// Those about paths.
    pub const PATHS: [Self; 5] = [Self::Exec, Self::Map, Self::Read, Self::Write, Self::Move];

    /// Those that a preset stands for.
    pub const PRESETS: [Self; 12] = [
        Self::AnonymousMapExec,
        Self::FilelessExec,
        Self::ProtectEnv,
        Self::ProtectProc,
        Self::ExecSession,
        Self::Drift,
        Self::Ptrace,
        Self::Mount,
        Self::Namespace,
        Self::KernelModule,
        Self::Bpf,
        Self::IoUring,
    ];

    /// Columns of a decision row; a power of two.
    pub const COLUMNS: u32 = 8;

    /// The column that holds, as a mask, which rules want to see an exec's arguments; in the row of
    /// an argument, which rules list it. No operation's.
    pub const ARGUMENTS: u32 = 5;

    /// This operation's bit in an operation mask such as [`crate::label::Workload::ops`].
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Its column in the rows of what it is about.
    #[must_use]
    #[inline(always)]
    pub const fn column(self) -> u32 {
        // A preset is the only thing that is asked about its word.
        match self as u32 {
            16.. => 0,
            other => other & (Self::COLUMNS - 1),
        }
    }

    /// The operation of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&op| op as u8 == number)
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
