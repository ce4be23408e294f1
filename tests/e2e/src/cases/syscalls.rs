//! System calls that policies are told of.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Case, case, escapes::with_tools};
use crate::support::{Applied, Container, DefaultPostures, Guest, pins, probe, run, until};

pub(super) const CASES: &[Case] = &[
    case("syscalls_are_told_of_by_name", by_name),
    case("syscalls_are_told_of_by_source", by_source),
    case("syscalls_are_told_of_by_path", by_path),
    case("syscalls_are_seen_only_while_a_policy_asks", attachment),
    case("syscalls_of_the_host_are_told_of", of_the_host),
];

const TRIES: &str = "/opt/tools/karmor-tries";
const OTHER: &str = "/opt/tools/other";

/// `getpriority` of 32-bit programs of x86-64.
const GETPRIORITY_32: &str = "96";

fn manifest(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  \
         name: {name}\nspec:\n  selector:\n    matchLabels:\n      app: nginx\n  syscalls:\n{rules}"
    )
}

fn container(guest: &Guest) -> Result<Container<'_>> {
    with_tools(guest, &[], "syscalls")
}

/// Makes a call in a container, with its arguments.
fn make_call(container: &Container<'_>, call: &[&str]) -> Result<()> {
    let words = [&[TRIES, "call"], call].concat();
    container.exec(&words)?.success()?;
    Ok(())
}

/// The data of every alert about a system call since the policy, with the path if there is one.
fn told(policy: &Applied<'_>) -> Result<Vec<String>> {
    let alerts = policy.alerts()?;
    let calls = alerts
        .iter()
        .filter(|alert| alert["Operation"] == "Syscall");
    let text = |alert: &Value, key: &str| alert[key].as_str().unwrap_or_default().to_owned();
    Ok(calls
        .map(|alert| {
            let (data, resource) = (text(alert, "Data"), text(alert, "Resource"));
            let data = data.trim_start_matches("syscall=SYS_").to_owned();
            if resource.starts_with('/') {
                format!("{data} {resource}")
            } else {
                data
            }
        })
        .collect())
}

/// Makes one more call that is told of, waits for its alert, and says that those before it are these and
/// no more: alerts come in the order of what they are about.
fn expect(
    policy: &Applied<'_>,
    expected: &[&str],
    last: &str,
    call_last: impl FnOnce() -> Result<()>,
) -> Result<()> {
    call_last()?;
    let expected = [expected, &[last]].concat();
    let enough = || {
        let told = told(policy)?;
        Ok((told.len() >= expected.len()).then_some(()))
    };
    let waited = until("alerts", Duration::from_secs(30), enough);
    let told = told(policy)?;
    ensure!(
        waited.is_ok() && told == expected,
        "{told:?} but {expected:?}"
    );
    Ok(())
}

fn by_name(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container(guest)?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(&manifest(
            "told-by-name",
            "    severity: 4\n    tags: [calls]\n    message: the section\n    matchSyscalls:\n    \
             - syscall: [getpriority, times]\n",
        ))?;
        container.exec(&[TRIES, "call", "getitimer"])?.success()?;
        container.exec(&[TRIES, "call", "getpriority"])?.success()?;
        let alert = policy.expect("the alert", |alert| alert["Operation"] == "Syscall")?;
        ensure!(
            alert["PolicyName"] == policy.name()
                && alert["Type"] == "MatchedPolicy"
                && alert["ContainerName"] == container.name()
                && alert["Data"] == "syscall=SYS_GETPRIORITY"
                && alert["EventData"]["Syscall"] == "SYS_GETPRIORITY"
                && alert["EventData"]["Lsm"].is_null()
                && alert["Resource"] == "SYS_GETPRIORITY"
                && alert["Source"] == format!("{TRIES} call getpriority")
                && alert["ProcessName"] == TRIES
                && alert["Action"] == "Audit"
                && alert["Result"] == "Passed"
                && alert["Severity"] == "4"
                && alert["Tags"] == "calls"
                && alert["Message"] == "the section",
            "{alert:#}"
        );
        container.exec(&[TRIES, "call", "times"])?.success()?;
        let mut expected = vec!["GETPRIORITY", "TIMES"];
        if cfg!(target_arch = "x86_64") {
            // The number is `getpriority` to 32-bit programs, and `getpgrp` to others.
            container
                .exec(&[TRIES, "call-compat", GETPRIORITY_32])?
                .success()?;
            expected.push("GETPRIORITY");
        }
        let call_last = || make_call(&container, &["times"]);
        expect(&policy, &expected, "TIMES", call_last)
    })
}

