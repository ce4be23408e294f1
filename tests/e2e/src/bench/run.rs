//! Measuring in a container, with or without the enforcer.

use std::{env, fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use karmor_e2e::support::{Enforcer, Guest, Image, Place, probe, until};

use super::{policy, send};

/// Measure in a container of this VM
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Start the enforcer first
    #[arg(long)]
    enforcer: bool,

    /// Give the container a policy with so many rules; 0 for a policy of another container
    #[arg(long, value_name = "N", requires = "enforcer")]
    rules: Option<u32>,

    /// Give it a policy on so many networks and on a capability; 0 for one of another container
    #[arg(
        long,
        value_name = "N",
        requires = "enforcer",
        conflicts_with = "rules"
    )]
    networks: Option<u32>,

    /// Give it a policy that audits so many system calls; 0 for one of another container
    #[arg(
        long,
        value_name = "N",
        requires = "enforcer",
        conflicts_with_all = ["rules", "networks"]
    )]
    syscalls: Option<u32>,

    /// Give it a policy with so many rules about files and programs, and one of every other family
    #[arg(
        long,
        value_name = "N",
        requires = "enforcer",
        conflicts_with_all = ["rules", "networks", "syscalls"]
    )]
    everything: Option<u32>,

    /// Open a file that a rule names before there is the policy, and keep it open
    #[arg(long, requires = "rules")]
    held: bool,

    /// Only the operations with one of these texts in their name
    names: Vec<String>,
}

/// Opens what the first of the rules names, and stays.
const HOLDER: &str = "mkdir -p /opt/service-0/etc && exec 7<>/opt/service-0/etc/config.yaml \
    && (sleep 1000000 < /dev/null > /dev/null 2>&1 &) && true";

/// The daemon looks at containerd within seconds; under emulation seconds are long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the container finds this program.
const PROGRAM: &str = "/run/karmor-bench";

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let program = env::current_exe().context("cannot find this program")?;
        let program = program.to_str().context("this program's path is UTF-8")?;
        let guest = Guest::new(Place::system());
        let container = guest
            .container(Image::Debian)?
            .bind(program, PROGRAM)
            // To name the machine, the cheapest use of a capability.
            .option("--cap-add=CAP_SYS_ADMIN")
            .start("bench-subject")?;
        let other = guest
            .container(Image::Debian)?
            .label("app", "another")
            .start("bench-other")?;
        if self.held {
            container.exec(&["bash", "-c", HOLDER])?.success()?;
        }
        let enforcer = match self.enforcer {
            true => Some(Enforcer::start(guest.containerd()?, &[])?),
            false => None,
        };
        type Manifest = fn(u32) -> String;
        let mut policies = [
            (self.rules, policy::manifest as Manifest),
            (self.networks, policy::networks),
            (self.syscalls, policy::syscalls),
            (self.everything, policy::everything),
        ]
        .into_iter();
        let policy = policies.find_map(|(count, manifest)| Some((count?, manifest)));
        if let (Some(enforcer), Some((rules, manifest))) = (&enforcer, policy) {
            let manifest = match rules {
                // The hooks are there, and this container is none of their business.
                0 => manifest(100).replace("app: nginx", "app: another"),
                rules => manifest(rules),
            };
            let path = env::temp_dir().join("bench.yaml");
            fs::write(&path, manifest)
                .with_context(|| format!("cannot write {}", path.display()))?;
            enforcer.add_policy(&path)?;
            let subject = if rules == 0 { &other } else { &container };
            until("the policy to reach its container", PATIENCE, || {
                let probe = probe()?;
                let reached = probe["workloads"].as_array().is_some_and(|workloads| {
                    workloads.iter().any(|workload| {
                        workload["name"] == subject.name()
                            && workload["policies"]
                                .as_array()
                                .is_some_and(|all| !all.is_empty())
                    })
                });
                Ok(reached.then_some(()))
            })?;
        }
        if let Some(enforcer) = &enforcer {
            quiet(enforcer.pid())?;
        }
        let mut command = vec![PROGRAM, "measure"];
        command.extend(self.names.iter().map(String::as_str));
        let output = container.exec(&command)?.success()?;
        send(&output.stdout)
    }
}

/// Waits until a process has nothing to do: with one CPU, what it does beside a measurement would be
/// measured too.
fn quiet(pid: u32) -> Result<()> {
    const LOOK: Duration = Duration::from_secs(2);
    /// Of a hundredth of a second; its timers go on.
    const TICKS: u64 = 4;
    until("the enforcer to be idle", PATIENCE, || {
        let before = ticks(pid)?;
        thread::sleep(LOOK);
        Ok((ticks(pid)? - before <= TICKS).then_some(()))
    })
}

/// CPU time of all threads of a process: `utime` and `stime` of proc(5).
fn ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // Behind the name, which may hold anything, comes the third field.
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let field = |number: usize| -> Result<u64> {
        let text = fields
            .get(number - 3)
            .with_context(|| format!("{path} is short"))?;
        text.parse()
            .with_context(|| format!("{path} has an odd field {number}"))
    };
    Ok(field(14)? + field(15)?)
}
