//! The services over a real socket, on the backend without a kernel.

mod policy;
mod postures;
mod tcp;
mod trial;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use karmor_abi::{op::Op, verdict::Action};
use karmor_proto::{
    feeder::{RequestMessage, log_service_client::LogServiceClient},
    karmor::v1::{
        ApplyPolicyRequest, DeletePolicyRequest, Enforcement, GetPolicyRequest,
        ListPoliciesRequest, Outcome, PolicyRef, PolicyResult, ProbeRequest,
        control_client::ControlClient,
    },
    policy::{
        Policy, PolicyStatus, policy_service_client::PolicyServiceClient,
        probe_service_client::ProbeServiceClient,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::{peer::Asker, *};
use crate::{
    backend::{
        Backend, Capabilities,
        memory::{Access, Handle, Memory},
    },
    config::{Config, Settings},
    engine::Core,
    events::decode::tests::plain,
    run,
    workload::{Container, RuntimeEvent},
};

/// A daemon in a directory of its own.
struct Daemon {
    dir: TempDir,
    handle: Handle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn config(dir: &Path) -> Config {
    let settings = Settings {
        grpc: Some(0),
        grpc_health_port: Some(0),
        policy_dir: Some(dir.join("policies")),
        state_dir: Some(dir.join("state")),
        socket: Some(dir.join("run/karmor.sock")),
        cri_socket: Some(format!(
            "unix://{}",
            dir.join("no-containerd.sock").display()
        )),
        enable_host_policy: Some(false),
        host: Some("node-1".into()),
        ..Settings::default()
    };
    Config::new(settings).unwrap()
}

impl Daemon {
    async fn start(dir: TempDir) -> Self {
        Self::start_with(dir, Capabilities::default()).await
    }

    async fn start_with(dir: TempDir, capabilities: Capabilities) -> Self {
        std::fs::create_dir_all(dir.path().join("policies")).unwrap();
        let backend = Memory::new(capabilities);
        let (handle, stop) = (backend.handle(), CancellationToken::new());
        let open = move |_: &Config| Ok(Box::new(backend) as Box<dyn Backend>);
        let task = tokio::spawn(run::run(config(dir.path()), open, stop.clone()));
        let daemon = Self {
            dir,
            handle,
            stop,
            task,
        };
        daemon
            .wait(|d| UnixStream::connect(d.socket()).is_ok())
            .await;
        daemon
    }

    /// The services alone, on an engine made beforehand.
    async fn serving(core: Core, handle: Handle) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _thread) = Engine::start(core).unwrap();
        let services = Services::new(api(engine)).await.unwrap();
        let stop = CancellationToken::new();
        let (listener, socket) = unix(&dir.path().join("run/karmor.sock")).unwrap();
        let token = stop.clone();
        let task = tokio::spawn(async move {
            let _socket = socket;
            Ok(services.serve_unix(listener, token).await?)
        });
        Self {
            dir,
            handle,
            stop,
            task,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/karmor.sock")
    }

    async fn wait(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain");
    }

    async fn channel(&self) -> Channel {
        channel(&self.socket()).await
    }

    async fn apply(&self, text: &str) -> karmor_proto::karmor::v1::ApplyPolicyResponse {
        let request = ApplyPolicyRequest {
            text: text.into(),
            file_name: "p.yaml".into(),
        };
        ControlClient::new(self.channel().await)
            .apply_policy(request)
            .await
            .unwrap()
            .into_inner()
    }

    async fn list(&self) -> Vec<karmor_proto::karmor::v1::Policy> {
        let mut client = ControlClient::new(self.channel().await);
        client
            .list_policies(ListPoliciesRequest {})
            .await
            .unwrap()
            .into_inner()
            .policies
    }

    async fn send(&self, bytes: &[u8]) -> PolicyStatus {
        let mut client = PolicyServiceClient::new(self.channel().await);
        let policy = Policy {
            policy: bytes.to_vec(),
        };
        client
            .container_policy(policy)
            .await
            .unwrap()
            .into_inner()
            .status()
    }

    /// Stops it and hands back what is on the disk.
    async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.dir
    }
}

async fn channel(path: &Path) -> Channel {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://karmor")
        .connect_with_connector(connect)
        .await
        .unwrap()
}

fn api(engine: Engine) -> Api {
    Api {
        engine,
        feeds: Arc::default(),
        accounts: Arc::new(Accounts::since(Vec::new())),
        node: Arc::default(),
        runtime: SharedConnection::default(),
        started: Timestamp::now(),
        turns: Turns::default(),
    }
}

fn block(name: &str, path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: {name}\n\
         spec:\n  severity: 5\n  selector:\n    matchLabels:\n      app: web\n  process:\n    \
         matchPaths:\n    - path: {path}\n  action: Block\n"
    )
}

