//! Looking for other names of protected files and for links in rules, beside the engine: a walk may
//! take a while.

use std::{
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Core, Task};
use crate::{
    index::Switched,
    links, marks,
    remark::About,
    workload::{Identity, root::Root},
};

/// Workloads that may wait for their walk.
const QUEUE: usize = 4096;

/// A workload to walk through.
pub(super) struct Job {
    switched: Switched,
    /// A process that has its root.
    pid: u32,
}

/// Starts the thread. It ends with the engine.
pub(super) fn start(tasks: mpsc::WeakSender<Task>) -> std::io::Result<SyncSender<Job>> {
    let (sender, jobs) = sync_channel::<Job>(QUEUE);
    thread::Builder::new().name("marks".into()).spawn(move || {
        for job in jobs {
            let Some(tasks) = tasks.upgrade() else { return };
            let root = match Root::of_process(job.pid) {
                Ok(root) => root,
                Err(error) => {
                    info!(%error, workload = job.switched.number, "the files of a workload cannot be looked at; it may have ended");
                    let why = format!("its files cannot be looked at: {error}");
                    let task: Task = Box::new(move |core| core.unsearched(&job.switched, &why));
                    if tasks.blocking_send(task).is_err() {
                        return;
                    }
                    continue;
                }
            };
            let table = &job.switched.table;
            let mut found = marks::find(&root, &table.effective, &table.compiled);
            found.remarks.extend(links::find(&root, &table.effective));
            if found.remarks.iter().any(|remark| matches!(remark.about, About::Unsearched(_))) {
                warn!(workload = job.switched.number, "not every protected file was checked for hard links; the policies' statuses tell more");
            }
            let task: Task = Box::new(move |core| core.found(&job.switched, found));
            if tasks.blocking_send(task).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// Hands over the workloads that got a new table.
pub(super) fn enqueue(marker: &SyncSender<Job>, core: &mut Core) {
    for switched in core.take_switched() {
        let pid = match core.identity(switched.number) {
            Some(Identity::Container(container)) => container.pid,
            Some(Identity::Host) => std::process::id(),
            None => continue,
        };
        if let Err(TrySendError::Full(job)) = marker.try_send(Job { switched, pid }) {
            warn!(
                workload = job.switched.number,
                "too many changes at once to check protected files for other names"
            );
            core.unsearched(&job.switched, "too many workloads changed at once");
        }
    }
}
