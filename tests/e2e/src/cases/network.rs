//! Sockets and capabilities, where it matters when something was made and who made it.

use std::{fs, os::unix::fs::PermissionsExt as _, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Case, case,
    escapes::{HOST_SHARE, in_both, with_tools},
};
use crate::support::{Applied, Container, DefaultPostures, Guest, Output, Watched, until};

pub(super) const CASES: &[Case] = &[
    case(
        "sockets_from_before_a_policy_are_refused",
        sockets_from_before,
    ),
    case(
        "connections_are_refused_in_the_name_of_who_listens",
        listeners,
    ),
    case(
        "capabilities_the_kernel_asks_about_cause_no_alert",
        probed_capability,
    ),
];

fn manifest(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  \
         name: {name}\nspec:\n  selector:\n    matchLabels:\n      app: nginx\n{spec}"
    )
}

fn container(guest: &Guest) -> Result<Container<'_>> {
    with_tools(guest, &["--cap-add=CAP_SYS_ADMIN"], "network")
}

/// Takes away what an earlier case left in the shared directory.
fn clean() {
    for entry in fs::read_dir(HOST_SHARE).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

fn appears(name: &str) -> Result<()> {
    until(
        &format!("{name} in the shared directory"),
        Duration::from_secs(60),
        || Ok(fs::exists(format!("{HOST_SHARE}/{name}"))?.then_some(())),
    )
}

fn go() -> Result<()> {
    fs::write(format!("{HOST_SHARE}/go"), "").context("cannot give leave")
}

/// Sockets of a protocol.
struct Sockets {
    protocol: &'static str,
    /// What alerts call them.
    resource: &'static str,
    /// What is done with them, and the hook that sees it.
    uses: &'static [(&'static str, &'static str)],
}

const SOCKETS: [Sockets; 2] = [
    Sockets {
        protocol: "tcp",
        resource: "protocol=TCP type=SOCK_STREAM",
        uses: &[
            ("bind", "SOCKET_BIND"),
            ("listen", "SOCKET_LISTEN"),
            ("connect", "SOCKET_CONNECT"),
            ("accept", "SOCKET_ACCEPT"),
            ("send", "SOCKET_SENDMSG"),
            ("write", "SOCKET_SENDMSG"),
        ],
    },
    Sockets {
        protocol: "udp",
        resource: "protocol=UDP type=SOCK_DGRAM",
        uses: &[("sendto", "SOCKET_SENDMSG")],
    },
];

/// What a use of a socket that is refused says.
const REFUSED: &str = "Permission denied";

/// Under a policy about one protocol, the sockets of the other are none of its business.
fn sockets_from_before(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        in_both(guest, |container| {
            watched.enforcer.knows(container.name())?;
            let (output, ()) = holding(container, || Ok(()))?;
            ensure!(
                !output.stdout.contains(REFUSED),
                "without a policy: {output}"
            );
            SOCKETS
                .iter()
                .try_for_each(|sockets| sockets.are_refused(watched, container))
        })
    })
}

impl Sockets {
    /// They and no others.
    fn are_refused(&self, watched: &Watched, container: &Container<'_>) -> Result<()> {
        let (name, spec) = (
            format!("{}-from-before", self.protocol),
            format!(
                "  network:\n    matchProtocols:\n    - protocol: {}\n  action: Block\n",
                self.protocol
            ),
        );
        let (output, policy) = holding(container, || watched.policy(&manifest(&name, &spec)))?;
        for (tried, hook) in self.uses {
            let line = format!("{tried}: {REFUSED}");
            ensure!(output.stdout.contains(&line), "{tried}: {output}");
            expect_use(&policy, container, self.resource, hook)?;
        }
        let (due, refused) = (self.uses.len(), output.stdout.matches(REFUSED).count());
        let told = policy.alerts()?;
        ensure!(
            refused == due && told.len() == due,
            "{due} are due: {output}\n{told:#?}"
        );
        Ok(())
    }
}

/// Has sockets made, does something, and has them used.
fn holding<T>(container: &Container<'_>, work: impl FnOnce() -> Result<T>) -> Result<(Output, T)> {
    clean();
    thread::scope(|scope| {
        let holding = scope
            .spawn(|| container.exec(&["/opt/tools/karmor-tries", "hold-sockets", "/opt/share"]));
        let done = appears("ready").and_then(|()| work());
        go()?;
        let output = holding
            .join()
            .map_err(|_panic| anyhow::anyhow!("the container's thread panicked"))??;
        Ok((output.success()?, done?))
    })
}

/// Waits for the alert about a use of a socket.
fn expect_use(
    policy: &Applied<'_>,
    container: &Container<'_>,
    resource: &str,
    hook: &str,
) -> Result<()> {
    let data = format!("lsm={hook} {resource}");
    let alert = policy.expect(&data, |alert| alert["Data"] == *data)?;
    ensure!(
        alert["Action"] == "Block"
            && alert["Operation"] == "Network"
            && alert["PolicyName"] == policy.name()
            && alert["ContainerName"] == container.name()
            && alert["ProcessName"] == "/opt/tools/karmor-tries",
        "{alert:#}"
    );
    Ok(())
}

