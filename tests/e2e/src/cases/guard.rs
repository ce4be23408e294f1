//! The enforcer itself: nobody in a container ends it, looks into it, or takes away what is its own,
//! whatever privileges the container has; on demand, nobody on the host either.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Case, case, escapes::with_tools};
use crate::support::{
    Alerts, Container, DELIVERY, DefaultPostures, Enforcer, Guest, Output, pins, run,
};

pub(super) const CASES: &[Case] = &[case("enforcer_is_out_of_reach_of_containers", containers)];

pub(super) const HOST_CASES: &[Case] =
    &[case("enforcer_is_out_of_reach_of_the_host_on_demand", host)];

/// What a container may have at most: everything of the host's.
const OPTIONS: &[&str] = &[
    "--privileged",
    "--with-ns=pid:/proc/1/ns/pid",
    "--mount=type=bind,src=/var,dst=/host/var,options=rbind:rw",
    "--mount=type=bind,src=/sys/kernel/security,dst=/host/security,options=rbind:rw",
    "--mount=type=bind,src=/sys/fs/bpf,dst=/host/bpf,options=rbind:rw",
    "--mount=type=bind,src=/var/lib/karmor,dst=/host/state,options=rbind:rw",
    "--mount=type=bind,src=/run/karmor,dst=/host/run,options=rbind:rw",
    "--mount=type=bind,src=/usr/local/bin,dst=/host/bin,options=rbind:rw",
];

/// What is done to the enforcer, as lines of bash that change nothing if they succeed, and what the
/// alert calls what they are about. `$pid` is the enforcer, `$host` where the host's files are.
const HARM: &[(&str, &str)] = &[
    ("kill -CONT $pid", "karmor-enforcer"),
    (": < /proc/$pid/mem", "karmor-enforcer"),
    (": >> /proc/$pid/oom_score_adj", "karmor-enforcer"),
    ("$tries harm limit $pid", "karmor-enforcer"),
    ("$tries harm schedule $pid", "karmor-enforcer"),
    ("$tries harm nice $pid", "karmor-enforcer"),
    ("$tries harm io-priority $pid", "karmor-enforcer"),
    (
        ": >> /proc/sys/kernel/ftrace_enabled",
        "/proc/sys/kernel/ftrace_enabled",
    ),
    (": >> /proc/sysrq-trigger", "/proc/sysrq-trigger"),
    (": >> $security/lockdown", "/sys/kernel/security/lockdown"),
    ("mv $var/lib $var/l && mv $var/l $var/lib", FILES),
    (
        "$tries open-pin $pins/WORKLOADS",
        "a map of karmor-enforcer",
    ),
    ("$tries open-maps", "a map of karmor-enforcer"),
    ("$tries open-programs", "a program of karmor-enforcer"),
    ("mv $pins/MARKS $pins/M && mv $pins/M $pins/MARKS", FILES),
    ("mv $bpf/karmor $bpf/k && mv $bpf/k $bpf/karmor", FILES),
    ("touch $state/policies/new && rm $state/policies/new", FILES),
    ("mkdir $state/new && rmdir $state/new", FILES),
    ("ln -s / $state/new && rm $state/new", FILES),
    ("ln $bin/karmor-enforcer $bin/e && rm $bin/e", FILES),
    (
        "mv $bin/karmor-enforcer $bin/e && mv $bin/e $bin/karmor-enforcer",
        FILES,
    ),
    (
        "mv $run/karmor.sock $run/s && mv $run/s $run/karmor.sock",
        FILES,
    ),
    (": >> $state/workloads.json", FILES),
    ("$tries resize $state/own", FILES),
    ("chmod 600 $run/karmor.sock", FILES),
    ("chown 0:0 $run/karmor.sock", FILES),
    (OVERLAY_CHMOD, FILES),
    (OVERLAY_WRITE, FILES),
];

/// Through an overlay of the directory.
const OVERLAY_CHMOD: &str = "mkdir -p $var/w $var/m && $box mount -t overlay \
    -o lowerdir=/tmp,upperdir=$var/lib/karmor,workdir=$var/w none $var/m && chmod 600 $var/m/own; \
    said=$?; $box umount $var/m; [ $said = 0 ]";
const OVERLAY_WRITE: &str = "mkdir -p $var/w $var/m && $box mount -t overlay \
    -o lowerdir=/tmp,upperdir=$var/lib/karmor,workdir=$var/w none $var/m && echo own > $var/m/own; \
    said=$?; $box umount $var/m; [ $said = 0 ]";

/// What a container may not do, and the host's root may.
const COMMAND: (&str, &str) = ("$tries connect $run/karmor.sock", FILES);

