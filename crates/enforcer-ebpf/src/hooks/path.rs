//! The `path_*` hooks, `inode_setxattr` and `inode_copy_up`: changes of names and of what hangs on them.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{event::Hook, op::Op};

use crate::{
    call::{self, tell_at},
    decide::{DENIED, Object, decide, decide_below, decide_beside, is_marked, state_after},
    kernel::{
        memory::{Ptr, load, load_u32, read},
        offsets::{DENTRY_D_FLAGS, DENTRY_D_INODE, INODE_I_MODE, PATH_DENTRY, PATH_MNT},
        path::BtfPlace,
        task::{self, Task},
    },
    object::file::is_directory,
    subject::Subject,
};

/// `dentry` in the mount `mnt`, both BTF pointers.
#[inline(always)]
fn object(mnt: Ptr, dentry: Ptr) -> Object {
    // SAFETY: a hook's argument or a member of one, and its member.
    let inode = unsafe { load(dentry, DENTRY_D_INODE.load()) };
    Object {
        place: BtfPlace { mnt, dentry },
        inode: inode as u64,
    }
}

/// Decides a change of `dentry` in the mount `mnt`.
#[inline(always)]
fn change(mnt: Ptr, dentry: Ptr, ops: u32, hook: Hook) -> i32 {
    let Some(subject) = Subject::current(ops | call::AT) else {
        return 0;
    };
    tell_at(&subject, BtfPlace { mnt, dentry }, hook);
    let Some(subject) = subject.only(ops) else {
        return 0;
    };
    decide(&subject, &object(mnt, dentry), subject.ops, hook, 0)
}

/// Mount of a `struct path` argument.
#[inline(always)]
fn mnt_of(path: Ptr) -> Ptr {
    // SAFETY: a hook's argument and its member.
    unsafe { load(path, PATH_MNT.load()) }
}

/// Decides a change of what a `struct path` argument names.
#[inline(always)]
fn change_path(path: Ptr, hook: Hook) -> i32 {
    // SAFETY: a hook's argument and its member.
    let dentry = unsafe { load(path, PATH_DENTRY.load()) };
    change(mnt_of(path), dentry, Op::Write.bit(), hook)
}

/// A change of an entry in a directory: `(dir, dentry, ..)`.
#[inline(always)]
fn change_entry(ctx: &LsmContext, hook: Hook) -> i32 {
    change(mnt_of(ctx.arg(0)), ctx.arg(1), Op::Write.bit(), hook)
}

/// `DCACHE_MOUNTED`, bit 16 up to 6.7 and 15 since: something is mounted there, in whichever mount
/// namespace. The other one of the two is no bit of what can be removed.
const MOUNTED: u32 = 0b11 << 15;

/// The removal of an entry. What other mount namespaces have mounted there is detached with it: those
/// lose the names below.
#[inline(always)]
fn remove_entry(ctx: &LsmContext, hook: Hook) -> i32 {
    let dentry: Ptr = ctx.arg(1);
    // SAFETY: a member of the hook's argument.
    let flags = unsafe { load_u32(dentry, DENTRY_D_FLAGS.load()) };
    let ops = if flags & MOUNTED == 0 {
        Op::Write.bit()
    } else {
        Op::Write.bit() | Op::Move.bit()
    };
    change(mnt_of(ctx.arg(0)), dentry, ops, hook)
}

/// `path_mknod(dir, dentry, mode, dev)`: also every file that `open` creates.
#[lsm(hook = "path_mknod")]
pub(crate) fn path_mknod(ctx: LsmContext) -> i32 {
    change_entry(&ctx, Hook::Mknod)
}

/// `path_mkdir(dir, dentry, mode)`.
#[lsm(hook = "path_mkdir")]
pub(crate) fn path_mkdir(ctx: LsmContext) -> i32 {
    change_entry(&ctx, Hook::Mkdir)
}

/// `path_rmdir(dir, dentry)`.
#[lsm(hook = "path_rmdir")]
pub(crate) fn path_rmdir(ctx: LsmContext) -> i32 {
    remove_entry(&ctx, Hook::Rmdir)
}

/// `path_unlink(dir, dentry)`.
#[lsm(hook = "path_unlink")]
pub(crate) fn path_unlink(ctx: LsmContext) -> i32 {
    remove_entry(&ctx, Hook::Unlink)
}

/// `path_symlink(dir, dentry, old_name)`: the new name.
#[lsm(hook = "path_symlink")]
pub(crate) fn path_symlink(ctx: LsmContext) -> i32 {
    change_entry(&ctx, Hook::Symlink)
}

