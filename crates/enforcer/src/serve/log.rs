//! `feeder.LogService`: KubeArmor's feed.

use std::{pin::Pin, sync::Arc};

use karmor_proto::feeder::{
    Alert, Log, Message, NonceMessage, ReplyMessage, RequestMessage, log_service_server::LogService,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Api, peer::may_change};
use crate::{
    events::loss,
    feed::{Feed, Item, LISTENERS, RESERVED},
    workload::Node,
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Events on their way to the transport; the queue proper is the feed's.
const IN_FLIGHT: usize = 16;

fn stream<T: Clone + Send + Sync + 'static>(
    request: &Request<RequestMessage>,
    feed: &Feed<T>,
    gap: impl Fn(u64) -> T + Send + 'static,
) -> Result<Answers<T>, Status> {
    let places = match may_change(request) {
        Ok(()) => LISTENERS + RESERVED,
        Err(_anybody) => LISTENERS,
    };
    let mut subscription = feed.subscribe(places).ok_or_else(|| {
        Status::resource_exhausted(format!("{places} clients are listening already"))
    })?;
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        loop {
            let item = tokio::select! {
                item = subscription.next() => item,
                // Also when no event comes: a listener that left gives its place back.
                () = sender.closed() => None,
            };
            let event = match item {
                Some(Item::Event(event)) => Arc::unwrap_or_clone(event),
                Some(Item::Gap(dropped)) => gap(dropped),
                None => return,
            };
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn known(filter: &str, allowed: &[&str]) -> Result<(), Status> {
    if filter.is_empty() || allowed.contains(&filter) {
        return Ok(());
    }
    let allowed = allowed.join(", ");
    Err(Status::invalid_argument(format!(
        "there is no filter `{filter}`; allowed are {allowed}"
    )))
}

fn gap_text(dropped: u64) -> String {
    format!("{dropped} events were dropped: this client reads too slowly")
}

fn gap_alert(node: &Node, dropped: u64) -> Alert {
    let message = loss::message(node, "WARN", gap_text(dropped));
    Alert {
        timestamp: message.timestamp,
        updated_time: message.updated_time,
        cluster_name: message.cluster_name,
        host_name: message.host_name,
        node_id: node.node_id.clone(),
        r#type: "SystemEvent".into(),
        operation: "EventLoss".into(),
        data: format!("dropped={dropped}"),
        message: message.message,
        ..Alert::default()
    }
}

#[tonic::async_trait]
impl LogService for Api {
    type WatchMessagesStream = Answers<Message>;
    type WatchAlertsStream = Answers<Alert>;
    type WatchLogsStream = Answers<Log>;

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
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchMessagesStream>, Status> {
        let node = Arc::clone(&self.node);
        let gap = move |dropped| loss::message(&node, "WARN", gap_text(dropped));
        stream(&request, &self.feeds.messages, gap).map(Response::new)
    }

    async fn watch_alerts(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        known(&request.get_ref().filter, &["all", "policy"])?;
        let node = Arc::clone(&self.node);
        stream(&request, &self.feeds.alerts, move |dropped| {
            gap_alert(&node, dropped)
        })
        .map(Response::new)
    }

    async fn watch_logs(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchLogsStream>, Status> {
        known(&request.get_ref().filter, &["all", "system"])?;
        // There is no telemetry yet; the stream stays open, as a quiet node's would.
        stream(&request, &self.feeds.logs, |_| Log::default()).map(Response::new)
    }
}
