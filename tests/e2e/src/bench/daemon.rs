//! The daemon beside idle containers: what it occupies, and how long it takes.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use karmor_e2e::support::{Container, Enforcer, Follower, Guest, Image, Place, Wire, until};
use karmor_proto::karmor::v1::Outcome;
use serde_json::Value;

use super::{policy, send};

/// Measure the daemon beside idle containers with a policy of 100 rules
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many containers run
    #[arg(long, value_name = "N")]
    containers: usize,
}

/// What was allocated for the start has been given back, and buffers have been used once.
const SETTLE: Duration = Duration::from_secs(5);

const PATIENCE: Duration = Duration::from_secs(300);

/// Changes of the policy, and refusals, of which the median is taken.
const CHANGES: u32 = 21;
const REFUSALS: usize = 51;

/// A policy of one more container.
const PASSWD: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: passwd}\nspec:\n  selector: {matchLabels: {app: nginx}}\n  file: {matchPaths: [{path: /etc/passwd}]}\n  action: Block\n";

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let guest = Guest::new(Place::system());
        let enforcer = Enforcer::start(guest.containerd()?, &[])?;
        enforcer.add_manifest("bench", &manifest(100))?;
        let mut containers = Vec::new();
        for number in 0..self.containers {
            let name = format!("idle-{number}");
            containers.push(guest.container(Image::Busybox)?.start(&name)?);
        }
        if let Some(last) = containers.last() {
            until("the last container to be known", PATIENCE, || {
                enforcer.knows(last.name()).map(Some)
            })?;
        }
        std::thread::sleep(SETTLE);
        let memory = resident(enforcer.pid())?;
        let change = milliseconds(changes()?);
        enforcer.add_manifest("passwd", PASSWD)?;
        let subject = guest.container(Image::Debian)?.start("subject")?;
        enforcer.knows(subject.name())?;
        let delay = milliseconds(delays(&subject)?);
        let count = self.containers;
        for (name, unit, value) in [
            ("memory", "bytes", memory),
            ("rule_change", "ms", change),
            ("alert_delay", "ms", delay),
        ] {
            let name = format!("daemon_{name}/containers={count}");
            let row = serde_json::json!({"name": name, "unit": unit, "value": value});
            send(&format!("{row}\n"))?;
        }
        Ok(())
    }
}

/// The policy of the idle containers.
fn manifest(rules: u32) -> String {
    policy::manifest(rules).replace("app: nginx", "app: busybox")
}

/// How long each change of a rule takes, from the request to the answer that it is in force.
fn changes() -> Result<Vec<Duration>> {
    let wire = Wire::connect()?;
    (1..=CHANGES)
        .map(|change| {
            let text = manifest(100 + change);
            let start = Instant::now();
            let answer = wire.apply(&text)?;
            let took = start.elapsed();
            let outcomes: Vec<Outcome> = answer.results.iter().map(|r| r.outcome()).collect();
            ensure!(outcomes == [Outcome::Modified], "{answer:?}");
            Ok(took)
        })
        .collect()
}

/// How long each alert takes from the kernel, whose time it bears, to the stdout of `karmor logs`.
fn delays(subject: &Container<'_>) -> Result<Vec<Duration>> {
    let logs = Follower::start(&["--json"])?;
    let tries = format!(
        "for i in $(seq {REFUSALS}); do cat /etc/passwd 2>/dev/null; sleep 0.3; done; true"
    );
    subject.shell(&tries)?.success()?;
    let alerts = until("all alerts", PATIENCE, || {
        let alerts = logs.arrivals();
        Ok((alerts.len() >= REFUSALS).then_some(alerts))
    })?;
    alerts
        .iter()
        .map(|(read, alert)| delay(*read, alert))
        .collect()
}

fn delay(read: SystemTime, alert: &str) -> Result<Duration> {
    let alert: Value = serde_json::from_str(alert).context("an alert is JSON")?;
    let refused: Timestamp = alert["UpdatedTime"]
        .as_str()
        .with_context(|| format!("an alert has no UpdatedTime: {alert}"))?
        .parse()
        .with_context(|| format!("an alert has an odd UpdatedTime: {alert}"))?;
    read.duration_since(refused.into())
        .with_context(|| format!("an alert of the future: {alert}"))
}

/// The median.
fn milliseconds(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median.as_secs_f64() * 1e4).round() / 10.0
}

/// Resident bytes of a process: `VmRSS` of proc(5).
fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u32 = line
        .and_then(|line| line.split_whitespace().next())
        .with_context(|| format!("{path} has no VmRSS"))?
        .parse()
        .with_context(|| format!("{path} has an odd VmRSS"))?;
    Ok(f64::from(kib) * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_told_in_tenths() {
        let times = [30, 10, 20].map(Duration::from_millis).to_vec();
        assert!((milliseconds(times) - 20.0).abs() < 0.01);
        assert!(milliseconds(vec![Duration::from_micros(12_345)]) > 12.2);
    }

    #[test]
    fn a_delay_counts_from_the_time_of_the_alert() {
        let alert = r#"{"UpdatedTime": "2026-01-02T03:04:05.000250Z"}"#;
        let refused: Timestamp = "2026-01-02T03:04:05.000250Z".parse().unwrap();
        let read = SystemTime::from(refused) + Duration::from_millis(7);
        assert_eq!(delay(read, alert).unwrap(), Duration::from_millis(7));
        delay(read, "{}").unwrap_err();
    }
}
