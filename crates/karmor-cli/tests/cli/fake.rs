//! A daemon that does as the test says.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use karmor_proto::{
    feeder::{
        Alert, Log, Message, NonceMessage, ReplyMessage, RequestMessage,
        log_service_server::{LogService, LogServiceServer},
    },
    karmor::v1::{
        ApplyPolicyRequest, ApplyPolicyResponse, DeletePolicyRequest, DeletePolicyResponse,
        GetPolicyRequest, GetPolicyResponse, ListPoliciesRequest, ListPoliciesResponse, Outcome,
        Policy, PolicyRef, PolicyResult, ProbeRequest, ProbeResponse, SettleTrialRequest,
        SettleTrialResponse, Trial, TryPoliciesRequest, TryPoliciesResponse, VersionRequest,
        VersionResponse,
        control_server::{Control, ControlServer},
    },
};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, transport::Server};

/// What the daemon knows and was told.
#[derive(Default)]
pub(crate) struct State {
    /// What each call for alerts gets. All but the last stream end; the last stays open.
    pub alerts: VecDeque<Vec<Alert>>,
    /// What calls for alerts are refused with, in turn.
    pub refused: VecDeque<Option<Status>>,
    pub logs: Vec<Log>,
    pub messages: Vec<Message>,
    /// Filters that were asked for.
    pub filters: Vec<String>,
    /// What policies are answered with, in turn.
    pub results: VecDeque<PolicyResult>,
    pub policies: Vec<Policy>,
    pub probe: ProbeResponse,
    pub applied: Vec<ApplyPolicyRequest>,
    pub deleted: Vec<PolicyRef>,
    pub tried: Vec<TryPoliciesRequest>,
    /// What policies on trial are answered with.
    pub trial: Option<Trial>,
    pub settled: Vec<SettleTrialRequest>,
    /// What the end of a trial is refused with.
    pub unsettled: Option<Status>,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<State>>);

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds it")
    }
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn events<T: Send + 'static>(items: Vec<T>, stays_open: bool) -> Response<Events<T>> {
    let items = tokio_stream::iter(items.into_iter().map(Ok));
    Response::new(if stays_open {
        Box::pin(items.chain(tokio_stream::pending()))
    } else {
        Box::pin(items)
    })
}

#[tonic::async_trait]
impl LogService for Service {
    type WatchMessagesStream = Events<Message>;
    type WatchAlertsStream = Events<Alert>;
    type WatchLogsStream = Events<Log>;

    async fn health_check(
        &self,
        request: Request<NonceMessage>,
    ) -> Result<Response<ReplyMessage>, Status> {
        Ok(Response::new(ReplyMessage {
            retval: request.into_inner().nonce,
        }))
    }

    async fn watch_messages(
        &self,
        _request: Request<RequestMessage>,
    ) -> Result<Response<Events<Message>>, Status> {
        Ok(events(self.state().messages.clone(), true))
    }

