//! What the daemon asks of whatever enforces: the kernel, or its in-memory twin in tests.
//!
//! Nothing above this trait knows about maps, programs or offsets; nothing below it knows about
//! policies, containers or alerts.

pub mod memory;

use std::sync::Arc;

use karmor_abi::counters::Counters;
use karmor_policy::compiled::Compiled;
use rustix::fs::{major, minor};
use tokio::sync::mpsc;

/// Enforces compiled tables on numbered workloads and reports events.
///
/// Calls block for as long as a few system calls take; none waits for another process.
pub trait Backend: Send {
    /// What this node can enforce, found by trying.
    fn capabilities(&self) -> &Capabilities;

    /// Which numbers were given by [`Backend::add_workload`] since the backend's state began.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn given(&self, cgroup_id: u64) -> Result<Given, BackendError>;

    /// Makes tasks in the cgroup with this id (and below) belong to a workload, beside those of its
    /// other cgroups.
    ///
    /// The number is chosen by the caller, is never 0, and is never reused while the backend's
    /// state lives.
    ///
    /// # Errors
    /// When the kernel refuses; nothing changed then.
    fn add_workload(&mut self, workload: u32, cgroup_id: u64) -> Result<(), BackendError>;

    /// Says what a workload was started with. Of its mount namespace and root only the first word
    /// counts: a workload can move to others. It is said before [`Backend::add_workload`]: who comes
    /// in from outside is told by it.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn set_origin(&mut self, workload: u32, origin: Origin) -> Result<(), BackendError>;

    /// Forgets a workload, which has these cgroups. Tasks that still carry its label keep it,
    /// without policy.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn remove_workload(&mut self, workload: u32, cgroups: &[u64]) -> Result<(), BackendError>;

    /// Switches workloads to a table, each in one step, or to none. The table is shared by all of
    /// them. Returns once every check that starts later sees the new table.
    ///
    /// # Errors
    /// When the table could not be built, and every workload keeps what it had; or when the kernel
    /// refuses a switch, and those before it are switched.
    fn apply(
        &mut self,
        workloads: &[u32],
        table: Option<&Arc<Compiled>>,
    ) -> Result<(), BackendError>;

    /// Marks these files of a workload as protected whatever name they are reached by, each with
    /// the set its proper path has in `table`. Others of the workload are no longer marked.
    ///
    /// # Errors
    /// When the kernel refuses, or has no room; those before are marked then.
    fn mark(
        &mut self,
        workload: u32,
        table: &Arc<Compiled>,
        files: &[MarkedFile],
    ) -> Result<(), BackendError>;

    /// Finds descriptors that were open before and that the tables in force refuse to somebody, so that
    /// their uses are decided. After changes by [`Backend::apply`] and [`Backend::mark`], once for
    /// several. What goes wrong is in the log: the tables are in force all the same.
    fn settle(&mut self) {}

    /// Does what has to be done again later: what was being opened when tables changed is found, and
    /// what has nothing left to decide is detached. Every second or so.
    fn tick(&mut self) {}

    /// Takes the stream of raw events ([`karmor_abi::event`]), once.
    fn events(&mut self) -> Option<mpsc::Receiver<RawEvent>>;

    /// The counters of each CPU, by its number.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn counters(&self) -> Result<Vec<Counters>, BackendError>;
}

/// Numbers that workloads were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// That of the tasks in a cgroup, if they have one.
    pub own: Option<u32>,
    /// The highest one, 0 for none.
    pub last: u32,
}

/// What a workload was started with. 0 stands for what cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Number of the mount namespace in which its files have the names that its policies mean.
    pub namespace: u32,
    /// Its first process, as the host numbers it.
    pub init: u32,
    /// Device of its root, as the kernel numbers it.
    pub root: u32,
}

/// A device as the kernel numbers it inside, from how `stat(2)` does: the major number times 2^20,
/// and the minor number.
#[must_use]
pub fn device_number(device: u64) -> u32 {
    major(device) << 20 | minor(device)
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Device of the file system, as the kernel numbers it ([`device_number`]).
    pub device: u32,
    /// Number of the inode within.
    pub inode: u64,
}

impl FileId {
    /// From what `stat(2)` says.
    #[must_use]
    pub fn new(device: u64, inode: u64) -> Self {
        Self {
            device: device_number(device),
            inode,
        }
    }
}

/// A protected file that has other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkedFile {
    /// The file.
    pub file: FileId,
    /// The set that its ruled path has in the workload's table.
    pub set: u32,
    /// Operations that are decided by that set too, as a mask of [`karmor_abi::op::Op::bit`]s.
    pub ops: u32,
}

/// One event as the kernel wrote it, with the table it names resolved.
#[derive(Clone, Debug)]
pub struct RawEvent {
    /// Header and texts ([`karmor_abi::event`]).
    pub bytes: Box<[u8]>,
    /// The table that decided, when it is still known.
    pub table: Option<Arc<Compiled>>,
}

/// What the node can enforce, and what not and why. Printed by `karmor probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// `uname -r`.
    pub kernel: String,
    /// `/sys/kernel/btf/vmlinux` is readable.
    pub btf: bool,
    /// Active LSMs, as the kernel lists them.
    pub lsms: Vec<String>,
    /// Hooks, in [`karmor_abi::event::Hook`] order, with what loading each showed.
    pub hooks: Vec<HookSupport>,
    /// Nothing is enforced, by request or by necessity; the reason.
    pub observe_only: Option<String>,
}

/// What one hook's program did when it was loaded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookSupport {
    /// The LSM hook.
    pub hook: String,
    /// It loads here.
    pub loads: bool,
    /// It is attached now: some policy needs it.
    pub attached: bool,
    /// Instructions the verifier processed, 0 when not loaded.
    pub verified_instructions: u32,
    /// Why it does not load.
    pub error: Option<String>,
}

/// Why the backend did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The compiled table is larger than the largest size class.
    #[error("the compiled policies need {words} words, more than the {max} a table can hold")]
    TooLarge {
        /// Words needed.
        words: usize,
        /// Words that fit.
        max: usize,
    },
    /// No room for another workload or table.
    #[error("no room for another {0}")]
    Full(&'static str),
    /// The kernel refused.
    #[error("{what} failed")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        #[source]
        source: anyhow::Error,
    },
}
