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
    decide_word::{Report, Who as _, settle},
    kernel::{
        memory::{Ptr, read_or_zero},
        offsets::{DENTRY_D_INODE, DENTRY_D_PARENT, FILE_F_INODE},
        task::Task,
    },
    maps::{Answer, GUARD, OWN},
    object::file::number_of,
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
fn is_daemon(task: Task) -> bool {
    guard().is_some_and(|guard| is(guard, task))
}

/// Whether the daemon owns what a dentry names, by itself or by a directory above.
#[inline(always)]
fn owns_dentry(dentry: Ptr) -> bool {
    let mut dentry = dentry as u64;
    let mut level = 0;
    while level <= DEPTH {
        let inode = read_or_zero(dentry + u64::from(DENTRY_D_INODE.load()));
        if inode != 0
            && let Some(own) = own_inode(inode)
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

/// What the inode at an address would be known as, if it were the daemon's own.
#[inline(always)]
fn own_inode(inode: u64) -> Option<Own> {
    match number_of(inode) {
        Ok((device, number)) => Some(Own::inode(device, number)),
        Err(_) => None,
    }
}

/// The running task, when the daemon is protected from it.
pub(crate) struct Stranger {
    label: *mut Label,
    workload: u32,
}

impl Stranger {
    #[inline(always)]
    fn current() -> Option<Self> {
        Self::known_as(|| Identity::current(false))
    }

    /// The same, with what tells who it is; that is asked only where it matters.
    #[inline(always)]
    fn known_as(identity: impl FnOnce() -> Identity) -> Option<Self> {
        let guard = guard()?;
        let task = Task::current();
        if is(guard, task) {
            return None;
        }
        let Identity { label, workload } = identity();
        if workload == HOST && (guard.from_host == 0 || may(guard, task)) {
            return None;
        }
        Some(Self { label, workload })
    }

    /// Refuses it a change, if that is one of the daemon's own.
    #[inline(always)]
    fn refuse_change(stranger: Option<Self>, is_own: impl FnOnce() -> bool, hook: Hook) -> i32 {
        // Nearly everybody is no stranger, and looking up what a file is takes longer.
        match stranger {
            Some(stranger) if is_own() => stranger.refuse(Guarded::File, hook),
            _ => ALLOWED,
        }
    }

    /// Refuses what it does. What comes back is what the hook returns.
    #[inline(always)]
    fn refuse(self, what: Guarded, hook: Hook) -> i32 {
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
            subject.source(),
            &word,
            word.len(),
            answer,
            hook,
            Report::Always,
        )
    }
}

/// Refuses what the running task does to the daemon's own, unless it may. What comes back is what the
/// hook returns, here and below.
#[inline(always)]
pub(crate) fn refuse(what: Guarded, hook: Hook) -> i32 {
    match Stranger::current() {
        Some(stranger) => stranger.refuse(what, hook),
        None => ALLOWED,
    }
}

/// Refuses what is done to a process, if that is the daemon.
#[inline(always)]
pub(crate) fn refuse_on(process: Task, hook: Hook) -> i32 {
    if is_daemon(process) {
        refuse(Guarded::Process, hook)
    } else {
        ALLOWED
    }
}

/// Refuses a map or program to others than the daemon, if it is the daemon's own; notes what the
/// daemon makes.
#[inline(always)]
pub(crate) fn refuse_object(own: Own, what: Guarded, hook: Hook) -> i32 {
    if is_daemon(Task::current()) {
        // Without room there are more maps than tables there can be; user space notes them as well,
        // and says so.
        let _ = OWN.insert(own, 0, 0);
        return ALLOWED;
    }
    // SAFETY: the value is not used.
    if unsafe { OWN.get(own).is_some() } {
        refuse(what, hook)
    } else {
        ALLOWED
    }
}

/// Refuses a change of what a dentry names, if that is the daemon's own.
#[inline(always)]
pub(crate) fn refuse_change(dentry: Ptr, hook: Hook) -> i32 {
    Stranger::refuse_change(Stranger::current(), || owns_dentry(dentry), hook)
}

/// [`refuse_change`], of what two dentries name.
#[inline(always)]
pub(crate) fn refuse_changes(one: Ptr, other: Ptr, hook: Hook) -> i32 {
    let is_own = || owns_dentry(one) || owns_dentry(other);
    Stranger::refuse_change(Stranger::current(), is_own, hook)
}

/// [`refuse_change`], by a task of which it is known who it is.
#[inline(always)]
pub(crate) fn refuse_change_by(identity: Identity, dentry: Ptr, hook: Hook) -> i32 {
    let stranger = Stranger::known_as(|| identity);
    Stranger::refuse_change(stranger, || owns_dentry(dentry), hook)
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
    own_inode(inode) == Some(guard.image)
}
