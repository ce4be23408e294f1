//! Telling people about events that never arrived.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use karmor_abi::counters::{CLASSES, Class, Counters};
use karmor_proto::feeder::{Alert, Message};

use super::clock;
use crate::workload::Node;

/// Events that reached the daemon, by class, and the losses already reported.
#[derive(Debug, Default)]
pub struct Accounts {
    delivered: [AtomicU64; CLASSES],
    malformed: AtomicU64,
    reported: [AtomicU64; CLASSES],
}

impl Accounts {
    /// Counts an event that arrived.
    pub fn delivered(&self, class: u8) {
        if let Some(count) = self.delivered.get(usize::from(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a record that could not be read.
    pub fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// Events that arrived, of all classes.
    #[must_use]
    pub fn total_delivered(&self) -> u64 {
        self.delivered
            .iter()
            .map(|c| c.load(Ordering::Relaxed))
            .sum::<u64>()
            + self.malformed.load(Ordering::Relaxed)
    }

    /// Starts from what an earlier daemon saw: its losses were its to report.
    pub fn adopt(&self, counters: &Counters) {
        for (reported, lost) in self.reported.iter().zip(counters.lost) {
            reported.store(lost, Ordering::Relaxed);
        }
    }

    /// Losses since the last call, by class; `None` when there are none.
    pub fn new_losses(&self, counters: &Counters) -> Option<[u64; CLASSES]> {
        let mut fresh = [0; CLASSES];
        for ((fresh, reported), lost) in fresh.iter_mut().zip(&self.reported).zip(counters.lost) {
            *fresh = lost.saturating_sub(reported.swap(lost, Ordering::Relaxed));
        }
        fresh.iter().any(|n| *n != 0).then_some(fresh)
    }
}

/// The alert and the message about lost events.
#[must_use]
pub fn report(losses: [u64; CLASSES], node: &Node) -> (Alert, Message) {
    let time = Timestamp::now();
    let denials = losses[Class::Denial as usize];
    let audits = losses[Class::Audit as usize];
    let text = format!(
        "{} events found no room and were lost: {denials} refusals, {audits} audited accesses; \
         what they report was refused or audited all the same",
        denials + audits,
    );
    let alert = Alert {
        timestamp: time.as_second(),
        updated_time: clock::rfc3339(time),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        node_id: node.node_id.clone(),
        r#type: "SystemEvent".into(),
        operation: "EventLoss".into(),
        enforcer: "BPFLSM".into(),
        data: format!("denials={denials} audits={audits}"),
        message: text.clone(),
        kube_armor_version: env!("CARGO_PKG_VERSION").into(),
        ..Alert::default()
    };
    (alert, message(node, "WARN", text))
}

/// A message of the daemon itself.
#[must_use]
pub fn message(node: &Node, level: &str, text: String) -> Message {
    let time = Timestamp::now();
    Message {
        timestamp: time.as_second(),
        updated_time: clock::rfc3339(time),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        r#type: "Message".into(),
        level: level.into(),
        message: text,
        ..Message::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_reported_once() {
        let accounts = Accounts::default();
        let mut counters = Counters {
            lost: [5, 0],
            ..Counters::default()
        };
        accounts.adopt(&counters);
        assert_eq!(accounts.new_losses(&counters), None);
        counters.lost = [7, 1];
        assert_eq!(accounts.new_losses(&counters), Some([2, 1]));
        assert_eq!(accounts.new_losses(&counters), None);
    }
}
