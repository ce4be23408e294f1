//! `sb_mount`, `move_mount`, `sb_umount`, `sb_pivotroot`, `sb_statfs`: what gives objects other
//! paths.
//!
//! No hook sees what a bind mount shows. It goes ahead, and what is reached through it is decided
//! under its other names ([`crate::elsewhere`]). What these hooks see to is that the names in the
//! workload's own mount namespace stay, and that nothing else gets them.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{event::Hook, label::HOST, op::Op};

use crate::{
    call::{self, tell_at},
    decide::{DENIED, Object, Unknown, decide_layer, decide_mount},
    elsewhere,
    guard::refuse_mount,
    kernel::{
        memory::{Ptr, load},
        offsets::{DENTRY_D_INODE, PATH_DENTRY, PATH_MNT, VFSMOUNT_MNT_ROOT},
        path::{self, BtfPlace},
        syscall,
    },
    subject::{Identity, Subject},
};

/// `MS_REMOUNT`, `MS_BIND`, `MS_MOVE`.
pub(super) const MS_REMOUNT: u64 = 1 << 5;
pub(super) const MS_BIND: u64 = 1 << 12;
pub(super) const MS_MOVE: u64 = 1 << 13;
/// `MS_UNBINDABLE`, `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`.
pub(super) const MS_PROPAGATION: u64 = 0b1111 << 17;

/// Every operation.
const ALL: u32 = Op::Exec.bit() | Op::Map.bit() | Op::Read.bit() | Op::Write.bit() | Op::Move.bit();

/// The running task as one that changes mounts.
struct Mounter {
    subject: Subject,
    /// It does so in its workload's own mount namespace.
    at_home: bool,
    /// What it asks of a place.
    ops: u32,
}

impl Mounter {
    /// `None` when there is nothing to ask. `adds` says whether names are added.
    #[inline(always)]
    fn current(adds: bool) -> Option<Self> {
        let identity = Identity::current(false);
        let at_home = elsewhere::is_at_home(identity.workload);
        // What is mounted elsewhere may come home: mounts are propagated.
        if adds {
            elsewhere::note_mount(identity.workload);
        }
        let subject = Subject::new(&identity, ALL | call::AT)?;
        // Container runtimes mount and unmount there all the time, and who else may is trusted.
        let ops = if subject.workload == HOST && at_home {
            Op::Write.bit()
        } else {
            Op::Write.bit() | Op::Move.bit()
        };
        Some(Self {
            ops: subject.ops & ops,
            subject,
            at_home,
        })
    }

    /// Tells of the call, which is about a place; `None` when there is nothing else to ask.
    #[inline(always)]
    fn tell(self, place: BtfPlace, hook: Hook) -> Option<Self> {
        tell_at(&self.subject, place, hook);
        self.asks()
    }

    /// `None` when there is nothing to ask of a place.
    #[inline(always)]
    fn asks(self) -> Option<Self> {
        let subject = self.subject.only(ALL)?;
        Some(Self { subject, ..self })
    }

    /// Whether names that policies mean are at stake.
    #[inline(always)]
    fn is_suspect(&self) -> bool {
        self.at_home && self.subject.workload != HOST
    }

    /// Decides a change of what is mounted at a place.
    #[inline(always)]
    fn decide(&self, place: BtfPlace, hook: Hook, flags: u64) -> i32 {
        // What is mounted there changes every path.
        let unknown = if self.is_suspect() {
            Unknown::AtRoot
        } else {
            Unknown::Never
        };
        self.ask(place, hook, flags, unknown)
    }

    #[inline(always)]
    fn ask(&self, place: BtfPlace, hook: Hook, flags: u64, unknown: Unknown) -> i32 {
        // SAFETY: a hook's argument or a member of one, and its member.
        let inode = unsafe { load(place.dentry, DENTRY_D_INODE.load()) } as u64;
        let object = Object { place, inode };
        decide_mount(
            &self.subject,
            &object,
            self.ops,
            hook,
            flags as u32,
            unknown,
        )
    }
}

/// What a `struct path` argument names.
#[inline(always)]
pub(super) fn place_of(path: Ptr) -> BtfPlace {
    // SAFETY: a hook's argument and its members.
    unsafe {
        BtfPlace {
            mnt: load(path, PATH_MNT.load()),
            dentry: load(path, PATH_DENTRY.load()),
        }
    }
}

