//! A run of steps for people: one line each, logs only of failures, counts at the end.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::ui::{self, Spinner};

/// How a step ended.
pub(crate) enum Outcome {
    /// What it printed, for the counts in it.
    Done(String),
    /// Why it was left out.
    Skipped(String),
}

/// The counts of libtest's summaries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// The steps so far.
pub(crate) struct Steps {
    out: fn(&str),
    started: Instant,
    counts: Counts,
    failed: Vec<String>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self::printed_by(ui::line)
    }

    fn printed_by(out: fn(&str)) -> Self {
        Self {
            out,
            started: Instant::now(),
            counts: Counts::default(),
            failed: Vec::new(),
        }
    }

    /// Runs a step and prints its line; a failure is printed whole and remembered.
    pub(crate) fn run(
        &mut self,
        name: &str,
        step: impl FnOnce() -> anyhow::Result<Outcome>,
    ) -> bool {
        let spinner = Spinner::start(name);
        let started = Instant::now();
        let outcome = step();
        spinner.finish();
        self.record(name, started.elapsed(), outcome)
    }

    /// Runs steps beside each other, at most `jobs` at a time and in their order, and prints their
    /// lines at the end.
    pub(crate) fn run_beside<T: Sync>(
        &mut self,
        items: &[T],
        jobs: usize,
        name: impl Fn(&T) -> String + Sync,
        step: impl Fn(&T) -> anyhow::Result<Outcome> + Sync,
    ) {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                let spinner = Spinner::start(&name(item));
                let started = Instant::now();
                let outcome = step(item);
                spinner.finish();
                done.push((name(item), started.elapsed(), outcome));
            }
            done
        };
        let done: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        for (name, took, outcome) in done {
            self.record(&name, took, outcome);
        }
    }

    fn record(&mut self, name: &str, took: Duration, outcome: anyhow::Result<Outcome>) -> bool {
        let took = seconds(took);
        match outcome {
            Ok(Outcome::Done(log)) => {
                let counts = count(&log);
                (self.out)(&format!(
                    "  ok  {name:<28} {took:>8}  {}",
                    counts.describe()
                ));
                self.counts.add(counts);
                true
            }
            Ok(Outcome::Skipped(why)) => {
                (self.out)(&format!("skip  {name:<28} {:>8}  {why}", ""));
                true
            }
            Err(error) => {
                let log = format!("{error:#}");
                let mut counts = count(&log);
                // A step that is no set of tests counts as one.
                counts.failed = counts.failed.max(1);
                (self.out)(&format!("FAIL  {name:<28} {took:>8}\n{}", indent(&log)));
                self.counts.add(counts);
                self.failed.push(name.to_owned());
                false
            }
        }
    }

    /// Prints the sum in libtest's form; whether everything passed.
    pub(crate) fn finish(self) -> bool {
        if !self.failed.is_empty() {
            (self.out)(&format!("failed: {}", self.failed.join(", ")));
        }
        let Counts {
            passed,
            failed,
            ignored,
        } = self.counts;
        let word = if self.failed.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        (self.out)(&format!(
            "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
             0 filtered out; finished in {:.2}s",
            self.started.elapsed().as_secs_f64(),
        ));
        self.failed.is_empty()
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    fn describe(self) -> String {
        match self {
            Self {
                passed: 0,
                failed: 0,
                ignored: 0,
            } => String::new(),
            Self {
                passed, ignored: 0, ..
            } => format!("{passed} passed"),
            Self {
                passed, ignored, ..
            } => format!("{passed} passed, {ignored} ignored"),
        }
    }
}

/// Sums the `test result: ok. 3 passed; 0 failed; 1 ignored; …` lines.
fn count(log: &str) -> Counts {
    let mut sum = Counts::default();
    for line in log
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("test result: "))
    {
        let number = |word: &str| {
            line.split(['.', ';'])
                .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
                .unwrap_or(0)
        };
        sum.add(Counts {
            passed: number("passed"),
            failed: number("failed"),
            ignored: number("ignored"),
        });
    }
    sum
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_what_libtest_prints() {
        let log = "running 3 tests\n\
                   test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                   noise\n\
                   test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            count(log),
            Counts {
                passed: 5,
                failed: 1,
                ignored: 1
            }
        );
        assert_eq!(count("no tests here"), Counts::default());
    }

    #[test]
    fn a_failed_step_fails_the_run() {
        // Not on stdout: whoever counts this test run's results would count these too.
        let mut steps = Steps::printed_by(|_| ());
        assert!(steps.run("good", || Ok(Outcome::Done(String::new()))));
        assert!(steps.run("absent", || Ok(Outcome::Skipped("not here".to_owned()))));
        assert!(!steps.run("bad", || anyhow::bail!("broken")));
        assert_eq!(steps.counts.failed, 1);
        assert!(!steps.finish());
    }
}
