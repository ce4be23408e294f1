//! The system call the running task is in, from its user registers.

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
