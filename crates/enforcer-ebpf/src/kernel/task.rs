//! What a task is: image, parent, process ids, terminal.
//!
//! Everything here starts from a `task_struct` address and copies; none of it is on a path that an
//! allowed access takes, but for the image after an exec.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf};

use karmor_abi::offsets::ABSENT;

use super::{
    memory::{Ptr, load, read, read_or_zero},
    offsets::{
        CRED_EUID, FILE_F_PATH, FS_PWD, FS_ROOT, MM_EXE_FILE, MNT_NS_USER_NS, NSPROXY_MNT_NS,
        PATH_DENTRY, PATH_MNT, PID_LEVEL, PID_NUMBERS, PID_TASKS, PROC_INODE_PID, PROC_INODE_VFS,
        SIGNAL_PIDS, SIGNAL_TTY, TASK_CRED, TASK_FLAGS, TASK_FS, TASK_GROUP_LEADER, TASK_IO_URING,
        TASK_MM, TASK_NSPROXY, TASK_PID_LINKS, TASK_REAL_CRED, TASK_REAL_PARENT, TASK_SELF_EXEC_ID,
        TASK_SIGNAL, TASK_START_BOOTTIME, TASK_TGID, TTY_NAME, USER_NS_LEVEL,
    },
    path::Place,
};

/// Bytes of one `struct upid` { nr, ns }.
const UPID_BYTES: u64 = 16;

/// Index of the thread group's pid in `signal_struct.pids` (`PIDTYPE_TGID`), in bytes.
const PIDTYPE_TGID: u64 = 8;

/// `PF_IO_WORKER`: a thread that works off io_uring's requests.
const PF_IO_WORKER: u32 = 0x10;

/// A `task_struct`, by address.
#[derive(Clone, Copy)]
pub(crate) struct Task(pub(crate) u64);

