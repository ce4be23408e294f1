//! The system call the running task is in, from its user registers.
//!
//! Numbers of a kernel's several tables (32-bit programs have their own) are not told apart: none that
//! is named here does, in another table, what would be taken for it.

use super::memory::{read, read_or_zero};

/// The `argv` pointer of the `execve` or `execveat` the task is in, or 0.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn exec_argv() -> u64 {
    /// `struct pt_regs`: offsets are ABI.
    const SI: u64 = 104;
    const DX: u64 = 96;
    const ORIG_AX: u64 = 120;
    match registers() {
        0 => 0,
        regs => match read_or_zero(regs + ORIG_AX) {
            59 => read_or_zero(regs + SI),
            322 => read_or_zero(regs + DX),
            _ => 0,
        },
    }
}

/// The `argv` pointer of the `execve` or `execveat` the task is in, or 0.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn exec_argv() -> u64 {
    /// `struct pt_regs`: 31 registers, sp, pc, pstate, orig_x0, then the system call's number.
    const X1: u64 = 8;
    const X2: u64 = 16;
    const SYSCALL: u64 = 280;
    match registers() {
        0 => 0,
        regs => match read_or_zero(regs + SYSCALL) as u32 {
            221 => read_or_zero(regs + X1),
            281 => read_or_zero(regs + X2),
            _ => 0,
        },
    }
}

/// Address of the user registers of the running task.
#[inline(always)]
fn registers() -> u64 {
    use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
    // SAFETY: the helper takes the running task.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
}

/// Whether the system call only asks about a file system, or watches it. None of these numbers, of
/// any of the kernel's tables, is that of one that mounts.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn is_statfs() -> bool {
    const ORIG_AX: u64 = 120;
    // statfs, fstatfs, fanotify_mark; for 32-bit programs statfs, fstatfs and both with 64 bits, and
    // fanotify_mark.
    matches!(
        read::<u32>(registers() + ORIG_AX),
        Ok(137 | 138 | 300 | 99 | 100 | 268 | 269 | 339)
    )
}

/// Whether the system call only asks about a file system, or watches it. None of these numbers, of
/// any of the kernel's tables, is that of one that mounts.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn is_statfs() -> bool {
    const SYSCALL: u64 = 280;
    // As above, in this architecture's numbers.
    matches!(
        read::<u32>(registers() + SYSCALL),
        Ok(43 | 44 | 263 | 99 | 100 | 266 | 267 | 367)
    )
}

/// What a system call that uses `CAP_SYS_ADMIN` is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// What is mounted, and no other hook sees it.
    Mounts,
    /// A namespace: one is made or entered.
    Namespaces,
    /// Something else.
    Other,
}

/// `CLONE_NEWTIME`, `CLONE_NEWNS`, `CLONE_NEWCGROUP`, `CLONE_NEWUTS`, `CLONE_NEWIPC`, `CLONE_NEWUSER`,
/// `CLONE_NEWPID`, `CLONE_NEWNET`.
const CLONE_NEW: u64 = 0x7e02_0080;

/// What the system call that the running task is in is about.
#[inline(always)]
pub(crate) fn about() -> About {
    let Ok(number) = read::<u32>(registers() + NUMBER) else {
        return About::Other;
    };
    match number & !X32 {
        // open_tree, fsopen, fsconfig, fsmount, fspick, mount_setattr, open_tree_attr; the rest has
        // hooks of its own.
        428 | 430..=433 | 442 | 467 => About::Mounts,
        // clone3: its flags are in memory, which may have changed since.
        435 => About::Namespaces,
        number if NAMESPACES.contains(&number) => About::Namespaces,
        CLONE if read_or_zero(registers() + FIRST) & CLONE_NEW != 0 => About::Namespaces,
        _ => About::Other,
    }
}

#[cfg(bpf_target_arch = "x86_64")]
mod numbers {
    /// `struct pt_regs`: offsets are ABI. The system call's number.
    pub(super) const NUMBER: u64 = 120;
    /// Its first argument.
    pub(super) const FIRST: u64 = 112;
    /// The bit of the x32 ABI's numbers.
    pub(super) const X32: u32 = 1 << 30;
    /// clone.
    pub(super) const CLONE: u32 = 56;
    /// unshare, setns; for 32-bit programs unshare, setns and clone.
    pub(super) const NAMESPACES: [u32; 5] = [272, 308, 310, 346, 120];
}

#[cfg(bpf_target_arch = "aarch64")]
mod numbers {
    /// `struct pt_regs`: 31 registers, sp, pc, pstate, orig_x0, then the system call's number.
    pub(super) const NUMBER: u64 = 280;
    /// Its first argument: `orig_x0`.
    pub(super) const FIRST: u64 = 272;
    /// There is no such bit.
    pub(super) const X32: u32 = 0;
    /// clone.
    pub(super) const CLONE: u32 = 220;
    /// unshare, setns; for 32-bit programs unshare, setns and clone.
    pub(super) const NAMESPACES: [u32; 5] = [97, 268, 337, 375, 120];
}

use numbers::{CLONE, FIRST, NAMESPACES, NUMBER, X32};
