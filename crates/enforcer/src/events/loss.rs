//! Telling people about events that never arrived.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use karmor_abi::{
    counters::{CLASSES, Class, Counters},
    event::Header,
};
use karmor_proto::feeder::{Alert, Message};

use super::clock;
use crate::workload::Node;

/// Events that reached the daemon, by class, and the losses already reported.
///
/// The kernel's counters and its rings outlive daemons. What was emitted before this one took over,
/// its own self-test included, was for others to take, so the books begin at the counters found
/// then; a record still on its way from that time is told by its sequence number.
#[derive(Debug)]
pub struct Accounts {
    /// The kernel's counters at the start, by CPU.
    before: Vec<Counters>,
    delivered: [AtomicU64; CLASSES],
    malformed: AtomicU64,
    reported: [AtomicU64; CLASSES],
}

/// What became of the events of one class: emitted = delivered + lost + what is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Due.
    pub emitted: u64,
    /// Arrived and read.
    pub delivered: u64,
    /// Found no room.
    pub lost: u64,
}

/// What became of all events since the daemon took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// By [`Class`].
    pub classes: [Book; CLASSES],
    /// Arrived and could not be read, of whichever class.
    pub malformed: u64,
    /// Accesses that could not be decided.
    pub faults: u64,
}

impl Accounts {
    /// Books that begin at these counters.
    #[must_use]
    pub fn since(before: Vec<Counters>) -> Self {
        let lost = Counters::sum(&before).lost;
        Self {
            before,
            delivered: Default::default(),
            malformed: AtomicU64::new(0),
            reported: lost.map(AtomicU64::new),
        }
    }

    /// Counts an event that arrived, unless it was emitted before the books begin.
    pub fn delivered(&self, event: &Header) {
        let class = usize::from(event.class);
        let before = usize::try_from(event.cpu)
            .ok()
            .and_then(|cpu| self.before.get(cpu)?.emitted.get(class).copied());
        if event.sequence <= before.unwrap_or(0) {
            return;
        }
        if let Some(count) = self.delivered.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a record that could not be read.
    pub fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// The books, with the kernel's counters as they are now.
    #[must_use]
    pub fn books(&self, now: &[Counters]) -> Books {
        let (before, now) = (Counters::sum(&self.before), Counters::sum(now));
        let mut books = Books {
            malformed: self.malformed.load(Ordering::Relaxed),
            faults: since(&now.faults, &before.faults).sum(),
            ..Books::default()
        };
        let counts = since(&now.emitted, &before.emitted).zip(since(&now.lost, &before.lost));
        let classes = books.classes.iter_mut().zip(&self.delivered);
        for ((book, delivered), (emitted, lost)) in classes.zip(counts) {
            *book = Book {
                emitted,
                delivered: delivered.load(Ordering::Relaxed),
                lost,
            };
        }
        books
    }

    /// Losses since the last call, by class; `None` when there are none.
    pub fn new_losses(&self, now: &[Counters]) -> Option<[u64; CLASSES]> {
        let counters = Counters::sum(now);
        let mut fresh = [0; CLASSES];
        for ((fresh, reported), lost) in fresh.iter_mut().zip(&self.reported).zip(counters.lost) {
            *fresh = lost.saturating_sub(reported.swap(lost, Ordering::Relaxed));
        }
        fresh.iter().any(|n| *n != 0).then_some(fresh)
    }
}

fn since<'a>(now: &'a [u64], before: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
    now.iter()
        .zip(before)
        .map(|(now, before)| now.saturating_sub(*before))
}

/// The alert and the message about lost events.
#[must_use]
pub fn report(losses: [u64; CLASSES], node: &Node) -> (Alert, Message) {
    let denials = losses[Class::Denial as usize];
    let audits = losses[Class::Audit as usize];
    let text = format!(
        "{} events found no room and were lost: {denials} refusals, {audits} audited accesses; \
         what they report was refused or audited all the same",
        denials + audits,
    );
    let data = format!("denials={denials} audits={audits}");
    (
        system_event(node, "EventLoss", data, text.clone()),
        message(node, "WARN", text),
    )
}

/// An alert about the daemon itself.
#[must_use]
pub fn system_event(node: &Node, operation: &str, data: String, message: String) -> Alert {
    let time = Timestamp::now();
    Alert {
        timestamp: time.as_second(),
        updated_time: clock::rfc3339(time),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        node_id: node.node_id.clone(),
        r#type: "SystemEvent".into(),
        operation: operation.into(),
        enforcer: "BPFLSM".into(),
        data,
        message,
        kube_armor_version: env!("CARGO_PKG_VERSION").into(),
        ..Alert::default()
    }
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

    use crate::events::decode::tests::plain;

    #[test]
    fn a_loss_is_reported_once() {
        let mut counters = [Counters {
            lost: [5, 0],
            ..Counters::default()
        }];
        let accounts = Accounts::since(counters.to_vec());
        assert_eq!(accounts.new_losses(&counters), None);
        counters[0].lost = [7, 1];
        assert_eq!(accounts.new_losses(&counters), Some([2, 1]));
        assert_eq!(accounts.new_losses(&counters), None);
    }

    #[test]
    fn the_books_leave_out_what_was_before() {
        let mut counters = [Counters::default(), Counters::default()];
        counters[1].emitted = [4, 0];
        counters[1].lost = [1, 0];
        let accounts = Accounts::since(counters.to_vec());
        let event = |cpu, sequence, class| {
            let event = Header {
                cpu,
                sequence,
                class: class as u8,
                ..plain()
            };
            accounts.delivered(&event);
        };
        // Left in the ring by an earlier daemon.
        event(1, 4, Class::Denial);
        assert_eq!(accounts.books(&counters), Books::default());

        counters[0].emitted = [2, 1];
        counters[0].lost = [1, 0];
        counters[1].emitted = [5, 0];
        event(0, 1, Class::Denial);
        event(0, 1, Class::Audit);
        event(1, 5, Class::Denial);
        let [denials, audits] = accounts.books(&counters).classes;
        let book = |emitted, delivered, lost| Book {
            emitted,
            delivered,
            lost,
        };
        assert_eq!((denials, audits), (book(3, 2, 1), book(1, 1, 0)));
    }
}
