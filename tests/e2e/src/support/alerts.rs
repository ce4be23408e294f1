//! What a user sees of the daemon: the lines of `karmor logs`.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::until;

/// What `karmor logs` says on stderr once it is there.
const CONNECTED: &str = "connected to";

/// The streams are asked for as soon as the connection is there, and nothing tells when the
/// daemon has taken them up.
const SETTLE: Duration = Duration::from_millis(500);

const PATIENCE: Duration = Duration::from_secs(180);

/// From an event to its line: a ring, the daemon, a connection and `karmor logs`, each awake at
/// once. Under emulation with other work on the host that is a second or two.
pub const DELIVERY: Duration = Duration::from_secs(30);

/// Lines, and when each was read.
type Lines = Arc<Mutex<Vec<(SystemTime, String)>>>;

/// A running `karmor logs`; it ends with this value.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    lines: Lines,
    errors: Lines,
}

impl Follower {
    /// Starts following; what happens after this returns is seen.
    ///
    /// # Errors
    /// When `karmor logs` does not start or does not connect, with what it said.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new("karmor")
            .arg("logs")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start karmor logs")?;
        let lines = collect(child.stdout.take().context("stdout is piped")?);
        let errors = collect(child.stderr.take().context("stderr is piped")?);
        let mut follower = Self {
            child,
            lines,
            errors,
        };
        until("karmor logs to connect", PATIENCE, || follower.connected())?;
        std::thread::sleep(SETTLE);
        Ok(follower)
    }

    fn connected(&mut self) -> Result<Option<()>> {
        if let Some(status) = self
            .child
            .try_wait()
            .context("cannot wait for karmor logs")?
        {
            bail!(
                "karmor logs ended ({status})\n{}",
                texts(&self.errors).join("\n")
            );
        }
        Ok(lock(&self.errors)
            .iter()
            .any(|(_, line)| line.contains(CONNECTED))
            .then_some(()))
    }

    /// The lines so far, as they were printed.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        texts(&self.lines)
    }

    /// The lines so far, each with the time at which it was read.
    #[must_use]
    pub fn arrivals(&self) -> Vec<(SystemTime, String)> {
        lock(&self.lines).clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `karmor logs --json`.
#[derive(Debug)]
pub struct Alerts {
    follower: Follower,
}

impl Alerts {
    /// Starts watching; what happens after this returns is seen.
    ///
    /// # Errors
    /// As [`Follower::start`].
    pub fn watch(arguments: &[&str]) -> Result<Self> {
        let arguments = [&["--json"], arguments].concat();
        Ok(Self {
            follower: Follower::start(&arguments)?,
        })
    }

    /// The lines so far, as they were printed.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.follower.lines()
    }

    /// How many lines there are so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.follower.lines).len()
    }

    /// The lines without the first `seen`.
    #[must_use]
    pub fn lines_after(&self, seen: usize) -> Vec<String> {
        let lines = lock(&self.follower.lines);
        lines.iter().skip(seen).map(|(_, l)| l.clone()).collect()
    }

    /// Waits for an alert that the function accepts.
    ///
    /// # Errors
    /// When none comes in time, with all that came; when a line is not JSON.
    pub fn expect(&self, what: &str, accept: impl Fn(&Value) -> bool) -> Result<Value> {
        Ok(self.expect_after(0, PATIENCE, what, accept)?.1)
    }

    /// As [`Alerts::expect`], without the first `seen` lines; also tells how many have been seen now.
    ///
    /// # Errors
    /// As [`Alerts::expect`].
    pub fn expect_after(
        &self,
        seen: usize,
        patience: Duration,
        what: &str,
        accept: impl Fn(&Value) -> bool,
    ) -> Result<(usize, Value)> {
        let (index, alert) = self.find(seen, patience, what, |_, alert| accept(alert))?;
        Ok((index + 1, alert))
    }

    /// Waits for a line behind the first `seen` that the function accepts by its index and what it
    /// says.
    pub(super) fn find(
        &self,
        seen: usize,
        patience: Duration,
        what: &str,
        accept: impl Fn(usize, &Value) -> bool,
    ) -> Result<(usize, Value)> {
        let mut next = seen;
        until(what, patience, || {
            for line in self.lines_after(next) {
                let alert = serde_json::from_str(&line)
                    .with_context(|| format!("karmor logs printed no JSON: {line}"))?;
                if accept(next, &alert) {
                    return Ok(Some((next, alert)));
                }
                next += 1;
            }
            Ok(None)
        })
        .with_context(|| {
            let lines = self.lines();
            format!(
                "alerts so far:\n{}",
                lines[seen.min(lines.len())..].join("\n")
            )
        })
    }
}

fn collect(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let collected = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lock(&collected).push((SystemTime::now(), line));
        }
    });
    lines
}

fn texts(lines: &Lines) -> Vec<String> {
    lock(lines).iter().map(|(_, line)| line.clone()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