    async fn watch_alerts(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Events<Alert>>, Status> {
        let mut state = self.state();
        state
            .filters
            .push(format!("alerts {}", request.into_inner().filter));
        if let Some(status) = state.refused.pop_front().flatten() {
            return Err(status);
        }
        let alerts = state.alerts.pop_front().unwrap_or_default();
        Ok(events(alerts, state.alerts.is_empty()))
    }

    async fn watch_logs(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Events<Log>>, Status> {
        let mut state = self.state();
        state
            .filters
            .push(format!("logs {}", request.into_inner().filter));
        Ok(events(state.logs.clone(), true))
    }
}

fn no_result(policy: PolicyRef) -> PolicyResult {
    PolicyResult {
        policy: Some(policy),
        outcome: Outcome::NotFound.into(),
        ..PolicyResult::default()
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn apply_policy(
        &self,
        request: Request<ApplyPolicyRequest>,
    ) -> Result<Response<ApplyPolicyResponse>, Status> {
        let mut state = self.state();
        state.applied.push(request.into_inner());
        let results = state.results.pop_front().into_iter().collect();
        Ok(Response::new(ApplyPolicyResponse {
            results,
            ..ApplyPolicyResponse::default()
        }))
    }

    async fn try_policies(
        &self,
        request: Request<TryPoliciesRequest>,
    ) -> Result<Response<TryPoliciesResponse>, Status> {
        let mut state = self.state();
        state.tried.push(request.into_inner());
        Ok(Response::new(TryPoliciesResponse {
            results: state.results.drain(..).collect(),
            trial: state.trial.clone(),
            ..TryPoliciesResponse::default()
        }))
    }

    async fn settle_trial(
        &self,
        request: Request<SettleTrialRequest>,
    ) -> Result<Response<SettleTrialResponse>, Status> {
        let mut state = self.state();
        state.settled.push(request.into_inner());
        if let Some(status) = state.unsettled.take() {
            return Err(status);
        }
        let results = state.results.drain(..).collect();
        Ok(Response::new(SettleTrialResponse { results }))
    }

    async fn delete_policy(
        &self,
        request: Request<DeletePolicyRequest>,
    ) -> Result<Response<DeletePolicyResponse>, Status> {
        let mut state = self.state();
        let policy = request.into_inner().policy.unwrap_or_default();
        state.deleted.push(policy.clone());
        let result = state
            .results
            .pop_front()
            .unwrap_or_else(|| no_result(policy));
        Ok(Response::new(DeletePolicyResponse {
            result: Some(result),
        }))
    }

    async fn list_policies(
        &self,
        _request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let policies = self.state().policies.clone();
        Ok(Response::new(ListPoliciesResponse { policies }))
    }

    async fn get_policy(
        &self,
        request: Request<GetPolicyRequest>,
    ) -> Result<Response<GetPolicyResponse>, Status> {
        let name = request.into_inner().policy.unwrap_or_default().name;
        let state = self.state();
        let mut policies = state.policies.iter().filter(|policy| policy.name == name);
        match policies.next() {
            Some(policy) => Ok(Response::new(GetPolicyResponse {
                policy: Some(policy.clone()),
                others: policies.cloned().collect(),
            })),
            None => Err(Status::not_found("no such policy")),
        }
    }

    async fn probe(
        &self,
        _request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(self.state().probe.clone()))
    }

    async fn version(
        &self,
        _request: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: "9.9.9".into(),
            policy_api: "security.kubearmor.com/v1".into(),
        }))
    }
}

/// A running daemon; gone when dropped.
pub(crate) struct Daemon {
    service: Service,
    /// `HOST:PORT`.
    pub address: String,
    socket: PathBuf,
    _dir: tempfile::TempDir,
    _runtime: Runtime,
}

impl Daemon {
    pub(crate) fn start(state: State) -> Self {
        let service = Service(Arc::new(Mutex::new(state)));
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("karmor.sock");
        let runtime = Runtime::new().expect("a runtime");
        let (tcp, unix) = runtime.block_on(async {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            (tcp, UnixListener::bind(&socket).expect("a socket"))
        });
        let address = tcp.local_addr().expect("an address").to_string();
        let serve = |service: &Service| {
            Server::builder()
                .add_service(LogServiceServer::new(service.clone()))
                .add_service(ControlServer::new(service.clone()))
        };
        runtime.spawn(serve(&service).serve_with_incoming(TcpListenerStream::new(tcp)));
        runtime.spawn(serve(&service).serve_with_incoming(UnixListenerStream::new(unix)));
        Self {
            service,
            address,
            socket,
            _dir: dir,
            _runtime: runtime,
        }
    }

    pub(crate) fn socket(&self) -> &str {
        self.socket.to_str().expect("text")
    }

    pub(crate) fn dir(&self) -> &Path {
        self._dir.path()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.service.state()
    }
}
