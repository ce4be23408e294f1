//! Descriptors that were open before a policy, and such as others pass on: `task_file`,
//! `file_permission`, `file_ioctl`, `file_free_security`, `file_receive`.
//!
//! ```text
//! task_file        looks, when a table has come into force  ──▶ SUSPECTS
//! file_permission  each use of one of those is decided      ◀── SUSPECTS
//! file_ioctl       as above                                 ◀── SUSPECTS
//! file_free_security  the last descriptor is closed         ──▶ SUSPECTS
//! file_receive     comes from another process: decided like an open
//! ```

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{counters::Fault, descriptor::Suspect, event::Hook, op::Op};

use crate::{
    decide::{ALLOWED, DENIED, Object, decide, is_suspect},
    elsewhere,
    emit::count_fault,
    guard::{is_refused_writing, refuse_writing},
    kernel::{
        memory::{Ptr, load, load_u16, load_u32},
        offsets::{
            FILE_F_FLAGS, FILE_F_MODE, INODE_I_MODE, INODE_I_RDEV, NSPROXY_MNT_NS, TASK_NSPROXY,
            VFSMOUNT_MNT_FLAGS,
        },
        path::MNT_INTERNAL,
        task::Task,
    },
    maps::{SEARCH, SUSPECTS},
    object::file::{FMODE_WRITE, inode_of, is_standard_device, open_for, place_of},
    subject::{Identity, Subject, workload_of_task},
};

/// Of the mask that `file_permission` gets: `MAY_WRITE`, `MAY_READ`, `MAY_APPEND`.
const MAY_WRITE: u32 = 2;
const MAY_READ: u32 = 4;
const MAY_APPEND: u32 = 8;

/// `file_permission(file, mask)`: read, write and whatever else moves a file's data, once a
/// descriptor is suspect.
#[lsm(hook = "file_permission")]
pub(crate) fn file_permission(ctx: LsmContext) -> i32 {
    let file: Ptr = ctx.arg(0);
    let mask: u32 = ctx.arg(1);
    if !is_from_before(file) {
        return ALLOWED;
    }
    let identity = Identity::current(false);
    if mask & (MAY_WRITE | MAY_APPEND) != 0 && refuse_writing(identity, file, Hook::Use) != ALLOWED
    {
        return DENIED;
    }
    let mut ops = 0;
    if mask & MAY_READ != 0 {
        ops |= Op::Read.bit();
    }
    if mask & (MAY_WRITE | MAY_APPEND) != 0 {
        ops |= Op::Write.bit();
    }
    match Subject::new(&identity, ops) {
        Some(subject) => decide(&subject, &Object::of(file), subject.ops, Hook::Use, 0),
        None => ALLOWED,
    }
}

/// Of `ioctl`, what is about the descriptor and not the file: `FIONBIO`, `FIONCLEX`, `FIOCLEX`,
/// `FIOASYNC`; and `TCGETS`, by which everybody asks whether it is a terminal.
const ABOUT_DESCRIPTORS: [u32; 5] = [0x5421, 0x5450, 0x5451, 0x5452, 0x5401];

/// `file_ioctl(file, command, argument)`: whatever that does, it is done to the file.
#[lsm(hook = "file_ioctl")]
pub(crate) fn file_ioctl(ctx: LsmContext) -> i32 {
    control(&ctx)
}

/// `file_ioctl_compat(file, command, argument)`: of 32-bit programs, since 6.8.
#[lsm(hook = "file_ioctl_compat")]
pub(crate) fn file_ioctl_compat(ctx: LsmContext) -> i32 {
    control(&ctx)
}

#[inline(always)]
fn control(ctx: &LsmContext) -> i32 {
    let (file, command): (Ptr, u32) = (ctx.arg(0), ctx.arg(1));
    if ABOUT_DESCRIPTORS.contains(&command) || !is_from_before(file) {
        return ALLOWED;
    }
    // SAFETY: a member of the hook's argument.
    let ops = open_for(unsafe { load_u32(file, FILE_F_MODE.load()) });
    match Subject::current(ops) {
        Some(subject) => decide(
            &subject,
            &Object::of(file),
            subject.ops,
            Hook::Ioctl,
            command,
        ),
        None => ALLOWED,
    }
}

/// Whether each use of an open file is decided. `file` must be a BTF pointer.
#[inline(always)]
pub(super) fn is_from_before(file: Ptr) -> bool {
    // SAFETY: entries are replaced whole; the address is that of a live file.
    let noted = match unsafe { SUSPECTS.get(file as u64) } {
        Some(suspect) => suspect.inode == inode_of(file) as u64,
        None => false,
    };
    noted || all_are_suspect() && is_decided(file)
}

/// `file_free_security(file)`: before the address is used again.
#[lsm(hook = "file_free_security")]
pub(crate) fn file_free_security(ctx: LsmContext) -> i32 {
    let file: Ptr = ctx.arg(0);
    // SAFETY: as above. A look takes no lock, and most files are not there.
    if unsafe { SUSPECTS.get(file as u64) }.is_some() {
        // Before 6.2 a removal fails when it interrupts a change of the same bucket. What that left
        // behind is not of the next file's inode, or is no more than a question.
        let _ = SUSPECTS.remove(file as u64);
    }
    ALLOWED
}

