//! Namespaces of one's own.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    Case, PREPARE, Plan, SHUT, case, in_both, manifest, ordinary, privileged, reading, running,
    toolbox,
};
use crate::support::{Container, DefaultPostures, Guest, Output, run, until};

pub(super) const CASES: &[Case] = &[
    case("escape_by_unshare_mounts", mounts),
    case("escape_by_unshare_pids", pids),
    case("escape_by_unshare_user_and_mounts", user),
    case("escape_by_leaving_the_first_mount_namespace", abandoned),
    case("escape_by_what_the_kernel_executes", helpers),
    case("escape_by_taking_the_image_of_another", image),
    case("escape_by_tracing_a_process_outside", trace),
    case("escape_by_the_name_of_an_essential_program", pose),
];

/// The same from inside `unshare` with these options.
fn plan<'a>(
    name: &'a str,
    lines: &'a [String; 4],
) -> ([super::Escape<'a>; 2], [&'a str; 2], &'a str) {
    (
        [
            reading(&lines[0], "/srv/vault/secret"),
            running(&lines[1], "/srv/vault/tool"),
        ],
        [&lines[2], &lines[3]],
        name,
    )
}

/// The secret, the tool, the free file and the other tool, each from inside new namespaces.
fn inside(options: &str) -> [String; 4] {
    [
        "cat /srv/vault/secret",
        "/srv/vault/tool",
        "cat /srv/vault/free",
        "/srv/vault/other",
    ]
    .map(|command| format!("/opt/tools/busybox unshare {options} sh -c 'echo in; exec {command}'"))
}

fn mounts(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let lines = inside("-m");
        let (escapes, twins, name) = plan("escape-unshare-m", &lines);
        let plan = Plan {
            name,
            spec: SHUT,
            prepare: PREPARE,
            escapes: &escapes,
            twins: &twins,
        };
        plan.play_in(watched, &[&privileged(guest)?])?;
        not_allowed_anyway(guest, &lines[0])
    })
}

fn pids(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let lines = inside("-p -f");
        let (escapes, twins, name) = plan("escape-unshare-p", &lines);
        let plan = Plan {
            name,
            spec: SHUT,
            prepare: PREPARE,
            escapes: &escapes,
            twins: &twins,
        };
        plan.play_in(watched, &[&privileged(guest)?])?;
        not_allowed_anyway(guest, &lines[0])
    })
}

/// An ordinary container's root lacks what it takes; no policy is needed.
fn not_allowed_anyway(guest: &Guest, line: &str) -> Result<()> {
    for output in ordinary(guest)?.lines(&[line])? {
        ensure!(
            output.code != 0 && !output.stdout.contains("in\n"),
            "an ordinary container can do this: {output}"
        );
    }
    Ok(())
}

/// A user namespace gives every capability, in itself.
fn user(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        for (name, options) in [
            ("escape-unshare-urm", "-Urm"),
            ("escape-unshare-urmp", "-Urmp -f"),
        ] {
            let lines = inside(options);
            let (escapes, twins, name) = plan(name, &lines);
            let plan = Plan {
                name,
                spec: SHUT,
                prepare: PREPARE,
                escapes: &escapes,
                twins: &twins,
            };
            plan.play(watched, guest)?;
        }
        Ok(())
    })
}

/// Everybody leaves the mount namespace that the container was started in. In the new one, nothing
/// has the name that the policy means.
fn abandoned(guest: &Guest) -> Result<()> {
    const LINE: &str = "mkdir /tmp/n && cd /tmp/n && cp /opt/tools/busybox /tmp \
        && /tmp/busybox mount -t tmpfs t /tmp/n && cd /tmp/n && mkdir v old && mv /tmp/busybox . \
        && ./busybox mount --bind /srv/vault v && ./busybox pivot_root . old \
        && /busybox cat /v/free && exec /busybox cat /v/secret";
    let start = |name| -> Result<_> {
        let waiting = "until [ -e /srv/go ]; do sleep 0.2; done; \
                       exec /opt/tools/busybox unshare -m sleep 1000000";
        let container =
            toolbox(guest, &["--privileged"])?.start_with(name, &["sh", "-c", waiting])?;
        container.shell(PREPARE)?.success()?;
        Ok(container)
    };
    let leave = |container: &Container<'_>| -> Result<()> {
        container.shell(": > /srv/go")?.success()?;
        until("everybody to have left", Duration::from_secs(60), || {
            let said = container.shell("cat /proc/1/comm")?.success()?;
            Ok((said.stdout == "sleep\n").then_some(()))
        })
    };
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let free = start("abandoned-before")?;
        leave(&free)?;
        let output = free.shell(LINE)?.success()?;
        ensure!(output.stdout == "free\nsecret\n", "{output}");
        let container = start("abandoned")?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(&manifest("escape-abandoned", SHUT))?;
        leave(&container)?;
        let output = container.shell(LINE)?;
        ensure!(output.stdout == "free\n", "{output}");
        reading("cat /v/secret", "/srv/vault/secret").failed(&policy, &container, &output)
    })
}

/// Rules tell processes apart by their images.
fn image(guest: &Guest) -> Result<()> {
    const LINE: &str = "/opt/tools/karmor-tries image /usr/bin/true";
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let before = privileged(guest)?.shell(LINE)?;
        before.success().context("without a policy")?;
        let policy = watched.policy(&manifest("escape-image", SHUT))?;
        in_both(guest, |container| {
            let output = container.shell(LINE)?;
            ensure!(output.denied(), "not refused: {output}");
            let alert = policy.expect("an alert about the image", |alert| {
                alert["Resource"] == "the image of a process"
                    && alert["ContainerName"] == container.name()
            })?;
            ensure!(alert["PolicyName"] == "SelfProtection", "{alert:#}");
            // What it is called is anybody's to choose.
            let twin = container.shell("echo other > /proc/self/comm")?;
            twin.success().map(drop)
        })
    })
}

