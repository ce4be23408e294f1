//! Reaching the daemon. Nothing here runs before a command needs it.

use std::{
    fmt,
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use hyper_util::rt::TokioIo;
use karmor_proto::{ANSWER_BYTES, PORT, SOCKET, karmor::v1::control_client::ControlClient};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for what a daemon knows.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait for what a daemon has to do first: compiling a large policy, and switching every
/// workload it is about.
pub(crate) const CHANGE: Duration = Duration::from_secs(60);

/// Finds a peer that has gone without a word. HTTP/2 pings would be quicker, but KubeArmor's
/// server ends connections that ping.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// The environment variable with the daemon's address.
const SERVICE: &str = "KUBEARMOR_SERVICE";

/// Where the daemon is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConnectArgs {
    /// Address of the daemon, HOST:PORT or :PORT
    ///
    /// Without it and without --socket: the environment variable KUBEARMOR_SERVICE, else the local
    /// socket when there is one, else localhost:32767.
    #[arg(long = "gRPC", value_name = "ADDRESS", conflicts_with = "socket")]
    pub(crate) grpc: Option<String>,

    /// Unix socket of the daemon [default: /run/karmor/karmor.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// An address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

impl ConnectArgs {
    /// Decides where the daemon is.
    pub(crate) fn address(&self) -> CommandResult<Address> {
        let service = std::env::var(SERVICE).ok();
        self.address_in(service.as_deref(), Path::new(SOCKET))
    }

    fn address_in(&self, service: Option<&str>, socket: &Path) -> CommandResult<Address> {
        if let Some(path) = &self.socket {
            return Ok(Address::Unix(path.clone()));
        }
        if let Some(address) = &self.grpc {
            return parse(address, "--gRPC");
        }
        match service.filter(|service| !service.is_empty()) {
            Some(address) => parse(address, SERVICE),
            None if socket.exists() => Ok(Address::Unix(socket.to_owned())),
            None => Ok(Address::Tcp(format!("localhost:{PORT}"))),
        }
    }
}

/// Reads `HOST:PORT`, `:PORT`, a bare `PORT`, or `unix:PATH`.
fn parse(text: &str, from: &str) -> CommandResult<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(path.trim_start_matches("//").into()));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let host = if host.is_empty() { "localhost" } else { host };
    let is_valid = port.parse::<u16>().is_ok_and(|port| port != 0)
        && format!("http://{host}:{port}").parse::<Uri>().is_ok();
    if is_valid {
        Ok(Address::Tcp(format!("{host}:{port}")))
    } else {
        Err(
            CommandError::message(Exit::Usage, format!("{from} is no address: `{text}`"))
                .hint("an address is HOST:PORT, :PORT or unix:PATH"),
        )
    }
}

/// Runs a future on a runtime made for it.
pub(crate) fn block_on<T>(future: impl Future<Output = CommandResult<T>>) -> CommandResult<T> {
    // The connection has a thread of its own: it answers the daemon's pings also while whoever reads
    // the output, a pager say, takes its time.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| {
            let error = anyhow::Error::new(error).context("cannot start the runtime");
            CommandError::new(Exit::Failed, error)
        })?
        .block_on(future)
}

/// Connects.
pub(crate) async fn connect(address: &Address) -> CommandResult<Channel> {
    let result = match address {
        Address::Unix(path) => connect_unix(path).await,
        Address::Tcp(address) => connect_tcp(address).await,
    };
    result.map_err(|error| unreachable(address, error))
}

/// Connects, to ask what KubeArmor's services cannot be asked.
pub(crate) async fn control(address: &Address) -> CommandResult<ControlClient<Channel>> {
    let client = ControlClient::new(connect(address).await?);
    Ok(match address {
        Address::Unix(_) => client.max_decoding_message_size(ANSWER_BYTES),
        Address::Tcp(_) => client,
    })
}

async fn connect_tcp(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(TCP_KEEPALIVE));
    Ok(endpoint.connect().await?)
}

async fn connect_unix(path: &Path) -> anyhow::Result<Channel> {
    // The URI is required and means nothing: the connector does not look at it.
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn unreachable(address: &Address, error: anyhow::Error) -> CommandError {
    let error = Err::<(), _>(root_cause(error))
        .with_context(|| format!("cannot reach the daemon at {address}"));
    let error = match error {
        Err(error) => CommandError::new(Exit::Unreachable, error),
        Ok(()) => CommandError::silent(Exit::Unreachable),
    };
    error.hint("is karmor-enforcer running? Say where with --socket PATH or --gRPC HOST:PORT")
}

/// The transport's own words ("transport error", "tcp connect error") tell a user nothing.
fn root_cause(error: anyhow::Error) -> anyhow::Error {
    anyhow::Error::msg(error.root_cause().to_string())
}

/// A call that is given up when its answer does not come in time.
pub(crate) fn within<T>(patience: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

/// A refused call, as an error.
pub(crate) fn call_failed(address: &Address, status: &Status) -> CommandError {
    let message = status.message();
    match status.code() {
        Code::Unavailable => unreachable(address, anyhow::Error::msg(message.to_owned())),
        // The first is tonic's word for it, the second gRPC's.
        Code::Cancelled | Code::DeadlineExceeded => {
            unreachable(address, anyhow::Error::msg("it does not answer"))
        }
        Code::Unimplemented => CommandError::message(
            Exit::Failed,
            format!("the daemon at {address} does not know this request"),
        )
        .hint("it is another program, or of another version"),
        Code::PermissionDenied => CommandError::message(
            Exit::Failed,
            format!("the daemon at {address} refuses: {message}"),
        ),
        _ => CommandError::message(
            Exit::Failed,
            format!("the daemon at {address} answers: {message}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(grpc: Option<&str>, socket: Option<&str>) -> ConnectArgs {
        ConnectArgs {
            grpc: grpc.map(Into::into),
            socket: socket.map(Into::into),
        }
    }

    #[test]
    fn the_nearest_setting_wins() {
        let here = tempfile::NamedTempFile::new().unwrap();
        let gone = Path::new("/nonexistent");
        let of = |args: ConnectArgs, service, socket| {
            args.address_in(service, socket).unwrap().to_string()
        };
        assert_eq!(of(args(Some("a:1"), None), Some("b:2"), here.path()), "a:1");
        assert_eq!(
            of(args(None, Some("/s")), Some("b:2"), here.path()),
            "unix:/s"
        );
        assert_eq!(of(args(None, None), Some("b:2"), here.path()), "b:2");
        assert_eq!(
            of(args(None, None), Some(""), here.path()),
            format!("unix:{}", here.path().display())
        );
        assert_eq!(of(args(None, None), None, gone), "localhost:32767");
    }

    #[test]
    fn addresses_are_what_users_write() {
        let of = |text| parse(text, "--gRPC").map(|address| address.to_string());
        assert_eq!(of(":32767").unwrap(), "localhost:32767");
        assert_eq!(of("32767").unwrap(), "localhost:32767");
        assert_eq!(of("[::1]:32767").unwrap(), "[::1]:32767");
        assert_eq!(of("unix:///run/x.sock").unwrap(), "unix:/run/x.sock");
        for bad in ["host", "host:0", "host:70000", "a b:1", ""] {
            assert_eq!(of(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
