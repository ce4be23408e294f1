//! A run of steps for people: one line each, logs only of failures, counts at the end.

use std::time::{Duration, Instant};

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
#[derive(Debug)]
pub(crate) struct Steps {
    started: Instant,
    counts: Counts,
    failed: Vec<String>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self {
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
        let took = seconds(started.elapsed());
        match outcome {
            Ok(Outcome::Done(log)) => {
                let counts = count(&log);
                ui::line(&format!(
                    "  ok  {name:<28} {took:>8}  {}",
                    counts.describe()
                ));
                self.counts.add(counts);
                true
            }
            Ok(Outcome::Skipped(why)) => {
                ui::line(&format!("skip  {name:<28} {:>8}  {why}", ""));
                true
            }
            Err(error) => {
                let log = format!("{error:#}");
                let mut counts = count(&log);
                // A step that is no set of tests counts as one.
                counts.failed = counts.failed.max(1);
                ui::line(&format!("FAIL  {name:<28} {took:>8}\n{}", indent(&log)));
                self.counts.add(counts);
                self.failed.push(name.to_owned());
                false
            }
        }
    }

    /// Prints the sum in libtest's form; whether everything passed.
    pub(crate) fn finish(self) -> bool {
        if !self.failed.is_empty() {
            ui::line(&format!("failed: {}", self.failed.join(", ")));
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
        ui::line(&format!(
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
        let mut steps = Steps::new();
        assert!(steps.run("good", || Ok(Outcome::Done(String::new()))));
        assert!(steps.run("absent", || Ok(Outcome::Skipped("not here".to_owned()))));
        assert!(!steps.run("bad", || anyhow::bail!("broken")));
        assert_eq!(steps.counts.failed, 1);
        assert!(!steps.finish());
    }
}
