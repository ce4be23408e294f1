//! A runtime that is slow or says too little: a container that it leaves out keeps its policy.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Case, case};
use crate::support::{DefaultPostures, Guest, Hammer, Image, probe, run};

pub(super) const CASES: &[Case] = &[
    case("runtime_that_stalls_takes_no_policy_away", stall),
    case(
        "runtime_joins_the_cgroup_before_it_enters_the_container",
        joins_first,
    ),
    case("runtime_is_nobody_who_was_there_before", there_before),
];

const POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: outlives-a-stall
spec:
  selector:
    matchLabels:
      app: nginx
  file:
    matchPaths:
    - path: /etc/nginx/nginx.conf
  action: Block
";

const HAMMER: [&str; 4] = [
    "--deny-open=/etc/nginx/nginx.conf",
    "--processes=1",
    "--rounds=1",
    "--until=stop",
];

/// Longer than it takes the daemon to ask for the list of containers again, and containerd to give
/// up the shim's answer.
const STALL: Duration = Duration::from_secs(45);

fn stall(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let hammer = Hammer::new("stalled")?;
        let container = hammer
            .mount(guest.container(Image::Debian)?)?
            .start("stalled")?;
        watched.enforcer.knows(container.name())?;
        let _policy = watched.policy(POLICY)?;
        let before = number(container.name())?;
        thread::scope(|scope| {
            let hammering = hammer.start(scope, &container, &HAMMER);
            let stalled = (|| {
                hammer.reaches(100, &hammering)?;
                let shim = shim(container.name())?;
                kill_process(shim, Signal::STOP).context("cannot stop the shim")?;
                thread::sleep(STALL);
                kill_process(shim, Signal::CONT).context("cannot continue the shim")?;
                // And as long again: the container is listed, as one or as another.
                thread::sleep(STALL);
                let here = hammer.counts()?;
                hammer.reaches(here.denials() + 100, &hammering)
            })();
            hammer.stop()?;
            hammering.report()?.all_right()?;
            stalled
        })?;
        let after = number(container.name())?;
        ensure!(before == after, "the number was {before} and is {after}");
        Ok(())
    })
}

const TOOLS: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: of-the-container-alone
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchPaths:
    - path: /usr/bin/apt
  action: Block
";

/// What a runtime executes of its own, here from memory, is none of the container's business, though it
/// is in its cgroup. What it executes in there is.
fn joins_first(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest.container(Image::Debian)?.start("joined")?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(TOOLS)?;
        let cgroup = format!("/sys/fs/cgroup/default/{}/cgroup.procs", container.name());
        let processes = fs::read_to_string(&cgroup).context("cannot read its processes")?;
        let first = processes.lines().next().context("no process runs in it")?;
        let enter = |program| {
            let line = format!(
                "echo $$ > {cgroup} && exec karmor-tries memfd /usr/local/bin/karmor-tries enter \
                 {first} {program}"
            );
            run("/bin/sh", ["-c", &line])
        };
        enter("/usr/bin/true")?.success()?;
        let refused = enter("/usr/bin/apt")?;
        ensure!(refused.code != 0, "{refused}");
        let alert = policy.expect("the program", |alert| alert["Resource"] == "/usr/bin/apt")?;
        ensure!(alert["ContainerName"] == container.name(), "{alert:#}");
        Ok(())
    })
}

const POLICY_IS_THERE: &str = "/tmp/policy-is-there";

const OWN_TOOLS: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: of-who-was-there
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchPaths:
    - path: /usr/local/bin/karmor-tries
  action: Block
";

/// Who is in the container's cgroup before the enforcer knows of it may be a process of the container that
/// went to the host's mount namespace: it is the container's, and so is what it starts.
fn there_before(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let _ = fs::remove_file(POLICY_IS_THERE);
        // It learns of no container until it goes on.
        watched.enforcer.freeze()?;
        let container = guest.container(Image::Debian)?.start("occupied");
        let occupied = container.and_then(|container| {
            let line = format!(
                "echo $$ > /sys/fs/cgroup/default/{}/cgroup.procs && echo in && \
                 while ! [ -e {POLICY_IS_THERE} ]; do sleep 0.2; done; \
                 (exec /usr/local/bin/karmor-tries); exec /usr/local/bin/karmor-tries",
                container.name()
            );
            let mut command = Command::new("/bin/sh");
            let mut process = command.args(["-c", &line]).stdout(Stdio::piped()).spawn()?;
            let output = process.stdout.take().context("it has no output")?;
            let mut told = String::new();
            BufReader::new(output).read_line(&mut told)?;
            ensure!(told == "in\n", "it is not in the cgroup: {told}");
            Ok((container, process))
        });
        watched.enforcer.thaw()?;
        let (container, mut process) = occupied?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(OWN_TOOLS)?;
        fs::write(POLICY_IS_THERE, "")?;
        for who in ["what it starts", "the process"] {
            let alert = policy.expect(who, |alert| {
                alert["Resource"] == "/usr/local/bin/karmor-tries"
            })?;
            ensure!(alert["ContainerName"] == container.name(), "{alert:#}");
            ensure!(alert["Result"] == "Permission denied", "{alert:#}");
        }
        process.wait()?;
        Ok(())
    })
}

/// The number by which the kernel knows a container.
fn number(container: &str) -> Result<u64> {
    let report = probe()?;
    let workloads = report["workloads"].as_array().context("no workloads")?;
    let find = |workload: &&Value| workload["name"] == container;
    let workload = workloads.iter().find(find);
    let workload = workload.with_context(|| format!("{container} is not listed"))?;
    workload["id"].as_u64().context("it has no number")
}

/// The process through which containerd speaks to a container.
fn shim(container: &str) -> Result<Pid> {
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry.context("cannot read /proc")?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Processes end while they are looked at.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        if program.ends_with(b"containerd-shim-runc-v2")
            && words.any(|word| word == container.as_bytes())
            && let Some(pid) = Pid::from_raw(pid)
        {
            return Ok(pid);
        }
    }
    anyhow::bail!("no shim runs for {container}")
}
