//! What the daemon says and takes over gRPC.
//!
//! ```text
//! unix socket, 0600  every service; policy changes from root
//! TCP, loopback      the feed, health, reflection; nothing that changes anything
//! ```

mod control;
mod incoming;
mod log;
mod peer;
mod policy;
mod trial;
mod unread;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use karmor_proto::{
    ANSWER_BYTES, FILE_DESCRIPTOR_SET,
    feeder::log_service_server::LogServiceServer,
    karmor::v1::control_server::ControlServer,
    policy::{
        policy_service_server::PolicyServiceServer, probe_service_server::ProbeServiceServer,
    },
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{incoming::Incoming, unread::Places};
pub use self::{incoming::Limits, peer::Turns};
use crate::{
    engine::Engine, events::loss::Accounts, feed::Feeds, workload::Node,
    workload::containerd::SharedConnection,
};

/// What goes over a connection.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Bytes of a request.
    question: usize,
    /// Bytes of an answer.
    answer: usize,
    /// Questions about policies and workloads that may be under way, until their answers are read.
    unread: usize,
}

impl Bounds {
    /// Of those who may change policies: one of the largest size, and what it is wrapped in.
    const KNOWN: Self = Self {
        question: 4 << 20,
        answer: ANSWER_BYTES,
        unread: Semaphore::MAX_PERMITS,
    };

    /// Of those who may change nothing: questions are short, and answers of the size that gRPC
    /// clients take unless told otherwise.
    const STRANGERS: Self = Self {
        question: 16 << 10,
        answer: 4 << 20,
        unread: 16,
    };
}

/// Bytes that are taken of a TCP connection before somebody reads them.
const WINDOW_BYTES: u32 = 65_535;

/// Policies one client may be changing at the same time.
const CONCURRENCY: usize = 32;

/// Calls of one TCP connection that may be under way, streams of events included.
const STREAMS: u32 = 16;

/// What the services speak for.
#[derive(Clone, Debug)]
pub struct Api {
    /// Policies and workloads.
    pub engine: Engine,
    /// Events.
    pub feeds: Arc<Feeds>,
    /// What became of events.
    pub accounts: Arc<Accounts>,
    /// Where this is.
    pub node: Arc<Node>,
    /// The container runtime.
    pub runtime: SharedConnection,
    /// When the daemon started.
    pub started: Timestamp,
    /// Turns of those who come over TCP.
    pub turns: Turns,
}

/// Why a place to listen cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody has the port.
    #[error(
        "port {port} on 127.0.0.1 is taken by another program; choose another with --{flag}, or 0 for any"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The setting.
        flag: &'static str,
    },
    /// Somebody has the socket.
    #[error("another daemon is listening on {0}")]
    SocketTaken(PathBuf),
    /// Something that is no socket is in the way.
    #[error("{0} exists and is not a socket; remove it or choose another with --socket")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {place}")]
    Io {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens a TCP port on the loopback address.
///
/// # Errors
/// When it is taken, or the system refuses.
pub async fn tcp(port: u16, flag: &'static str) -> Result<(TcpListener, SocketAddr), ListenError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let io = |source| ListenError::Io {
        place: address.to_string(),
        source,
    };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let address = listener.local_addr().map_err(io)?;
            Ok((listener, address))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ListenError::PortTaken { port, flag })
        }
        Err(error) => Err(io(error)),
    }
}

/// Opens the unix socket, for its owner alone. One that a daemon left behind is replaced; one that
/// somebody answers on is not.
///
/// # Errors
/// When it is taken, or the system refuses.
pub fn unix(path: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    let io = |source| ListenError::Io {
        place: path.display().to_string(),
        source,
    };
    if let Some(directory) = path.parent() {
        crate::file::private_directory(directory).map_err(io)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(ListenError::SocketTaken(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(io)?;
            }
            Err(error) => return Err(io(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    // Whoever connects before the mode is set still has to pass the check of who they are.
    let listener = UnixListener::bind(path).map_err(io)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
    Ok((listener, file))
}

/// The name of a unix socket, which goes when this does, however the daemon ends.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next daemon would also find out by itself that nobody answers.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The services, and who says whether they are up.
pub struct Services {
    known: Routes,
    strangers: Routes,
    health: HealthReporter,
}

impl Services {
    /// Puts the services together.
    ///
    /// # Errors
    /// When the embedded descriptors are damaged.
    pub async fn new(api: Api) -> Result<Self, tonic_reflection::server::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        for name in SERVICES {
            health
                .set_service_status(name, ServingStatus::Serving)
                .await;
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let current = reflection().build_v1()?;
        // Older clients know no other.
        let older = reflection().build_v1alpha()?;
        let routes = |bounds: Bounds| {
            let Bounds {
                question,
                answer,
                unread,
            } = bounds;
            let places = Places::new(unread);
            let health = health_service.clone().max_decoding_message_size(question);
            let control = ControlServer::new(api.clone())
                .max_decoding_message_size(question)
                .max_encoding_message_size(answer);
            let probe = ProbeServiceServer::new(api.clone())
                .max_decoding_message_size(question)
                .max_encoding_message_size(answer);
            Routes::new(health)
                .add_service(current.clone().max_decoding_message_size(question))
                .add_service(older.clone().max_decoding_message_size(question))
                .add_service(LogServiceServer::new(api.clone()).max_decoding_message_size(question))
                .add_service(
                    PolicyServiceServer::new(api.clone()).max_decoding_message_size(question),
                )
                .add_service(places.guard(probe))
                .add_service(places.guard(control))
        };
        Ok(Self {
            known: routes(Bounds::KNOWN),
            strangers: routes(Bounds::STRANGERS),
            health,
        })
    }

    /// Serves the unix socket until told to stop.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve_unix(
        &self,
        listener: UnixListener,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        server()
            .add_routes(self.known.clone())
            .serve_with_incoming_shutdown(Incoming::trusted(listener), stop.cancelled_owned())
            .await
    }

    /// Serves a TCP port until told to stop. The services tell by the connection what they may do.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve_tcp(
        &self,
        listener: TcpListener,
        limits: Limits,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = Incoming::limited(listener, limits);
        limited(limits)
            .add_routes(self.strangers.clone())
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await
    }

    /// Says that the daemon is going down.
    pub async fn down(&self) {
        for name in SERVICES {
            self.health
                .set_service_status(name, ServingStatus::NotServing)
                .await;
        }
    }
}

/// Serves health alone, until told to stop: what KubeArmor's probes ask on a port of its own.
///
/// # Errors
/// When the transport fails.
pub async fn serve_health(
    listener: TcpListener,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (health, service) = tonic_health::server::health_reporter();
    for name in SERVICES {
        health
            .set_service_status(name, ServingStatus::Serving)
            .await;
    }
    let service = service.max_decoding_message_size(Bounds::STRANGERS.question);
    let incoming = Incoming::limited(listener, limits);
    limited(limits)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

const SERVICES: [&str; 4] = [
    "feeder.LogService",
    "policy.PolicyService",
    "policy.ProbeService",
    "karmor.v1.Control",
];

fn server() -> Server {
    Server::builder().concurrency_limit_per_connection(CONCURRENCY)
}

/// For clients that may be anybody.
fn limited(limits: Limits) -> Server {
    server()
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(limits.ping))
        .http2_keepalive_timeout(Some(limits.pong))
}

#[cfg(test)]
mod tests;
