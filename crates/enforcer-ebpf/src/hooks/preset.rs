//! What presets are about, noticed where it happens. Programs of their own, so that what no policy
//! asks for costs nothing; where one hook is about several presets, one program is.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{event::Hook, op::Op};

use super::exec::mapped_file;
use crate::{
    decide::{ALLOWED, DENIED},
    decide_word::Report,
    elsewhere::{self, PROC},
    kernel::{
        memory::{Ptr, load, load_u16, load_u32, load_u64, read, read_or_zero},
        offsets::{
            BPRM_FILE, DENTRY_D_NAME, INODE_BYTES, INODE_I_MODE, INODE_I_NLINK, INODE_I_SB,
            PATH_DENTRY, PATH_MNT, PROC_INODE_PID, PROC_INODE_VFS, QSTR_NAME, SUPER_BLOCK_S_DEV,
            SUPER_BLOCK_S_MAGIC, VFSMOUNT_MNT_FLAGS, VFSMOUNT_MNT_ROOT, VMA_ANON, VMA_FILE,
            VMA_FLAGS,
        },
        path::{MNT_INTERNAL, Place},
        syscall::{self, About},
        task::Task,
    },
    object::file::{inode_of, is_character_device, place_of},
    preset::{Notice, decide},
    subject::Subject,
};

/// `PROT_WRITE`, `PROT_EXEC`.
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
/// The bit that `MAP_SHARED` and `MAP_SHARED_VALIDATE` have and `MAP_PRIVATE` lacks.
const MAP_SHARED: u64 = 1;
/// `VM_EXEC`, `VM_SHARED`.
const VM_EXEC: u64 = 4;
const VM_SHARED: u64 = 8;

/// `TMPFS_MAGIC`, also that of shared memory and of devtmpfs; `RAMFS_MAGIC`; `HUGETLBFS_MAGIC`;
/// `SECRETMEM_MAGIC`.
const MEMORY: [u64; 4] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6, 0x5345_434d];
/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY: u64 = 0x794c_7630;

/// `PTRACE_MODE_ATTACH`, `PTRACE_MODE_NOAUDIT`.
const PTRACE_MODE_ATTACH: u32 = 2;
const PTRACE_MODE_NOAUDIT: u32 = 4;

/// `CAP_SYS_ADMIN`.
const CAP_SYS_ADMIN: u64 = 21;
/// `CAP_OPT_NOAUDIT`.
const CAP_OPT_NOAUDIT: u64 = 2;

/// What the kernel reads that is code: `READING_MODULE` is 2, followed by the images of kernels and, in
/// newer kernels, before these by compressed modules.
const CODE: core::ops::RangeInclusive<i32> = 2..=4;

/// What is executed or mapped executable. `file` must be a BTF pointer that is not null.
struct Code {
    file: Ptr,
    inode: Ptr,
    super_block: Ptr,
}

impl Code {
    #[inline(always)]
    fn of(file: Ptr) -> Self {
        let inode = inode_of(file);
        Self {
            file,
            inode,
            // SAFETY: a member of a BTF pointer.
            super_block: unsafe { load(inode, INODE_I_SB.load()) },
        }
    }

    #[inline(always)]
    fn notice(&self, hook: Hook) -> Notice {
        Notice::at(hook, place_of(self.file).place())
    }

    #[inline(always)]
    fn magic(&self) -> u64 {
        // SAFETY: a member of a BTF pointer.
        unsafe { load_u64(self.super_block, SUPER_BLOCK_S_MAGIC.load()) }
    }

    /// Whether it is on the file system that the workload's root is on.
    #[inline(always)]
    fn is_on_root(&self, subject: &Subject) -> bool {
        // SAFETY: a member of a BTF pointer.
        let device = unsafe { load_u32(self.super_block, SUPER_BLOCK_S_DEV.load()) };
        device == elsewhere::root_of(subject.workload)
    }

    /// Whether it has no name left, or never had one.
    #[inline(always)]
    fn is_nameless(&self) -> bool {
        // SAFETY: a member of a BTF pointer.
        unsafe { load_u32(self.inode, INODE_I_NLINK.load()) == 0 }
    }

