//! Presets: what each is about works without a policy, is refused by Block, told of by Audit, and what
//! is nearly the same stays free.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Case, case,
    escapes::{HOST_SHARE, SHARE, in_both, privileged, with_tools},
};
use crate::support::{Applied, Container, DefaultPostures, Guest, Image, Output, Watched, until};

pub(super) const CASES: &[Case] = &[
    case("preset_fileless_exec", |guest| FILELESS.play(guest)),
    case("preset_anonymous_map_exec", |guest| ANONYMOUS.play(guest)),
    case("preset_protect_env", |guest| ENVIRONMENT.play(guest)),
    case("preset_protect_proc", |guest| PROC.play(guest)),
    case("preset_drift", |guest| DRIFT.play(guest)),
    case("preset_ptrace", |guest| PTRACE.play(guest)),
    case("preset_mount", |guest| MOUNT.play(guest)),
    case("preset_namespace", |guest| NAMESPACE.play(guest)),
    case("preset_kernel_module", |guest| MODULE.play(guest)),
    case("preset_bpf", |guest| BPF.play(guest)),
    case("preset_io_uring", |guest| IO_URING.play(guest)),
    case("preset_exec", session),
    case("preset_on_the_host", host),
];

/// What is tried of a preset.
#[derive(Clone, Copy, Debug)]
struct Preset<'a> {
    name: &'a str,
    /// The alert's `Enforcer` and `Operation`.
    enforcer: &'a str,
    operation: &'a str,
    /// An ordinary container may not do it at all.
    is_privileged: bool,
    /// Bash that makes what the rest is about; repeatable.
    prepare: &'a str,
    /// Lines of bash that are refused, what they complain with, and the alert's `Resource`.
    refused: &'a [(&'a str, &'a str, &'a str)],
    /// A line that fails or succeeds as it did, though it is refused, and the alert's `Data`.
    told: Option<(&'a str, &'a str)>,
    /// Lines nearly the same, which stay free.
    free: &'a [&'a str],
}

/// The words of EACCES, and of EPERM.
const DENIED: &str = "ermission denied";
const NOT_PERMITTED: &str = "ot permitted";

const FILELESS: Preset<'_> = Preset {
    name: "filelessExec",
    enforcer: "PRESET-FilelessExecutionPreset",
    operation: "Process",
    is_privileged: false,
    prepare: "mkdir -p /srv/tools && rm -f /srv/gone /dev/shm/tool \
        && for tool in karmor-tries busybox; do \
           test -e /srv/tools/$tool || cp /opt/tools/$tool /srv/tools/; done \
        && cp /usr/bin/true /dev/shm/tool",
    refused: &[
        ("/dev/shm/tool -x", DENIED, "/dev/shm/tool -x"),
        (
            "/srv/tools/karmor-tries memfd /usr/bin/true",
            DENIED,
            "/memfd:nothing",
        ),
        (
            "cp /usr/bin/true /srv/gone; exec 5</srv/gone; rm /srv/gone; /proc/self/fd/5",
            DENIED,
            "/srv/gone",
        ),
        (
            "/lib64/ld-linux-x86-64.so.2 /dev/shm/tool",
            "/dev/shm/tool",
            "/dev/shm/tool",
        ),
        (
            "/srv/tools/karmor-tries map-shared /dev/shm/tool",
            DENIED,
            "/dev/shm/tool",
        ),
    ],
    told: None,
    free: &[
        "/usr/bin/true",
        "/srv/tools/karmor-tries map-shared /usr/bin/true",
        "/srv/tools/busybox true",
        "cat /dev/shm/tool > /dev/null",
        "/srv/tools/karmor-tries preset memfd",
    ],
};

const ANONYMOUS: Preset<'_> = Preset {
    name: "anonymousMapExec",
    enforcer: "PRESET-AnonMapExecutionPreset",
    operation: "File",
    is_privileged: false,
    prepare: "true",
    refused: &[
        (
            "/opt/tools/karmor-tries preset anonymous",
            DENIED,
            "anonymousMapExec",
        ),
        (
            "/opt/tools/karmor-tries preset later",
            DENIED,
            "anonymousMapExec",
        ),
        (
            "/opt/tools/karmor-tries preset memfd",
            DENIED,
            "/memfd:nothing",
        ),
        (
            "/opt/tools/karmor-tries preset written",
            DENIED,
            "/usr/bin/true",
        ),
        (
            "/opt/tools/karmor-tries preset both",
            DENIED,
            "/usr/bin/true",
        ),
        ("/opt/tools/karmor-tries preset zeroes", DENIED, "/dev/zero"),
    ],
    told: None,
    free: &[
        "/opt/tools/karmor-tries preset file",
        "/opt/tools/karmor-tries preset file-later",
        "/usr/bin/true",
        "cat /etc/passwd",
    ],
};

