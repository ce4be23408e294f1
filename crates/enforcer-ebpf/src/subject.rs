//! Who asks: the task's label, and what applies to its workload.

use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns,
};
use karmor_abi::{
    label::{HOST, Handle, Label},
    limits::WORKLOADS as WORKLOAD_ENTRIES,
    names,
};

use crate::{
    elsewhere,
    kernel::{
        memory::read_or_zero,
        offsets::{
            CGROUP_KN, CGROUP_SELF, CSS_PARENT, CSS_SET_DFL_CGRP, KERNFS_NODE_ID, TASK_CGROUPS,
        },
        task::Task,
    },
    maps::{CGROUPS, LABELS, REGISTRY, WORKLOADS},
};

/// Deepest cgroup level that is searched for a container; containerd and Kubernetes use up to 6.
pub(crate) const CGROUP_LEVELS: i32 = 16;

/// A task under policy.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    /// Its label in the map; null when there was no room for one.
    pub(crate) label: *mut Label,
    /// Its workload.
    pub(crate) workload: u32,
    /// Operations the table may not allow, of those asked about.
    pub(crate) ops: u32,
    /// Not zero when files of its workload are marked.
    pub(crate) marks: u32,
    /// The table of its workload; never [`Handle::NONE`].
    pub(crate) handle: Handle,
}

impl Subject {
    /// The running task, when its workload has a policy on one of `ops`.
    #[inline(always)]
    pub(crate) fn current(ops: u32) -> Option<Self> {
        Self::new(&Identity::current(false), ops)
    }

    /// The running task at an exec: a host process that executes inside a container's cgroup
    /// becomes the container's here, whatever it was labelled before.
    #[inline(always)]
    pub(crate) fn executing(ops: u32) -> Option<Self> {
        Self::new(&Identity::current(true), ops)
    }

    /// The same, when its workload has a policy on one of these.
    #[inline(always)]
    pub(crate) fn only(self, ops: u32) -> Option<Self> {
        let ops = self.ops & ops;
        (ops != 0).then_some(Self { ops, ..self })
    }

    #[inline(always)]
    pub(crate) fn new(identity: &Identity, ops: u32) -> Option<Self> {
        let workload = identity.workload;
        let entry = WORKLOADS.get(workload & (WORKLOAD_ENTRIES - 1))?;
        // SAFETY: a live map value. Read once: a switch replaces it at any moment.
        let handle = unsafe { (&raw const entry.handle).read_volatile() };
        if entry.ops & ops == 0 || entry.workload != workload || handle == Handle::NONE {
            return None;
        }
        Some(Self {
            label: identity.label,
            workload,
            ops: entry.ops & ops,
            marks: entry.marks,
            handle,
        })
    }
}

/// Whose a task is.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    /// Its label in the map; null when there was no room for one.
    pub(crate) label: *mut Label,
    /// Its workload.
    pub(crate) workload: u32,
}

impl Identity {
    /// The running task's; its label is made when missing and resolved again when stale.
    #[inline(always)]
    pub(crate) fn current(at_exec: bool) -> Self {
        let task = Task::current();
        let epoch = match REGISTRY.get(names::EPOCH) {
            Some(&epoch) => epoch as u32,
            None => 0,
        };
        let Some(label) = LABELS.get_ptr_mut(task.0) else {
            let workload = workload_of_cgroup();
            label_first(workload, epoch);
            let label = LABELS.get_ptr_mut(task.0).unwrap_or(core::ptr::null_mut());
            return Self { label, workload };
        };
        // SAFETY: a map value that only the task itself writes, and that lives as long as it.
        unsafe {
            if (*label).workload == HOST && (at_exec || (*label).epoch != epoch) {
                let workload = workload_of_cgroup();
                let is_runtime =
                    has_joined(&*label, workload) && elsewhere::is_yet_to_enter(workload);
                (*label).epoch = epoch;
                if workload != HOST && !is_runtime {
                    (*label).workload = workload;
                    (*label).table = 0;
                    (*label).exec_id = session_in(workload);
                }
            }
            Self {
                label,
                workload: (*label).workload,
            }
        }
    }
}