    /// Whether it lies in no lasting file system. A root in memory lasts as long as what runs in it.
    #[inline(always)]
    fn is_fileless(&self, subject: &Subject) -> bool {
        self.is_nameless() || MEMORY.contains(&self.magic()) && !self.is_on_root(subject)
    }

    /// Whether it did not come with the image of a container.
    #[inline(always)]
    fn is_drift(&self, subject: &Subject) -> bool {
        if self.magic() != OVERLAY || !self.is_on_root(subject) {
            return true;
        }
        // The dentry of what was written follows an overlay's inode.
        let upper = read::<u64>(self.inode as u64 + u64::from(INODE_BYTES.load()));
        upper != Ok(0)
    }

    /// Whether mapping it is to map memory: what the kernel has for itself, as of `memfd_create`,
    /// deleted files, devices.
    #[inline(always)]
    fn is_memory(&self) -> bool {
        let place = place_of(self.file);
        // SAFETY: members of BTF pointers.
        let (flags, mode) = unsafe {
            (
                load_u32(place.mnt, VFSMOUNT_MNT_FLAGS.load()),
                load_u16(self.inode, INODE_I_MODE.load()),
            )
        };
        flags & MNT_INTERNAL != 0 || is_character_device(mode) || self.is_nameless()
    }

    /// Decides whether it may become code.
    #[inline(always)]
    fn decide(&self, subject: &Subject, hook: Hook) -> i32 {
        if subject.ops & Op::FilelessExec.bit() != 0
            && self.is_fileless(subject)
            && decide(subject, Op::FilelessExec, self.notice(hook)) != ALLOWED
        {
            return DENIED;
        }
        if subject.ops & Op::Drift.bit() != 0
            && self.is_drift(subject)
            && decide(subject, Op::Drift, self.notice(hook)) != ALLOWED
        {
            return DENIED;
        }
        ALLOWED
    }
}

const EXECUTED: u32 = Op::FilelessExec.bit() | Op::Drift.bit();

/// `bprm_check_security(bprm)`: filelessExec, drift, exec.
#[lsm(hook = "bprm_check_security")]
pub(crate) fn preset_exec(ctx: LsmContext) -> i32 {
    let Some(subject) = Subject::executing(EXECUTED | Op::ExecSession.bit()) else {
        return ALLOWED;
    };
    let bprm: Ptr = ctx.arg(0);
    // SAFETY: the hook's argument and its member.
    let code = Code::of(unsafe { load(bprm, BPRM_FILE.load()) });
    // SAFETY: not null, and only this task writes its label.
    let is_inside = !subject.label.is_null() && unsafe { (*subject.label).exec_id } == 0;
    if !is_inside && decide(&subject, Op::ExecSession, code.notice(Hook::Exec)) != ALLOWED {
        return DENIED;
    }
    code.decide(&subject, Hook::Exec)
}

const MAPPED: u32 = EXECUTED | Op::AnonymousMapExec.bit();

/// `mmap_file(file, reqprot, prot, flags)`: anonymousMapExec; filelessExec and drift of what
/// `ld.so FILE` executes.
#[lsm(hook = "mmap_file")]
pub(crate) fn preset_mmap(ctx: LsmContext) -> i32 {
    let prot: u64 = ctx.arg(2);
    let flags: u64 = ctx.arg(3);
    if prot & PROT_EXEC == 0 {
        return ALLOWED;
    }
    let Some(subject) = Subject::current(MAPPED) else {
        return ALLOWED;
    };
    let Some(file) = mapped_file(&ctx) else {
        let notice = Notice {
            flags: prot as u32,
            ..Notice::by(Hook::Mmap)
        };
        return decide(&subject, Op::AnonymousMapExec, notice);
    };
    let code = Code::of(file);
    let notice = Notice {
        flags: prot as u32,
        ..code.notice(Hook::Mmap)
    };
    if subject.ops & Op::AnonymousMapExec.bit() != 0
        && (prot & PROT_WRITE != 0 || code.is_memory())
        && decide(&subject, Op::AnonymousMapExec, notice) != ALLOWED
    {
        return DENIED;
    }
    // The image itself was decided at exec, and memory that is shared is for anonymousMapExec.
    if file as u64 == Task::current().exe_file() || flags & MAP_SHARED != 0 && code.is_memory() {
        return ALLOWED;
    }
    code.decide(&subject, Hook::Mmap)
}

