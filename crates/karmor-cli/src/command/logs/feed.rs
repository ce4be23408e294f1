//! The daemon's streams, as one.

use std::future::Future;

use karmor_proto::feeder::{
    Alert, Log, Message, NonceMessage, RequestMessage, log_service_client::LogServiceClient,
};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet};
use tonic::{Code, Response, Status, Streaming};

use crate::{
    connect::{Address, call_failed, connect},
    error::{CommandError, CommandResult},
    exit::Exit,
};

/// Events that may wait here while the output is slow; the server then holds back.
const QUEUE: usize = 256;

/// What is asked for. The filters are the server's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) alerts: Option<&'static str>,
    pub(super) logs: Option<&'static str>,
    pub(super) messages: bool,
}

/// What comes.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Event {
    Alert(Box<Alert>),
    Log(Box<Log>),
    Message(Box<Message>),
}

/// Why nothing comes any more.
pub(super) enum Ended {
    /// It may come back.
    Lost(String),
    /// It will not: the server says no.
    Refused(CommandError),
}

/// An open connection.
pub(super) struct Feed {
    address: Address,
    events: mpsc::Receiver<Result<Event, Status>>,
    /// Dropped with the feed, which ends the streams.
    _streams: JoinSet<()>,
}

impl Feed {
    /// Connects, checks that somebody is there, and asks for the streams.
    pub(super) async fn open(address: &Address, wanted: Wanted) -> CommandResult<Self> {
        let client = LogServiceClient::new(connect(address).await?);
        check(address, client.clone()).await?;
        let (sender, events) = mpsc::channel(QUEUE);
        let mut streams = JoinSet::new();
        // Each in a task of its own: a server need not answer before the first event is there.
        if let Some(filter) = wanted.alerts {
            let (mut client, request) = (client.clone(), request(filter));
            let call = async move { client.watch_alerts(request).await };
            streams.spawn(pump(
                call,
                |alert| Event::Alert(Box::new(alert)),
                sender.clone(),
            ));
        }
        if let Some(filter) = wanted.logs {
            let (mut client, request) = (client.clone(), request(filter));
            let call = async move { client.watch_logs(request).await };
            streams.spawn(pump(call, |log| Event::Log(Box::new(log)), sender.clone()));
        }
        if wanted.messages {
            let (mut client, request) = (client, request("all"));
            let call = async move { client.watch_messages(request).await };
            streams.spawn(pump(
                call,
                |message| Event::Message(Box::new(message)),
                sender,
            ));
        }
        Ok(Self {
            address: address.clone(),
            events,
            _streams: streams,
        })
    }

    /// The next event of any stream.
    pub(super) async fn next(&mut self) -> Result<Event, Ended> {
        match self.events.recv().await {
            Some(Ok(event)) => Ok(event),
            Some(Err(status)) if is_refusal(status.code()) => {
                Err(Ended::Refused(call_failed(&self.address, &status)))
            }
            Some(Err(status)) => Err(Ended::Lost(status.message().to_owned())),
            None => Err(Ended::Lost("the streams ended".to_owned())),
        }
    }
}

/// Whether asking again is of no use.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Unimplemented
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}

fn request(filter: &str) -> RequestMessage {
    RequestMessage {
        filter: filter.to_owned(),
    }
}

/// The server must send back what it was sent.
async fn check(
    address: &Address,
    mut client: LogServiceClient<tonic::transport::Channel>,
) -> CommandResult {
    // Any number will do that a server would not answer by chance.
    let nonce = i32::from_ne_bytes(std::process::id().to_ne_bytes()) ^ 0x6b61_726d;
    let reply = client
        .health_check(NonceMessage { nonce })
        .await
        .map_err(|status| call_failed(address, &status))?;
    if reply.into_inner().retval == nonce {
        Ok(())
    } else {
        Err(CommandError::message(
            Exit::Failed,
            format!("what answers at {address} is not a healthy feed"),
        ))
    }
}

/// Passes a stream on until it ends, and then the reason.
async fn pump<T>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    event: fn(T) -> Event,
    to: mpsc::Sender<Result<Event, Status>>,
) {
    let end = match call.await {
        Err(status) => status,
        Ok(response) => {
            let mut stream = response.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(message)) => {
                        if to.send(Ok(event(message))).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break Status::unavailable("the daemon has closed it"),
                    Err(status) => break status,
                }
            }
        }
    };
    // Fails only when nobody listens any more.
    let _ = to.send(Err(end)).await;
}
