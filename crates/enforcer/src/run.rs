//! The daemon's life: start, serve, stop.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use karmor_proto::feeder::{Alert, Message};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    backend::{Backend, RawEvent},
    config::{Config, LogPath},
    engine::{Core, Ended, Engine, Identities, Setup},
    events::{
        alert::alert,
        decode::decode,
        loss::{Accounts, message, report, system_event},
    },
    feed::{Feeds, Item, LISTENERS, Subscription},
    file::{lock_directory, private_directory},
    index::Rules,
    reload,
    serve::{self, Api, Limits, Services, Turns},
    source::{
        directory::{self, Directory, FileChange, Sound},
        last_good::LastGood,
        store::Store,
    },
    trial::{Trials, clock::Clock},
    workload::{
        Node, RuntimeEvent,
        cgroup::Hierarchy,
        containerd::{self, Connection, SharedConnection},
        numbers::Numbers,
    },
};

/// How often losses are looked for.
const LOSS_CHECK: Duration = Duration::from_secs(1);

/// How often what could not be put in force is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// How long clients may take to leave when the daemon stops.
const GRACE: Duration = Duration::from_secs(2);

/// How long nobody is served while the container runtime lists what runs already. Whoever gets an
/// answer from the daemon may rely on the containers of before being protected.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// Changes of files or containers that may wait for the engine.
const QUEUE: usize = 64;

/// Runs until `stop`. What is enforced stays in force afterwards.
///
/// The places to listen and the state directory are taken before `open` is called: a second daemon
/// fails there, before it touches what the first one enforces. What can be said about the node
/// without touching anything is for the caller to say before.
///
/// # Errors
/// When something that the daemon cannot do without is not to be had; the message says what.
pub async fn run(
    config: Config,
    open: impl FnOnce(&Config) -> anyhow::Result<Box<dyn Backend>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    raise_descriptors();
    // As soon as possible: without, it would end the daemon.
    let hangup = signal(SignalKind::hangup()).context("cannot take signals")?;
    let (unix, _socket_file) = serve::unix(&config.socket)?;
    let (feed_port, address) = serve::tcp(config.grpc, "gRPC").await?;
    let (health_port, _) = serve::tcp(config.grpc_health_port, "gRPCHealthPort").await?;

    let state = &config.state_dir;
    let _alone = private_directory(state)
        .and_then(|()| lock_directory(state))
        .with_context(|| format!("cannot use the state directory {}", state.display()))?;
    let mut backend = open(&config)?;
    let observe_only = backend.capabilities().observe_only.clone();
    let events = backend
        .events()
        .context("the backend's events are taken already")?;
    let accounts = Arc::new(Accounts::since(backend.counters()?));

    let node = Arc::new(node(&config));
    let identities = Identities::default();
    let mut core = core(&config, &node, &identities, backend)?;
    let mut policy_files = Directory::new(config.policy_dir.clone(), core.known_files());
    core.files(checked(policy_files.scan()));
    core.add_host();
    let trial_begun = core.trial_begun();
    let (engine, thread) = Engine::start(core).context("cannot start the engine")?;

    let feeds = Arc::new(Feeds::default());
    let runtime = SharedConnection::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_files(policy_files, engine.clone()));
    let listed = CancellationToken::new();
    tasks.spawn(follow_containers(
        config.cri_socket.clone(),
        engine.clone(),
        Arc::clone(&runtime),
        listed.clone(),
    ));
    tasks.spawn(watch_losses(
        engine.clone(),
        Arc::clone(&accounts),
        Arc::clone(&feeds),
        Arc::clone(&node),
    ));
    if let Some(subscription) = log_subscription(&config, &feeds) {
        let output = log_output(&config.log_path).await?;
        tasks.spawn(write_log(subscription, output));
    }
    tasks.spawn(reload::follow(
        config.origin.clone(),
        engine.clone(),
        hangup,
    ));
    tasks.spawn(end_trials(
        engine.clone(),
        trial_begun,
        Arc::clone(&feeds),
        Arc::clone(&node),
    ));
    tasks.spawn(pump(
        events,
        Arc::clone(&feeds),
        Arc::clone(&accounts),
        identities,
        Arc::clone(&node),
    ));

    let api = Api {
        engine: engine.clone(),
        feeds: Arc::clone(&feeds),
        accounts,
        node: Arc::clone(&node),
        runtime,
        started: Timestamp::now(),
        turns: Turns::default(),
    };
    let services = Arc::new(
        Services::new(api)
            .await
            .context("the gRPC descriptors are damaged")?,
    );
    tokio::select! {
        () = listed.cancelled() => {}
        () = stop.cancelled() => {}
        () = tokio::time::sleep(FIRST_LIST) => {
            warn!("the container runtime takes long to list its containers; serving meanwhile");
        }
    }
    let mut servers = JoinSet::new();
    {
        let (services, stop) = (Arc::clone(&services), stop.clone());
        servers.spawn(async move { services.serve_unix(unix, stop).await });
    }
    {
        let (services, stop) = (Arc::clone(&services), stop.clone());
        servers.spawn(async move { services.serve_tcp(feed_port, Limits::FEED, stop).await });
    }
    servers.spawn(serve::serve_health(
        health_port,
        Limits::HEALTH,
        stop.clone(),
    ));
    match &observe_only {
        Some(why) => warn!(why, "observing only: nothing is enforced"),
        None => info!("enforcing"),
    }
    info!(socket = %config.socket.display(), %address, "serving");

    let mut failed = None;
    tokio::select! {
        () = stop.cancelled() => {}
        ended = servers.join_next() => {
            failed = ended.and_then(Result::ok).and_then(Result::err);
            stop.cancel();
        }
    }
    info!("stopping; what is enforced stays in force until `karmor-enforcer unload`");
    services.down().await;
    feeds.alerts.close();
    feeds.logs.close();
    feeds.messages.close();
    let left = tokio::time::timeout(GRACE, async {
        while servers.join_next().await.is_some() {}
    });
    if left.await.is_err() {
        debug!("clients did not leave in time");
    }
    servers.shutdown().await;
    tasks.shutdown().await;
    drop((services, engine));
    if tokio::task::spawn_blocking(move || thread.join())
        .await
        .is_err()
    {
        warn!("the engine ended in a panic");
    }
    failed.map_or(Ok(()), |error| Err(error).context("serving failed"))
}

