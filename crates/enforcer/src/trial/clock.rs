//! Time that nobody sets: since the machine was started, and which start it was.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// Another value after every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Which start of the machine.
    pub boot: Arc<str>,
    /// Time since then, in which the machine may have slept.
    pub age: Duration,
}

/// Tells what time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// `CLOCK_BOOTTIME`: it goes on while the machine sleeps, and setting the time of day does not
    /// move it.
    #[must_use]
    pub fn of_machine() -> Self {
        let boot: Arc<str> = match std::fs::read_to_string(BOOT_ID) {
            Ok(id) => id.trim().into(),
            Err(error) => {
                warn!(%error, "starts of the machine cannot be told apart: {BOOT_ID}");
                // Then every start of the daemon counts as one.
                Timestamp::now().as_nanosecond().to_string().into()
            }
        };
        Self::new(move || {
            let now = clock_gettime(ClockId::Boottime);
            let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
            let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
            Moment {
                boot: Arc::clone(&boot),
                age: Duration::new(seconds, nanoseconds),
            }
        })
    }

    /// A clock that tells what the function returns.
    pub fn new(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
