//! Kernel time to wall-clock time.

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Wall-clock time of a moment told in `CLOCK_BOOTTIME` nanoseconds.
///
/// The distance between the clocks is taken anew each time: the wall clock may be set.
#[must_use]
pub fn at_boot_ns(boot_ns: u64) -> Timestamp {
    let boot_now = clock_gettime(ClockId::Boottime);
    let boot_now = i128::from(boot_now.tv_sec) * 1_000_000_000 + i128::from(boot_now.tv_nsec);
    let age = boot_now - i128::from(boot_ns);
    let now = Timestamp::now();
    // An age outside what a clock can be off by is a broken record, not an old one.
    Timestamp::from_nanosecond(now.as_nanosecond() - age).unwrap_or(now)
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