const ENVIRONMENT: Preset<'_> = Preset {
    name: "protectEnv",
    enforcer: "PRESET-ProtectEnvPreset",
    operation: "File",
    is_privileged: false,
    prepare: "true",
    refused: &[
        ("cat /proc/1/environ", DENIED, "/proc/1/environ"),
        (
            "cat /proc/1/task/1/environ",
            DENIED,
            "/proc/1/task/1/environ",
        ),
    ],
    told: None,
    free: &[
        "cat /proc/self/environ",
        "cat /proc/thread-self/environ",
        "/opt/tools/karmor-tries preset own-thread",
        "cat /proc/1/status",
    ],
};

const PROC: Preset<'_> = Preset {
    name: "protectProc",
    enforcer: "PRESET-ProtectProcPreset",
    operation: "File",
    is_privileged: false,
    prepare: "true",
    refused: &[
        ("cat /proc/1/status", DENIED, "/proc/1/status"),
        ("ls /proc/1/root/", DENIED, "/proc/1/root"),
        ("cat /proc/1/environ", DENIED, "/proc/1/environ"),
        ("ls /proc/1/task", DENIED, "/proc/1/task"),
    ],
    told: None,
    free: &[
        "cat /proc/self/status",
        "cat /proc/meminfo",
        "cat /proc/self/root/etc/passwd",
        "cat /proc/net/dev",
        "/opt/tools/karmor-tries preset own-thread",
        "ls /proc",
    ],
};

const DRIFT: Preset<'_> = Preset {
    name: "drift",
    enforcer: "PRESET-DriftPreset",
    operation: "Process",
    is_privileged: false,
    prepare: "rm -f /srv/tool /dev/shm/tool && cp /usr/bin/true /srv/tool \
        && cp /usr/bin/true /dev/shm/tool \
        && test -e /srv/touched || { cp -a /usr/bin/false /usr/bin/touched && touch /srv/touched; }",
    refused: &[
        ("/srv/tool", DENIED, "/srv/tool"),
        ("/dev/shm/tool", DENIED, "/dev/shm/tool"),
        ("/opt/tools/busybox true", DENIED, "/opt/tools/busybox true"),
        (
            "/lib64/ld-linux-x86-64.so.2 /srv/tool",
            "/srv/tool",
            "/srv/tool",
        ),
    ],
    told: None,
    free: &[
        "/usr/bin/true",
        "cat /etc/passwd",
        "cat /srv/tool > /dev/null",
        "/lib64/ld-linux-x86-64.so.2 /usr/bin/true",
    ],
};

const PTRACE: Preset<'_> = Preset {
    name: "ptrace",
    enforcer: "PRESET-PtracePreset",
    operation: "Process",
    is_privileged: false,
    prepare: "true",
    refused: &[
        (
            "/opt/tools/karmor-tries preset attach",
            DENIED,
            "/opt/tools/karmor-tries",
        ),
        (
            "/opt/tools/karmor-tries preset write",
            NOT_PERMITTED,
            "/opt/tools/karmor-tries",
        ),
        (
            "/opt/tools/karmor-tries preset memory",
            DENIED,
            "/opt/tools/karmor-tries",
        ),
        (
            "/opt/tools/karmor-tries preset traceme",
            DENIED,
            "/opt/tools/karmor-tries",
        ),
    ],
    told: None,
    free: &[
        "cat /proc/1/status",
        "ls /proc/1/root/",
        "cat /proc/1/environ",
    ],
};

