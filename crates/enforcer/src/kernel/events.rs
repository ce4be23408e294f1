//! The reader of the rings: a thread of its own, so that a busy daemon delays events rather than
//! decisions.

use std::{sync::mpsc::Receiver, thread, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use karmor_abi::{event::Header, names};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use super::tables::Directory;
use crate::backend::RawEvent;

/// Events on their way from the rings to the daemon; when it is full, the rings fill, and what they
/// cannot take is counted in the kernel.
const QUEUE: usize = 4096;

/// How long the reader waits for a ring before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long events wait at most for the names of the tables they were decided by.
const NAMES: Duration = Duration::from_secs(5);

/// The rings.
pub(super) struct Rings {
    denials: RingBuf<MapData>,
    audits: RingBuf<MapData>,
}

impl Rings {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let mut take = |name| -> Result<RingBuf<MapData>> {
            let map = ebpf
                .take_map(name)
                .with_context(|| format!("the object has no map {name}"))?;
            Ok(RingBuf::try_from(map)?)
        };
        Ok(Self {
            denials: take(names::DENIALS)?,
            audits: take(names::AUDITS)?,
        })
    }

    /// Starts the reader. It waits until `ready` is closed, but not for ever.
    pub(super) fn read(
        self,
        directory: Directory,
        ready: Receiver<()>,
    ) -> mpsc::Receiver<RawEvent> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let reader = move || {
            let _closed_or_late = ready.recv_timeout(NAMES);
            let _closed = self.run(&directory, &sender);
        };
        if let Err(error) = thread::Builder::new()
            .name("events".to_owned())
            .spawn(reader)
        {
            tracing::error!(%error, "no thread for the reader of events: alerts will be missing");
        }
        receiver
    }

    /// Ends when the receiver is gone.
    fn run(
        mut self,
        directory: &Directory,
        sender: &mpsc::Sender<RawEvent>,
    ) -> Result<(), mpsc::error::SendError<RawEvent>> {
        while !sender.is_closed() {
            // Refusals go first, however many audits there are.
            loop {
                if let Some(item) = self.denials.next() {
                    let bytes = Box::from(&*item);
                    drop(item);
                    sender.blocking_send(event(bytes, directory))?;
                } else if let Some(item) = self.audits.next() {
                    let bytes = Box::from(&*item);
                    drop(item);
                    sender.blocking_send(event(bytes, directory))?;
                } else {
                    break;
                }
            }
            let mut rings = [
                PollFd::new(&self.denials, PollFlags::IN),
                PollFd::new(&self.audits, PollFlags::IN),
            ];
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(PATIENCE.subsec_nanos()),
            };
            if let Err(error) = poll(&mut rings, Some(&timeout))
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "waiting for events failed");
                thread::sleep(PATIENCE);
            }
        }
        Ok(())
    }
}

fn event(bytes: Box<[u8]>, directory: &Directory) -> RawEvent {
    const TABLE: usize = std::mem::offset_of!(Header, table);
    let table = bytes
        .get(TABLE..TABLE + 4)
        .and_then(|uid| uid.try_into().ok())
        .and_then(|uid| directory.get(u32::from_ne_bytes(uid)));
    RawEvent { bytes, table }
}
