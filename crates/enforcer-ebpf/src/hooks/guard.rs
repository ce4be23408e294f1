//! What could be done to the enforcer itself: signals, limits, tracing, its maps and programs, its pins,
//! sockets and files, and what is mounted over them.

use aya_ebpf::{EbpfContext as _, macros::lsm, programs::LsmContext};
use karmor_abi::{
    event::Hook,
    guard::{Guarded, Own},
};

use super::mount::{MS_BIND, MS_MOVE, MS_PROPAGATION, MS_REMOUNT, place_of};
use crate::{
    decide::DENIED,
    guard::{
        refuse_change, refuse_connection, refuse_image, refuse_mount, refuse_name, refuse_names,
        refuse_object, refuse_on, refuse_root, refuse_signal, refuse_tracing,
    },
    kernel::{
        memory::{Ptr, load, load_u32, read_or_zero},
        offsets::{BPF_MAP_ID, BPF_PROG_AUX, BPF_PROG_AUX_ID, SETATTR_DENTRY},
        task::Task,
    },
};

/// `task_kill(task, info, signal, cred)`: signal 0 only asks whether there is a process.
#[lsm(hook = "task_kill")]
pub(crate) fn task_kill(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let signal: u64 = ctx.arg(2);
    if signal as u32 == 0 {
        return 0;
    }
    refuse_on(Task(task as u64), Hook::Kill)
}

/// `file_send_sigiotask(task, owner, signal)`: `F_SETOWN` and `F_SETSIG` have the kernel send it.
#[lsm(hook = "file_send_sigiotask")]
pub(crate) fn file_send_sigiotask(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    refuse_signal(Task(task as u64), Hook::SendSigio)
}

/// `task_setrlimit(task, resource, limit)`: whose limit of CPU time is over is killed.
#[lsm(hook = "task_setrlimit")]
pub(crate) fn task_setrlimit(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    refuse_on(Task(task as u64), Hook::Setrlimit)
}

/// `task_setscheduler(task)`: who never runs tells nothing.
#[lsm(hook = "task_setscheduler")]
pub(crate) fn task_setscheduler(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    refuse_on(Task(task as u64), Hook::Setscheduler)
}

/// `task_setnice(task, nice)`: likewise.
#[lsm(hook = "task_setnice")]
pub(crate) fn task_setnice(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    refuse_on(Task(task as u64), Hook::Setnice)
}

/// `task_setioprio(task, priority)`: whose disk never turns writes nothing.
#[lsm(hook = "task_setioprio")]
pub(crate) fn task_setioprio(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    refuse_on(Task(task as u64), Hook::Setioprio)
}

/// `unix_stream_connect(sock, other, newsk)`.
#[lsm(hook = "unix_stream_connect")]
pub(crate) fn unix_stream_connect(ctx: LsmContext) -> i32 {
    let other: Ptr = ctx.arg(1);
    refuse_connection(other as u64, Hook::UnixConnect)
}

/// `PTRACE_MODE_ATTACH`: to change it, and not just to look.
const PTRACE_MODE_ATTACH: u32 = 2;

/// `ptrace_access_check(task, mode)`: tracing, and the memory and descriptors of another process.
/// Who collects facts about processes may go on.
#[lsm(hook = "ptrace_access_check")]
pub(crate) fn ptrace_access_check(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let mode: u64 = ctx.arg(1);
    if mode as u32 & PTRACE_MODE_ATTACH == 0 {
        return 0;
    }
    refuse_tracing(Task(task as u64), Hook::PtraceAccess)
}

/// `task_prctl(option, what, ..)`: `PR_SET_MM` with `PR_SET_MM_EXE_FILE`, or with `PR_SET_MM_MAP`, which
/// may do the same.
#[lsm(hook = "task_prctl")]
pub(crate) fn task_prctl(ctx: LsmContext) -> i32 {
    const PR_SET_MM: i32 = 35;
    let (option, what): (i32, u64) = (ctx.arg(0), ctx.arg(1));
    if option == PR_SET_MM && matches!(what, 13 | 14) {
        refuse_image(Hook::Prctl)
    } else {
        0
    }
}

/// `bpf_map(map, mode)`: whoever makes a map, opens a pinned one or one by its id.
#[lsm(hook = "bpf_map")]
pub(crate) fn bpf_map(ctx: LsmContext) -> i32 {
    let map: Ptr = ctx.arg(0);
    // SAFETY: a member of the hook's argument.
    let own = Own::map(unsafe { load_u32(map, BPF_MAP_ID.load()) });
    refuse_object(own, Guarded::Map, Hook::BpfMap)
}