/// Labels the running task, which has none. Without room it stays unlabelled; it is resolved again at its
/// next access.
///
/// Not inlined: a label is large, for the 512 bytes that a chain of calls has.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn label_first(workload: u32, epoch: u32) -> u32 {
    let label = Label {
        workload,
        epoch,
        exec_id: session_in(workload),
        ..Label::EMPTY
    };
    let _ = LABELS.insert(Task::current().0, label, 0);
    0
}

/// Whether a task with this label, of the host's, has come to the workload's cgroup since that is known,
/// rather than having been in it before.
#[inline(always)]
fn has_joined(label: &Label, workload: u32) -> bool {
    match WORKLOADS.get(workload & (WORKLOAD_ENTRIES - 1)) {
        Some(entry) => entry.workload == workload && entry.since != 0 && label.epoch >= entry.since,
        None => false,
    }
}

/// The workload of a task that does not run here: by its label, or by its cgroup, as when it next
/// asks itself. A runtime's process that has joined that is the host's until it executes something.
#[inline(always)]
pub(crate) fn workload_of_task(task: u64) -> u32 {
    // SAFETY: of a task that may end meanwhile; it is then as good as any.
    let label = unsafe { LABELS.get(task) };
    if let Some(label) = label
        && label.workload != HOST
    {
        return label.workload;
    }
    let set = read_or_zero(task + u64::from(TASK_CGROUPS.load()));
    let workload = workload_of(read_or_zero(set + u64::from(CSS_SET_DFL_CGRP.load())));
    match label {
        Some(label) if has_joined(label, workload) => HOST,
        _ => workload,
    }
}

/// The workload that a cgroup is of, given by its address.
#[inline(never)]
pub(crate) fn workload_of(cgroup: u64) -> u32 {
    let mut cgroup = cgroup;
    let mut found = HOST;
    let mut level = 0;
    while level < CGROUP_LEVELS && cgroup != 0 {
        let node = read_or_zero(cgroup + u64::from(CGROUP_KN.load()));
        let id = read_or_zero(node + u64::from(KERNFS_NODE_ID.load()));
        // SAFETY: entries are only ever replaced whole.
        if let Some(&workload) = unsafe { CGROUPS.get(id) } {
            found = workload;
            break;
        }
        let parent = cgroup + u64::from(CGROUP_SELF.load() + CSS_PARENT.load());
        cgroup = match read_or_zero(parent) {
            0 => 0,
            parent => parent - u64::from(CGROUP_SELF.load()),
        };
        level += 1;
    }
    found
}

/// Ancestors among which a workload's first process is looked for. Only who was there before labels
/// were is further from it: labels are inherited.
const ANCESTORS: u32 = 64;

/// Number of the exec session that the running task is in, which has just been found in a workload: 0
/// for the workload's first process and what descends from it, and on the host. Where the first
/// process is not known, whoever is found there has come from outside.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn session_in(workload: u32) -> u64 {
    if workload == HOST {
        return 0;
    }
    let init = elsewhere::init_of(workload);
    let mut task = Task::current();
    let mut tgid = task.tgid();
    let mut level = 0;
    while level < ANCESTORS && init != 0 && tgid > 1 {
        if tgid == init {
            return 0;
        }
        task = task.real_parent();
        tgid = task.tgid();
        level += 1;
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The workload whose cgroup the running task is in, or below.
#[inline(never)]
fn workload_of_cgroup() -> u32 {
    // SAFETY: the helpers have no preconditions.
    unsafe {
        nearest_workload(bpf_get_current_cgroup_id(), |level| {
            bpf_get_current_ancestor_cgroup_id(level)
        })
    }
}

/// The workload of a cgroup, or of the nearest above it that is one's. `ancestor` tells the id of the
/// one at a level, 0 past the cgroup's own.
#[inline(always)]
pub(crate) fn nearest_workload(own: u64, ancestor: impl Fn(i32) -> u64) -> u32 {
    // SAFETY: entries are only ever replaced whole; a stale one names a number that is not reused.
    if let Some(&workload) = unsafe { CGROUPS.get(own) } {
        return workload;
    }
    let mut found = HOST;
    let mut level = 1;
    while level < CGROUP_LEVELS {
        let id = ancestor(level);
        if id == 0 || id == own {
            break;
        }
        // SAFETY: as above.
        if let Some(&workload) = unsafe { CGROUPS.get(id) } {
            found = workload;
        }
        level += 1;
    }
    found
}
