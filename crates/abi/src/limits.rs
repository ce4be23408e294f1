//! Sizes that both sides of the kernel line rely on.

/// Longest path that is decided by its text, in bytes, without a terminating NUL (`PATH_MAX - 1`).
pub const PATH_BYTES: usize = 4095;

/// Most components a path may have before it is classed [`crate::op::Object::TooLong`].
pub const PATH_COMPONENTS: usize = 256;

/// Longest name of one component, in bytes (`NAME_MAX`).
pub const NAME_BYTES: usize = 255;

/// Most bytes of command line an event carries; what does not fit is cut.
pub const ARGS_BYTES: usize = 1024;

/// Most arguments of a command line an event carries.
pub const ARGS_MAX: usize = 64;

/// Most arguments of an exec that a rule can list; with more, some are in no list.
pub const ARGUMENTS: u32 = 64;

/// Longest argument that a rule can list, in bytes; a longer one is in no list.
pub const ARGUMENT_BYTES: usize = 4096;

/// Most rules with arguments in one compiled table: each has a bit in a row.
pub const ARGUMENT_RULES: usize = 64;

/// Bytes of a controlling terminal's name in an event, NUL padded (`pts0`).
pub const TTY_BYTES: usize = 16;

/// Bytes of a task's `comm`, NUL padded (`TASK_COMM_LEN`).
pub const COMM_BYTES: usize = 16;

/// Most rules in one compiled table.
pub const RULES: usize = 1 << 20;

/// Most workloads one node can hold at a time; the index of [`crate::label::Workload`] entries.
/// 65,536 entries × 24 bytes = 1.5 MiB.
pub const WORKLOADS: u32 = 1 << 16;

/// Most distinct compiled tables of one size class at a time.
pub const TABLES_PER_CLASS: u32 = 1 << 12;
