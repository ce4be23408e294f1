//! `karmor-hammer`, run in a container and watched from outside.

use std::{
    fs,
    ops::AddAssign,
    path::{Path, PathBuf},
    thread::{Scope, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Container, ContainerBuilder, until};

/// Where the programs under test are in a container.
const PROGRAMS: &str = "/opt/karmor";

/// Where a container writes its counts.
const COUNTS: &str = "/var/hammer";

/// Emulated, and beside a daemon that gets all of it as events.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a hammer did so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HammerCounts {
    /// Openings that had to be refused.
    pub denied_opens: u64,
    /// Executions that had to be refused.
    pub denied_execs: u64,
    /// Openings that had to succeed.
    pub allowed_opens: u64,
    /// Executions that had to succeed.
    pub allowed_execs: u64,
    /// Openings that succeeded and must not have.
    pub successes: u64,
    /// All outcomes that were not as they must be.
    pub wrong: u64,
    finished: u64,
}

impl HammerCounts {
    const BYTES: usize = 56;

    /// What had to be refused.
    #[must_use]
    pub const fn denials(&self) -> u64 {
        self.denied_opens + self.denied_execs
    }

    /// Notes that the worker came to its own end.
    pub const fn finish(&mut self) {
        self.finished = 1;
    }

    /// Whether the worker came to its own end.
    #[must_use]
    pub const fn finished(&self) -> bool {
        self.finished != 0
    }

    /// As workers write it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let numbers = [
            self.denied_opens,
            self.denied_execs,
            self.allowed_opens,
            self.allowed_execs,
            self.successes,
            self.wrong,
            self.finished,
        ];
        let mut bytes = [0; Self::BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// Reads a worker's counts; one that has not made a round has none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut numbers = bytes
            .chunks_exact(8)
            .filter_map(|number| number.try_into().ok().map(u64::from_ne_bytes));
        let mut next = || numbers.next().unwrap_or(0);
        Ok(Self {
            denied_opens: next(),
            denied_execs: next(),
            allowed_opens: next(),
            allowed_execs: next(),
            successes: next(),
            wrong: next(),
            finished: next(),
        })
    }
}

impl AddAssign for HammerCounts {
    fn add_assign(&mut self, other: Self) {
        self.denied_opens += other.denied_opens;
        self.denied_execs += other.denied_execs;
        self.allowed_opens += other.allowed_opens;
        self.allowed_execs += other.allowed_execs;
        self.successes += other.successes;
        self.wrong += other.wrong;
        self.finished += other.finished;
    }
}

/// What a hammer says at its end.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct HammerReport {
    /// All workers together.
    pub counts: HammerCounts,
    /// What was not as it must be, in words; the first few of each worker.
    pub wrong: Vec<String>,
}

impl HammerReport {
    /// The counts, when every outcome was as it must be.
    ///
    /// # Errors
    /// When one was not.
    pub fn all_right(&self) -> Result<HammerCounts> {
        let counts = self.counts;
        ensure!(
            counts.wrong == 0 && counts.successes == 0 && self.wrong.is_empty(),
            "{counts:?}\n{}",
            self.wrong.join("\n")
        );
        Ok(counts)
    }
}

/// The place on the host where the hammer of one container leaves its counts.
#[derive(Debug)]
pub struct Hammer {
    directory: PathBuf,
}

impl Hammer {
    /// A place for a container of this name, empty.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(container: &str) -> Result<Self> {
        let directory = Path::new("/run/karmor-e2e/hammer").join(container);
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot empty {}", directory.display()))?;
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// Puts the hammer into a container to be.
    ///
    /// # Errors
    /// When the directory's name is not UTF-8.
    pub fn mount<'a>(&self, container: ContainerBuilder<'a>) -> Result<ContainerBuilder<'a>> {
        let directory = self.directory.to_str().context("the path is UTF-8")?;
        Ok(container
            .bind("/usr/local/bin", PROGRAMS)
            .bind(directory, COUNTS))
    }

    /// Starts hammering. Ends by itself, or after [`Hammer::stop`] when `until` is among the
    /// arguments with its name.
    pub fn start<'scope, 'env>(
        &self,
        scope: &'scope Scope<'scope, 'env>,
        container: &'scope Container<'_>,
        arguments: &[&str],
    ) -> Hammering<'scope> {
        let program = format!("{PROGRAMS}/karmor-hammer");
        let directory = format!("--directory={COUNTS}");
        let command: Vec<String> = [program.as_str(), &directory]
            .iter()
            .chain(arguments)
            .map(|&word| word.to_owned())
            .collect();
        let thread = scope.spawn(move || {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let output = container.exec(&command)?.success()?;
            serde_json::from_str(&output.stdout)
                .with_context(|| format!("the hammer's report is not JSON: {output}"))
        });
        Hammering { thread }
    }

    /// What all workers did so far.
    ///
    /// # Errors
    /// When their files cannot be read.
    pub fn counts(&self) -> Result<HammerCounts> {
        let mut sum = HammerCounts::default();
        let directory = &self.directory;
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("worker-") && path.extension().is_none() {
                sum += HammerCounts::read(&path)?;
            }
        }
        Ok(sum)
    }

    /// Waits until so much that must be refused was tried.
    ///
    /// # Errors
    /// When that takes too long or the hammer ended without.
    pub fn reaches(&self, denials: u64, hammering: &Hammering<'_>) -> Result<HammerCounts> {
        until(&format!("{denials} refusals"), PATIENCE, || {
            let over = hammering.thread.is_finished();
            let counts = self.counts()?;
            if counts.denials() >= denials {
                return Ok(Some(counts));
            }
            if over {
                bail!("the hammer ended early: {counts:?}");
            }
            Ok(None)
        })
    }

    /// Makes a hammer end that was started with `--until=stop`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn stop(&self) -> Result<()> {
        let path = self.directory.join("stop");
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A hammer at work.
#[derive(Debug)]
pub struct Hammering<'scope> {
    thread: ScopedJoinHandle<'scope, Result<HammerReport>>,
}

impl Hammering<'_> {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it could not be started or did not report.
    pub fn report(self) -> Result<HammerReport> {
        match self.thread.join() {
            Ok(report) => report,
            Err(_panic) => bail!("the thread that waits for the hammer panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_their_file() {
        let mut counts = HammerCounts {
            denied_opens: 1,
            denied_execs: 2,
            allowed_opens: 3,
            allowed_execs: 4,
            successes: 5,
            wrong: 6,
            finished: 0,
        };
        counts.finish();
        let path = std::env::temp_dir().join(format!("hammer-counts-{}", std::process::id()));
        fs::write(&path, counts.to_bytes()).unwrap();
        let read = HammerCounts::read(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), counts);
    }

    #[test]
    fn one_wrong_outcome_is_not_all_right() {
        let mut report = HammerReport::default();
        report.all_right().unwrap();
        report.counts.wrong = 1;
        report.all_right().unwrap_err();
    }
}