fn by_source(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container(guest)?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(&manifest(
            "told-by-source",
            "    matchSyscalls:\n    \
             - syscall: [getpriority]\n      fromSource: [{path: /opt/tools/other}]\n    \
             - syscall: [getitimer]\n      fromSource: [{dir: /opt}]\n    \
             - syscall: [times]\n      fromSource: [{dir: /opt/, recursive: true}]\n    \
             matchPaths:\n    \
             - syscall: [mkdirat]\n      path: /tmp/source/\n      fromSource: [{dir: /opt/tools}]\n",
        ))?;
        container.exec(&["/bin/mkdir", "/tmp/source"])?.success()?;
        container.exec(&["/bin/mkdir", "/tmp/source/by-mkdir"])?.success()?;
        for call in ["getpriority", "getitimer", "times"] {
            container.exec(&[TRIES, "call", call])?.success()?;
        }
        container.exec(&[OTHER, "call", "getpriority"])?.success()?;
        container
            .exec(&[OTHER, "call", "mkdirat", "/tmp/source/by-other"])?
            .success()?;
        container.exec(&["/bin/rm", "-r", "/tmp/source"])?.success()?;
        expect(
            &policy,
            &["TIMES", "GETPRIORITY", "MKDIRAT /tmp/source/by-other"],
            "TIMES",
            || make_call(&container, &["times"]),
        )
    })
}

fn by_path(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container(guest)?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(&manifest(
            "told-by-path",
            "    matchPaths:\n    \
             - syscall: [openat, unlinkat, rmdir, fchmodat]\n      path: /tmp/at/file\n    \
             - syscall: [mkdirat, rmdir, renameat2]\n      path: /tmp/at/deep/\n      recursive: true\n    \
             - syscall: [mkdirat]\n      path: /tmp/at/\n    \
             - syscall: [execve]\n      path: /opt/tools/other\n",
        ))?;
        let outputs = container.lines(&[
            &format!("{TRIES} call mkdirat /tmp/at"),
            // Not its own file name, and another call.
            &format!("{TRIES} call openat /tmp/at/other"),
            &format!("{TRIES} call openat /tmp/at/file"),
            // Relative, and the file is there already.
            &format!("cd /tmp/at && {TRIES} call openat ./file"),
            &format!("{TRIES} call fchmodat /tmp/at/file"),
            &format!("{TRIES} call renameat2 /tmp/at/other"),
            &format!("{TRIES} call mkdirat /tmp/at/deep"),
            &format!("{TRIES} call mkdirat /tmp/at/deep/1"),
            &format!("{TRIES} call mkdirat /tmp/at/deep/1/2"),
            &format!("{TRIES} call renameat2 /tmp/at/deep/1/2"),
            &format!("{TRIES} call rmdir /tmp/at/deep/1/2.new"),
            &format!("{TRIES} call mkdirat /tmp/at/deepest"),
            &format!("{TRIES} call unlinkat /tmp/at/other.new"),
            &format!("{TRIES} call unlinkat /tmp/at/file"),
            &format!("{OTHER} call times"),
            "rm -r /tmp/at/deepest",
        ])?;
        for output in outputs {
            output.success()?;
        }
        let alert = policy.expect("an alert", |alert| alert["Operation"] == "Syscall")?;
        ensure!(
            alert["PolicyName"] == policy.name()
                && alert["Data"] == "syscall=SYS_MKDIRAT"
                && alert["EventData"]["Syscall"] == "SYS_MKDIRAT"
                && alert["Resource"] == "/tmp/at"
                && alert["ProcessName"] == TRIES
                && alert["Action"] == "Audit"
                && alert["Result"] == "Passed",
            "{alert:#}"
        );
        container.exec(&["/bin/rm", "-r", "/tmp/at"])?.success()?;
        expect(
            &policy,
            &[
                "MKDIRAT /tmp/at",
                "OPENAT /tmp/at/file",
                "OPENAT /tmp/at/file",
                "FCHMODAT /tmp/at/file",
                "MKDIRAT /tmp/at/deep",
                "MKDIRAT /tmp/at/deep/1",
                "MKDIRAT /tmp/at/deep/1/2",
                "RENAMEAT2 /tmp/at/deep/1/2",
                "RENAMEAT2 /tmp/at/deep/1/2.new",
                "RMDIR /tmp/at/deep/1/2.new",
                "MKDIRAT /tmp/at/deepest",
                "UNLINKAT /tmp/at/file",
                "EXECVE /opt/tools/other",
            ],
            "MKDIRAT /tmp/at",
            || make_call(&container, &["mkdirat", "/tmp/at"]),
        )
    })
}

