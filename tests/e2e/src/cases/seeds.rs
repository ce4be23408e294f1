//! The policies everybody starts with, as they are pasted.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Case, case};
use crate::support::{Applied, Container, DefaultPostures, Guest, Image, Output, Watched};

pub(super) const CASES: &[Case] = &[
    case("seeds_package_tools_do_not_run", package_tools),
    case("seeds_passwd_is_not_read", passwd),
    case("seeds_service_account_is_closed", service_account),
    case("seeds_nginx_configuration_is_audited", nginx_configuration),
    case("seeds_token_is_for_cat_only", token),
    case("seeds_only_nginx_and_bash_run", only_nginx),
];

/// What comes of a line of bash.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// "Permission denied", and an alert of this operation on this resource.
    Refused(&'static str, &'static str),
    /// It works, and there is an alert about reading this.
    Heard(&'static str),
    /// It works, and nobody hears of it.
    Free,
}
use Fate::{Free, Heard, Refused};

const TOKEN: &str = "/run/secrets/kubernetes.io/serviceaccount/token";

/// Starts a container, adds the policy, and holds every line against its fate.
fn play(
    watched: &Watched,
    container: &Container<'_>,
    manifest: &str,
    lines: &[(&str, Fate)],
) -> Result<()> {
    watched.enforcer.knows(container.name())?;
    let commands: Vec<&str> = lines.iter().map(|(line, _)| *line).collect();
    for output in container.lines(&commands)? {
        output.success()?;
    }
    let policy = watched.policy(manifest)?;
    for (output, (_, fate)) in container.lines(&commands)?.into_iter().zip(lines) {
        judge(&policy, *fate, output)?;
    }
    let free = lines.iter().filter(|(_, fate)| matches!(fate, Free));
    ensure!(free.count() > 0, "nothing shows that the rest still works");
    ensure!(
        !matches!(lines, [.., (_, Free)]),
        "nothing would show that the last line is free"
    );
    let expected = lines.iter().filter(|(_, fate)| !matches!(fate, Free));
    // The last one is none of them, and alerts come in order.
    let alerts = policy.alerts()?;
    ensure!(
        alerts.len() == expected.count(),
        "other alerts than those expected: {alerts:#?}"
    );
    Ok(())
}

fn judge(policy: &Applied<'_>, fate: Fate, output: Output) -> Result<()> {
    let (action, result, operation, resource) = match fate {
        Refused(operation, resource) => {
            ensure!(output.denied(), "not refused: {output}");
            ("Block", "Permission denied", operation, resource)
        }
        Heard(resource) => {
            output.success()?;
            ("Audit", "Passed", "File", resource)
        }
        Free => {
            output.success()?;
            return Ok(());
        }
    };
    let alert = policy.expect(&format!("an alert about {resource}"), |alert| {
        alert["Operation"] == operation && alert["Resource"] == resource
    })?;
    ensure!(
        alert["Action"] == action && alert["Result"] == result && alert["Enforcer"] == "BPFLSM",
        "{alert:#}"
    );
    Ok(())
}

fn package_tools(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest.container(Image::Debian)?.start("seed-apt")?;
        play(
            watched,
            &container,
            include_str!("../../policies/seeds/block-pkg-mgmt-tools-exec.yaml"),
            &[
                (
                    "apt --version",
                    Refused("Process", "/usr/bin/apt --version"),
                ),
                ("apt-cache --version", Free),
                ("cat /usr/bin/apt > /dev/null", Free),
                (
                    "apt-get --version",
                    Refused("Process", "/usr/bin/apt-get --version"),
                ),
            ],
        )
    })
}

fn passwd(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest.container(Image::Debian)?.start("seed-passwd")?;
        play(
            watched,
            &container,
            include_str!("../../policies/seeds/ksp-block-read.yaml"),
            &[
                ("cat /etc/group", Free),
                ("test -s /etc/passwd", Free),
                ("cat /etc/passwd", Refused("File", "/etc/passwd")),
            ],
        )
    })
}

fn service_account(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest
            .container(Image::Debian)?
            .service_account()?
            .start("seed-account")?;
        // As it was published, with `recursive` past `dir`, it is no YAML.
        let manifest = include_str!("../../policies/seeds/block-service-access-token-access.yaml");
        let published = manifest.replace("          recursive", "            recursive");
        ensure!(published != manifest, "the published indentation is lost");
        let error = watched
            .policy(&published)
            .err()
            .context("a policy that is no YAML was accepted")?;
        ensure!(format!("{error:#}").contains("recursive"), "{error:#}");
        play(
            watched,
            &container,
            manifest,
            &[
                ("cat /etc/passwd", Free),
                (
                    "cat /run/secrets/kubernetes.io/serviceaccount/token",
                    Refused("File", TOKEN),
                ),
                (
                    "cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
                    Refused("File", "/run/secrets/kubernetes.io/serviceaccount/ca.crt"),
                ),
            ],
        )
    })
}

fn nginx_configuration(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest.container(Image::Debian)?.start("seed-audit")?;
        play(
            watched,
            &container,
            include_str!("../../policies/seeds/audit-etc-nginx-access.yaml"),
            &[
                ("cat /etc/default/nginx", Free),
                ("cat /etc/nginx/nginx.conf", Heard("/etc/nginx/nginx.conf")),
                (
                    "cat /etc/nginx/sites-available/default",
                    Heard("/etc/nginx/sites-available/default"),
                ),
            ],
        )
    })
}

fn token(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest
            .container(Image::Debian)?
            .service_account()?
            .start("seed-token")?;
        play(
            watched,
            &container,
            include_str!("../../policies/seeds/token-only-for-cat.yaml"),
            &[
                ("head -n 1 /etc/passwd", Free),
                (
                    "/bin/cat /run/secrets/kubernetes.io/serviceaccount/token",
                    Free,
                ),
                (
                    "head -n 1 /run/secrets/kubernetes.io/serviceaccount/token",
                    Refused("File", TOKEN),
                ),
                (
                    "read -r namespace < /run/secrets/kubernetes.io/serviceaccount/namespace",
                    Refused(
                        "File",
                        "/run/secrets/kubernetes.io/serviceaccount/namespace",
                    ),
                ),
            ],
        )
    })
}

/// Needs the file posture at block: processes fall under it too.
fn only_nginx(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::BLOCK_FILES, |watched| {
        let container = guest.container(Image::Debian)?.start("seed-nginx")?;
        play(
            watched,
            &container,
            include_str!("../../policies/seeds/only-allow-nginx-exec.yaml"),
            &[
                // Linked dynamically, both of them: their libraries load.
                ("/usr/sbin/nginx -t", Free),
                ("echo $BASH_VERSION < /etc/passwd", Free),
                (
                    "cat /etc/passwd",
                    Refused("Process", "/usr/bin/cat /etc/passwd"),
                ),
                (
                    "/bin/sh -c true",
                    Refused("Process", "/usr/bin/dash -c true"),
                ),
            ],
        )?;
        let policy = watched.policy(include_str!(
            "../../policies/seeds/only-allow-nginx-exec.yaml"
        ))?;
        let output = container.exec(&["bash", "-c", "ls"])?;
        ensure!(output.denied(), "not refused: {output}");
        let alert = policy.expect("an alert about ls", |alert| {
            alert["Resource"] == "/usr/bin/ls"
        })?;
        ensure!(
            alert["PolicyName"] == "DefaultPosture" && alert["Severity"] == Value::Null,
            "{alert:#}"
        );
        Ok(())
    })
}
