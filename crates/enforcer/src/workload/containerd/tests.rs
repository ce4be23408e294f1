//! A containerd of our own, on a real socket.

use std::{collections::HashMap, pin::Pin};

use karmor_containerd_api::{
    services::{
        containers::v1::{
            Container as RawContainer, GetContainerResponse,
            containers_server::{Containers, ContainersServer},
        },
        events::v1::events_server::{Events, EventsServer},
        images::v1::{
            GetImageResponse, Image,
            images_server::{Images, ImagesServer},
        },
        namespaces::v1::{
            ListNamespacesResponse, Namespace,
            namespaces_server::{Namespaces, NamespacesServer},
        },
        tasks::v1::{
            ListTasksResponse,
            tasks_server::{Tasks, TasksServer},
        },
    },
    types::Descriptor,
    v1::types::Process,
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::Response;

use super::*;

type Published = mpsc::Receiver<Result<Envelope, Status>>;

#[derive(Clone)]
struct Fake(Arc<Mutex<Option<Published>>>);

fn namespace<T>(request: &Request<T>) -> &str {
    request
        .metadata()
        .get("containerd-namespace")
        .unwrap()
        .to_str()
        .unwrap()
}

#[tonic::async_trait]
impl Containers for Fake {
    async fn get(
        &self,
        request: Request<GetContainerRequest>,
    ) -> Result<Response<GetContainerResponse>, Status> {
        let id = request.get_ref().id.clone();
        if id == "dying" {
            return Err(Status::not_found("container \"dying\": not found"));
        }
        assert_eq!(namespace(&request), "default");
        let labels = HashMap::from([("app".to_owned(), "web".to_owned())]);
        let container = RawContainer {
            id,
            labels,
            image: "web:1\x1b[2J".into(),
        };
        Ok(Response::new(GetContainerResponse {
            container: Some(container),
        }))
    }
}

#[tonic::async_trait]
impl Images for Fake {
    async fn get(
        &self,
        _request: Request<GetImageRequest>,
    ) -> Result<Response<GetImageResponse>, Status> {
        let labels =
            [("app", "of-the-image"), ("tier", "front")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let target = Descriptor {
            digest: "sha256:62".into(),
            ..Descriptor::default()
        };
        let image = Image {
            labels: labels.into(),
            target: Some(target),
            ..Image::default()
        };
        Ok(Response::new(GetImageResponse { image: Some(image) }))
    }
}

#[tonic::async_trait]
impl Namespaces for Fake {
    async fn list(
        &self,
        _request: Request<ListNamespacesRequest>,
    ) -> Result<Response<ListNamespacesResponse>, Status> {
        let namespaces = vec![Namespace {
            name: "default".into(),
        }];
        Ok(Response::new(ListNamespacesResponse { namespaces }))
    }
}

#[tonic::async_trait]
impl Tasks for Fake {
    async fn list(
        &self,
        _request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let task = |id: &str, status: TaskStatus| Process {
            id: id.into(),
            pid: std::process::id(),
            status: status.into(),
            ..Process::default()
        };
        let tasks = vec![
            task("old", TaskStatus::Running),
            task("stopped", TaskStatus::Stopped),
        ];
        Ok(Response::new(ListTasksResponse { tasks }))
    }
}

#[tonic::async_trait]
impl Events for Fake {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        assert!(
            request
                .get_ref()
                .filters
                .contains(&"topic==\"/tasks/start\"".to_owned())
        );
        let mut events = self
            .0
            .lock()
            .unwrap()
            .take()
            .ok_or_else(|| Status::unavailable("once"))?;
        // As the real one does: there is no answer before there is an event.
        let first = events.recv().await;
        let rest = ReceiverStream::new(events);
        Ok(Response::new(Box::pin(
            tokio_stream::iter(first).chain(rest),
        )))
    }
}

fn event(topic: &str, message: &impl Message) -> Result<Envelope, Status> {
    let event = prost_types::Any {
        type_url: String::new(),
        value: message.encode_to_vec(),
    };
    Ok(Envelope {
        namespace: "default".into(),
        topic: topic.into(),
        event: Some(event),
    })
}

/// A hierarchy in which this process is in the cgroup of `id`.
fn hierarchy(dir: &Path, id: &str) -> Hierarchy {
    let (mount, proc) = (dir.join("cg"), dir.join("proc"));
    std::fs::create_dir_all(mount.join("default").join(id)).unwrap();
    for (pid, line) in [
        ("self".to_owned(), "0::/system.slice/k\n".to_owned()),
        (
            std::process::id().to_string(),
            format!("0::/default/{id}\n"),
        ),
    ] {
        std::fs::create_dir_all(proc.join(&pid)).unwrap();
        std::fs::write(proc.join(&pid).join("cgroup"), line).unwrap();
    }
    Hierarchy::at(mount, proc)
}

#[tokio::test]
async fn follows_what_was_there_and_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("containerd.sock");
    let (send, events) = mpsc::channel(8);
    let fake = Fake(Arc::new(Mutex::new(Some(events))));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(ContainersServer::new(fake.clone()))
        .add_service(EventsServer::new(fake.clone()))
        .add_service(ImagesServer::new(fake.clone()))
        .add_service(NamespacesServer::new(fake.clone()))
        .add_service(TasksServer::new(fake))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(server);

    let (sender, mut told) = mpsc::channel(8);
    let connection = SharedConnection::default();
    let hierarchy = hierarchy(dir.path(), "old");
    let follow = tokio::spawn(follow(
        Some(socket),
        hierarchy,
        sender,
        Arc::clone(&connection),
        CancellationToken::new(),
    ));

    let RuntimeEvent::Running(old) = told.recv().await.unwrap() else {
        panic!("the list first")
    };
    assert_eq!((old.id.as_str(), old.name.as_str()), ("old", "old"));
    assert_eq!(old.image, "web:1\\u{1b}[2J@sha256:62");
    assert_eq!(old.labels["app"], "web", "the container's own label wins");
    assert_eq!(old.labels["tier"], "front");
    assert_ne!(old.cgroup.id, 0);
    let RuntimeEvent::Listed(keys) = told.recv().await.unwrap() else {
        panic!("then its end")
    };
    assert_eq!(keys, ["default/old"]);
    while !connection.lock().unwrap().connected {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let pid = std::process::id();
    let dying = TaskStart {
        container_id: "dying".into(),
        pid,
    };
    send.send(event("/tasks/start", &dying)).await.unwrap();
    let broken = prost_types::Any {
        type_url: String::new(),
        value: vec![0xff; 9],
    };
    let envelope = Envelope {
        topic: "/tasks/start".into(),
        event: Some(broken),
        ..Envelope::default()
    };
    send.send(Ok(envelope)).await.unwrap();
    let exec = TaskExit {
        container_id: "old".into(),
        id: "an-exec".into(),
        pid,
    };
    send.send(event("/tasks/exit", &exec)).await.unwrap();
    let create = TaskCreate {
        container_id: "old".into(),
        pid,
    };
    send.send(event("/tasks/create", &create)).await.unwrap();
    let delete = TaskDelete {
        container_id: "old".into(),
        pid,
        id: String::new(),
    };
    send.send(event("/tasks/delete", &delete)).await.unwrap();

    // The dying container, the broken event and the end of an exec (which would be told before the
    // container runs again) leave no trace. The list may
    // have been made anew in between.
    let mut again = false;
    loop {
        match told.recv().await.unwrap() {
            RuntimeEvent::Running(container) => {
                assert_eq!(container.id, "old");
                again = true;
            }
            RuntimeEvent::Listed(keys) => assert_eq!(keys, ["default/old"]),
            RuntimeEvent::Ended(key) => {
                assert_eq!(key, "default/old");
                assert!(again, "the end of an exec is not that of its container");
                break;
            }
        }
    }
    assert!(connection.lock().unwrap().connected);

    drop(send);
    while connection.lock().unwrap().connected {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(connection.lock().unwrap().error.is_some());
    follow.abort();
    server.abort();
}

#[tokio::test]
async fn a_root_that_never_answers_holds_nobody_up() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let never = move || {
        let _ = held.recv();
        Ok(())
    };
    let seen = look(Duration::from_millis(20), never).await;
    assert_eq!(seen.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    drop(release);
    assert_eq!(look(LOOK, || Ok(7)).await.unwrap(), 7);
}
