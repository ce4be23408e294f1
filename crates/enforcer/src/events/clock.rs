//! Kernel time to wall-clock time.

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// How often the clocks are read for a better reading of their distance.
const READINGS: usize = 5;

/// Nanoseconds between two readings of a clock from which on something else ran meanwhile.
const INTERRUPTED: i128 = 50_000;

/// Wall-clock time of a moment told in `CLOCK_BOOTTIME` nanoseconds.
///
/// The distance between the clocks is taken anew each time: the wall clock may be set.
#[must_use]
pub fn at_boot_ns(boot_ns: u64) -> Timestamp {
    let now = Reading::good();
    let age = now.boot_ns - i128::from(boot_ns);
    // An age outside what a clock can be off by is a broken record, not an old one.
    Timestamp::from_nanosecond(now.wall.as_nanosecond() - age).unwrap_or(now.wall)
}

/// The clocks, read at about the same moment.
struct Reading {
    wall: Timestamp,
    boot_ns: i128,
    /// Nanoseconds that the reading took.
    took: i128,
}

impl Reading {
    fn take() -> Self {
        let before = boot_ns();
        let wall = Timestamp::now();
        let took = boot_ns() - before;
        Self {
            wall,
            boot_ns: before + took / 2,
            took,
        }
    }

    /// The best of a few.
    ///
    /// A thread may lose its CPU between the clocks, on a busy machine for long, and every event
    /// would seem so much younger than it is.
    fn good() -> Self {
        let mut best = Self::take();
        for _ in 1..READINGS {
            if best.took < INTERRUPTED {
                break;
            }
            let next = Self::take();
            if next.took < best.took {
                best = next;
            }
        }
        best
    }
}

fn boot_ns() -> i128 {
    let now = clock_gettime(ClockId::Boottime);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// RFC 3339 with microseconds, UTC.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_microseconds_and_zulu() {
        let time = Timestamp::from_nanosecond(1_765_218_527_125_539_000).unwrap();
        assert_eq!(rfc3339(time), "2025-12-08T18:28:47.125539Z");
    }

    #[test]
    fn impossible_times_do_not_panic() {
        let _ = at_boot_ns(u64::MAX);
        let _ = at_boot_ns(0);
    }
}
