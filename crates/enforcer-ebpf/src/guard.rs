//! Whether something is done to the enforcer itself, by whom it must not.
//!
//! No policy is asked: whoever could end or change the enforcer is under none any more.

use karmor_abi::{
    event::Hook,
    guard::{DEPTH, Guard, Guarded, Own, PLACE, TICK_NS},
    label::{HOST, Handle, Label},
    op::Op,
    verdict::Verdict,
    word,
};

use crate::{
    decide::{ALLOWED, DENIED},
    decide_word::{Report, Who as _, settle},
    elsewhere::PROC,
    kernel::{
        memory::{Ptr, load, load_u32, load_u64, read, read_or_zero},
        offsets::{
            DENTRY_D_ALIAS, DENTRY_D_INODE, DENTRY_D_NAME, DENTRY_D_PARENT, FILE_F_INODE,
            INODE_I_DENTRY, INODE_I_MODE, INODE_I_SB, MOUNT_MNT, MOUNT_MNT_NS, PATH_DENTRY,
            SUPER_BLOCK_S_MAGIC, UNIX_SOCK_PATH, VFSMOUNT_MNT_FLAGS,
        },
        path::{self, BtfPlace},
        task::Task,
    },
    maps::{Answer, GUARD, OWN},
    object::file::{inode_of, is_directory, number_of, place_of},
    subject::{Identity, Subject, workload_of_task},
};

/// `MNT_SHARED`: what is mounted on it shows elsewhere, too.
const MNT_SHARED: u32 = 0x1000;

/// The process that starts and stops all others.
const INIT: u32 = 1;

/// The daemon, if it is protected from anybody.
#[inline(always)]
fn guard() -> Option<&'static Guard> {
    GUARD.get(0).filter(|guard| guard.from != Guard::NOBODY)
}

/// Whether a process is the daemon.
#[inline(always)]
fn is(guard: &Guard, task: Task) -> bool {
    task.tgid() == guard.tgid && task.group_leader().started_ns() / TICK_NS == guard.started
}

/// Whether a process is the daemon.
#[inline(always)]
pub(crate) fn is_daemon(task: Task) -> bool {
    GUARD.get(0).is_some_and(|guard| is(guard, task))
}

/// What of a dentry is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Itself.
    Itself,
    /// Its name, or what is mounted there.
    Name,
}

/// Whether the daemon owns what a dentry names, by itself or by a directory above. Of what is above its
/// own, it owns the names.
#[inline(always)]
fn owns_dentry(mut dentry: u64, change: Change) -> bool {
    let mut level = 0;
    while level <= DEPTH {
        let inode = read_or_zero(dentry + u64::from(DENTRY_D_INODE.load()));
        if inode != 0
            && let Some(own) = own_inode(inode)
            // SAFETY: read at once.
            && let Some(&depth) = unsafe { OWN.get(own) }
            && if depth == PLACE {
                level == 0 && change == Change::Name
            } else {
                level <= depth
            }
        {
            return true;
        }
        let parent = read_or_zero(dentry + u64::from(DENTRY_D_PARENT.load()));
        if parent == dentry {
            return level == 0 && is_lost_on_own(inode);
        }
        dentry = parent;
        level += 1;
    }
    false
}

/// Whether an inode without a directory is none itself, and on a device where something is the daemon's.
/// Opened by handle, a file lies nowhere as long as nobody else has looked for it: it may be the daemon's.
#[inline(always)]
fn is_lost_on_own(inode: u64) -> bool {
    let mode = read::<u16>(inode + u64::from(INODE_I_MODE.load()));
    let Ok((device, _)) = number_of(inode) else {
        return false;
    };
    // SAFETY: what it holds does not matter.
    !matches!(mode, Ok(mode) if is_directory(mode))
        && unsafe { OWN.get(Own::device(device)) }.is_some()
}

/// Whether what is written to an open file is written to what the daemon owns: where the file lies, or
/// where its inode does, which before 6.7 a stacked file system shows at its own path.
#[inline(always)]
fn owns_file(file: Ptr) -> bool {
    let dentry = place_of(file).dentry as u64;
    if owns_dentry(dentry, Change::Itself) {
        return true;
    }
    let inode = inode_of(file) as u64;
    if read_or_zero(dentry + u64::from(DENTRY_D_INODE.load())) == inode {
        return false;
    }
    match read_or_zero(inode + u64::from(INODE_I_DENTRY.load())) {
        0 => false,
        link => owns_dentry(link - u64::from(DENTRY_D_ALIAS.load()), Change::Itself),
    }
}

/// What the inode at an address would be known as, if it were the daemon's own.
#[inline(always)]
fn own_inode(inode: u64) -> Option<Own> {
    match number_of(inode) {
        Ok((device, number)) => Some(Own::inode(device, number)),
        Err(_) => None,
    }
}

