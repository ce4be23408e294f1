//! The system call the running task is in, from its user registers.
//!
//! Numbers of a kernel's several tables (32-bit programs have their own) are not told apart: none that
//! is named here does, in another table, what would be taken for it.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use karmor_abi::word::{self, Convention};

use super::{
    memory::{Ptr, load_u32, read, read_or_zero},
    offsets::{TASK_FLAGS, TASK_THREAD_INFO, THREAD_INFO_STATUS},
};
use crate::maps::CALLS;

/// `PF_IO_WORKER`: a thread that works off io_uring's requests, and is in no system call.
const PF_IO_WORKER: u32 = 0x10;

/// Where user registers have the number of the system call, and what says that it is one of 32-bit
/// programs: `TS_COMPAT` in `thread_info.status`.
#[cfg(bpf_target_arch = "x86_64")]
const NUMBER: u64 = 120;
#[cfg(bpf_target_arch = "x86_64")]
const COMPAT: u32 = 2;

/// The same: `TIF_32BIT` in `thread_info.flags`.
#[cfg(bpf_target_arch = "aarch64")]
const NUMBER: u64 = 280;
#[cfg(bpf_target_arch = "aarch64")]
const COMPAT: u32 = 1 << 22;

/// A system call.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    convention: Convention,
    number: u32,
}

impl Call {
    /// The running task's, of this number; none of one that no table has.
    #[inline(always)]
    pub(crate) fn new(number: u64) -> Option<Self> {
        // 32-bit programs have 32-bit registers; x32 marks its numbers by a higher bit.
        let number = number as u32;
        (number < word::SYSCALLS).then(|| Self {
            convention: convention(),
            number,
        })
    }

    /// Whether some workload's policies ask about it.
    #[inline(always)]
    pub(crate) fn is_asked_about(self) -> bool {
        let (index, bit) = word::call_bit(self.convention, self.number);
        CALLS.get(index).is_some_and(|&calls| calls & bit != 0)
    }

    /// Its word.
    #[inline(always)]
    pub(crate) fn word(self) -> [u8; 4] {
        word::syscall(self.convention, self.number)
    }

    /// Whether it is `execve` or `execveat`.
    #[cfg(bpf_target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn is_exec(self) -> bool {
        match self.convention {
            Convention::Native => matches!(self.number, 59 | 322),
            Convention::Compat => matches!(self.number, 11 | 358),
        }
    }

    /// Whether it is `open`, `creat`, `openat`, `openat2` or `open_by_handle_at`.
    #[cfg(bpf_target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn is_open(self) -> bool {
        match self.convention {
            Convention::Native => matches!(self.number, 2 | 85 | 257 | 437 | 304),
            Convention::Compat => matches!(self.number, 5 | 8 | 295 | 437 | 342),
        }
    }

    /// As above.
    #[cfg(bpf_target_arch = "aarch64")]
    #[inline(always)]
    pub(crate) fn is_exec(self) -> bool {
        match self.convention {
            Convention::Native => matches!(self.number, 221 | 281),
            Convention::Compat => matches!(self.number, 11 | 387),
        }
    }

    /// As above.
    #[cfg(bpf_target_arch = "aarch64")]
    #[inline(always)]
    pub(crate) fn is_open(self) -> bool {
        match self.convention {
            Convention::Native => matches!(self.number, 56 | 437 | 265),
            Convention::Compat => matches!(self.number, 5 | 8 | 322 | 437 | 371),
        }
    }
}

/// By which table the running task makes the system call it is in.
#[inline(always)]
fn convention() -> Convention {
    // SAFETY: the helper returns a BTF pointer, and this is a member of a struct in it.
    let status = unsafe {
        let task = bpf_get_current_task_btf() as Ptr;
        load_u32(task, TASK_THREAD_INFO.load() + THREAD_INFO_STATUS.load())
    };
    if status & COMPAT == 0 {
        Convention::Native
    } else {
        Convention::Compat
    }
}

/// The system call that the running task is in.
#[inline(always)]
pub(crate) fn current() -> Option<Call> {
    // SAFETY: the helper returns a BTF pointer, and this is its member.
    let flags = unsafe { load_u32(bpf_get_current_task_btf() as Ptr, TASK_FLAGS.load()) };
    if flags & PF_IO_WORKER != 0 {
        // Its registers are a copy of those it was made with.
        return None;
    }
    match read::<u32>(registers() + NUMBER) {
        Ok(number) => Call::new(u64::from(number)),
        Err(_) => None,
    }
}

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
        Ok(137 | 138 | 301 | 99 | 100 | 268 | 269 | 339)
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
    /// The system call's first argument in `struct pt_regs`.
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
    /// The system call's first argument in `struct pt_regs`: `orig_x0`.
    pub(super) const FIRST: u64 = 272;
    /// There is no such bit.
    pub(super) const X32: u32 = 0;
    /// clone.
    pub(super) const CLONE: u32 = 220;
    /// unshare, setns; for 32-bit programs unshare, setns and clone.
    pub(super) const NAMESPACES: [u32; 5] = [97, 268, 337, 375, 120];
}

use numbers::{CLONE, FIRST, NAMESPACES, X32};