impl Task {
    /// The running task.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        // SAFETY: the helper has no preconditions.
        Self(unsafe { bpf_get_current_task() })
    }

    #[inline(always)]
    fn member(self, offset: u32) -> u64 {
        read_or_zero(self.0 + u64::from(offset))
    }

    /// The process that forked it, or that it was re-parented to.
    #[inline(always)]
    pub(crate) fn real_parent(self) -> Self {
        Self(self.member(TASK_REAL_PARENT.load()))
    }

    /// Process id in the initial namespace.
    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        match read(self.0 + u64::from(TASK_TGID.load())) {
            Ok(tgid) => tgid,
            Err(_) => 0,
        }
    }

    /// How often its process has executed something, for comparing.
    #[inline(always)]
    pub(crate) fn execs(self) -> u32 {
        match read(self.0 + u64::from(TASK_SELF_EXEC_ID.load())) {
            Ok(execs) => execs,
            Err(_) => 0,
        }
    }

    /// The first thread of its process.
    #[inline(always)]
    pub(crate) fn group_leader(self) -> Self {
        Self(self.member(TASK_GROUP_LEADER.load()))
    }

    /// When it was started, in nanoseconds since boot.
    #[inline(always)]
    pub(crate) fn started_ns(self) -> u64 {
        self.member(TASK_START_BOOTTIME.load())
    }

    /// Address of its image's `struct file`, or 0.
    #[inline(always)]
    pub(crate) fn exe_file(self) -> u64 {
        match self.member(TASK_MM.load()) {
            0 => 0,
            mm => read_or_zero(mm + u64::from(MM_EXE_FILE.load())),
        }
    }

    /// Where its image lies; nowhere for a kernel thread.
    #[inline(always)]
    pub(crate) fn exe(self) -> Place {
        match self.exe_file() {
            0 => Place::NOWHERE,
            file => place(file + u64::from(FILE_F_PATH.load())),
        }
    }

    /// Whether the kernel acts here with credentials that are not the task's own, as a stacked file
    /// system does in its layers. A request of io_uring may come with other credentials that its
    /// submitter chose, and is the submitter's own doing: from a worker, or at once from the task,
    /// so that who uses io_uring is never taken to act for the kernel.
    #[inline(always)]
    pub(crate) fn acts_for_the_kernel(self) -> bool {
        let flags = read::<u32>(self.0 + u64::from(TASK_FLAGS.load()));
        let own = self.member(TASK_REAL_CRED.load()) == self.member(TASK_CRED.load());
        let io_uring = TASK_IO_URING.load() != ABSENT && self.member(TASK_IO_URING.load()) != 0;
        !own && !io_uring && matches!(flags, Ok(flags) if flags & PF_IO_WORKER == 0)
    }

    /// Whether it is root of the host in a mount namespace that the host made: not in one of a user
    /// namespace, where anybody can have any file at any name. `false` when that cannot be told.
    #[inline(always)]
    pub(crate) fn is_root_of_the_host(self) -> bool {
        let euid = read::<u32>(self.member(TASK_CRED.load()) + u64::from(CRED_EUID.load()));
        let proxy = self.member(TASK_NSPROXY.load());
        let namespace = read_or_zero(proxy + u64::from(NSPROXY_MNT_NS.load()));
        let owner = read_or_zero(namespace + u64::from(MNT_NS_USER_NS.load()));
        // Level 0 is that of the initial namespace.
        euid == Ok(0) && read::<u32>(owner + u64::from(USER_NS_LEVEL.load())) == Ok(0)
    }

    /// The process that an inode of /proc is about, given by address.
    #[inline(always)]
    pub(crate) fn of_proc_inode(inode: u64) -> Option<Self> {
        let of = inode - u64::from(PROC_INODE_VFS.load());
        match read_or_zero(of + u64::from(PROC_INODE_PID.load())) {
            0 => None,
            pid => Self::of_pid(pid),
        }
    }

    /// Its working directory.
    #[inline(always)]
    pub(crate) fn cwd(self) -> Place {
        match self.member(TASK_FS.load()) {
            0 => Place::NOWHERE,
            fs => place(fs + u64::from(FS_PWD.load())),
        }
    }

    /// Address of its memory descriptor, or 0.
    #[inline(always)]
    pub(crate) fn mm(self) -> u64 {
        self.member(TASK_MM.load())
    }

    /// Address of what the threads of a process share.
    #[inline(always)]
    pub(crate) fn signal(self) -> u64 {
        self.member(TASK_SIGNAL.load())
    }

    /// The task that a `struct pid` stands for, once it has been made and while it has not ended.
    #[inline(always)]
    pub(crate) fn of_pid(pid: u64) -> Option<Self> {
        // Of the kinds of pids, a task's own comes first.
        match read_or_zero(pid + u64::from(PID_TASKS.load())) {
            0 => None,
            link => Some(Self(link - u64::from(TASK_PID_LINKS.load()))),
        }
    }

    /// Address of the `struct pid` of its thread group.
    #[inline(always)]
    pub(crate) fn pid(self) -> u64 {
        read_or_zero(self.signal() + u64::from(SIGNAL_PIDS.load()) + PIDTYPE_TGID)
    }

    /// Process ids of the task and its parent as the task's own pid namespace numbers them; 0 for
    /// a parent outside it.
    #[inline(always)]
    pub(crate) fn namespace_pids(self, parent: Self) -> (u32, u32) {
        let pid = self.pid();
        let Ok(level) = read::<u32>(pid + u64::from(PID_LEVEL.load())) else {
            return (0, 0);
        };
        let number = u64::from(PID_NUMBERS.load()) + u64::from(level & 31) * UPID_BYTES;
        let Ok([nr, namespace]) = read::<[u64; 2]>(pid + number) else {
            return (0, 0);
        };
        let parent_pid = parent.pid();
        let parent_nr = match read::<u32>(parent_pid + u64::from(PID_LEVEL.load())) {
            Ok(parent_level) if parent_level >= level => {
                match read::<[u64; 2]>(parent_pid + number) {
                    Ok([nr, same]) if same == namespace => nr as u32,
                    _ => 0,
                }
            }
            _ => 0,
        };
        (nr as u32, parent_nr)
    }

    /// Whether it has a controlling terminal.
    #[inline(always)]
    pub(crate) fn has_terminal(self) -> bool {
        let signal = self.member(TASK_SIGNAL.load());
        read_or_zero(signal + u64::from(SIGNAL_TTY.load())) != 0
    }

    /// Name of the controlling terminal, or zeroes.
    #[inline(always)]
    pub(crate) fn tty(self) -> [u8; 16] {
        let signal = self.member(TASK_SIGNAL.load());
        match read_or_zero(signal + u64::from(SIGNAL_TTY.load())) {
            0 => [0; 16],
            tty => match read(tty + u64::from(TTY_NAME.load())) {
                Ok(name) => name,
                Err(_) => [0; 16],
            },
        }
    }
}

/// The mount of the running task's root directory, a BTF pointer.
#[inline(always)]
pub(crate) fn root_mount() -> Ptr {
    // SAFETY: the helper returns a BTF pointer; the rest are members of such.
    unsafe {
        let task = bpf_get_current_task_btf() as Ptr;
        load(load(task, TASK_FS.load()), FS_ROOT.load() + PATH_MNT.load())
    }
}

/// Reads a `struct path`.
#[inline(always)]
fn place(path: u64) -> Place {
    Place {
        mnt: read_or_zero(path + u64::from(PATH_MNT.load())),
        dentry: read_or_zero(path + u64::from(PATH_DENTRY.load())),
    }
}
