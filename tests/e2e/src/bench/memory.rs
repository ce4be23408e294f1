//! What the daemon occupies.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use karmor_e2e::support::{Enforcer, Guest, Image, Place, until};

use super::{policy, send};

/// Measure what the daemon occupies beside idle containers with a policy of 100 rules
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many containers run
    #[arg(long, value_name = "N")]
    containers: usize,
}

/// What was allocated for the start has been given back, and buffers have been used once.
const SETTLE: Duration = Duration::from_secs(5);

const PATIENCE: Duration = Duration::from_secs(300);

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let guest = Guest::new(Place::system());
        let enforcer = Enforcer::start(guest.containerd()?, &[])?;
        let manifest = policy::manifest(100).replace("app: nginx", "app: busybox");
        enforcer.add_manifest("bench", &manifest)?;
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
        let row = serde_json::json!({
            "name": format!("daemon_memory/containers={}", self.containers),
            "bytes": resident(enforcer.pid())?,
        });
        send(&format!("{row}\n"))
    }
}

/// Resident bytes of a process: `VmRSS` of proc(5).
fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .with_context(|| format!("{path} has no VmRSS"))?
        .parse()
        .with_context(|| format!("{path} has an odd VmRSS"))?;
    Ok(kib * 1024)
}