const MOUNT: Preset<'_> = Preset {
    name: "mount",
    enforcer: "PRESET-MountPreset",
    operation: "File",
    is_privileged: true,
    prepare: "mkdir -p /srv/kept /srv/new \
        && { /opt/tools/busybox mountpoint -q /srv/kept \
             || /opt/tools/busybox mount -t tmpfs none /srv/kept; } \
        && while /opt/tools/busybox mountpoint -q /srv/new; do \
             /opt/tools/busybox umount /srv/new || break; done",
    refused: &[
        (
            "/opt/tools/karmor-tries mount tmpfs size=1m /srv/new",
            DENIED,
            "/srv/new",
        ),
        (
            "/opt/tools/busybox mount -o bind /usr /srv/new",
            DENIED,
            "/srv/new",
        ),
        (
            "/opt/tools/busybox mount -o remount,ro /srv/kept",
            DENIED,
            "/srv/kept",
        ),
        (
            "/opt/tools/karmor-tries overlay /usr:/etc /srv/new",
            NOT_PERMITTED,
            "mount",
        ),
        (
            "/opt/tools/karmor-tries attach /usr /srv/new",
            NOT_PERMITTED,
            "mount",
        ),
        (
            "/opt/tools/karmor-tries unmount /srv/kept",
            DENIED,
            "/srv/kept",
        ),
    ],
    told: None,
    free: &[
        "cat /proc/mounts",
        "ls /srv/kept",
        "/opt/tools/busybox df /srv/kept",
    ],
};

const NAMESPACE: Preset<'_> = Preset {
    name: "namespace",
    enforcer: "PRESET-NamespacePreset",
    operation: "Process",
    is_privileged: true,
    prepare: "true",
    refused: &[
        (
            "/opt/tools/busybox unshare -m true",
            NOT_PERMITTED,
            "namespace",
        ),
        ("/opt/tools/busybox unshare -U true", DENIED, "namespace"),
        (
            "/opt/tools/karmor-tries preset setns",
            NOT_PERMITTED,
            "namespace",
        ),
        (
            "/opt/tools/karmor-tries preset clone",
            NOT_PERMITTED,
            "namespace",
        ),
        (
            "/opt/tools/karmor-tries preset clone3",
            NOT_PERMITTED,
            "namespace",
        ),
    ],
    told: None,
    free: &[
        "(true)",
        "/opt/tools/busybox setsid true",
        "/opt/tools/karmor-tries capability sys_admin",
        "ls -l /proc/1/ns",
    ],
};

const MODULE: Preset<'_> = Preset {
    name: "kernelModule",
    enforcer: "PRESET-KernelModulePreset",
    operation: "Process",
    is_privileged: true,
    prepare: "true",
    refused: &[
        (
            "/opt/tools/karmor-tries preset module-file",
            DENIED,
            "kernelModule",
        ),
        (
            "/opt/tools/karmor-tries preset module-memory",
            DENIED,
            "kernelModule",
        ),
    ],
    told: Some((
        "/opt/tools/karmor-tries preset module-request",
        "lsm=KERNEL_MODULE_REQUEST",
    )),
    free: &["cat /proc/modules"],
};

const BPF: Preset<'_> = Preset {
    name: "bpf",
    enforcer: "PRESET-BpfPreset",
    operation: "Process",
    is_privileged: true,
    prepare: "true",
    refused: &[("/opt/tools/karmor-tries preset bpf", DENIED, "bpf")],
    told: None,
    free: &["true", "/opt/tools/karmor-tries preset module-memory"],
};

const IO_URING: Preset<'_> = Preset {
    name: "ioUring",
    enforcer: "PRESET-IoUringPreset",
    operation: "Process",
    is_privileged: false,
    prepare: "true",
    refused: &[("/opt/tools/karmor-tries preset io-uring", DENIED, "ioUring")],
    told: None,
    // Another of the kernel's files without a name.
    free: &["true", "/opt/tools/karmor-tries memfd /usr/bin/true"],
};

fn manifest(name: &str, preset: &str, action: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: {name}\n\
         spec:\n  severity: 7\n  selector:\n    matchLabels:\n      app: nginx\n  presets:\n  \
         - name: {preset}\n    action: {action}\n"
    )
}

fn text<'a>(alert: &'a Value, key: &str) -> &'a str {
    alert[key].as_str().unwrap_or_default()
}

