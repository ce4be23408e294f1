//! Waiting for changes of what is in a directory.

use std::{io, path::Path, time::Duration};

use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;

/// How long a directory must be quiet before it is read again: editors write in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// How often a directory that cannot be watched, or does not exist, is looked at.
const POLL: Duration = Duration::from_secs(5);

/// Something to wait on: inotify where it works, a clock where it does not.
pub(crate) struct Watch {
    inotify: Option<EventStream<[u8; 4096]>>,
    ended: bool,
}

impl Watch {
    pub(crate) fn on(path: &Path) -> Self {
        let inotify = Self::open(path)
            .inspect_err(|error| {
                tracing::debug!(%error, directory = %path.display(), "looking at the clock instead");
            })
            .ok();
        Self {
            ended: inotify.is_none(),
            inotify,
        }
    }

    /// Watches anew where the watch has ended. Returns whether it stands again: nobody has told what
    /// changed meanwhile.
    pub(crate) fn renew(&mut self, path: &Path) -> bool {
        if !self.ended {
            return false;
        }
        *self = Self::on(path);
        !self.ended
    }

    fn open(path: &Path) -> io::Result<EventStream<[u8; 4096]>> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ATTRIB;
        inotify.watches().add(path, mask)?;
        inotify.into_event_stream([0; 4096])
    }

    /// Returns some time after the last of a burst of changes, at the latest after ten times
    /// [`QUIET`].
    pub(crate) async fn changed(&mut self) {
        let Some(inotify) = &mut self.inotify else {
            tokio::time::sleep(POLL).await;
            return;
        };
        // A timer besides: a network file system tells of no change made elsewhere.
        let lost = tokio::time::sleep(POLL * 12);
        tokio::pin!(lost);
        let mut until: Option<Instant> = None;
        let mut latest = None;
        loop {
            let quiet = until.unwrap_or_else(|| Instant::now() + POLL * 100);
            tokio::select! {
                event = inotify.next() => {
                    let over = EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF;
                    self.ended |= match event {
                        Some(Ok(event)) => event.mask.intersects(over),
                        Some(Err(_)) | None => true,
                    };
                    if self.ended {
                        return;
                    }
                    let now = Instant::now();
                    let latest = *latest.get_or_insert(now + QUIET * 10);
                    until = Some((now + QUIET).min(latest));
                }
                () = sleep_until(quiet) => return,
                () = &mut lost => return,
            }
        }
    }
}
