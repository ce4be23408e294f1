//! Whether something is done to the enforcer itself, by whom it must not.
//!
//! No policy is asked: whoever could end or change the enforcer is under none any more.

use karmor_abi::{
    event::Hook,
    guard::{DEPTH, Guard, Guarded, Own, TICK_NS},
    label::{HOST, Handle, Label},
    op::Op,
    verdict::Verdict,
    word,
};

use crate::{
    decide::ALLOWED,
    decide_word::{Report, settle},
    kernel::{
        memory::{Ptr, read, read_or_zero},
        offsets::{
            DENTRY_D_INODE, DENTRY_D_PARENT, FILE_F_INODE, INODE_I_INO, INODE_I_SB,
            SUPER_BLOCK_S_DEV,
        },
        task::Task,
    },
    maps::{Answer, GUARD, OWN},
    subject::{Identity, Subject},
};

/// The process that starts and stops all others.
const INIT: u32 = 1;

/// The daemon that is protected.
#[inline(always)]
fn guard() -> Option<&'static Guard> {
    GUARD.get(0).filter(|guard| guard.tgid != 0)
}

/// Whether a process is the daemon.
#[inline(always)]
fn is(guard: &Guard, task: Task) -> bool {
    task.tgid() == guard.tgid && task.group_leader().started_ns() / TICK_NS == guard.started
}

/// Whether a process is the daemon that is protected.
#[inline(always)]
pub(crate) fn is_daemon(task: Task) -> bool {
    guard().is_some_and(|guard| is(guard, task))
}

/// Whether the running task is it.
#[inline(always)]
pub(crate) fn acts() -> bool {
    is_daemon(Task::current())
}

/// Notes what the daemon makes.
#[inline(always)]
pub(crate) fn note(own: Own) {
    // Without room there are more maps than tables there can be; user space notes them as well, and
    // says so.
    let _ = OWN.insert(own, 0, 0);
}

/// Whether it is the daemon's own.
#[inline(always)]
pub(crate) fn owns(own: Own) -> bool {
    // SAFETY: the value is not used.
    unsafe { OWN.get(own).is_some() }
}

/// Whether the daemon owns what a dentry names, by itself or by a directory above.
#[inline(always)]
pub(crate) fn owns_dentry(dentry: Ptr) -> bool {
    let mut dentry = dentry as u64;
    let mut level = 0;
    while level <= DEPTH {
        let inode = read_or_zero(dentry + u64::from(DENTRY_D_INODE.load()));
        if inode != 0
            && let Some(own) = identity_of(inode)
            // SAFETY: read at once.
            && let Some(&depth) = unsafe { OWN.get(own) }
            && level <= depth
        {
            return true;
        }
        dentry = read_or_zero(dentry + u64::from(DENTRY_D_PARENT.load()));
        level += 1;
    }
    false
}

#[inline(always)]
fn identity_of(inode: u64) -> Option<Own> {
    let super_block = read_or_zero(inode + u64::from(INODE_I_SB.load()));
    let device = read::<u32>(super_block + u64::from(SUPER_BLOCK_S_DEV.load()));
    let number = read::<u64>(inode + u64::from(INODE_I_INO.load()));
    match (device, number) {
        (Ok(device), Ok(number)) => Some(Own::inode(device, number)),
        _ => None,
    }
}

/// The running task, when the daemon is protected from it.
pub(crate) struct Stranger {
    label: *mut Label,
    workload: u32,
}

impl Stranger {
    #[inline(always)]
    pub(crate) fn current() -> Option<Self> {
        let guard = guard()?;
        let task = Task::current();
        if is(guard, task) {
            return None;
        }
        let Identity { label, workload } = Identity::current(false);
        if workload == HOST && (guard.from_host == 0 || may(guard, task)) {
            return None;
        }
        Some(Self { label, workload })
    }

    /// Refuses what it does. What comes back is what the hook returns.
    #[inline(always)]
    pub(crate) fn refuse(self, what: Guarded, hook: Hook) -> i32 {
        let source = if self.label.is_null() {
            0
        } else {
            // SAFETY: not null, and only this task writes its label.
            unsafe { (*self.label).source }
        };
        let subject = Subject {
            label: self.label,
            workload: self.workload,
            ops: 0,
            marks: 0,
            handle: Handle::NONE,
        };
        let word = word::guarded(what);
        let answer = Answer {
            verdict: Verdict::GUARD,
            set: 0,
            op: Op::Write as u32,
        };
        settle(
            &subject,
            Ok(source),
            &word,
            word.len(),
            answer,
            hook,
            Report::Always,
        )
    }
}

/// Refuses what the running task does to the daemon's own, unless it may. What comes back is what the
/// hook returns.
#[inline(always)]
pub(crate) fn refuse(what: Guarded, hook: Hook) -> i32 {
    match Stranger::current() {
        Some(stranger) => stranger.refuse(what, hook),
        None => ALLOWED,
    }
}

/// Refuses a change of what a dentry names, if that is the daemon's own. What comes back is what the
/// hook returns.
#[inline(always)]
pub(crate) fn refuse_change(dentry: Ptr, hook: Hook) -> i32 {
    // Nearly everybody is no stranger, and looking up what a file is takes longer.
    match Stranger::current() {
        Some(stranger) if owns_dentry(dentry) => stranger.refuse(Guarded::File, hook),
        _ => ALLOWED,
    }
}

/// Whether a host process may do what other host processes may not: the one that starts and stops
/// the daemon, the kernel itself, and who runs the daemon's own program.
#[inline(always)]
fn may(guard: &Guard, task: Task) -> bool {
    let file = task.exe_file();
    if task.tgid() == INIT || file == 0 {
        return true;
    }
    let inode = read_or_zero(file + u64::from(FILE_F_INODE.load()));
    identity_of(inode) == Some(guard.image)
}