impl Preset<'_> {
    fn play(&self, guest: &Guest) -> Result<()> {
        guest.watched(&DefaultPostures::AUDIT, |watched| {
            let play = |container: &Container<'_>| {
                watched.enforcer.knows(container.name())?;
                self.play_in(watched, container)
            };
            if self.is_privileged {
                play(&privileged(guest)?)
            } else {
                in_both(guest, play)
            }
        })
    }

    fn play_in(&self, watched: &Watched, container: &Container<'_>) -> Result<()> {
        let told = self.told.iter().map(|(line, _)| *line);
        let free: Vec<&str> = self.free.iter().copied().chain(told).collect();
        let tried = self
            .refused
            .iter()
            .flat_map(|(line, ..)| [*line, self.prepare]);
        let every: Vec<&str> = [self.prepare]
            .into_iter()
            .chain(tried)
            .chain(free.clone())
            .collect();
        succeed(container, &every).context("without a policy")?;
        // Names in the way of Kubernetes.
        let name = format!("preset-{}", self.name.to_ascii_lowercase());
        let audit = watched.policy(&manifest(&format!("{name}-audit"), self.name, "Audit"))?;
        succeed(container, &free).context("told of")?;
        for (line, _, resource) in self.refused {
            succeed(container, &[line]).context("told of")?;
            self.expect(&audit, line, resource, ["Audit", "Passed"])?;
        }
        drop(audit);
        succeed(container, &[self.prepare]).context("between policies")?;
        let block = watched.policy(&manifest(&format!("{name}-block"), self.name, "Block"))?;
        succeed(container, self.free).context("refused, but it is something else")?;
        self.is_refused(&block, container)?;
        if let Some((line, data)) = self.told {
            container.lines(&[line])?;
            block.expect(line, |alert| {
                text(alert, "Data") == data && text(alert, "Enforcer") == self.enforcer
            })?;
        }
        Ok(())
    }

    /// Tries what is refused, of which nothing has been tried under this policy.
    fn is_refused(&self, block: &Applied<'_>, container: &Container<'_>) -> Result<()> {
        let lines: Vec<&str> = self.refused.iter().map(|(line, ..)| *line).collect();
        let outputs = container.lines(&lines)?;
        for ((line, complaint, resource), output) in self.refused.iter().zip(outputs) {
            ensure!(
                output.code != 0 && output.stdout.contains(complaint),
                "not refused: {output}"
            );
            self.expect(block, line, resource, ["Block", "Permission denied"])?;
        }
        // Alerts come in order, and what is free went first.
        let alerts = block.alerts()?;
        let (first, refused) = (alerts.first(), self.refused.first());
        let (first, (_, _, resource)) = first.zip(refused).context("there are alerts")?;
        ensure!(text(first, "Resource") == *resource, "{first:#}");
        Ok(())
    }

    fn expect(
        &self,
        policy: &Applied<'_>,
        line: &str,
        resource: &str,
        [action, result]: [&str; 2],
    ) -> Result<()> {
        // Since 6.8 what is mapped of an overlay is the file beneath it, which has no path.
        let is_nameless = |alert: &Value| {
            text(alert, "Data").starts_with("lsm=FILE_MPROTECT")
                && text(alert, "Resource") == self.name
                && text(alert, "Source") == line
        };
        let alert = policy.expect(line, |alert| {
            (text(alert, "Resource") == resource || is_nameless(alert))
                && text(alert, "Enforcer") == self.enforcer
        })?;
        ensure!(
            text(&alert, "Action") == action
                && text(&alert, "Result") == result
                && text(&alert, "Operation") == self.operation
                && text(&alert, "PolicyName") == policy.name()
                && text(&alert, "Severity") == "7",
            "{line}: {alert:#}"
        );
        Ok(())
    }
}

fn succeed(container: &Container<'_>, lines: &[&str]) -> Result<()> {
    let mut outputs = container.lines(lines)?.into_iter();
    outputs.try_for_each(|output| output.success().map(drop))
}

/// Says that it is alive, by programs that it executes.
const ALIVE: &str = "while :; do /usr/bin/touch /opt/share/alive-$NAME; sleep 0.2; done";

/// Whether a container's own process goes on executing programs.
fn is_alive(name: &str) -> Result<()> {
    let file = format!("{HOST_SHARE}/alive-{name}");
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {file}"));
        }
        _ => {}
    }
    until(
        "the container's own programs",
        Duration::from_secs(60),
        || Ok(fs::exists(&file)?.then_some(())),
    )
}

fn start<'a>(guest: &'a Guest, name: &str, is_privileged: bool) -> Result<Container<'a>> {
    let container = guest
        .container(Image::Debian)?
        .bind(HOST_SHARE, SHARE)
        .bind("/run/karmor-e2e/tools", "/opt/tools")
        .option(&format!("--env=NAME={name}"));
    let container = match is_privileged {
        true => container.option("--privileged"),
        false => container,
    };
    container.start_with(name, &["bash", "-c", ALIVE])
}