/// `file_receive(file)`: a descriptor comes over a socket, or is taken from another process.
#[lsm(hook = "file_receive")]
pub(crate) fn file_receive(ctx: LsmContext) -> i32 {
    let file: Ptr = ctx.arg(0);
    let Some(subject) = Subject::current(Op::Read.bit() | Op::Write.bit()) else {
        return ALLOWED;
    };
    // SAFETY: the hook's argument and its members.
    let (mode, flags) = unsafe {
        (
            load_u32(file, FILE_F_MODE.load()),
            load_u32(file, FILE_F_FLAGS.load()),
        )
    };
    let ops = open_for(mode) & subject.ops;
    if ops == 0 || !is_decided(file) {
        return ALLOWED;
    }
    decide(&subject, &Object::of(file), ops, Hook::Receive, flags)
}

/// What the iterator gets for each descriptor; both pointers are null at the end.
#[repr(C)]
struct TaskFile {
    meta: Ptr,
    task: Ptr,
    fd: u32,
    file: Ptr,
}

/// `bpf_iter__task_file`: every descriptor of every task. It runs in the daemon, which holds the file
/// meanwhile, and nothing of it reaches a task.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub(crate) extern "C" fn task_file(ctx: *mut c_void) -> i32 {
    let ctx: *const TaskFile = ctx.cast();
    // SAFETY: the context of this kind of program.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if !task.is_null() && !file.is_null() {
        // SAFETY: members of a BTF pointer.
        let namespace = unsafe { load(load(task, TASK_NSPROXY.load()), NSPROXY_MNT_NS.load()) };
        // A task that is about to end has none.
        if !namespace.is_null() {
            look_at(task, file, namespace);
        }
    }
    0
}

#[inline(always)]
fn look_at(task: Ptr, file: Ptr, namespace: Ptr) {
    let identity = Identity {
        label: core::ptr::null_mut(),
        workload: workload_of_task(task as u64),
    };
    if Subject::new(&identity, u32::MAX).is_some() {
        elsewhere::look_at_home(identity.workload, namespace);
    }
    let Some(search) = SEARCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a map value, which nothing else writes while the search goes on.
    let (number, notes) = unsafe { ((*search).number, (*search).notes != 0) };
    let refused = is_refused(identity, task, file, namespace);
    let known = SUSPECTS.get_ptr_mut(file as u64);
    let inode = inode_of(file) as u64;
    if let Some(known) = known
        // SAFETY: a map value.
        && unsafe { (*known).inode } == inode
    {
        // SAFETY: as above.
        unsafe {
            (*known).seen = number;
            if refused {
                (*known).refused = number;
                (*search).found += 1;
            }
        }
        return;
    }
    if !refused {
        return;
    }
    // SAFETY: as above.
    unsafe { (*search).found += 1 };
    if !notes {
        return;
    }
    let suspect = Suspect {
        inode,
        seen: number,
        refused: number,
    };
    if SUSPECTS.insert(file as u64, suspect, 0).is_err() {
        count_fault(Fault::NoSuspect);
        // SAFETY: as above.
        unsafe {
            (*search).unnoted += 1;
            (*search).all = 1;
        }
    }
}

/// Whether the table of a task's workload refuses its descriptor to somebody, or the daemon's own
/// protection does.
#[inline(always)]
fn is_refused(identity: Identity, task: Ptr, file: Ptr, namespace: Ptr) -> bool {
    // SAFETY: a member of a BTF pointer.
    let mode = unsafe { load_u32(file, FILE_F_MODE.load()) };
    let ops = open_for(mode);
    if ops == 0 {
        return false;
    }
    if mode & FMODE_WRITE != 0 && is_refused_writing(Task(task as u64), identity, file) {
        return true;
    }
    let Some(subject) = Subject::new(&identity, ops) else {
        return false;
    };
    is_decided(file) && is_suspect(&subject, &Object::of(file), subject.ops, namespace as u64)
}

/// Whether descriptors for this are decided after they were opened: not for what no path leads to, such
/// as pipes, sockets and memory, nor for terminals and the likes of `/dev/null`, with which programs are
/// started. `file` must be a BTF pointer.
#[inline(always)]
fn is_decided(file: Ptr) -> bool {
    // SAFETY: members of BTF pointers.
    let (mount, mode, device) = unsafe {
        let inode = inode_of(file);
        (
            load_u32(place_of(file).mnt, VFSMOUNT_MNT_FLAGS.load()),
            load_u16(inode, INODE_I_MODE.load()),
            load_u32(inode, INODE_I_RDEV.load()),
        )
    };
    mount & MNT_INTERNAL == 0 && !is_standard_device(mode, device)
}

/// Whether every open file is decided at each use.
#[inline(always)]
fn all_are_suspect() -> bool {
    match SEARCH.get(0) {
        Some(search) => search.all != 0,
        None => false,
    }
}
