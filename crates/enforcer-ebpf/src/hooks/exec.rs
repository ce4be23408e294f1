//! `bprm_creds_for_exec`, `bprm_check_security`, `bprm_committed_creds`, `mmap_file`: what becomes
//! code.

use aya_ebpf::{EbpfContext as _, macros::lsm, programs::LsmContext};
use karmor_abi::{event::Hook, label::HOST, op::Op};

use super::descriptor::is_from_before;
use crate::{
    arguments,
    call::{self, tell_at},
    decide::{Object, decide, decide_exec, is_essential, refresh_sources, source_of},
    kernel::{
        memory::{Ptr, load, load_u32, read},
        offsets::{BPRM_ARGC, BPRM_FILE, BPRM_P, FILE_F_MODE},
        path,
        task::Task,
    },
    object::file::{FMODE_WRITE, place_of},
    subject::{Identity, Subject},
};

/// Every operation.
const ANY: u32 = u32::MAX;
/// `PROT_EXEC`.
const PROT_EXEC: u64 = 4;
/// The bit that `MAP_SHARED` and `MAP_SHARED_VALIDATE` have and `MAP_PRIVATE` lacks.
const MAP_SHARED: u64 = 1;

/// `bprm_creds_for_exec(bprm)`: an exec begins. What one that failed has left is no concern of it. On the
/// host, it matters to the new image which one the old one is, and later that cannot be told.
#[lsm(hook = "bprm_creds_for_exec")]
pub(crate) fn bprm_creds_for_exec(_ctx: LsmContext) -> i32 {
    arguments::forget(Task::current());
    let nobody = Identity {
        label: core::ptr::null_mut(),
        workload: HOST,
    };
    // Most hosts have no policy.
    if Subject::new(&nobody, ANY).is_none() {
        return 0;
    }
    let identity = Identity::current(false);
    if identity.workload == HOST
        && !identity.label.is_null()
        && let Some(subject) = Subject::new(&identity, ANY)
        && subject.handle.sourced()
        && let Some(scratch) = path::claim()
    {
        refresh_sources(&subject, scratch);
        path::release(scratch);
    }
    0
}

/// `bprm_check_security(bprm)`: once for the program, again for each interpreter.
#[lsm(hook = "bprm_check_security")]
pub(crate) fn bprm_check_security(ctx: LsmContext) -> i32 {
    let bprm: Ptr = ctx.arg(0);
    let Some(subject) = Subject::executing(Op::Exec.bit() | call::AT) else {
        return 0;
    };
    // SAFETY: `bprm` is the hook's argument, its file a member.
    let file = unsafe { load(bprm, BPRM_FILE.load()) };
    tell_at(&subject, place_of(file), Hook::Exec);
    let Some(subject) = subject.only(Op::Exec.bit()) else {
        return 0;
    };
    // SAFETY: a member of the hook's argument.
    let argc = unsafe { load_u32(bprm, BPRM_ARGC.load()) };
    decide_exec(&subject, &Object::of(file), argc)
}

/// `bprm_committed_creds(bprm)`: the new image stands; from here on it is the source.
#[lsm(hook = "bprm_committed_creds")]
pub(crate) fn bprm_committed_creds(ctx: LsmContext) -> i32 {
    let bprm: Ptr = ctx.arg(0);
    // SAFETY: `bprm` is the hook's argument, these its members.
    let (top, argc) = unsafe {
        (
            load(bprm, BPRM_P.load()) as u64,
            load_u32(bprm, BPRM_ARGC.load()),
        )
    };
    arguments::settle(top, argc);
    let identity = Identity::current(true);
    let label = identity.label;
    if label.is_null() {
        return 0;
    }
    // SAFETY: not null; only the running task writes its own label.
    let (known, before) = unsafe {
        (*label).heir = 0;
        ((*label).table, (*label).source)
    };
    if known == 0 {
        return 0;
    }
    if let Some(subject) = Subject::new(&identity, ANY)
        && subject.handle.uid() == known
        && let Some(scratch) = path::claim()
    {
        let heir = is_essential(subject.handle, before);
        // SAFETY: as above.
        unsafe { (*label).heir = heir.into() };
        // The image is already the task's.
        let source = source_of(subject.handle.0, scratch, Task::current().0);
        // SAFETY: as above.
        unsafe { (*label).source = source };
        path::release(scratch);
    } else {
        // SAFETY: as above. Both classes are worked out again when next needed.
        unsafe { (*label).table = 0 };
    }
    0
}

/// The file that `mmap_file` is about; `None` for anonymous memory. Some kernels (6.12) tell the
/// verifier that it is never null, and it takes a comparison with null for one that is never true: so
/// the argument is looked at as a number, too.
#[inline(always)]
pub(super) fn mapped_file(ctx: &LsmContext) -> Option<Ptr> {
    let address = read::<u64>(ctx.as_ptr() as u64);
    let file: Ptr = ctx.arg(0);
    match address {
        Ok(0) | Err(_) => None,
        Ok(_) if file.is_null() => None,
        Ok(_) => Some(file),
    }
}

/// `mmap_file(file, reqprot, prot, flags)`: `ld.so PATH` executes PATH without an exec, a shared
/// mapping of a file that is open for writing writes without a write, and any of a descriptor from before
/// the policy reads without a read.
#[lsm(hook = "mmap_file")]
pub(crate) fn mmap_file(ctx: LsmContext) -> i32 {
    let prot: u64 = ctx.arg(2);
    let flags: u64 = ctx.arg(3);
    let Some(file) = mapped_file(&ctx) else {
        return 0;
    };
    let mut ops = 0;
    if prot & PROT_EXEC != 0 {
        ops |= Op::Map.bit();
    }
    // Whatever the protection: `mprotect` can add writing later.
    // SAFETY: a member of the hook's argument.
    if flags & MAP_SHARED != 0 && unsafe { load_u32(file, FILE_F_MODE.load()) } & FMODE_WRITE != 0 {
        ops |= Op::Write.bit();
    }
    // Nothing asks when memory is read.
    if is_from_before(file) {
        ops |= Op::Read.bit();
    }
    if ops == 0 {
        return 0;
    }
    let Some(subject) = Subject::current(ops) else {
        return 0;
    };
    // The image itself was decided at exec, by whom it was executed.
    if file as u64 == Task::current().exe_file() {
        return 0;
    }
    decide(
        &subject,
        &Object::of(file),
        subject.ops,
        Hook::Mmap,
        prot as u32,
    )
}