/// `file_mprotect(vma, reqprot, prot)`: as above, for memory that is there.
#[lsm(hook = "file_mprotect")]
pub(crate) fn preset_mprotect(ctx: LsmContext) -> i32 {
    let vma: Ptr = ctx.arg(0);
    let prot: u64 = ctx.arg(2);
    if prot & PROT_EXEC == 0 {
        return ALLOWED;
    }
    let Some(subject) = Subject::current(MAPPED) else {
        return ALLOWED;
    };
    // SAFETY: the hook's argument and its members.
    let (file, flags) = unsafe { (load(vma, VMA_FILE.load()), load_u64(vma, VMA_FLAGS.load())) };
    // As a number: the verifier lets nobody calculate with pointers, and the compiler would.
    let anonymous = read_or_zero(vma as u64 + u64::from(VMA_ANON.load()));
    if file.is_null() {
        let notice = Notice {
            flags: prot as u32,
            ..Notice::by(Hook::Mprotect)
        };
        return decide(&subject, Op::AnonymousMapExec, notice);
    }
    let code = Code::of(file);
    let notice = Notice {
        flags: prot as u32,
        ..code.notice(Hook::Mprotect)
    };
    // Of a private mapping, what was written to has become anonymous.
    if subject.ops & Op::AnonymousMapExec.bit() != 0
        && (prot & PROT_WRITE != 0 || anonymous != 0 || code.is_memory())
        && decide(&subject, Op::AnonymousMapExec, notice) != ALLOWED
    {
        return DENIED;
    }
    if flags & VM_EXEC != 0
        || file as u64 == Task::current().exe_file()
        || flags & VM_SHARED != 0 && code.is_memory()
    {
        return ALLOWED;
    }
    code.decide(&subject, Hook::Mprotect)
}

/// Whether an inode of /proc is about another process than the running one. `inode` by address.
#[inline(always)]
fn is_of_another(inode: u64) -> bool {
    let of = inode - u64::from(PROC_INODE_VFS.load());
    let Ok(pid) = read::<u64>(of + u64::from(PROC_INODE_PID.load())) else {
        return true;
    };
    let own = Task::current();
    if pid == 0 || pid == own.pid() {
        return false;
    }
    match Task::of_pid(pid) {
        // A thread.
        Some(task) => task.signal() != own.signal(),
        None => true,
    }
}

/// `inode` is a BTF pointer.
#[inline(always)]
fn is_of_processes(inode: Ptr) -> bool {
    // SAFETY: members of BTF pointers.
    unsafe {
        let super_block = load(inode, INODE_I_SB.load());
        load_u64(super_block, SUPER_BLOCK_S_MAGIC.load()) == PROC
    }
}

/// `file_open(file)`: protectEnv, protectProc.
#[lsm(hook = "file_open")]
pub(crate) fn preset_open(ctx: LsmContext) -> i32 {
    let file: Ptr = ctx.arg(0);
    let inode = inode_of(file);
    if !is_of_processes(inode) {
        return ALLOWED;
    }
    let Some(subject) = Subject::current(Op::ProtectEnv.bit() | Op::ProtectProc.bit()) else {
        return ALLOWED;
    };
    if !is_of_another(inode as u64) {
        return ALLOWED;
    }
    let place = place_of(file);
    let notice = Notice::at(Hook::Open, place.place());
    if subject.ops & Op::ProtectEnv.bit() != 0
        && is_environment(place.dentry as u64)
        && decide(&subject, Op::ProtectEnv, notice) != ALLOWED
    {
        return DENIED;
    }
    decide(&subject, Op::ProtectProc, notice)
}

/// Whether a dentry of a process is its environment. What cannot be read may be.
#[inline(always)]
fn is_environment(dentry: u64) -> bool {
    let name = dentry + u64::from(DENTRY_D_NAME.load()) + u64::from(QSTR_NAME.load());
    match read::<u64>(read_or_zero(name)) {
        Ok(name) => name == u64::from_ne_bytes(*b"environ\0"),
        Err(_) => true,
    }
}

