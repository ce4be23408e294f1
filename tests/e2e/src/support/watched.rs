//! An enforcer, who watches its alerts, and policies that go when their case ends.

use std::{cell::RefCell, collections::BTreeSet, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Alerts, DELIVERY, Enforcer};

/// A running enforcer and everything it says.
///
/// The alerts go first: they are a client of the enforcer.
#[derive(Debug)]
pub struct Watched {
    /// `karmor logs --json`.
    pub alerts: Alerts,
    /// The daemon.
    pub enforcer: Enforcer,
}

impl Watched {
    /// Begins to watch.
    ///
    /// # Errors
    /// When `karmor logs` does not connect.
    pub(super) fn beside(enforcer: Enforcer) -> Result<Self> {
        Ok(Self {
            alerts: Alerts::watch(&[])?,
            enforcer,
        })
    }

    /// Adds a policy the way a user does; it goes with the value.
    ///
    /// # Errors
    /// When the manifest cannot be written, or `karmor` refuses it.
    pub fn policy(&self, manifest: &str) -> Result<Applied<'_>> {
        let name = manifest
            .lines()
            .find_map(|line| line.trim().strip_prefix("name:"))
            .context("the manifest has no name")?
            .trim();
        let path = std::env::temp_dir().join(format!("{name}.yaml"));
        fs::write(&path, manifest).with_context(|| format!("cannot write {}", path.display()))?;
        let seen = self.alerts.lines().len();
        let answer = self.enforcer.add_policy(&path)?;
        let applied = Applied {
            watched: self,
            name: name.to_owned(),
            path,
            seen,
            taken: RefCell::default(),
        };
        ensure!(answer.stdout.contains("pplied"), "{answer}");
        Ok(applied)
    }
}

/// A policy in force.
#[derive(Debug)]
pub struct Applied<'a> {
    watched: &'a Watched,
    name: String,
    path: PathBuf,
    /// Alerts that came before it.
    seen: usize,
    /// Those behind that have been expected already, by their index among all.
    taken: RefCell<BTreeSet<usize>>,
}

impl Applied<'_> {
    /// The policy's `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every alert since the policy was added.
    ///
    /// # Errors
    /// When a line is not JSON.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let lines = self.watched.alerts.lines_after(self.seen);
        lines.iter().map(|line| parse(line)).collect()
    }

    /// Waits for an alert that came since the policy was added and that the function accepts. It is
    /// not found again: what is expected twice has to come twice.
    ///
    /// # Errors
    /// When none comes in time, with all that came.
    pub fn expect(&self, what: &str, accept: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut taken = self.taken.borrow_mut();
        let is_new = |index, alert: &Value| !taken.contains(&index) && accept(alert);
        let alerts = &self.watched.alerts;
        let (index, alert) = alerts.find(self.seen, DELIVERY, what, is_new)?;
        taken.insert(index);
        Ok(alert)
    }

    /// As [`Applied::expect`], in their order: with patience of the caller's own and without the first
    /// `past` alerts since the policy was added; `past` then counts what came before the next one.
    ///
    /// # Errors
    /// As [`Applied::expect`].
    pub fn expect_next(
        &self,
        past: &mut usize,
        patience: Duration,
        what: &str,
        accept: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let alerts = &self.watched.alerts;
        let (seen, alert) = alerts.expect_after(self.seen + *past, patience, what, accept)?;
        *past = seen - self.seen;
        Ok(alert)
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        // A policy that stays shows in the next case.
        let _ = self.watched.enforcer.delete_policy(&self.path);
    }
}

fn parse(line: &str) -> Result<Value> {
    serde_json::from_str(line).with_context(|| format!("karmor logs printed no JSON: {line}"))
}