/// Decides that what is at `old` gets the name `new`, and what is at `new` (if anything) maybe that
/// of `old`.
#[inline(always)]
fn rename(old: BtfPlace, new: BtfPlace, hook: Hook) -> i32 {
    let ops = Op::Write.bit() | Op::Move.bit();
    let Some(subject) = Subject::current(ops | call::AT) else {
        return 0;
    };
    tell_at(&subject, old, hook);
    tell_at(&subject, new, hook);
    let Some(subject) = subject.only(ops) else {
        return 0;
    };
    let after_new = state_after(&subject, new);
    let (refused, after_old) = decide_beside(
        &subject,
        &object(old.mnt, old.dentry),
        subject.ops,
        hook,
        0,
        after_new,
    );
    if refused != 0 {
        return DENIED;
    }
    let object = object(new.mnt, new.dentry);
    // A name that is still free takes nothing away from a rule.
    let ops = if object.inode == 0 {
        subject.ops & !Op::Move.bit()
    } else {
        subject.ops
    };
    decide_beside(&subject, &object, ops, hook, 0, after_old).0
}

/// `path_link(old_dentry, new_dir, new_dentry)`: what gets another name, and that name.
#[lsm(hook = "path_link")]
pub(crate) fn path_link(ctx: LsmContext) -> i32 {
    let mnt = mnt_of(ctx.arg(1));
    let place = |dentry| BtfPlace { mnt, dentry };
    rename(place(ctx.arg(0)), place(ctx.arg(2)), Hook::Link)
}

/// `RENAME_EXCHANGE`
const RENAME_EXCHANGE: u32 = 2;

/// `path_rename(old_dir, old_dentry, new_dir, new_dentry, flags)`: what moves, and what it replaces
/// or is exchanged with.
#[lsm(hook = "path_rename")]
pub(crate) fn path_rename(ctx: LsmContext) -> i32 {
    let place = |dir, dentry| BtfPlace {
        mnt: mnt_of(dir),
        dentry,
    };
    let old = place(ctx.arg(0), ctx.arg(1));
    let new = place(ctx.arg(2), ctx.arg(3));
    let flags: u32 = ctx.arg(4);
    match rename(old, new, Hook::Rename) {
        0 if flags & RENAME_EXCHANGE != 0 => match move_tree(new, old) {
            0 => move_tree(old, new),
            denied => denied,
        },
        0 => move_tree(old, new),
        denied => denied,
    }
}

/// Decides that what lies below `old`, if that is a directory, gets names below `new`.
///
/// Not inlined: it is decided twice when two directories change places.
#[inline(never)]
fn move_tree(old: BtfPlace, new: BtfPlace) -> i32 {
    let object = object(old.mnt, old.dentry);
    if object.inode == 0 {
        return 0;
    }
    let mode = read::<u16>(object.inode + u64::from(INODE_I_MODE.load()));
    if matches!(mode, Ok(mode) if !is_directory(mode)) {
        return 0;
    }
    let Some(subject) = Subject::current(Op::Read.bit() | Op::Write.bit()) else {
        return 0;
    };
    let after_new = state_after(&subject, new);
    decide_below(&subject, &object, Hook::Rename, after_new)
}

/// `path_chmod(path, mode)`.
#[lsm(hook = "path_chmod")]
pub(crate) fn path_chmod(ctx: LsmContext) -> i32 {
    change_path(ctx.arg(0), Hook::Chmod)
}

/// `path_chown(path, uid, gid)`.
#[lsm(hook = "path_chown")]
pub(crate) fn path_chown(ctx: LsmContext) -> i32 {
    change_path(ctx.arg(0), Hook::Chown)
}

/// `path_truncate(path)`.
#[lsm(hook = "path_truncate")]
pub(crate) fn path_truncate(ctx: LsmContext) -> i32 {
    change_path(ctx.arg(0), Hook::Truncate)
}

/// `inode_setxattr(idmap, dentry, name, value, size, flags)`. An overlay marks what it copies up in
/// its upper layer; the access that made it do so has been decided.
#[lsm(hook = "inode_setxattr")]
pub(crate) fn inode_setxattr(ctx: LsmContext) -> i32 {
    if Task::current().acts_for_the_kernel() {
        return 0;
    }
    let Some((subject, object)) = without_mount(ctx.arg(1)) else {
        return 0;
    };
    decide(&subject, &object, subject.ops, Hook::Setxattr, 0)
}

/// `inode_copy_up(dentry, cred)`: to the overlay, the name that a file of the image is changed by is
/// another file from then on, out of reach of the mark of the first. For one that is protected under
/// another name that is a write; for others, what changes them is decided for itself, where it is.
/// The overlay acts with its own credentials by now, but for the task.
#[lsm(hook = "inode_copy_up")]
pub(crate) fn inode_copy_up(ctx: LsmContext) -> i32 {
    let Some((subject, object)) = without_mount(ctx.arg(0)) else {
        return 0;
    };
    if !is_marked(&subject, &object) {
        return 0;
    }
    decide(&subject, &object, subject.ops, Hook::CopyUp, 0)
}

/// Who writes to an object that no mount is passed for, and the object. The task's root mount serves
/// when it is of the same file system; otherwise the object is decided under all names that mounts
/// give it, and counts as unreachable when there are none.
#[inline(always)]
fn without_mount(dentry: Ptr) -> Option<(Subject, Object)> {
    let subject = Subject::current(Op::Write.bit())?;
    Some((subject, object(task::root_mount(), dentry)))
}
