//! How much of what could go on for ever is done.

use std::time::{Duration, Instant};

/// Does everything, however long it takes.
const FULL: &str = "KARMOR_FULL";

/// Whether everything is to be done.
#[must_use]
pub fn full() -> bool {
    std::env::var_os(FULL).is_some()
}

/// An amount of work: at least some of it, then as much as fits into a time; all of it when
/// `KARMOR_FULL` is set.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    least: usize,
    most: usize,
    deadline: Option<Instant>,
}

impl Work {
    /// Begins work whose time starts now.
    #[must_use]
    pub fn begin(least: usize, most: usize, time: Duration) -> Self {
        Self {
            least,
            most,
            deadline: (!full()).then(|| Instant::now() + time),
        }
    }

    /// Whether there is more to do after so much.
    #[must_use]
    pub fn goes_on(&self, done: usize) -> bool {
        let in_time = self
            .deadline
            .is_none_or(|deadline| Instant::now() < deadline);
        done < self.least || (done < self.most && in_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_done_and_no_more_than_there_is_time_for() {
        let work = Work::begin(2, 10, Duration::ZERO);
        assert!(work.goes_on(1));
        assert!(!work.goes_on(2));
    }

    #[test]
    fn the_most_is_the_end() {
        let work = Work::begin(2, 10, Duration::from_secs(3600));
        assert!(work.goes_on(9));
        assert!(!work.goes_on(10));
    }
}