/// Whoever traces a process of the host has it do what the container may not.
fn trace(guest: &Guest) -> Result<()> {
    const OPTIONS: &[&str] = &["--privileged", "--with-ns=pid:/proc/1/ns/pid"];
    let outside = std::process::id();
    let write = format!(": < /proc/{outside}/mem");
    let look = format!("cat /proc/{outside}/environ > /dev/null");
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = toolbox(guest, OPTIONS)?.start("escape-tracing")?;
        let [before, _] = outputs(&container, [&write, &look])?;
        before.success().context("without a policy")?;
        let policy = watched.policy(&manifest("escape-trace", SHUT))?;
        let own = "sleep 100 & : < /proc/$!/mem; said=$?; kill $!; [ $said = 0 ]";
        let [refused, look, own] = outputs(&container, [&write, &look, own])?;
        ensure!(refused.denied(), "not refused: {refused}");
        let alert = policy.expect("an alert about tracing", |alert| {
            alert["Resource"] == "a process outside of the container"
        })?;
        ensure!(
            alert["PolicyName"] == "SelfProtection" && alert["ContainerName"] == container.name(),
            "{alert:#}"
        );
        look.success()?;
        own.success().map(drop)
    })
}

fn outputs<const N: usize>(container: &Container<'_>, lines: [&str; N]) -> Result<[Output; N]> {
    let outputs = container.lines(&lines)?;
    outputs
        .try_into()
        .map_err(|outputs| anyhow::anyhow!("not {N} answers: {outputs:?}"))
}

/// What names a program that the kernel executes, by each of its names.
const HELPERS: [&str; 3] = [
    ": >> /proc/sys/kernel/core_pattern",
    ": >> /proc/sys/kernel/modprobe",
    "/opt/tools/busybox mount -t proc proc /tmp/proc && : >> /tmp/proc/sys/kernel/core_pattern",
];

const NO_HELPERS: [&str; 2] = [
    ": >> /proc/sys/kernel/hostname",
    "cat /proc/sys/kernel/core_pattern",
];

/// Programs that the kernel executes are in no container.
fn helpers(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = privileged(guest)?;
        let succeed = |lines: &[&str]| -> Result<()> {
            let outputs = container.lines(lines)?;
            outputs
                .into_iter()
                .try_for_each(|output| output.success().map(drop))
        };
        let prepare = "mkdir -p /tmp/proc && { ! /opt/tools/busybox mountpoint -q /tmp/proc \
                       || /opt/tools/busybox umount /tmp/proc; }";
        let tried: Vec<&str> = HELPERS.iter().flat_map(|line| [*line, prepare]).collect();
        succeed(&[&[prepare], &NO_HELPERS[..], &tried].concat()).context("without a policy")?;
        let policy = watched.policy(&manifest("escape-helper", SHUT))?;
        succeed(&NO_HELPERS)?;
        for line in HELPERS {
            for output in container.lines(&[line])? {
                ensure!(output.denied(), "not refused: {output}");
            }
            let alert = policy.expect(line, |alert| {
                alert["Resource"] == "a program for the kernel to execute"
            })?;
            ensure!(
                alert["PolicyName"] == "SelfProtection"
                    && alert["ContainerName"] == container.name(),
                "{alert:#}"
            );
        }
        succeed(&[prepare])
    })
}

/// A host policy spares what a host cannot do without; not what anybody gives the name of that.
fn pose(guest: &Guest) -> Result<()> {
    const DIRECTORY: &str = "/run/karmor-e2e";
    const SECRET: &str = "/run/karmor-e2e/posed-for";
    const FREE: &str = "/run/karmor-e2e/posed-for-nothing";
    const ESSENTIAL: &str = "/usr/local/bin/karmor";
    let spec = format!("  file:\n    matchPaths:\n    - path: {SECRET}\n  action: Block\n");
    let policy = manifest("escape-pose", &spec)
        .replace("KubeArmorPolicy", "KubeArmorHostPolicy")
        .replace("selector:", "nodeSelector:")
        .replace("app: nginx", "kubearmor.io/hostname: '*'");
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot create {DIRECTORY}"))?;
        for file in [SECRET, FREE] {
            fs::write(file, "secret").with_context(|| format!("cannot write {file}"))?;
        }
        let pose = |file| run("karmor-tries", ["pose", ESSENTIAL, file]);
        let as_root = || run(ESSENTIAL, ["policy", "check", SECRET]);
        pose(SECRET)?.success().context("without a policy")?;
        let policy = watched.policy(&policy)?;
        pose(FREE)?.success()?;
        let output = pose(SECRET)?;
        ensure!(output.denied(), "not refused: {output}");
        let about = |action: &str, source: &str| {
            policy.expect(source, |alert| {
                alert["Resource"] == SECRET
                    && alert["Action"] == action
                    && alert["ProcessName"] == source
                    && alert["PolicyName"] == "escape-pose"
            })
        };
        about("Block", ESSENTIAL)?;
        // Root's own is spared.
        let output = as_root()?;
        ensure!(!output.denied(), "refused: {output}");
        about("Audit", ESSENTIAL)?;
        Ok(())
    })
}
