//! Containers, as containerd tells of them: its events, and its list for what was there before.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use karmor_containerd_api::{
    events::{ContainerDelete, TaskCreate, TaskDelete, TaskExit, TaskStart},
    services::{
        containers::v1::{GetContainerRequest, containers_client::ContainersClient},
        events::v1::{SubscribeRequest, events_client::EventsClient},
        images::v1::{GetImageRequest, images_client::ImagesClient},
        namespaces::v1::{ListNamespacesRequest, namespaces_client::NamespacesClient},
        tasks::v1::{ListTasksRequest, tasks_client::TasksClient},
    },
    types::Envelope,
    v1::types::Status as TaskStatus,
};
use karmor_policy::alias::Aliases;
use prost::Message;
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tracing::{debug, info, warn};

use super::{
    Container, RuntimeEvent,
    cgroup::{CgroupError, Hierarchy},
    mount_namespace_of,
    root::Root,
    root_device_of,
};
use crate::text;

/// Where containerd listens, by distribution.
pub const CANDIDATES: [&str; 5] = [
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/containerd/containerd.sock",
    "/var/run/containerd/containerd.sock",
    "/run/dockershim.sock",
];

/// What is followed; everything else stays with containerd.
const TOPICS: [&str; 5] = [
    "topic==\"/tasks/create\"",
    "topic==\"/tasks/start\"",
    "topic==\"/tasks/exit\"",
    "topic==\"/tasks/delete\"",
    "topic==\"/containers/delete\"",
];

/// How long one question may take.
const CALL: Duration = Duration::from_secs(10);

/// When the containers are listed again after the first time: nothing says when containerd has taken
/// up the subscription.
const AGAIN: Duration = Duration::from_secs(1);

/// How often after that, should an event get lost.
const REGULARLY: Duration = Duration::from_secs(30);

/// How long a look into a container's root may take. What it leads to is the container's, and may
/// never answer.
const LOOK: Duration = Duration::from_secs(5);

/// First and longest wait before another attempt to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Whether the runtime is followed at the moment.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Its socket, once one was found.
    pub path: Option<PathBuf>,
    /// It is.
    pub connected: bool,
    /// Why not.
    pub error: Option<String>,
}

/// The connection's state, shared with whoever reports it.
pub type SharedConnection = Arc<Mutex<Connection>>;

/// Why a container could not be described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// containerd did not answer as hoped.
    #[error("containerd: {}", .0.message())]
    Runtime(#[source] Box<Status>),
    /// It did not answer in time.
    #[error("containerd did not answer within {} s", CALL.as_secs())]
    Late,
    /// Its namespace is not a valid one.
    #[error("containerd names a namespace that is not ASCII")]
    Namespace,
    /// No cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl DescribeError {
    /// It ended meanwhile: no error, merely too late.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Runtime(status) => status.code() == Code::NotFound,
            Self::Cgroup(error) => matches!(error, CgroupError::Gone(_)),
            Self::Late | Self::Namespace => false,
        }
    }
}

impl From<Status> for DescribeError {
    fn from(status: Status) -> Self {
        Self::Runtime(Box::new(status))
    }
}

/// Follows containerd until the receiver is gone, reconnecting as needed. `failed` is cancelled
/// when an attempt was in vain.
pub async fn follow(
    socket: Option<PathBuf>,
    hierarchy: Hierarchy,
    events: mpsc::Sender<RuntimeEvent>,
    connection: SharedConnection,
    failed: CancellationToken,
) {
    let mut wait = BACKOFF.0;
    let mut told = String::new();
    while !events.is_closed() {
        let path = socket.clone().or_else(|| {
            CANDIDATES
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
        });
        let ended = match &path {
            Some(path) => {
                let client = connect(path).await;
                match client {
                    Ok(channel) => {
                        wait = BACKOFF.0;
                        let mut session = Session {
                            channel,
                            hierarchy: hierarchy.clone(),
                            events: &events,
                            looked: HashMap::new(),
                        };
                        session.run(path, &connection).await
                    }
                    Err(error) => Err(format!("cannot connect to {}: {error:#}", path.display())),
                }
            }
            None => Err("no containerd socket in any of the usual places".to_owned()),
        };
        let error = ended
            .err()
            .unwrap_or_else(|| "containerd closed its event stream".to_owned());
        if error != told {
            warn!(%error, "containers that start now are not seen until containerd answers");
            told.clone_from(&error);
        }
        set(
            &connection,
            Connection {
                path,
                connected: false,
                error: Some(error),
            },
        );
        failed.cancel();
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Sets the state, and says whether the connection stood before.
fn set(connection: &SharedConnection, state: Connection) -> bool {
    let mut connection = connection
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    std::mem::replace(&mut *connection, state).connected
}

/// The next event, once there is a stream of them.
async fn next(stream: Option<&mut Streaming<Envelope>>) -> Result<Option<Envelope>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

async fn connect(path: &Path) -> anyhow::Result<Channel> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is not used; a URI is asked for all the same.
    let endpoint = Endpoint::from_static("http://containerd");
    Ok(timeout(CALL, endpoint.connect_with_connector(connector)).await??)
}

/// One connection's life.
struct Session<'a> {
    channel: Channel,
    hierarchy: Hierarchy,
    events: &'a mpsc::Sender<RuntimeEvent>,
    /// The containers whose root was looked at, by key, with their first process and what was seen.
    looked: HashMap<String, (u32, (Aliases, u32))>,
}

