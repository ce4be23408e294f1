//! From one stream of alerts to everybody who listens.
//!
//! Nobody can hold up the others, nor the kernel: each listener has a queue of [`QUEUE`] events,
//! and what does not fit is dropped for that listener and counted, and it is told.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use karmor_proto::feeder::{Alert, Log, Message};
use tokio::sync::mpsc;

/// Events a listener may be behind.
pub const QUEUE: usize = 1000;

/// Listeners at a time, of each kind.
pub const LISTENERS: usize = 64;

/// Places kept for those who may change policies: nobody else can keep them from listening.
pub const RESERVED: usize = 16;

/// One listener's end of a feed.
#[derive(Debug)]
pub struct Subscription<T> {
    receiver: mpsc::Receiver<Arc<T>>,
    dropped: Arc<AtomicU64>,
}

/// What a listener gets.
#[derive(Debug)]
pub enum Item<T> {
    /// An event.
    Event(Arc<T>),
    /// So many events were dropped since the last that was delivered.
    Gap(u64),
}

impl<T> Subscription<T> {
    /// The next event, after the gap before it, if there was one. `None` when the feed has ended.
    pub async fn next(&mut self) -> Option<Item<T>> {
        // While the queue is full nothing new gets in, so everything still queued was sent before
        // what was dropped: the gap is told once the queue has been emptied.
        if self.receiver.is_empty() {
            let dropped = self.dropped.swap(0, Ordering::AcqRel);
            if dropped > 0 {
                return Some(Item::Gap(dropped));
            }
        }
        self.receiver.recv().await.map(Item::Event)
    }
}

#[derive(Debug)]
struct Listener<T> {
    sender: mpsc::Sender<Arc<T>>,
    dropped: Arc<AtomicU64>,
}

/// A feed of one kind of events.
#[derive(Debug)]
pub struct Feed<T> {
    listeners: Mutex<Vec<Listener<T>>>,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self {
            listeners: Mutex::new(Vec::new()),
        }
    }
}

impl<T> Feed<T> {
    /// Adds a listener, unless there are `places` already.
    pub fn subscribe(&self, places: usize) -> Option<Subscription<T>> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|l| !l.sender.is_closed());
        if listeners.len() >= places {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        listeners.push(Listener {
            sender,
            dropped: Arc::clone(&dropped),
        });
        Some(Subscription { receiver, dropped })
    }

    /// Gives an event to everybody. Never waits.
    pub fn publish(&self, event: T) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if listeners.is_empty() {
            return;
        }
        let event = Arc::new(event);
        listeners.retain(
            |listener| match listener.sender.try_send(Arc::clone(&event)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    listener.dropped.fetch_add(1, Ordering::AcqRel);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            },
        );
    }

    /// Ends the feed for everybody.
    pub fn close(&self) {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// All feeds.
#[derive(Debug, Default)]
pub struct Feeds {
    /// Alerts.
    pub alerts: Feed<Alert>,
    /// Telemetry; nothing feeds it yet.
    pub logs: Feed<Log>,
    /// Messages of the daemon.
    pub messages: Feed<Message>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_told_its_gap_and_holds_up_nobody() {
        let feed = Feed::default();
        let mut slow = feed.subscribe(LISTENERS).unwrap();
        let mut quick = feed.subscribe(LISTENERS).unwrap();
        for n in 0..QUEUE + 5 {
            feed.publish(n);
            assert!(matches!(quick.next().await, Some(Item::Event(e)) if *e == n));
        }
        for n in 0..QUEUE {
            assert!(matches!(slow.next().await, Some(Item::Event(e)) if *e == n));
        }
        assert!(matches!(slow.next().await, Some(Item::Gap(5))));
        feed.publish(7);
        assert!(matches!(slow.next().await, Some(Item::Event(e)) if *e == 7));
    }

    #[tokio::test]
    async fn closing_ends_the_streams() {
        let feed = Feed::<u8>::default();
        let mut listener = feed.subscribe(LISTENERS).unwrap();
        feed.close();
        assert!(listener.next().await.is_none());
    }

    #[test]
    fn listeners_are_bounded_and_places_are_given_back() {
        let feed = Feed::<u8>::default();
        let all: Vec<_> = (0..LISTENERS)
            .map(|_| feed.subscribe(LISTENERS).unwrap())
            .collect();
        assert!(feed.subscribe(LISTENERS).is_none());
        assert!(feed.subscribe(LISTENERS + RESERVED).is_some());
        drop(all);
        assert!(feed.subscribe(LISTENERS).is_some());
    }
}