/// `bpf_prog(program)`: likewise. A program's functions can be replaced by who has a descriptor.
#[lsm(hook = "bpf_prog")]
pub(crate) fn bpf_prog(ctx: LsmContext) -> i32 {
    let program: Ptr = ctx.arg(0);
    // SAFETY: members of the hook's argument.
    let own = Own::program(unsafe {
        load_u32(load(program, BPF_PROG_AUX.load()), BPF_PROG_AUX_ID.load())
    });
    refuse_object(own, Guarded::Program, Hook::BpfProg)
}

/// `inode_unlink(directory, dentry)`.
#[lsm(hook = "inode_unlink")]
pub(crate) fn inode_unlink(ctx: LsmContext) -> i32 {
    refuse_name(ctx.arg(1), Hook::Unlink)
}

/// `inode_rmdir(directory, dentry)`.
#[lsm(hook = "inode_rmdir")]
pub(crate) fn inode_rmdir(ctx: LsmContext) -> i32 {
    refuse_name(ctx.arg(1), Hook::Rmdir)
}

/// `inode_create(directory, dentry, mode)`.
#[lsm(hook = "inode_create")]
pub(crate) fn inode_create(ctx: LsmContext) -> i32 {
    refuse_change(ctx.arg(1), Hook::Mknod)
}

/// `inode_mkdir(directory, dentry, mode)`.
#[lsm(hook = "inode_mkdir")]
pub(crate) fn inode_mkdir(ctx: LsmContext) -> i32 {
    refuse_change(ctx.arg(1), Hook::Mkdir)
}

/// `inode_mknod(directory, dentry, mode, device)`.
#[lsm(hook = "inode_mknod")]
pub(crate) fn inode_mknod(ctx: LsmContext) -> i32 {
    refuse_change(ctx.arg(1), Hook::Mknod)
}

/// `inode_symlink(directory, dentry, target)`.
#[lsm(hook = "inode_symlink")]
pub(crate) fn inode_symlink(ctx: LsmContext) -> i32 {
    refuse_change(ctx.arg(1), Hook::Symlink)
}

/// `inode_link(dentry, directory, new)`: another name for it, or one of it for another.
#[lsm(hook = "inode_link")]
pub(crate) fn inode_link(ctx: LsmContext) -> i32 {
    refuse_names(ctx.arg(0), ctx.arg(2), Hook::Link)
}

/// `inode_rename(directory, dentry, new_directory, new_dentry)`: where from, what, where to, and what
/// was there.
#[lsm(hook = "inode_rename")]
pub(crate) fn inode_rename(ctx: LsmContext) -> i32 {
    refuse_names(ctx.arg(1), ctx.arg(3), Hook::Rename)
}

/// `inode_setattr(dentry, attributes)`, or behind an `idmap`: permissions, owner, length and times, also
/// of what a stacked file system shows elsewhere.
#[lsm(hook = "inode_setattr")]
pub(crate) fn inode_setattr(ctx: LsmContext) -> i32 {
    let argument = ctx.as_ptr() as u64 + u64::from(SETATTR_DENTRY.load()) * 8;
    refuse_change(read_or_zero(argument) as Ptr, Hook::Setattr)
}

/// `sb_mount(dev_name, path, type, flags, data)`: what is mounted over the daemon's own hides it. A file
/// system may be made read-only, but not under the daemon. What is moved is not passed: in the daemon's
/// namespace nothing is.
#[lsm(hook = "sb_mount")]
pub(crate) fn guard_mount(ctx: LsmContext) -> i32 {
    let flags: u64 = ctx.arg(3);
    if flags & (MS_REMOUNT | MS_BIND) == 0 {
        if flags & MS_PROPAGATION != 0 {
            return 0;
        }
        if flags & MS_MOVE != 0 && refuse_root(Hook::Mount) != 0 {
            return DENIED;
        }
    }
    refuse_mount(place_of(ctx.arg(1)), Hook::Mount)
}

/// `move_mount(from, to)`: likewise, and what the daemon's own lies in stays.
#[lsm(hook = "move_mount")]
pub(crate) fn guard_move_mount(ctx: LsmContext) -> i32 {
    if refuse_mount(place_of(ctx.arg(0)), Hook::MoveMount) != 0 {
        return DENIED;
    }
    refuse_mount(place_of(ctx.arg(1)), Hook::MoveMount)
}

/// `sb_pivotroot(old, new)`.
#[lsm(hook = "sb_pivotroot")]
pub(crate) fn guard_pivotroot(_ctx: LsmContext) -> i32 {
    refuse_root(Hook::PivotRoot)
}
