//! `task_alloc`, `task_free`: labels are inherited at fork and end with the task.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{counters::Fault, label::HOST, op::Op};

use crate::{
    arguments,
    decide::refresh_sources,
    emit::count_fault,
    kernel::{memory::Ptr, path, task::Task},
    maps::LABELS,
    subject::{Identity, Subject},
};

/// A new thread rather than a new process.
const CLONE_THREAD: u64 = 0x1_0000;

/// `EAGAIN`: what a fork that finds no room for the child's label returns.
const AGAIN: i32 = -11;

/// `task_alloc(task, clone_flags)`: before the child can run or be seen.
#[lsm(hook = "task_alloc")]
pub(crate) fn task_alloc(ctx: LsmContext) -> i32 {
    let child: Ptr = ctx.arg(0);
    let flags: u64 = ctx.arg(1);
    let identity = Identity::current(false);
    if identity.label.is_null() {
        return refuse(identity.workload, child);
    }
    if let Some(subject) = Subject::new(&identity, Op::Exec.bit() | Op::Map.bit())
        && subject.handle.sourced()
        && let Some(scratch) = path::claim()
    {
        // The child's parent class is the image that forks now; later it cannot be told.
        refresh_sources(&subject, scratch);
        path::release(scratch);
    }
    // SAFETY: not null; only the running task writes its own label.
    let mut label = unsafe { *identity.label };
    if flags & CLONE_THREAD == 0 {
        let task = Task::current();
        label.parent = label.source;
        (label.forker, label.forker_execs) = (task.tgid(), task.execs());
        label.forker_mm = task.mm();
    }
    match LABELS.insert(child as u64, label, 0) {
        Ok(()) => 0,
        Err(_) => refuse(label.workload, child),
    }
}

/// A host task may go unlabelled: it is resolved at its next access. A contained one may not, or it
/// could shed its label by leaving the cgroup.
#[inline(always)]
fn refuse(workload: u32, child: Ptr) -> i32 {
    if workload == HOST {
        // Before 6.2 a removal fails when it interrupts a change of the same bucket. What that left
        // behind at this address is not this task's.
        let _ = LABELS.remove(child as u64);
        return 0;
    }
    count_fault(Fault::NoLabel);
    AGAIN
}

/// `task_free(task)`: before the address is used again.
#[lsm(hook = "task_free")]
pub(crate) fn task_free(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let _ = LABELS.remove(task as u64);
    arguments::forget(Task(task as u64));
    0
}