/// Takes as many descriptors as the system lets it. The usual limit is for programs that `select`.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let current = maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        warn!(%error, "the limit of open files stays as it is");
    }
}

fn node(config: &Config) -> Node {
    Node {
        cluster: config.cluster.clone(),
        host: config.host.clone(),
        node_id: config.node_id.clone(),
    }
}

fn core(
    config: &Config,
    node: &Node,
    identities: &Identities,
    backend: Box<dyn Backend>,
) -> anyhow::Result<Core> {
    let state = &config.state_dir;
    // Who only observes gives the kernel no numbers. Those of the file stay: an earlier daemon's
    // are in the kernel as long as what it enforced.
    let numbers = match backend.capabilities().observe_only {
        Some(_) => Numbers::in_memory(),
        None => Numbers::open(state.join("workloads.json"))?,
    };
    let cannot = || format!("cannot use the state directory {}", state.display());
    let store = Store::open(state.join("policies")).with_context(cannot)?;
    let last_good =
        LastGood::open(state.join("files"), config.policy_dir.clone()).with_context(cannot)?;
    let setup = Setup {
        rules: Rules {
            node: node.clone(),
            containers: config.enable_policy,
            hosts: config.enable_host_policy,
            postures: config.postures,
            untracked: config.untracked_ns.clone(),
        },
        store: Some(store),
        last_good: Some(last_good),
        trials: Trials::open(state.join("trials.json"), Clock::of_machine())
            .with_context(cannot)?,
        numbers,
        identities: identities.clone(),
    };
    Core::new(backend, setup).with_context(cannot)
}

fn checked(changes: Vec<FileChange>) -> Vec<FileChange<Sound>> {
    changes.into_iter().map(FileChange::checked).collect()
}

