//! The daemon's streams, as one.

use std::{future::Future, time::Duration};

use karmor_proto::feeder::{
    Alert, Log, Message, NonceMessage, RequestMessage, log_service_client::LogServiceClient,
};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tonic::{Code, Response, Status, Streaming};

use crate::{
    connect::{self, Address, call_failed, connect, within},
    error::{CommandError, CommandResult},
    exit::Exit,
};

/// Events that may wait here while the output is slow; the server then holds back.
const QUEUE: usize = 256;

/// How long a stream that is not refused may take to be taken for one that stands: a server need
/// not answer before the first event is there.
const ANSWER: Duration = Duration::from_secs(1);

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

/// Why a feed could not be opened.
pub(super) struct NotOpened {
    pub(super) error: CommandError,
    /// Asking again is of no use.
    pub(super) is_refused: bool,
}

impl From<CommandError> for NotOpened {
    fn from(error: CommandError) -> Self {
        Self {
            error,
            is_refused: false,
        }
    }
}

/// An open connection.
pub(super) struct Feed {
    address: Address,
    events: mpsc::Receiver<Result<Event, Status>>,
    /// Dropped with the feed, which ends the streams.
    _streams: JoinSet<()>,
}

impl Feed {
    /// Connects, checks that somebody is there, asks for the streams and sees that none is refused.
    pub(super) async fn open(address: &Address, wanted: Wanted) -> Result<Self, NotOpened> {
        let client = LogServiceClient::new(connect(address).await?);
        check(address, client.clone()).await?;
        let (to, events) = mpsc::channel(QUEUE);
        let (answers, mut answered) = mpsc::channel(QUEUE);
        let output = Output { answers, to };
        let mut streams = JoinSet::new();
        // Each in a task of its own: none waits for the answer to another.
        if let Some(filter) = wanted.alerts {
            let (mut client, request) = (client.clone(), request(filter));
            let call = async move { client.watch_alerts(request).await };
            let event = |alert| Event::Alert(Box::new(alert));
            streams.spawn(pump(call, event, output.clone()));
        }
        if let Some(filter) = wanted.logs {
            let (mut client, request) = (client.clone(), request(filter));
            let call = async move { client.watch_logs(request).await };
            let event = |log| Event::Log(Box::new(log));
            streams.spawn(pump(call, event, output.clone()));
        }
        if wanted.messages {
            let (mut client, request) = (client, request("all"));
            let call = async move { client.watch_messages(request).await };
            let event = |message| Event::Message(Box::new(message));
            streams.spawn(pump(call, event, output.clone()));
        }
        drop(output);
        let all = async {
            while let Some(answer) = answered.recv().await {
                answer?;
            }
            Ok(())
        };
        if let Ok(Err(status)) = timeout(ANSWER, all).await {
            return Err(NotOpened {
                is_refused: is_refusal(Status::code(&status)),
                error: call_failed(address, &status),
            });
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
        .health_check(within(connect::ANSWER, NonceMessage { nonce }))
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

/// Where a stream goes.
#[derive(Clone)]
struct Output {
    /// Whether the stream stands; closed once that is said.
    answers: mpsc::Sender<Result<(), Status>>,
    to: mpsc::Sender<Result<Event, Status>>,
}

/// Passes a stream on until it ends, and then the reason.
async fn pump<T>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    event: fn(T) -> Event,
    Output { answers, to }: Output,
) {
    let answer = call.await;
    let stands = answer.as_ref().map(|_| ()).map_err(Status::clone);
    // Sending fails only when nobody listens any more, here and below.
    let _ = answers.send(stands).await;
    drop(answers);
    let end = match answer {
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
    let _ = to.send(Err(end)).await;
}