impl Session<'_> {
    async fn run(&mut self, path: &Path, connection: &SharedConnection) -> Result<(), String> {
        let say = |error: DescribeError| error.to_string();
        let request = SubscribeRequest {
            filters: TOPICS.map(str::to_owned).to_vec(),
        };
        let mut client = EventsClient::new(self.channel.clone());
        // containerd answers with its first event, which may be hours away: no waiting for that.
        let mut subscription = pin!(client.subscribe(request));
        let mut stream = None;
        let mut list_at = Instant::now();
        let mut again = AGAIN;
        loop {
            tokio::select! {
                // The subscription leaves first, so that nothing falls between it and the list.
                biased;
                answer = &mut subscription, if stream.is_none() => {
                    let answer = answer.map_err(|status| say(status.into()))?;
                    stream = Some(answer.into_inner());
                }
                message = next(stream.as_mut()) => {
                    match message.map_err(|status| say(status.into()))? {
                        Some(envelope) => self.event(envelope).await,
                        None => return Ok(()),
                    }
                }
                () = sleep_until(list_at) => {
                    self.list().await.map_err(say)?;
                    list_at = Instant::now() + again;
                    again = REGULARLY;
                    let state = Connection {
                        path: Some(path.to_owned()),
                        connected: true,
                        error: None,
                    };
                    if !set(connection, state) {
                        info!(socket = %path.display(), "following containerd");
                    }
                }
            }
        }
    }

    /// Tells of everything that runs now.
    async fn list(&mut self) -> Result<(), DescribeError> {
        let mut client = NamespacesClient::new(self.channel.clone());
        let request = ListNamespacesRequest::default();
        let namespaces = call(client.list(request))
            .await?
            .namespaces
            .into_iter()
            .map(|n| n.name);
        let mut keys = Vec::new();
        for namespace in namespaces {
            let mut client = TasksClient::new(self.channel.clone());
            let request = within(&namespace, ListTasksRequest::default())?;
            for task in call(client.list(request)).await?.tasks {
                // Lists carry the container's id in `id`, single answers in `container_id` too.
                let id = if task.container_id.is_empty() {
                    &task.id
                } else {
                    &task.container_id
                };
                if task.pid == 0 || task.status() == TaskStatus::Stopped {
                    continue;
                }
                keys.push(key(&namespace, id));
                self.running(&namespace, id, task.pid).await;
            }
        }
        self.looked.retain(|key, _| keys.contains(key));
        self.send(RuntimeEvent::Listed(keys)).await;
        Ok(())
    }

    async fn event(&mut self, envelope: Envelope) {
        let namespace = envelope.namespace;
        let Some(body) = envelope.event else { return };
        let bytes = body.value.as_slice();
        let outcome = match envelope.topic.as_str() {
            "/tasks/create" => TaskCreate::decode(bytes).map(|e| Some((e.container_id, e.pid))),
            "/tasks/start" => TaskStart::decode(bytes).map(|e| Some((e.container_id, e.pid))),
            "/tasks/exit" => match TaskExit::decode(bytes) {
                Ok(e) => {
                    return self.ended(&namespace, &e.container_id, &e.id).await;
                }
                Err(error) => Err(error),
            },
            "/tasks/delete" => match TaskDelete::decode(bytes) {
                Ok(e) => {
                    return self.ended(&namespace, &e.container_id, &e.id).await;
                }
                Err(error) => Err(error),
            },
            "/containers/delete" => match ContainerDelete::decode(bytes) {
                Ok(e) => return self.ended(&namespace, &e.id, "").await,
                Err(error) => Err(error),
            },
            _ => Ok(None),
        };
        match outcome {
            Ok(Some((id, pid))) if pid != 0 => self.running(&namespace, &id, pid).await,
            Ok(_) => {}
            Err(error) => {
                let topic = text::name(&envelope.topic);
                warn!(%error, topic, "containerd sent an event that cannot be read");
            }
        }
    }

    /// `process` is the exec that ended; empty or the container's id for its first process.
    async fn ended(&self, namespace: &str, id: &str, process: &str) {
        if process.is_empty() || process == id {
            self.send(RuntimeEvent::Ended(key(namespace, id))).await;
        }
    }

    async fn running(&mut self, namespace: &str, id: &str, pid: u32) {
        match self.describe(namespace, id, pid).await {
            Ok(container) => self.send(RuntimeEvent::Running(Box::new(container))).await,
            Err(error) if error.is_gone() => {
                debug!(container = text::name(id), %error, "container ended before it was registered");
            }
            Err(error) => {
                warn!(container = text::name(id), %error, "container is not protected");
            }
        }
    }

    async fn describe(
        &mut self,
        namespace: &str,
        id: &str,
        pid: u32,
    ) -> Result<Container, DescribeError> {
        let mut client = ContainersClient::new(self.channel.clone());
        let request = within(namespace, GetContainerRequest { id: id.to_owned() })?;
        let container = call(client.get(request))
            .await?
            .container
            .unwrap_or_default();
        let (digest, image_labels) = self.image(namespace, &container.image).await;
        // What was set on the container beats what its image came with.
        let mut labels: BTreeMap<String, String> = image_labels;
        labels.extend(container.labels);
        let mut described =
            Container::new(namespace, id, &container.image, digest.as_deref(), labels);
        described.pid = pid;
        described.mount_namespace = mount_namespace_of(pid);
        described.cgroup = self.hierarchy.of_container(id, pid)?;
        (described.aliases, described.root_device) = self.root(&described).await;
        Ok(described)
    }

    /// The links of a container's root and its device, from the first look at it.
    async fn root(&mut self, container: &Container) -> (Aliases, u32) {
        let (key, pid) = (container.key(), container.pid);
        if let Some((looked, seen)) = self.looked.get(&key)
            && *looked == pid
        {
            return seen.clone();
        }
        let seen = look(LOOK, move || {
            Ok((Root::of_process(pid)?.aliases(), root_device_of(pid)))
        })
        .await;
        if let Err(error) = &seen {
            warn!(
                container = container.name,
                %error,
                "the container's root cannot be looked into and is taken for one with the usual links"
            );
        }
        let seen = seen.unwrap_or_else(|_told| (Aliases::merged_usr(), 0));
        self.looked.insert(key, (pid, seen.clone()));
        seen
    }

    /// Digest and labels of an image; a container without them is still a container.
    async fn image(
        &self,
        namespace: &str,
        name: &str,
    ) -> (Option<String>, BTreeMap<String, String>) {
        let none = (None, BTreeMap::new());
        if name.is_empty() {
            return none;
        }
        let mut client = ImagesClient::new(self.channel.clone());
        let Ok(request) = within(
            namespace,
            GetImageRequest {
                name: name.to_owned(),
            },
        ) else {
            return none;
        };
        match call(client.get(request)).await {
            Ok(answer) => {
                let image = answer.image.unwrap_or_default();
                let digest = image.target.map(|t| t.digest).filter(|d| !d.is_empty());
                (digest, image.labels.into_iter().collect())
            }
            Err(error) => {
                debug!(%error, "image of a container is not known");
                none
            }
        }
    }

    async fn send(&self, event: RuntimeEvent) {
        // Nobody listens any more: the daemon is stopping.
        let _ = self.events.send(event).await;
    }
}

/// What [`Container::key`] will be.
fn key(namespace: &str, id: &str) -> String {
    format!("{namespace}/{}", text::name(id))
}

/// Has something looked at that may never answer; the thread is left to itself then.
async fn look<T: Send + 'static>(
    limit: Duration,
    at: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let (send, seen) = oneshot::channel();
    let look = move || {
        // Whoever asked may have given up.
        let _ = send.send(at());
    };
    thread::Builder::new().name("look".into()).spawn(look)?;
    match timeout(limit, seen).await {
        Ok(seen) => seen.map_err(std::io::Error::other)?,
        Err(elapsed) => Err(elapsed.into()),
    }
}

async fn call<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, DescribeError> {
    match timeout(CALL, answer).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_elapsed) => Err(DescribeError::Late),
    }
}

/// containerd takes the namespace of a question from its metadata.
fn within<T>(namespace: &str, message: T) -> Result<Request<T>, DescribeError> {
    let value: MetadataValue<Ascii> = namespace
        .parse()
        .map_err(|_invalid| DescribeError::Namespace)?;
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", value);
    Ok(request)
}

#[cfg(test)]
mod tests;
