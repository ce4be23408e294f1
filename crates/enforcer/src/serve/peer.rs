//! Who may change policies.

use tonic::{Request, Status, transport::server::UdsConnectInfo};

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