fn of_the_host(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container(guest)?;
        watched.enforcer.knows(container.name())?;
        let host = "/run/karmor-e2e/told";
        fs::create_dir_all(host).with_context(|| format!("cannot create {host}"))?;
        let policy = watched.policy(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata:\n  \
             name: told-of-the-host\nspec:\n  nodeSelector:\n    matchLabels:\n      \
             kubearmor.io/hostname: '*'\n  syscalls:\n    matchSyscalls:\n    \
             - syscall: [getpriority]\n      fromSource: [{dir: /usr/local/bin}]\n    \
             matchPaths:\n    - syscall: [mkdirat, rmdir]\n      path: /run/karmor-e2e/told/\n      \
             recursive: true\n",
        )?;
        // Nobody's concern: it is no process of the host.
        container.exec(&[TRIES, "call", "getpriority"])?.success()?;
        let tries = "/usr/local/bin/karmor-tries";
        for call in [
            &["call", "getpriority"][..],
            &["call", "getitimer"],
            &["call", "mkdirat", "/run/karmor-e2e/told/a"],
            &["call", "mkdirat", "/run/karmor-e2e/untold"],
            &["call", "rmdir", "/run/karmor-e2e/told/a"],
            &["call", "rmdir", "/run/karmor-e2e/untold"],
        ] {
            run(tries, call)?.success()?;
        }
        let alert = policy.expect("an alert", |alert| alert["Operation"] == "Syscall")?;
        ensure!(
            alert["PolicyName"] == policy.name() && alert["Type"] == "MatchedHostPolicy",
            "{alert:#}"
        );
        expect(
            &policy,
            &[
                "GETPRIORITY",
                "MKDIRAT /run/karmor-e2e/told/a",
                "RMDIR /run/karmor-e2e/told/a",
            ],
            "GETPRIORITY",
            || run(tries, ["call", "getpriority"])?.success().map(drop),
        )
    })
}

fn attachment(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container(guest)?;
        watched.enforcer.knows(container.name())?;
        let seen = || -> Result<bool> {
            let probe = probe()?;
            let hooks = probe["capabilities"]["hooks"]
                .as_array()
                .or_else(|| probe["hooks"].as_array())
                .context("no hooks")?;
            let hook = hooks.iter().find(|hook| hook["hook"] == "sys_enter");
            let attached = hook.context("no sys_enter")?["attached"] == true;
            let pinned = pins()?.join("link_sys_enter").exists();
            ensure!(attached == pinned, "attached: {attached}, pinned: {pinned}");
            Ok(attached)
        };
        ensure!(!seen()?, "it is attached, and no policy asks");
        let at = watched.policy(&manifest(
            "seen-at",
            "    matchPaths:\n    - syscall: [mkdirat]\n      path: /tmp/\n",
        ))?;
        ensure!(!seen()?, "it is attached for a rule about a path");
        let called = watched.policy(&manifest(
            "seen",
            "    matchSyscalls:\n    - syscall: [getpriority]\n",
        ))?;
        ensure!(seen()?, "it is not attached");
        drop(called);
        until("it is detached", Duration::from_secs(30), || {
            Ok((!seen()?).then_some(()))
        })?;
        container.exec(&[TRIES, "call", "getpriority"])?.success()?;
        container
            .exec(&[TRIES, "call", "mkdirat", "/tmp/seen"])?
            .success()?;
        container.exec(&["/bin/rmdir", "/tmp/seen"])?.success()?;
        expect(&at, &["MKDIRAT /tmp/seen"], "MKDIRAT /tmp/seen", || {
            make_call(&container, &["mkdirat", "/tmp/seen"])
        })
    })
}