/// `sb_mount(dev_name, path, type, flags, data)`: all that `mount` does. Which flag counts when
/// there are several is the kernel's order.
#[lsm(hook = "sb_mount")]
pub(crate) fn sb_mount(ctx: LsmContext) -> i32 {
    let flags: u64 = ctx.arg(3);
    let binds = flags & MS_BIND != 0;
    let place = place_of(ctx.arg(1));
    if flags & MS_REMOUNT != 0 || !binds && flags & MS_PROPAGATION != 0 {
        if let Some(subject) = Subject::current(call::AT) {
            tell_at(&subject, place, Hook::Mount);
        }
        return 0;
    }
    let Some(mounter) = Mounter::current(true) else {
        return 0;
    };
    let Some(mounter) = mounter.tell(place, Hook::Mount) else {
        return 0;
    };
    // What moves is not said; it may be the mount that gives something its name.
    let unknown = if !mounter.is_suspect() {
        Unknown::Never
    } else if !binds && flags & MS_MOVE != 0 {
        Unknown::Always
    } else {
        Unknown::AtRoot
    };
    mounter.ask(place, Hook::Mount, flags, unknown)
}

/// `move_mount(from, to)`: what moves, unless it is new, and where.
#[lsm(hook = "move_mount")]
pub(crate) fn move_mount(ctx: LsmContext) -> i32 {
    let Some(mounter) = Mounter::current(true) else {
        return 0;
    };
    let (from, to) = (place_of(ctx.arg(0)), place_of(ctx.arg(1)));
    let attached = path::is_attached(from.mnt as u64);
    if attached {
        tell_at(&mounter.subject, from, Hook::MoveMount);
    }
    let Some(mounter) = mounter.tell(to, Hook::MoveMount) else {
        return 0;
    };
    if attached {
        let refused = mounter.decide(from, Hook::MoveMount, 0);
        if refused != 0 {
            return DENIED;
        }
    }
    mounter.decide(to, Hook::MoveMount, 0)
}

/// `sb_umount(mnt, flags)`: its names go, and what it hides has them.
#[lsm(hook = "sb_umount")]
pub(crate) fn sb_umount(ctx: LsmContext) -> i32 {
    let mnt: Ptr = ctx.arg(0);
    let flags: u64 = ctx.arg(1);
    // SAFETY: a member of the hook's argument.
    let dentry = unsafe { load(mnt, VFSMOUNT_MNT_ROOT.load()) };
    if refuse_mount(BtfPlace { mnt, dentry }, Hook::Umount) != 0 {
        return DENIED;
    }
    let Some(mounter) = Mounter::current(false) else {
        return 0;
    };
    let place = BtfPlace { mnt, dentry };
    match mounter.tell(place, Hook::Umount) {
        Some(mounter) => mounter.decide(place, Hook::Umount, flags),
        None => 0,
    }
}

/// `sb_pivotroot(put_old, new_root)`: every path becomes another.
#[lsm(hook = "sb_pivotroot")]
pub(crate) fn sb_pivotroot(ctx: LsmContext) -> i32 {
    let Some(mounter) = Mounter::current(true) else {
        return 0;
    };
    let place = place_of(ctx.arg(1));
    match mounter.tell(place, Hook::PivotRoot) {
        Some(mounter) if mounter.is_suspect() => {
            mounter.ask(place, Hook::PivotRoot, 0, Unknown::Always)
        }
        _ => 0,
    }
}

/// `sb_statfs(dentry)`: an overlay asks each of its layers while it is mounted, and no other hook
/// sees them. A layer's content gets other names, and the overlay changes its upper layer without
/// asking.
#[lsm(hook = "sb_statfs")]
pub(crate) fn sb_statfs(ctx: LsmContext) -> i32 {
    if syscall::is_statfs() {
        return 0;
    }
    match Mounter::current(false).and_then(Mounter::asks) {
        Some(mounter) if mounter.subject.workload != HOST || !mounter.at_home => {
            decide_layer(&mounter.subject, ctx.arg(0), mounter.ops, Hook::Layer)
        }
        _ => 0,
    }
}
