//! Who comes over TCP, and what they may take.

use super::*;

/// Serves a TCP port until told to stop.
async fn serve(
    services: &Arc<Services>,
    limits: Limits,
    stop: &CancellationToken,
) -> (
    SocketAddr,
    tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
) {
    let (listener, address) = tcp(0, "gRPC").await.unwrap();
    let (services, stop) = (Arc::clone(services), stop.clone());
    let server = tokio::spawn(async move { services.serve_tcp(listener, limits, stop).await });
    (address, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_not_changed_over_tcp_and_a_second_daemon_stays_out() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let open = |_: &Config| -> anyhow::Result<Box<dyn Backend>> { panic!("must not get here") };
    let stop = CancellationToken::new();
    let error = run::run(config(daemon.dir.path()), open, stop)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another daemon"), "{error}");

    // The services themselves, on a TCP port.
    let core = crate::engine::tests::core(Memory::new(Capabilities::default()));
    let (engine, _thread) = Engine::start(core).unwrap();
    let services = Arc::new(Services::new(api(engine)).await.unwrap());
    let stop = CancellationToken::new();
    let (address, server) = serve(&services, Limits::FEED, &stop).await;
    let error = tcp(address.port(), "gRPC").await.unwrap_err();
    assert!(error.to_string().contains("--gRPC"), "{error}");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let status = PolicyServiceClient::new(channel.clone())
        .container_policy(Policy {
            policy: object("ADDED", "p", "/bin/p"),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("unix socket"),
        "{}",
        status.message()
    );
    // What would be refused anyhow is not taken in.
    let status = PolicyServiceClient::new(channel.clone())
        .container_policy(Policy {
            policy: vec![0; 2 * Bounds::STRANGERS.question],
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let mut log = LogServiceClient::new(channel);
    let status = log
        .watch_alerts(RequestMessage {
            filter: "x".repeat(2 * Bounds::STRANGERS.question),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(
        log.watch_alerts(RequestMessage {
            filter: "policy".into()
        })
        .await
        .is_ok()
    );
    let status = log
        .watch_alerts(RequestMessage { filter: "x".into() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    stop.cancel();
    drop(log);
    server.await.unwrap().unwrap();
    daemon.stop().await;
}

/// Whether the other end closes within `patience`.
async fn closes(connection: &mut TcpStream, patience: Duration) -> bool {
    let mut sink = Vec::new();
    let end = connection.read_to_end(&mut sink);
    tokio::time::timeout(patience, end).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_strangers_are_few_and_idle_ones_do_not_last() {
    let limits = Limits {
        connections: 3,
        handshake: Duration::from_secs(1),
        ping: Duration::from_millis(500),
        pong: Duration::from_secs(1),
    };
    let core = crate::engine::tests::core(Memory::new(Capabilities::default()));
    let (engine, _thread) = Engine::start(core).unwrap();
    let api = api(engine);
    let feeds = Arc::clone(&api.feeds);
    let services = Arc::new(Services::new(api).await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/karmor.sock");
    let (unix, _socket) = unix(&path).unwrap();
    let stop = CancellationToken::new();
    let (address, _server) = serve(&services, limits, &stop).await;
    let token = stop.clone();
    tokio::spawn(async move { services.serve_unix(unix, token).await });

    // Quiet, but alive: the library answers pings. Older than those that are closed below.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut alerts = LogServiceClient::new(endpoint.connect().await.unwrap())
        .watch_alerts(RequestMessage {
            filter: "all".into(),
        })
        .await
        .unwrap()
        .into_inner();
    // One that says nothing, and one that says what HTTP/2 begins with, and then nothing.
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut polite = TcpStream::connect(address).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    polite.write_all(preface).await.unwrap();
    for _ in 0..10 {
        let mut excess = TcpStream::connect(address).await.unwrap();
        assert!(closes(&mut excess, Duration::from_millis(200)).await);
    }
    let mut root = ControlClient::new(channel(&path).await);
    assert!(root.list_policies(ListPoliciesRequest {}).await.is_ok());

    let patience = Duration::from_secs(5);
    assert!(closes(&mut silent, patience).await);
    assert!(closes(&mut polite, patience).await);
    let mut later = ControlClient::new(endpoint.connect().await.unwrap());
    assert!(later.list_policies(ListPoliciesRequest {}).await.is_ok());
    feeds.alerts.publish(karmor_proto::feeder::Alert {
        message: "still here".into(),
        ..Default::default()
    });
    let alert = tokio::time::timeout(patience, alerts.message()).await;
    assert_eq!(alert.unwrap().unwrap().unwrap().message, "still here");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_ask_and_hang_up_do_not_fill_the_engines_queue() {
    let core = crate::engine::tests::core(Memory::new(Capabilities::default()));
    let (engine, _thread) = Engine::start(core).unwrap();
    let api = api(engine.clone());
    // Something that takes long, and has begun.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begin, began) = tokio::sync::oneshot::channel();
    let long = move |_: &mut Core| {
        begin.send(()).unwrap();
        wait.recv()
    };
    let busy = tokio::spawn(async move { engine.ask(long).await });
    began.await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let ask = |asker| {
        let (api, asked) = (api.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            let count = move |_: &mut Core| asked.fetch_add(1, Ordering::Relaxed);
            api.ask(asker, count).await
        })
    };
    for _ in 0..50 {
        let stranger = ask(Asker::Stranger);
        tokio::time::sleep(Duration::from_millis(2)).await;
        stranger.abort();
    }
    let known = ask(Asker::Known);
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.send(()).unwrap();
    let before = known.await.unwrap().unwrap();
    assert!(before <= 2, "{before} strangers went first");
    assert!(busy.await.unwrap().is_ok());
    // The turns come back.
    for _ in 0..3 {
        assert!(ask(Asker::Stranger).await.unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_over_tcp_is_a_stranger() {
    let core = crate::engine::tests::core(Memory::new(Capabilities::default()));
    let (engine, _thread) = Engine::start(core).unwrap();
    let api = api(engine);
    let turns = api.turns.clone();
    let services = Arc::new(Services::new(api).await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/karmor.sock");
    let (unix, _socket) = unix(&path).unwrap();
    let stop = CancellationToken::new();
    let (address, _server) = serve(&services, Limits::FEED, &stop).await;
    let token = stop.clone();
    tokio::spawn(async move { services.serve_unix(unix, token).await });

    let taken = turns.take_all();
    let mut root = ControlClient::new(channel(&path).await);
    assert!(root.list_policies(ListPoliciesRequest {}).await.is_ok());
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let calls = || {
        let (mut control, mut probe) = (
            ControlClient::new(channel.clone()),
            ProbeServiceClient::new(channel.clone()),
        );
        let (mut second, mut third) = (control.clone(), control.clone());
        let policy = Some(PolicyRef {
            name: "p".into(),
            ..PolicyRef::default()
        });
        async move {
            tokio::select! {
                _ = control.list_policies(ListPoliciesRequest {}) => "list",
                _ = second.probe(ProbeRequest {}) => "probe",
                _ = third.get_policy(GetPolicyRequest { policy }) => "get",
                _ = probe.get_probe_data(()) => "probe data",
            }
        }
    };
    let early = tokio::time::timeout(Duration::from_millis(200), calls()).await;
    assert!(early.is_err(), "{early:?} did not wait for its turn");
    drop(taken);
    calls().await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_strangers_do_not_read_are_few() {
    use prost::Message as _;
    use tonic::{
        body::Body,
        codegen::{Service, http},
    };
    let mut core = crate::engine::tests::core(Memory::new(Capabilities::default()));
    let policy = String::from_utf8(object("ADDED", "long", "/bin/p")).unwrap();
    let policy = serde_json::from_str::<serde_json::Value>(&policy).unwrap();
    let text = format!("{}\n#{}", policy["object"], "long".repeat(25_000));
    let document = crate::source::read::read(&text, "p.json")
        .documents
        .remove(0);
    core.set(document);
    let (engine, _thread) = Engine::start(core).unwrap();
    let services = Arc::new(Services::new(api(engine)).await.unwrap());
    let stop = CancellationToken::new();
    let (address, _server) = serve(&services, Limits::FEED, &stop).await;

    let question = GetPolicyRequest {
        policy: Some(PolicyRef {
            name: "long".into(),
            ..PolicyRef::default()
        }),
    };
    let mut bytes = vec![0, 0, 0, 0];
    bytes.push(u8::try_from(question.encoded_len()).unwrap());
    question.encode(&mut bytes).unwrap();
    let ask = |mut channel: Channel| {
        let request = http::Request::post("/karmor.v1.Control/GetPolicy")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(String::from_utf8(bytes.clone()).unwrap()))
            .unwrap();
        async move {
            std::future::poll_fn(|context| channel.poll_ready(context))
                .await
                .unwrap();
            channel.call(request).await.unwrap()
        }
    };
    // Asks, and makes no room for what is answered.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let miser = endpoint.clone().initial_stream_window_size(1);
    let miser = miser.connect().await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..Bounds::STRANGERS.unread {
        let answer = ask(miser.clone()).await;
        assert!(answer.headers().get("grpc-status").is_none(), "{answer:?}");
        unread.push(answer);
    }
    let mut other = ControlClient::new(endpoint.connect().await.unwrap());
    let refused = other.get_policy(question.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // Who hangs up makes room.
    unread.pop();
    let late = tokio::time::Instant::now() + Duration::from_secs(5);
    let answer = loop {
        match other.get_policy(question.clone()).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) => assert!(tokio::time::Instant::now() < late, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(answer.policy.unwrap().text.len() > 100_000);
    stop.cancel();
}
