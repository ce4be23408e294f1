//! Who is asking, and what they may.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Request, Status, transport::server::UdsConnectInfo};

use super::Api;
use crate::engine::{Core, Stopped};

/// Questions of strangers that may be with the engine at the same time. It answers one after the
/// other, and containers wait in the same queue until they are protected.
const QUESTIONS: usize = 2;

/// Turns of those who come over TCP.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(QUESTIONS)))
    }
}

#[cfg(test)]
impl Turns {
    /// All that there are.
    pub(super) fn take_all(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(QUESTIONS).unwrap();
        Arc::clone(&self.0).try_acquire_many_owned(all).unwrap()
    }
}

/// Whose question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// Came over the unix socket, which is root's.
    Known,
    /// Came over TCP: anybody.
    Stranger,
}

impl Asker {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        match request.extensions().get::<UdsConnectInfo>() {
            Some(_) => Self::Known,
            None => Self::Stranger,
        }
    }
}

impl Api {
    /// Asks the engine something, when it is the asker's turn.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the engine has stopped.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        asker: Asker,
        task: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let turn = match asker {
            Asker::Known => None,
            Asker::Stranger => Some(
                Arc::clone(&self.turns.0)
                    .acquire_owned()
                    .await
                    .map_err(|error| Status::internal(error.to_string()))?,
            ),
        };
        let task = move |core: &mut Core| {
            // Held here and not by the call: who hangs up does not get the next turn before the
            // engine is through with this one.
            let _turn = turn;
            task(core)
        };
        self.engine.ask(task).await.map_err(stopped)
    }
}

pub(super) fn stopped(error: Stopped) -> Status {
    Status::unavailable(error.to_string())
}

/// Lets a request through that came over the unix socket from root, or from the user the daemon
/// runs as.
///
/// # Errors
/// `PERMISSION_DENIED`, with what to do instead.
pub(super) fn may_change<T>(request: &Request<T>) -> Result<(), Status> {
    let Some(peer) = request.extensions().get::<UdsConnectInfo>() else {
        return Err(Status::permission_denied(format!(
            "policies are not changed over TCP; use the unix socket of the daemon ({} unless \
             configured otherwise)",
            karmor_proto::SOCKET
        )));
    };
    match peer.peer_cred.map(|c| c.uid()) {
        Some(uid) if uid == 0 || uid == rustix::process::geteuid().as_raw() => Ok(()),
        Some(uid) => Err(Status::permission_denied(format!(
            "policies are changed by root, not by user {uid}"
        ))),
        None => Err(Status::permission_denied(
            "the system does not tell who is asking",
        )),
    }
}
