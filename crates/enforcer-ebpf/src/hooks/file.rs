//! `file_open`, `file_truncate`: what is opened, for what.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{event::Hook, op::Op};

use crate::{
    call::{self, tell_at},
    decide::{ALLOWED, DENIED, Object, decide},
    guard::refuse_writing,
    kernel::{
        memory::{Ptr, load_u32},
        offsets::{FILE_F_FLAGS, FILE_F_MODE},
    },
    object::file::{FMODE_WRITE, open_for, place_of},
    subject::{Identity, Subject},
};

/// `FMODE_NOACCOUNT`: the file a stacked file system opens underneath, as itself; the user's file
/// above it was decided.
const FMODE_NOACCOUNT: u32 = 1 << 29;
/// `O_TRUNC` on x86_64 and aarch64.
const O_TRUNC: u32 = 0o1000;

/// `file_open(file)`.
#[lsm(hook = "file_open")]
pub(crate) fn file_open(ctx: LsmContext) -> i32 {
    let file: Ptr = ctx.arg(0);
    // SAFETY: the hook's argument and its members.
    let (mode, flags) = unsafe {
        (
            load_u32(file, FILE_F_MODE.load()),
            load_u32(file, FILE_F_FLAGS.load()),
        )
    };
    let identity = Identity::current(false);
    if mode & FMODE_WRITE != 0 && refuse_writing(identity, file, Hook::Open) != ALLOWED {
        return DENIED;
    }
    let Some(subject) = Subject::new(&identity, Op::Read.bit() | Op::Write.bit() | call::AT) else {
        return 0;
    };
    if mode & FMODE_NOACCOUNT != 0 {
        return 0;
    }
    tell_at(&subject, place_of(file), Hook::Open);
    let mut ops = open_for(mode);
    if flags & O_TRUNC != 0 {
        ops |= Op::Write.bit();
    }
    ops &= subject.ops;
    if ops == 0 {
        return 0;
    }
    decide(&subject, &Object::of(file), ops, Hook::Open, flags)
}

/// `file_truncate(file)`, since 6.2: `ftruncate`; before, `path_truncate` sees that too.
#[lsm(hook = "file_truncate")]
pub(crate) fn file_truncate(ctx: LsmContext) -> i32 {
    let file: Ptr = ctx.arg(0);
    let Some(subject) = Subject::current(Op::Write.bit() | call::AT) else {
        return 0;
    };
    tell_at(&subject, place_of(file), Hook::Truncate);
    let Some(subject) = subject.only(Op::Write.bit()) else {
        return 0;
    };
    decide(&subject, &Object::of(file), subject.ops, Hook::Truncate, 0)
}