const FILES: &str = "files of karmor-enforcer";

/// What nearly the same is done to others, and harms nobody.
const HARMLESS: &[&str] = &[
    "kill -0 $pid",
    "sleep 60 & kill -CONT $! && kill $!",
    ": < /proc/$$/mem",
    "cat /proc/$pid/environ > /dev/null",
    "mkdir $bpf/other && mv $bpf/other $bpf/another && rmdir $bpf/another",
    "touch $bin/new && mv $bin/new $bin/newer && rm $bin/newer",
    "ls $state/policies > /dev/null",
    "sleep 60 & $tries harm sigio $! && kill $!",
    "sleep 60 & $tries harm limit $! && $tries harm schedule $! && $tries harm nice $! && $tries harm io-priority $! && kill $!",
    "cat /proc/sys/kernel/ftrace_enabled > /dev/null",
    ": >> /proc/$$/oom_score_adj",
    "mkdir $var/other && mv $var/other $var/another && rmdir $var/another",
    // Nobody's policy is about this container.
    ": >> /proc/sys/kernel/core_pattern",
];

/// As [`HARM`], in this order; nothing is left of an enforcer with which they succeed.
const FATAL: &[(&str, &str)] = &[
    ("kill -STOP $pid", "karmor-enforcer"),
    ("kill -9 $pid", "karmor-enforcer"),
    ("rm -r $bpf/karmor", FILES),
];

/// The kernel does not say that it did not send the signal; who is not stopped has not got it.
const SILENT: (&str, &str) = ("$tries harm sigio $pid", "karmor-enforcer");

/// What is said then, and by the alert.
const NO_SIGNAL: [&str; 2] = ["the signal did not come", "lsm=FILE_SEND_SIGIOTASK"];

/// What hides the enforcer's own from it, from within its mount namespace, and shows it again.
const HIDING: &[&str] = &[
    "busybox mount -t tmpfs none /var/lib/karmor/policies \
     && busybox umount /var/lib/karmor/policies",
    "busybox mount -t tmpfs none /var/lib && busybox umount /var/lib",
    "busybox mount -o bind /usr /run/karmor && busybox umount /run/karmor",
    // The old system call, whose hook does not say what moves.
    "busybox mkdir -p /tmp/moved && busybox mount -o move /sys/fs/bpf /tmp/moved \
     && busybox mount -o move /tmp/moved /sys/fs/bpf",
];

/// The same for good, so that it is only tried where it is refused.
const UNMOUNT: &str = "busybox umount /sys/fs/bpf";

/// A file that the enforcer does not know of, beside its own.
fn make_a_file() -> Result<()> {
    let state = Path::new("/var/lib/karmor");
    fs::create_dir_all(state)
        .and_then(|()| fs::write(state.join("own"), "own"))
        .with_context(|| format!("cannot write to {}", state.display()))
}

/// What is refused for another reason would prove nothing.
fn unprotected(
    guest: &Guest,
    more: &[(&str, &str)],
    attempt: impl Fn(u32, &str) -> Result<Output>,
) -> Result<()> {
    guest.without_enforcer();
    make_a_file()?;
    let enforcer = Enforcer::start(guest.containerd()?, &["--self-protection=off"])?;
    let harm = HARM.iter().chain(more).map(|(line, _)| *line);
    let hiding = HIDING.iter().copied();
    let fatal = FATAL.iter().map(|(line, _)| *line);
    for line in harm.chain(hiding).chain([SILENT.0]).chain(fatal) {
        attempt(enforcer.pid(), line)?
            .success()
            .context("without protection")?;
    }
    Ok(())
}

/// A line that changes mounts, as from within the enforcer's mount namespace.
fn entered(line: &str) -> String {
    if line.starts_with("busybox ") {
        format!("/opt/tools/busybox nsenter -t 1 -m sh -c '{line}'")
    } else {
        line.to_owned()
    }
}

/// Tries everything, each of which must be refused and told of in its turn.
fn out_of_reach(
    alerts: &Alerts,
    more: &[(&str, &str)],
    attempt: impl Fn(&str) -> Result<Output>,
    is_right: impl Fn(&Value) -> Result<()>,
) -> Result<()> {
    // Each file that is not removed has an alert; the signal, which is about no file, comes behind them.
    let hiding = HIDING.iter().chain([&UNMOUNT]).map(|line| (*line, FILES));
    let told = HARM
        .iter()
        .chain(more)
        .chain(FATAL)
        .chain([&SILENT])
        .copied();
    let mut seen = alerts.count();
    for (line, resource) in told.chain(hiding) {
        let output = attempt(line)?;
        let is_silent = line == SILENT.0;
        let is_refused = if is_silent {
            output.stdout.contains(NO_SIGNAL[0]) || output.stderr.contains(NO_SIGNAL[0])
        } else {
            output.denied()
        };
        ensure!(output.code != 0 && is_refused, "not refused: {output}");
        let about = |alert: &Value| {
            alert["Resource"] == resource && (!is_silent || alert["Data"] == NO_SIGNAL[1])
        };
        let (past, alert) = alerts.expect_after(seen, DELIVERY, line, about)?;
        is_right(&alert)?;
        seen = past;
    }
    Ok(())
}