/// `inode_follow_link(dentry, inode, rcu)`: protectProc, of what leads to a process' files, root and
/// namespaces.
#[lsm(hook = "inode_follow_link")]
pub(crate) fn preset_follow(ctx: LsmContext) -> i32 {
    let dentry: Ptr = ctx.arg(0);
    let inode: Ptr = ctx.arg(1);
    if !is_of_processes(inode) {
        return ALLOWED;
    }
    let Some(subject) = Subject::current(Op::ProtectProc.bit()) else {
        return ALLOWED;
    };
    if !is_of_another(inode as u64) {
        return ALLOWED;
    }
    let object = Place {
        mnt: 0,
        dentry: dentry as u64,
    };
    decide(
        &subject,
        Op::ProtectProc,
        Notice::at(Hook::FollowLink, object),
    )
}

/// `ptrace_access_check(child, mode)`: ptrace, of what attaches: also `process_vm_readv`,
/// `/proc/PID/mem`, `pidfd_getfd`. Not called for threads of the process itself.
#[lsm(hook = "ptrace_access_check")]
pub(crate) fn preset_ptrace(ctx: LsmContext) -> i32 {
    let child: Ptr = ctx.arg(0);
    let mode: u32 = ctx.arg(1);
    if mode & PTRACE_MODE_ATTACH == 0 {
        return ALLOWED;
    }
    let Some(subject) = Subject::current(Op::Ptrace.bit()) else {
        return ALLOWED;
    };
    let notice = Notice {
        report: if mode & PTRACE_MODE_NOAUDIT == 0 {
            Report::Always
        } else {
            Report::Never
        },
        ..Notice::at(Hook::PtraceAccess, Task(child as u64).exe())
    };
    decide(&subject, Op::Ptrace, notice)
}

/// `ptrace_traceme(parent)`: ptrace, by who wants to be traced.
#[lsm(hook = "ptrace_traceme")]
pub(crate) fn preset_traceme(ctx: LsmContext) -> i32 {
    let parent: Ptr = ctx.arg(0);
    let Some(subject) = Subject::current(Op::Ptrace.bit()) else {
        return ALLOWED;
    };
    let object = Task(parent as u64).exe();
    decide(
        &subject,
        Op::Ptrace,
        Notice::at(Hook::PtraceTraceme, object),
    )
}

/// Decides a change of mounts.
#[inline(always)]
fn mounts(hook: Hook, flags: u64, object: impl FnOnce() -> Place) -> i32 {
    let Some(subject) = Subject::current(Op::Mount.bit()) else {
        return ALLOWED;
    };
    let notice = Notice {
        flags: flags as u32,
        ..Notice::at(hook, object())
    };
    decide(&subject, Op::Mount, notice)
}

/// What a `struct path` argument names.
#[inline(always)]
fn at(path: Ptr) -> Place {
    // SAFETY: a hook's argument and its members.
    unsafe {
        Place {
            mnt: load(path, PATH_MNT.load()) as u64,
            dentry: load(path, PATH_DENTRY.load()) as u64,
        }
    }
}

/// `sb_mount(dev_name, path, type, flags, data)`: mount; all that `mount` does.
#[lsm(hook = "sb_mount")]
pub(crate) fn preset_mount(ctx: LsmContext) -> i32 {
    mounts(Hook::Mount, ctx.arg(3), || at(ctx.arg(1)))
}

/// `move_mount(from, to)`: mount.
#[lsm(hook = "move_mount")]
pub(crate) fn preset_move_mount(ctx: LsmContext) -> i32 {
    mounts(Hook::MoveMount, 0, || at(ctx.arg(1)))
}

/// `sb_umount(mnt, flags)`: mount.
#[lsm(hook = "sb_umount")]
pub(crate) fn preset_umount(ctx: LsmContext) -> i32 {
    let mnt: Ptr = ctx.arg(0);
    mounts(Hook::Umount, ctx.arg(1), || Place {
        mnt: mnt as u64,
        // SAFETY: a member of the hook's argument.
        dentry: unsafe { load(mnt, VFSMOUNT_MNT_ROOT.load()) } as u64,
    })
}