/// A task that the daemon is protected from.
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
        Self::of(Task::current(), identity)
    }

    /// The same, of any task.
    #[inline(always)]
    fn of(task: Task, identity: impl FnOnce() -> Identity) -> Option<Self> {
        let guard = guard()?;
        if is(guard, task) {
            return None;
        }
        let Identity { label, workload } = identity();
        if workload == HOST && (guard.from != Guard::EVERYBODY || may(guard, task)) {
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

/// Refuses to trace the daemon; to a container under a policy also what is not its own, which would do
/// for it what it may not.
#[inline(always)]
pub(crate) fn refuse_tracing(process: Task, hook: Hook) -> i32 {
    if is_daemon(process) {
        return refuse(Guarded::Process, hook);
    }
    let identity = Identity::current(false);
    let is_outside =
        || identity.workload != HOST && workload_of_task(process.0) != identity.workload;
    match Stranger::known_as(|| identity) {
        Some(stranger) if is_ruled(&identity) && is_outside() => {
            stranger.refuse(Guarded::Outside, hook)
        }
        _ => ALLOWED,
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
    let is_own = || owns_dentry(dentry as u64, Change::Itself);
    Stranger::refuse_change(Stranger::current(), is_own, hook)
}

/// Refuses a container to speak to the daemon: the root of a container is not that of the host, who
/// commands it. `peer` is the address of the socket that it would speak to.
#[inline(always)]
pub(crate) fn refuse_connection(peer: u64, hook: Hook) -> i32 {
    let path = peer + u64::from(UNIX_SOCK_PATH.load());
    let is_own = || {
        let dentry = read_or_zero(path + u64::from(PATH_DENTRY.load()));
        dentry != 0 && owns_dentry(dentry, Change::Itself)
    };
    let stranger = Stranger::current().filter(|stranger| stranger.workload != HOST);
    Stranger::refuse_change(stranger, is_own, hook)
}

/// [`refuse_change`], of a name.
#[inline(always)]
pub(crate) fn refuse_name(dentry: Ptr, hook: Hook) -> i32 {
    let is_own = || owns_dentry(dentry as u64, Change::Name);
    Stranger::refuse_change(Stranger::current(), is_own, hook)
}

/// [`refuse_name`], of two.
#[inline(always)]
pub(crate) fn refuse_names(one: Ptr, other: Ptr, hook: Hook) -> i32 {
    let is_own =
        || owns_dentry(one as u64, Change::Name) || owns_dentry(other as u64, Change::Name);
    Stranger::refuse_change(Stranger::current(), is_own, hook)
}

/// Refuses to change what is mounted at a place, if that is the daemon's own and the daemon sees it.
#[inline(always)]
pub(crate) fn refuse_mount(place: BtfPlace, hook: Hook) -> i32 {
    let is_own = || is_seen(place.mnt) && owns_dentry(place.dentry as u64, Change::Name);
    Stranger::refuse_change(Stranger::current(), is_own, hook)
}

/// Refuses to make another mount the root of the daemon's namespace.
#[inline(always)]
pub(crate) fn refuse_root(hook: Hook) -> i32 {
    let is_own = || guard().is_some_and(|guard| path::inum(path::namespace()) == guard.namespace);
    Stranger::refuse_change(Stranger::current(), is_own, hook)
}

/// Whether what is mounted on a mount shows in the daemon's namespace: because it is there, or because
/// it may be propagated.
#[inline(always)]
fn is_seen(mnt: Ptr) -> bool {
    let mount = mnt as u64 - u64::from(MOUNT_MNT.load());
    let namespace = read_or_zero(mount + u64::from(MOUNT_MNT_NS.load()));
    // SAFETY: a member of a BTF pointer.
    let flags = unsafe { load_u32(mnt, VFSMOUNT_MNT_FLAGS.load()) };
    let own = guard().map_or(0, |guard| guard.namespace);
    flags & MNT_SHARED != 0 || read::<u32>(path::inum_address(namespace)) == Ok(own)
}

/// Refuses to write to a file, if that is the daemon's own, is about its process, or would do away with
/// what is enforced.
#[inline(always)]
pub(crate) fn refuse_writing(identity: Identity, file: Ptr, hook: Hook) -> i32 {
    let Some(stranger) = Stranger::known_as(|| identity) else {
        return ALLOWED;
    };
    match written_by(&identity, file) {
        Some(what) => stranger.refuse(what, hook),
        None => ALLOWED,
    }
}

/// Whether [`refuse_writing`] would refuse a task to write to its file.
#[inline(always)]
pub(crate) fn is_refused_writing(task: Task, identity: Identity, file: Ptr) -> bool {
    Stranger::of(task, || identity).is_some() && written_by(&identity, file).is_some()
}

/// What somebody would do by writing to a file.
#[inline(always)]
fn written_by(identity: &Identity, file: Ptr) -> Option<Guarded> {
    if owns_file(file) {
        return Some(Guarded::File);
    }
    switched_by(identity, inode_of(file), place_of(file).dentry)
}

/// What is done by writing to a file of the kernel's.
#[inline(always)]
fn switched_by(identity: &Identity, inode: Ptr, dentry: Ptr) -> Option<Guarded> {
    /// `SYSFS_MAGIC`, `CGROUP_SUPER_MAGIC`, `BINFMTFS_MAGIC`, `SECURITYFS_MAGIC`.
    const SYSFS: u64 = 0x6265_6572;
    const CGROUP: u64 = 0x0027_e0eb;
    const BINFMT: u64 = 0x4249_4e4d;
    const SECURITY: u64 = 0x7363_6673;
    // SAFETY: members of BTF pointers.
    let magic = unsafe { load_u64(load(inode, INODE_I_SB.load()), SUPER_BLOCK_S_MAGIC.load()) };
    let is_helper = match magic {
        PROC => {
            if let Some(task) = Task::of_proc_inode(inode as u64) {
                return is_daemon(task).then_some(Guarded::Process);
            }
            let name = Short::of(dentry)?;
            if name == Short::new(b"ftrace_enabled") {
                return Some(Guarded::Ftrace);
            }
            if name == Short::new(b"sysrq-trigger") {
                return Some(Guarded::Sysrq);
            }
            name == Short::new(b"core_pattern")
                || name == Short::new(b"modprobe")
                || name == Short::new(b"hotplug")
                || name == Short::new(b"hb_ctl_path")
                || name == Short::new(b"poweroff_cmd")
        }
        SECURITY => {
            let is_lockdown = Short::of(dentry)? == Short::new(b"lockdown");
            return is_lockdown.then_some(Guarded::Lockdown);
        }
        SYSFS => {
            let name = Short::of(dentry)?;
            name == Short::new(b"uevent_helper")
                || name == Short::new(b"cltrack_prog")
                || name == Short::new(b"cache_getent")
                || name == Short::new(b"v86d")
                || name == Short::new(b"usermode_helper")
        }
        CGROUP => Short::of(dentry)? == Short::new(b"release_agent"),
        BINFMT => Short::of(dentry)? == Short::new(b"register"),
        _ => false,
    };
    // Who is under no policy gets round none by what the kernel executes.
    let is_bound = identity.workload != HOST && is_ruled(identity);
    (is_helper && is_bound).then_some(Guarded::Helper)
}

/// A file name of at most 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short([u64; 2]);

impl Short {
    const fn new(name: &[u8]) -> Self {
        let mut words = [0; 2];
        let mut index = 0;
        while index < name.len() {
            words[index / 8] |= (name[index] as u64) << (8 * (index % 8));
            index += 1;
        }
        Self(words)
    }

    /// That of a dentry; `None` for a longer one.
    #[inline(always)]
    fn of(dentry: Ptr) -> Option<Self> {
        // `d_name` is { hash, len, name }.
        let name = dentry as u64 + u64::from(DENTRY_D_NAME.load());
        let len = read::<u32>(name + 4).ok()?;
        let [first, second] = read::<[u64; 2]>(read_or_zero(name + 8)).ok()?;
        Some(Self(match len {
            1..8 => [first & ((1 << (8 * len)) - 1), 0],
            8 => [first, 0],
            9..16 => [first, second & ((1 << (8 * (len - 8))) - 1)],
            16 => [first, second],
            _ => return None,
        }))
    }
}

/// Refuses a signal that the kernel sends for somebody who had it sent. It may come while anybody runs,
/// and the daemon has none sent to itself: it is refused whoever that is, with an alert where it is
/// somebody from whom the daemon is protected.
#[inline(always)]
pub(crate) fn refuse_signal(process: Task, hook: Hook) -> i32 {
    if guard().is_some_and(|guard| is(guard, process)) {
        refuse(Guarded::Process, hook);
        DENIED
    } else {
        ALLOWED
    }
}

/// Refuses to make another file the image that a process counts as, to whoever is under a policy: rules
/// tell processes apart by it.
#[inline(always)]
pub(crate) fn refuse_image(hook: Hook) -> i32 {
    let identity = Identity::current(false);
    match Stranger::known_as(|| identity) {
        Some(stranger) if is_ruled(&identity) => stranger.refuse(Guarded::Image, hook),
        _ => ALLOWED,
    }
}

/// Whether somebody is under a policy.
#[inline(always)]
fn is_ruled(identity: &Identity) -> bool {
    Subject::new(identity, u32::MAX).is_some()
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