fn object(change: &str, name: &str, path: &str) -> Vec<u8> {
    serde_json::json!({
        "type": change,
        "object": {
            "apiVersion": "security.kubearmor.com/v1",
            "kind": "KubeArmorPolicy",
            "metadata": { "name": name, "namespace": "default", "creationTimestamp": null },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "process": { "matchPaths": [{ "path": path }] },
                "action": "Block",
            },
        },
    })
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_over_control_survive_a_restart() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let answer = daemon
        .apply(&format!(
            "{}---\n{}",
            block("a", "/bin/a"),
            block("b", "/bin/b")
        ))
        .await;
    assert_eq!(answer.results.len(), 2, "{}", answer.rendered);
    assert!(
        answer
            .results
            .iter()
            .all(|r| r.outcome() == Outcome::Applied)
    );
    assert_eq!(answer.results[0].enforcement(), Enforcement::Idle);
    let again = daemon.apply(&block("a", "/bin/other")).await;
    assert_eq!(again.results[0].outcome(), Outcome::Modified);
    let again = daemon.apply(&block("a", "/bin/other")).await;
    assert_eq!(again.results[0].outcome(), Outcome::Unchanged);
    assert_eq!(
        daemon.send(&object("ADDED", "c", "/bin/c")).await,
        PolicyStatus::Applied
    );

    let dir = daemon.stop().await;
    // One that was damaged meanwhile does not take the others with it, and is told of.
    std::fs::write(dir.path().join("state/policies/bad-0.yaml"), "kind: [").unwrap();
    let daemon = Daemon::start(dir).await;
    let broken = daemon.dir.path().join("state/policies/bad-0.yaml.broken");
    let (complaints, policies): (Vec<_>, Vec<_>) =
        (daemon.list().await.into_iter()).partition(|p| p.name.is_empty());
    let mut names: Vec<String> = policies.into_iter().map(|p| p.name).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert_eq!(complaints[0].source, broken.to_str().unwrap());
    assert!(complaints[0].message.contains("not in force"));
    std::fs::remove_file(&broken).unwrap();

    let policy = Some(PolicyRef {
        name: "a".into(),
        ..PolicyRef::default()
    });
    let mut client = ControlClient::new(daemon.channel().await);
    let request = DeletePolicyRequest { policy };
    let answer = client
        .delete_policy(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.result.unwrap().outcome(), Outcome::Deleted);
    let answer = client.delete_policy(request).await.unwrap().into_inner();
    assert_eq!(answer.result.unwrap().outcome(), Outcome::NotFound);
    let daemon = Daemon::start(daemon.stop().await).await;
    assert_eq!(daemon.list().await.len(), 2);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_of_a_million_rules_is_refused_with_a_reason() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let rules = "    - path: /a\n".repeat(200_000);
    let text =
        block("big", "/bin/a").replace("  action: Block\n", &format!("{rules}  action: Block\n"));
    let answer = daemon.apply(&text).await;
    assert_eq!(answer.results[0].outcome(), Outcome::Invalid);
    assert!(
        answer.results[0].message.contains("1 MiB"),
        "{}",
        answer.results[0].message
    );
    // A million do not even fit a message; the transport says so, and the daemon goes on.
    let request = ApplyPolicyRequest {
        text: "    - path: /a\n".repeat(1_000_000),
        file_name: String::new(),
    };
    let status = ControlClient::new(daemon.channel().await)
        .apply_policy(request)
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{status}"
    );
    assert_eq!(
        daemon.apply(&block("a", "/bin/a")).await.results[0].outcome(),
        Outcome::Applied
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_written_file_keeps_its_last_good_version() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let file = daemon.dir.path().join("policies/p.yaml");
    std::fs::write(&file, block("from-file", "/bin/a")).unwrap();
    while daemon.list().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::write(
        &file,
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArm",
    )
    .unwrap();
    let policies = loop {
        let policies = daemon.list().await;
        if policies.len() == 2 {
            break policies;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(policies[0].name, "from-file");
    assert!(
        policies[1].message.contains("last good version"),
        "{}",
        policies[1].message
    );
    assert!(policies[1].source.ends_with("p.yaml"));
    std::fs::remove_file(&file).unwrap();
    while !daemon.list().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_reaches_those_who_listen() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    // Without Kubernetes or containerd there is the host alone; its policies are disabled here, so
    // a table is put on it by hand.
    let mut alerts = LogServiceClient::new(daemon.channel().await)
        .watch_alerts(RequestMessage {
            filter: "all".into(),
        })
        .await
        .unwrap()
        .into_inner();
    daemon.handle.force(
        0,
        &crate::engine::tests::compiled(&block("p", "/usr/bin/apt")),
    );
    let mut header = plain();
    header.op = Op::Exec as u8;
    let texts: [&[u8]; 5] = [
        b"/usr/bin/apt",
        b"/bin/sh",
        b"/init",
        b"apt\0update\0",
        b"/",
    ];
    let verdict = daemon.handle.access(&Access {
        workload: 0,
        header,
        texts,
    });
    assert_eq!(verdict.action(), Action::Block);
    let alert = tokio::time::timeout(Duration::from_secs(5), alerts.message())
        .await
        .unwrap();
    let alert = alert.unwrap().unwrap();
    assert_eq!(
        (alert.policy_name.as_str(), alert.resource.as_str()),
        ("p", "/usr/bin/apt update")
    );
    assert_eq!(alert.host_name, "node-1");
    let mut client = ControlClient::new(daemon.channel().await);
    let probe = client.probe(ProbeRequest {}).await.unwrap().into_inner();
    let events = probe.events.unwrap();
    assert_eq!((events.emitted, events.delivered, events.lost), (1, 1, 0));
    assert_eq!(probe.workloads[0].name, "node-1");
    assert!(probe.runtimes[0].error.is_some() && !probe.runtimes[0].connected);
    drop(alerts);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_from_two_places_is_shown_from_both() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let file = daemon.dir.path().join("policies/p.yaml");
    std::fs::write(&file, block("p", "/bin/a")).unwrap();
    while daemon.list().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.apply(&block("p", "/bin/b")).await;
    let elsewhere = block("p", "/bin/c").replace("name: p", "name: q\n  namespace: other");
    daemon.apply(&elsewhere).await;
    daemon.apply(&elsewhere.replace("other", "default")).await;

    let mut client = ControlClient::new(daemon.channel().await);
    let mut get = async |name: &str| {
        let policy = Some(PolicyRef {
            name: name.into(),
            ..PolicyRef::default()
        });
        let answer = client.get_policy(GetPolicyRequest { policy }).await;
        answer.map(tonic::Response::into_inner)
    };
    let found = get("p").await.unwrap();
    let mut found: Vec<_> = found.policy.into_iter().chain(found.others).collect();
    found.sort_by_key(|policy| policy.source != "grpc");
    assert_eq!(found.len(), 2);
    assert!(found[0].text.contains("/bin/b"), "{}", found[0].text);
    assert!(found[1].text.contains("/bin/a"), "{}", found[1].text);
    assert_eq!(found[1].source, file.display().to_string());
    let error = get("q").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_is_for_old_and_new_clients() {
    use tonic_reflection::pb;

    /// Both versions have the same messages, of different types.
    macro_rules! services {
        ($version:ident, $channel:expr) => {{
            use pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut answers = ServerReflectionClient::new($channel)
                .server_reflection_info(tokio_stream::once(request))
                .await
                .unwrap()
                .into_inner();
            let answer = answers.message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("{answer:?}");
            };
            let names = list.service.into_iter().map(|service| service.name);
            names.collect::<Vec<String>>()
        }};
    }

    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let channel = daemon.channel().await;
    for names in [services!(v1, channel.clone()), services!(v1alpha, channel)] {
        for service in SERVICES {
            assert!(names.iter().any(|name| name == service), "{names:?}");
        }
    }
    daemon.stop().await;
}

#[test]
fn a_socket_left_behind_is_replaced_and_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let path = dir.path().join("k.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = unix(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(listener);
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(unix(&file), Err(ListenError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_start_that_is_refused_leaves_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let open = |config: &Config| {
        assert!(config.socket.exists());
        anyhow::bail!("nothing can be enforced here")
    };
    let ended = run::run(config(dir.path()), open, CancellationToken::new()).await;
    assert!(ended.is_err());
    assert!(!dir.path().join("run/karmor.sock").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_enforces_needs_the_numbers_of_workloads() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("state")).unwrap();
    let numbers = dir.path().join("state/workloads.json");
    std::fs::write(&numbers, "damaged").unwrap();
    let open = |_: &Config| Ok(Box::new(Memory::new(Capabilities::default())) as Box<dyn Backend>);
    let ended = run::run(config(dir.path()), open, CancellationToken::new()).await;
    let error = format!("{:#}", ended.unwrap_err());
    assert!(error.contains("workloads.json:1:1: "), "{error}");

    let observing = Capabilities {
        observe_only: Some("--observe was given".into()),
        ..Capabilities::default()
    };
    let daemon = Daemon::start_with(dir, observing).await;
    let _dir = daemon.stop().await;
    assert_eq!(std::fs::read_to_string(numbers).unwrap(), "damaged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_among_others_is_there_after_a_restart() {
    let item = |policy: &str| format!("- {}\n", policy.trim_end().replace('\n', "\n  "));
    let list = |items: &[String]| {
        let items: String = items.iter().map(|policy| item(policy)).collect();
        format!("apiVersion: v1\nkind: List\nitems:\n{items}")
    };
    let bad = block("bad", "relative");
    let mut texts = [
        "%TAG !y! tag:yaml.org,2002:\n---\n".to_owned()
            + &block("tag", "/bin/a").replace("/bin/a", "!y!str /bin/a"),
        format!("%YAML 1.2\n---\n{}", block("version", "/bin/a")),
        format!("{}...\n{bad}", block("first", "/bin/a")),
        format!("{bad}...\n{}", block("second", "/bin/a")),
        list(&[bad.clone(), block("listed", "/bin/a"), bad.clone()]),
        list(&[block("one", "/bin/a"), block("other", "/bin/b")]),
    ];
    texts[5] =
        texts[5].replacen("- api", "- &one\n  api", 1) + "- <<: *one\n  metadata: {name: merged}\n";
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let mut applied = 0;
    for text in &texts {
        let results = daemon.apply(text).await.results;
        applied += results
            .iter()
            .filter(|r| r.outcome() == Outcome::Applied)
            .count();
    }
    assert_eq!(applied, 8);
    let daemon = Daemon::start(daemon.stop().await).await;
    let mut names: Vec<String> = daemon.list().await.into_iter().map(|p| p.name).collect();
    names.sort();
    let expected = [
        "first", "listed", "merged", "one", "other", "second", "tag", "version",
    ];
    assert_eq!(names, expected);
    for text in &texts {
        let results = daemon.apply(text).await.results;
        let mut outcomes = results.iter().map(|result| result.outcome());
        assert!(
            outcomes.all(|o| matches!(o, Outcome::Unchanged | Outcome::Invalid)),
            "{text}"
        );
    }
    daemon.stop().await;
}