/// Three who listen: from before any policy, from before the one that counts, and since.
fn listeners(guest: &Guest) -> Result<()> {
    const TRIES: &str = "/opt/tools/karmor-tries";
    const OTHER: &str = "/opt/tools/other";
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container(guest)?;
        watched.enforcer.knows(container.name())?;
        clean();
        // Who listens is not root.
        fs::set_permissions(HOST_SHARE, fs::Permissions::from_mode(0o777))
            .with_context(|| format!("cannot open {HOST_SHARE} for everybody"))?;
        let serve = |by, port| -> Result<()> {
            let serve = [by, "serve", port, "/opt/share"];
            container
                .exec_with(&["--detach", "--user=33:33"], &serve)?
                .success()?;
            appears(&format!("ready-{port}"))
        };
        let knock = |from: &str, port: &str| {
            let to = format!("127.0.0.1:{port}");
            container.exec(&[TRIES, "knock", from, &to])
        };
        let dropped = |from: &str, port: &str| -> Result<()> {
            let output = knock(from, port)?;
            let said = "the connection was dropped";
            ensure!(output.stderr.contains(said), "{port}: {output}");
            Ok(())
        };
        let about = |alert: &Value, policy: &str, port: &str| {
            let resource = format!("remoteip=127.9.0.1 port={port} protocol=TCP");
            alert["PolicyName"] == policy
                && alert["Resource"] == *resource
                && alert["Data"] == format!("lsm=SOCKET_ACCEPT {resource}")
        };
        serve(OTHER, "7001")?;
        let outcome = (|| {
            let anybody = watched.policy(&manifest(
                "heard-by-anybody",
                "  network:\n    matchEndpoints:\n    - cidr: 127.9.0.0/16\n      ports: [7001, 7002]\n      \
                 direction: ingress\n  action: Block\n",
            ))?;
            dropped("127.9.0.1", "7001")?;
            // Whoever notes who listens may not have been there; then the cgroup of the socket tells
            // whose it is.
            anybody.expect("the alert of the first", |alert| {
                about(alert, anybody.name(), "7001")
                    && alert["ContainerName"] == container.name()
                    && alert["EventData"]["Reason"].is_null()
            })?;
            serve(OTHER, "7002")?;
            serve(OTHER, "7003")?;
            serve(TRIES, "7004")?;
            knock("127.8.0.1", "7002")?.success()?;
            dropped("127.9.0.1", "7002")?;
            let alert = anybody.expect("the alert of the second", |alert| {
                about(alert, anybody.name(), "7002")
            })?;
            let number = |key: &str| alert[key].as_i64().unwrap_or_default();
            ensure!(
                alert["ProcessName"] == OTHER
                    && alert["ContainerName"] == container.name()
                    && number("UID") == 33
                    && number("PID") > 1
                    && number("HostPID") > number("PID"),
                "{alert:#}"
            );
            knock("127.9.0.1", "7003")?.success()?;
            // A table that did not exist when they began to listen tells their images apart.
            let other = watched.policy(&manifest(
                "heard-by-other",
                "  network:\n    matchEndpoints:\n    - cidr: 127.9.0.0/16\n      direction: ingress\n      \
                 fromSource:\n      - path: /opt/tools/other\n  action: Block\n",
            ))?;
            dropped("127.9.0.1", "7003")?;
            other.expect("the alert of the third", |alert| {
                about(alert, other.name(), "7003") && alert["ProcessName"] == OTHER
            })?;
            knock("127.9.0.1", "7004")?.success()?;
            Ok(())
        })();
        go()?;
        outcome
    })
}

fn probed_capability(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = container(guest)?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(&manifest(
            "probed-capability",
            "  capabilities:\n    matchCapabilities:\n    - capability: sys_admin\n  action: Block\n",
        ))?;
        let outputs = container.lines(&[
            // The kernel asks which attributes it may list.
            "/opt/tools/karmor-tries capability list",
            // An overlay copies up with its own privileges.
            "echo more >> /etc/passwd",
            "/opt/tools/karmor-tries capability sys_admin",
        ])?;
        let [listed, copied, refused] = outputs.as_slice() else {
            anyhow::bail!("{} outputs of three lines", outputs.len());
        };
        listed.clone().success()?;
        copied.clone().success()?;
        ensure!(
            refused.code != 0 && refused.stdout.contains("not permitted"),
            "{refused}"
        );
        policy.expect("the alert", |alert| alert["Resource"] == "CAP_SYS_ADMIN")?;
        let alerts = policy.alerts()?;
        ensure!(alerts.len() == 1, "more than one alert: {alerts:#?}");
        let [alert] = alerts.as_slice() else {
            return Ok(());
        };
        ensure!(
            alert["Data"] == "lsm=CAPABLE CAP_SYS_ADMIN"
                && alert["Operation"] == "Capabilities"
                && alert["Source"] == "/opt/tools/karmor-tries capability sys_admin",
            "{alert:#}"
        );
        Ok(())
    })
}