async fn follow_files(files: Directory, engine: Engine) {
    let (sender, mut changes) = mpsc::channel(QUEUE);
    let follow = directory::follow(files, sender);
    let take = async {
        while let Some(changes) = changes.recv().await {
            let Ok(changes) = tokio::task::spawn_blocking(|| checked(changes)).await else {
                return;
            };
            if engine.ask(|core| core.files(changes)).await.is_err() {
                return;
            }
        }
    };
    let finish = async {
        let mut tick = tokio::time::interval(AGAIN);
        loop {
            tick.tick().await;
            if engine.ask(|core| core.retry()).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(follow, take, finish);
}

/// `listed` is cancelled once the containers that already ran are registered, or there is no hope
/// of that for now.
async fn follow_containers(
    socket: Option<PathBuf>,
    engine: Engine,
    connection: SharedConnection,
    listed: CancellationToken,
) {
    let _listed_at_the_end = listed.clone().drop_guard();
    let hierarchy = match Hierarchy::find() {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            warn!(%error, "containers are not protected");
            let state = Connection {
                path: socket,
                connected: false,
                error: Some(error.to_string()),
            };
            *connection
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = state;
            return;
        }
    };
    let (sender, mut events) = mpsc::channel(QUEUE);
    let follow = containerd::follow(socket, hierarchy, sender, connection, listed.clone());
    let take = async {
        while let Some(event) = events.recv().await {
            let whole = matches!(event, RuntimeEvent::Listed(_));
            if engine.ask(|core| core.runtime(event)).await.is_err() {
                return;
            }
            if whole {
                listed.cancel();
            }
        }
    };
    tokio::join!(follow, take);
}

/// Turns records into alerts.
async fn pump(
    mut events: mpsc::Receiver<RawEvent>,
    feeds: Arc<Feeds>,
    accounts: Arc<Accounts>,
    identities: Identities,
    node: Arc<Node>,
) {
    while let Some(raw) = events.recv().await {
        match decode(&raw.bytes) {
            Ok(event) => {
                accounts.delivered(&event.header);
                let who = identities.get(event.header.workload);
                feeds
                    .alerts
                    .publish(alert(&event, raw.table.as_deref(), who.as_ref(), &node));
            }
            Err(error) => {
                accounts.malformed();
                warn!(%error, "the kernel half wrote a record that cannot be read");
            }
        }
    }
}

/// Looks for losses, and has the engine do what is due every so often.
async fn watch_losses(engine: Engine, accounts: Arc<Accounts>, feeds: Arc<Feeds>, node: Arc<Node>) {
    let mut tick = tokio::time::interval(LOSS_CHECK);
    loop {
        tick.tick().await;
        let counters = engine.ask(|core| {
            core.tick();
            core.counters()
        });
        match counters.await {
            Ok(Ok(counters)) => {
                if let Some(losses) = accounts.new_losses(&counters) {
                    let (alert, message) = report(losses, &node);
                    warn!(losses = ?losses, "events were lost");
                    feeds.alerts.publish(alert);
                    feeds.messages.publish(message);
                }
            }
            Ok(Err(error)) => {
                let text = format!("the kernel's counters cannot be read: {error}");
                feeds.messages.publish(message(&node, "WARN", text));
            }
            Err(_stopped) => return,
        }
    }
}

/// Takes back policies that were not confirmed in time.
async fn end_trials(engine: Engine, begun: Arc<Notify>, feeds: Arc<Feeds>, node: Arc<Node>) {
    loop {
        let ends = engine.ask(|core| (core.expire(), core.next_expiry()));
        let Ok((ended, next)) = ends.await else {
            return;
        };
        for ended in ended {
            let (alert, message) = taken_back(&ended, &node);
            feeds.alerts.publish(alert);
            feeds.messages.publish(message);
        }
        let Some(next) = next else {
            begun.notified().await;
            continue;
        };
        let _ = tokio::time::timeout(next, begun.notified()).await;
    }
}

/// The alert and the message about policies that are as they were before.
fn taken_back(ended: &Ended, node: &Node) -> (Alert, Message) {
    let names: Vec<&str> = ended.policies.iter().map(|id| &*id.name).collect();
    let text = format!(
        "{} not confirmed in time; what was in force before is again",
        names.join(", ")
    );
    let data = format!("trial={}", ended.token);
    (
        system_event(node, "PolicyReverted", data, text.clone()),
        message(node, "WARN", text),
    )
}

type Output = Box<dyn AsyncWrite + Send + Unpin>;

fn log_subscription(config: &Config, feeds: &Feeds) -> Option<Subscription<Alert>> {
    (config.log_path != LogPath::None)
        .then(|| feeds.alerts.subscribe(LISTENERS))
        .flatten()
}

async fn log_output(path: &LogPath) -> anyhow::Result<Output> {
    Ok(match path {
        LogPath::None => Box::new(tokio::io::sink()),
        LogPath::Stdout => Box::new(tokio::io::stdout()),
        LogPath::File(path) => {
            let mut options = tokio::fs::OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            let file = options.open(path).await;
            Box::new(file.with_context(|| format!("cannot write alerts to {}", path.display()))?)
        }
    })
}

/// One JSON object a line.
async fn write_log(mut alerts: Subscription<Alert>, mut output: Output) {
    while let Some(item) = alerts.next().await {
        let line = match item {
            Item::Event(alert) => serde_json::to_vec(&*alert),
            Item::Gap(dropped) => serde_json::to_vec(&serde_json::json!({
                "Type": "SystemEvent",
                "Operation": "EventLoss",
                "Data": format!("dropped={dropped}"),
                "Message": format!("{dropped} alerts were dropped: they are written too slowly"),
            })),
        };
        let Ok(mut line) = line else { continue };
        line.push(b'\n');
        let written = async {
            output.write_all(&line).await?;
            output.flush().await
        };
        if let Err(error) = written.await {
            warn!(%error, "alerts are no longer written to logPath");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_descriptors_that_may_be_had_are_taken() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Hardly fewer: other tests run meanwhile.
        let current = maximum.map_or(Some(1 << 16), |most| Some(most - 1));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        raise_descriptors();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
