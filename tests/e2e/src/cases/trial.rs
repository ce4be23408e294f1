//! Policies on trial: what nobody confirms in time is as it was before, whatever became of the
//! daemon meanwhile.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Case, case};
use crate::support::{Container, DefaultPostures, Guest, Image, Output, run, until};

pub(super) const CASES: &[Case] = &[
    case("trial_is_taken_back_unless_confirmed", taken_back),
    case(
        "trial_of_a_host_policy_lets_the_administrator_in_again",
        locked_out,
    ),
    case("trial_outlives_a_killed_daemon", killed),
];

/// What was there before, and stays throughout.
const BEFORE: &str = "/etc/nginx/nginx.conf";
/// What is forbidden on trial.
const TRIED: &str = "/etc/nginx/mime.types";

/// Time enough for a daemon to start, twice, under emulation.
const LONG: u64 = 60;
const SHORT: u64 = 15;

const PATIENCE: Duration = Duration::from_secs(300);

/// A policy of the name that forbids to read a file.
fn policy(name: &str, path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: {name}\n\
         spec:\n  selector:\n    matchLabels:\n      app: nginx\n  file:\n    matchPaths:\n    \
         - path: {path}\n  action: Block\n"
    )
}

/// Puts policies on trial.
fn add(text: &str, seconds: u64) -> Result<Output> {
    let path = std::env::temp_dir().join("on-trial.yaml");
    std::fs::write(&path, text).context("cannot write a policy")?;
    let within = format!("--confirm-within={seconds}s");
    let path = path.to_str().context("a path is UTF-8")?;
    run(
        "karmor",
        ["vm", "policy", "add", path, &within, "-o", "json"],
    )
}

/// Puts a new version of `tried`, and a policy that was not there, on trial. Returns its name.
fn begin(seconds: u64) -> Result<String> {
    let text = format!("{}---\n{}", policy("tried", TRIED), policy("more", TRIED));
    let answer = add(&text, seconds)?.success()?;
    let answer: Value = serde_json::from_str(&answer.stdout).context("no JSON")?;
    let token = answer["trial"]["token"].as_str().context("no trial")?;
    Ok(token.to_owned())
}

/// What the list says of trials.
fn on_trial() -> Result<Vec<Value>> {
    let output = run("karmor", ["vm", "policy", "list", "-o", "json"])?.success()?;
    let list: Vec<Value> = serde_json::from_str(&output.stdout).context("no list")?;
    let trials = list.into_iter().map(|policy| policy["trial"].clone());
    Ok(trials.filter(|trial| !trial.is_null()).collect())
}

fn reads(container: &Container<'_>, path: &str) -> Result<bool> {
    let output = container.exec(&["cat", path])?;
    ensure!(output.code == 0 || output.denied(), "{output}");
    Ok(output.code == 0)
}

/// Which of the two files is forbidden.
fn forbids(container: &Container<'_>) -> Result<[bool; 2]> {
    Ok([!reads(container, BEFORE)?, !reads(container, TRIED)?])
}

const AS_BEFORE: [bool; 2] = [true, false];
const AS_TRIED: [bool; 2] = [false, true];

fn taken_back(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest.container(Image::Debian)?.start("tried")?;
        watched.enforcer.knows(container.name())?;
        let before = policy("tried", BEFORE);
        let _policy = watched.policy(&before)?;
        ensure!(forbids(&container)? == AS_BEFORE, "before the trial");

        let begun = Instant::now();
        begin(SHORT)?;
        ensure!(forbids(&container)? == AS_TRIED, "on trial");
        until("the file to be readable again", PATIENCE, || {
            Ok(reads(&container, TRIED)?.then_some(()))
        })?;
        let took = begun.elapsed();
        ensure!(took >= Duration::from_secs(SHORT), "after {took:?} already");
        ensure!(forbids(&container)? == AS_BEFORE, "after the trial");
        ensure!(on_trial()?.is_empty(), "there is still a trial");
        watched.alerts.expect("to be told of it", |alert| {
            alert["Operation"] == "PolicyReverted" && alert["Type"] == "SystemEvent"
        })?;
        let text = run("karmor", ["vm", "policy", "get", "tried", "-o", "text"])?.success()?;
        ensure!(text.stdout == before, "{text}");
        let late = run("karmor", ["vm", "policy", "confirm"])?;
        ensure!(late.code == 6, "confirmed what is gone: {late}");

        let token = begin(SHORT)?;
        run("karmor", ["vm", "policy", "confirm", &token])?.success()?;
        std::thread::sleep(Duration::from_secs(SHORT + 3));
        ensure!(forbids(&container)? == AS_TRIED, "confirmed, and not kept");
        run("karmor", ["vm", "policy", "delete", "more"])?.success()?;
        Ok(())
    })
}

