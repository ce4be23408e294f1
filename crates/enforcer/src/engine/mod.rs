//! The one owner of policies, workloads and the backend, on a thread of its own.
//!
//! The backend's calls block, and order matters to all of them; so everybody else sends the thread
//! what to do and waits for the answer.

mod core;
mod marking;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

pub use self::core::{Core, Done, Ended, ListedPolicy, POLICIES, Reference, Setup, Tried};
use crate::workload::Identity;

/// Things to do that may wait for the thread; senders wait beyond that.
const QUEUE: usize = 256;

type Task = Box<dyn FnOnce(&mut Core) + Send>;

/// How everybody talks to the engine.
#[derive(Clone, Debug)]
pub struct Engine {
    tasks: mpsc::Sender<Task>,
}

/// The engine has stopped; the daemon is going down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the daemon is stopping")]
pub struct Stopped;

impl Engine {
    /// Starts the thread. It ends when the last [`Engine`] is dropped.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn start(core: Core) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (tasks, mut queue) = mpsc::channel::<Task>(QUEUE);
        let engine = Self { tasks };
        let marker = marking::start(engine.tasks.downgrade())?;
        let mut core = core;
        let thread = thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                marking::enqueue(&marker, &mut core);
                while let Some(task) = queue.blocking_recv() {
                    task(&mut core);
                    marking::enqueue(&marker, &mut core);
                }
            })?;
        Ok((engine, thread))
    }

    /// Has something done and waits for what comes of it.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |core| {
            // Whoever asked may have gone; what was asked is done all the same.
            let _ = reply.send(task(core));
        });
        self.tasks.send(task).await.map_err(|_closed| Stopped)?;
        answer.await.map_err(|_closed| Stopped)
    }
}

/// Who the numbers in events are; written by the engine, read by the event loop.
#[derive(Clone, Debug, Default)]
pub struct Identities(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    live: HashMap<u32, Identity>,
    /// Workloads that are gone: their last events may still be on the way.
    gone: VecDeque<(u32, Identity)>,
}

/// Workloads remembered after their end.
const GONE: usize = 1024;

impl Identities {
    /// Who a number is, or was until recently.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Identity> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.live.get(&number).cloned().or_else(|| {
            known
                .gone
                .iter()
                .rev()
                .find(|(n, _)| *n == number)
                .map(|(_, i)| i.clone())
        })
    }

    pub(crate) fn insert(&self, number: u32, identity: Identity) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .live
            .insert(number, identity);
    }

    pub(crate) fn remove(&self, number: u32) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = known.live.remove(&number) {
            if known.gone.len() == GONE {
                known.gone.pop_front();
            }
            known.gone.push_back((number, identity));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