/// `sb_pivotroot(old_path, new_path)`: mount.
#[lsm(hook = "sb_pivotroot")]
pub(crate) fn preset_pivotroot(ctx: LsmContext) -> i32 {
    mounts(Hook::PivotRoot, 0, || at(ctx.arg(1)))
}

/// `capable(cred, ns, cap, opts)`: mount and namespace, where system calls about these have no hook of
/// their own.
#[lsm(hook = "capable")]
pub(crate) fn preset_capable(ctx: LsmContext) -> i32 {
    let capability: u64 = ctx.arg(2);
    let options: u64 = ctx.arg(3);
    if capability & 0xff != CAP_SYS_ADMIN {
        return ALLOWED;
    }
    let Some(subject) = Subject::current(Op::Mount.bit() | Op::Namespace.bit()) else {
        return ALLOWED;
    };
    let op = match syscall::about() {
        About::Mounts => Op::Mount,
        About::Namespaces => Op::Namespace,
        About::Other => return ALLOWED,
    };
    let notice = Notice {
        report: if options & CAP_OPT_NOAUDIT == 0 {
            Report::Always
        } else {
            Report::Never
        },
        ..Notice::by(Hook::Capable)
    };
    decide(&subject, op, notice)
}

/// Decides what names no object.
#[inline(always)]
fn plain(op: Op, hook: Hook, flags: u32) -> i32 {
    let Some(subject) = Subject::current(op.bit()) else {
        return ALLOWED;
    };
    let notice = Notice {
        flags,
        ..Notice::by(hook)
    };
    decide(&subject, op, notice)
}

/// `userns_create(cred)`: namespace, of the one kind that everybody may make. Since 6.1.
#[lsm(hook = "userns_create")]
pub(crate) fn preset_userns(_ctx: LsmContext) -> i32 {
    plain(Op::Namespace, Hook::UsernsCreate, 0)
}

/// `kernel_read_file(file, id, contents)`: kernelModule, from a file.
#[lsm(hook = "kernel_read_file")]
pub(crate) fn preset_read_file(ctx: LsmContext) -> i32 {
    let id: i32 = ctx.arg(1);
    if !CODE.contains(&id) {
        return ALLOWED;
    }
    plain(Op::KernelModule, Hook::KernelReadFile, 0)
}

/// `kernel_load_data(id, contents)`: kernelModule, from memory.
#[lsm(hook = "kernel_load_data")]
pub(crate) fn preset_load_data(ctx: LsmContext) -> i32 {
    let id: i32 = ctx.arg(0);
    if !CODE.contains(&id) {
        return ALLOWED;
    }
    plain(Op::KernelModule, Hook::KernelLoadData, 0)
}

/// `kernel_module_request(kmod_name)`: kernelModule, which the kernel would fetch for the task.
#[lsm(hook = "kernel_module_request")]
pub(crate) fn preset_module_request(_ctx: LsmContext) -> i32 {
    plain(Op::KernelModule, Hook::KernelModuleRequest, 0)
}

/// `bpf(cmd, attr, size)`: bpf.
#[lsm(hook = "bpf")]
pub(crate) fn preset_bpf(ctx: LsmContext) -> i32 {
    let command: i32 = ctx.arg(0);
    plain(Op::Bpf, Hook::Bpf, command as u32)
}

/// `inode_init_security_anon(inode, name, context_inode)`: ioUring, whose rings are such inodes.
#[lsm(hook = "inode_init_security_anon")]
pub(crate) fn preset_anon(ctx: LsmContext) -> i32 {
    /// How "[io_uring]" begins, and nothing else.
    const RING: u64 = u64::from_ne_bytes(*b"[io_urin");
    let name: Ptr = ctx.arg(1);
    let text = read_or_zero(name as u64 + u64::from(QSTR_NAME.load()));
    match read::<u64>(text) {
        Ok(found) if found != RING => ALLOWED,
        _ => plain(Op::IoUring, Hook::InitAnon, 0),
    }
}