/// Waits for the alert about a program that a session executes.
fn expect_session(policy: &Applied<'_>, resource: &str, action: &str) -> Result<()> {
    let alert = policy.expect(resource, |alert| {
        text(alert, "Resource") == resource && text(alert, "Enforcer") == "PRESET-ExecPreset"
    })?;
    ensure!(
        text(&alert, "Action") == action
            && text(&alert, "Operation") == "Process"
            && text(&alert, "PolicyName") == policy.name()
            && text(&alert, "ContainerName").starts_with("session-"),
        "{alert:#}"
    );
    Ok(())
}

fn session(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        // It makes the directories.
        with_tools(guest, &[], "escape")?;
        let container = start(guest, "session-before", false)?;
        watched.enforcer.knows(container.name())?;
        is_alive("session-before")?;
        container.exec(&["/usr/bin/true"])?.success()?;
        let mut actor = container.actor(&["/opt/tools/karmor-tries", "obey"])?;
        let mut execute = |program: &str| -> Result<Output> {
            let words = ["act", "exec", program].map(str::to_owned).to_vec();
            actor.attempts(&[words])?.pop().context("no output")
        };
        execute("/usr/bin/true")?.success()?;
        let audit = watched.policy(&manifest("session-audit", "exec", "Audit"))?;
        container.exec(&["/usr/bin/true", "audited"])?.success()?;
        expect_session(&audit, "/usr/bin/true audited", "Audit")?;
        drop(audit);
        let block = watched.policy(&manifest("session-block", "exec", "Block"))?;
        is_alive("session-before")?;
        let output = container.exec(&["/usr/bin/true", "refused"])?;
        ensure!(output.denied(), "not refused: {output}");
        expect_session(&block, "/usr/bin/true refused", "Block")?;
        // With a terminal or without, from before the policy or since.
        let output = execute("/usr/bin/false")?;
        ensure!(output.denied(), "not refused: {output}");
        expect_session(&block, "/usr/bin/false", "Block")?;
        later_session(guest, watched, &block)?;
        is_alive("session-before")?;
        of_sessions_only(&block)
    })
}

/// A container starts while the policy is there.
fn later_session(guest: &Guest, watched: &Watched, block: &Applied<'_>) -> Result<()> {
    let later = start(guest, "session-later", true)?;
    watched.enforcer.knows(later.name())?;
    is_alive("session-later")?;
    let output = later.exec(&["/usr/bin/id"])?;
    ensure!(output.denied(), "not refused: {output}");
    expect_session(block, "/usr/bin/id", "Block")
}

/// No alert is about what the containers do by themselves.
fn of_sessions_only(block: &Applied<'_>) -> Result<()> {
    for alert in block.alerts()? {
        let resource = text(&alert, "Resource");
        ensure!(
            !resource.contains("touch") && !resource.contains("sleep"),
            "about the container's own: {alert:#}"
        );
    }
    Ok(())
}

/// Policies for the host have presets, too.
fn host(guest: &Guest) -> Result<()> {
    const TRIES: &str = "/usr/local/bin/karmor-tries";
    let manifest = |action: &str| {
        format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata:\n  \
             name: preset-host-{}\nspec:\n  nodeSelector:\n    matchLabels:\n      \
             kubearmor.io/hostname: \"*\"\n  presets:\n  - name: anonymousMapExec\n    \
             action: {action}\n  - name: filelessExec\n    action: {action}\n",
            action.to_ascii_lowercase()
        )
    };
    let run = |arguments: &[&str]| crate::support::run(TRIES, arguments);
    let feats: [&[&str]; 2] = [&["preset", "later"], &["memfd", "/usr/bin/true"]];
    let enforcers = [
        "PRESET-AnonMapExecutionPreset",
        "PRESET-FilelessExecutionPreset",
    ];
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        for feat in feats {
            run(feat)?.success()?;
        }
        for action in ["Audit", "Block"] {
            let policy = watched.policy(&manifest(action))?;
            run(&["preset", "file"])?.success()?;
            for (feat, enforcer) in feats.into_iter().zip(enforcers) {
                let output = run(feat)?;
                if action == "Block" {
                    ensure!(output.denied(), "not refused: {output}");
                } else {
                    output.success()?;
                }
                let alert = policy.expect(enforcer, |alert| {
                    text(alert, "Enforcer") == enforcer && !text(alert, "ProcessName").is_empty()
                })?;
                ensure!(
                    text(&alert, "Action") == action
                        && text(&alert, "PolicyName") == policy.name()
                        && text(&alert, "Type") == "MatchedHostPolicy",
                    "{alert:#}"
                );
            }
        }
        Ok(())
    })
}