/// Nobody can run `karmor` any more, so nobody can take it back.
const LOCK_OUT: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorHostPolicy
metadata:
  name: locks-out
spec:
  includeEssential: true
  nodeSelector:
    matchLabels:
      kubearmor.io/hostname: '*'
  process:
    matchPatterns:
    - pattern: /**/karmor
  file:
    matchPaths:
    - path: /etc/passwd
  action: Block
";

/// What the daemon itself needs: it says so, instead of being in force and forgotten.
const IN_THE_WAY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorHostPolicy
metadata:
  name: in-the-way
spec:
  includeEssential: true
  nodeSelector:
    matchLabels:
      kubearmor.io/hostname: '*'
  file:
    matchDirectories:
    - dir: /var/lib/karmor/
      recursive: true
  action: Block
";

fn locked_out(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |_| {
        let refused = || -> Result<bool> {
            // Refused, it is not even started.
            let karmor = run("karmor", ["version"]).is_err();
            let passwd = std::fs::read("/etc/passwd").is_err();
            ensure!(karmor == passwd, "karmor: {karmor}, /etc/passwd: {passwd}");
            Ok(karmor)
        };
        ensure!(!refused()?, "before the trial");
        add(LOCK_OUT, SHORT)?.success()?;
        ensure!(refused()?, "on trial");
        until("karmor to run again", PATIENCE, || {
            Ok(run("karmor", ["version"]).is_ok().then_some(()))
        })?;
        ensure!(!refused()?, "after the trial");
        ensure!(on_trial()?.is_empty(), "there is still a trial");

        let answer = add(IN_THE_WAY, SHORT)?;
        ensure!(
            answer.code == 6 && answer.stdout.contains("cannot be kept over a restart"),
            "{answer}"
        );
        std::fs::read_dir("/var/lib/karmor").context("it is in force")?;
        let name = Path::new("/var/lib/karmor/trials.json");
        std::fs::read(name).context("it is in force")?;
        ensure!(on_trial()?.is_empty(), "it is on trial");
        Ok(())
    })
}

fn killed(guest: &Guest) -> Result<()> {
    let container = guest.container(Image::Debian)?.start("killed")?;
    let enforcer = guest.take_enforcer()?;
    enforcer.knows(container.name())?;
    enforcer.add_manifest("tried", &policy("tried", BEFORE))?;

    // The next daemon finds it pending and goes on counting.
    let begun = Instant::now();
    let token = begin(LONG)?;
    // It counts from some time before `karmor` has ended, and after it was started.
    let answered = Instant::now();
    enforcer.crash()?;
    ensure!(
        forbids(&container)? == AS_TRIED,
        "in force without a daemon"
    );
    let next = guest.start()?;
    let passed = answered.elapsed().as_secs();
    let trials = on_trial()?;
    if let Some(trial) = trials.first() {
        ensure!(trials.len() == 2, "not both on trial: {trials:?}");
        let left = trial["secondsLeft"].as_u64().context("no time")?;
        ensure!(
            trial["token"] == token && left + passed <= LONG,
            "{trials:?} after {passed} s"
        );
    } else {
        ensure!(begun.elapsed() >= Duration::from_secs(LONG), "forgotten");
        crate::support::note("the next daemon took longer to start than the trial");
    }
    until("the file to be readable again", PATIENCE, || {
        Ok(reads(&container, TRIED)?.then_some(()))
    })?;
    let took = begun.elapsed();
    ensure!(took >= Duration::from_secs(LONG), "after {took:?} already");
    ensure!(forbids(&container)? == AS_BEFORE, "after the trial");

    // It is over while there is no daemon.
    begin(SHORT)?;
    next.crash()?;
    std::thread::sleep(Duration::from_secs(SHORT + 3));
    ensure!(forbids(&container)? == AS_TRIED, "without a daemon");
    let last = guest.start()?;
    last.knows(container.name())?;
    ensure!(
        forbids(&container)? == AS_BEFORE,
        "over, and still in force"
    );
    ensure!(on_trial()?.is_empty(), "there is still a trial");
    run("karmor", ["vm", "policy", "delete", "tried"])?.success()?;
    guest.keep(last);
    Ok(())
}