fn containers(guest: &Guest) -> Result<()> {
    // Its mounts are there once an enforcer is.
    let container = || with_tools(guest, OPTIONS, "harmful");
    unprotected(guest, &[COMMAND], |pid, line| {
        in_container(&container()?, pid, &entered(line))
    })?;
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container()?;
        watched.enforcer.knows(container.name())?;
        let pid = watched.enforcer.pid();
        for line in HARMLESS {
            in_container(&container, pid, line)?
                .success()
                .context("harmless")?;
        }
        let attempt = |line: &str| in_container(&container, pid, &entered(line));
        out_of_reach(&watched.alerts, &[COMMAND], attempt, |alert| {
            ensure!(alert["ContainerName"] == container.name(), "{alert:#}");
            is_about_protection(alert, "MatchedPolicy")
        })?;
        // It is there, and does what it did.
        run("karmor", ["vm", "policy", "list"])?.success()?;
        Ok(())
    })
}

fn host(guest: &Guest) -> Result<()> {
    unprotected(guest, &[], on_host)?;
    // The one way to end it that asks nobody.
    let root = Path::new("/sys/fs/cgroup");
    let cgroup = root.join("karmor-e2e-host");
    fs::create_dir_all(&cgroup).context("cannot make a cgroup")?;
    // Later it cannot be moved any more.
    let enter = |cgroup: &Path| fs::write(cgroup.join("cgroup.procs"), "0");
    enter(&cgroup).context("cannot enter the cgroup")?;
    let enforcer = Enforcer::start(guest.containerd()?, &["--self-protection=host"]);
    enter(root).context("cannot leave the cgroup")?;
    let enforcer = enforcer?;
    let pid = enforcer.pid();
    let outcome = out_of_reach_of_the_host(pid);
    fs::write(cgroup.join("cgroup.kill"), "1").context("cannot end the enforcer")?;
    drop(enforcer);
    outcome
}

fn out_of_reach_of_the_host(pid: u32) -> Result<()> {
    let alerts = Alerts::watch(&[])?;
    out_of_reach(
        &alerts,
        &[],
        |line| on_host(pid, line),
        |alert| is_about_protection(alert, "MatchedHostPolicy"),
    )?;
    for line in HARMLESS {
        on_host(pid, line)?.success().context("harmless")?;
    }
    run("karmor", ["vm", "policy", "list"])?.success()?;
    Ok(())
}

fn is_about_protection(alert: &Value, kind: &str) -> Result<()> {
    ensure!(
        alert["PolicyName"] == "SelfProtection"
            && alert["Type"] == kind
            && alert["Action"] == "Block"
            && alert["Result"] == "Permission denied",
        "{alert:#}"
    );
    Ok(())
}

fn in_container(container: &Container<'_>, pid: u32, line: &str) -> Result<Output> {
    let places = "tries=/opt/tools/karmor-tries; box=/opt/tools/busybox; bpf=/host/bpf; state=/host/state; run=/host/run; \
                  bin=/host/bin; var=/host/var; security=/host/security";
    let line = format!("pid={pid}; {places}; {}; {line}", pinned()?);
    let [output] = <[Output; 1]>::try_from(container.lines(&[&line])?)
        .map_err(|outputs| anyhow::anyhow!("not one answer: {outputs:?}"))?;
    Ok(output)
}

fn on_host(pid: u32, line: &str) -> Result<Output> {
    let places = "tries=karmor-tries; box=busybox; bpf=/sys/fs/bpf; state=/var/lib/karmor; run=/run/karmor; \
                  bin=/usr/local/bin; var=/var; security=/sys/kernel/security";
    let line = format!("pid={pid}; {places}; {}; {line}", pinned()?);
    run("sh", ["-c", &line])
}

/// Where the pins are, for a shell that knows where the file system is.
fn pinned() -> Result<String> {
    let pins = pins()?;
    let form = pins.file_name().unwrap_or_default();
    Ok(format!("pins=$bpf/karmor/{}", form.display()))
}
