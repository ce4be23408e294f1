//! Ways around a policy, each tried as root in a container. None may lead anywhere.

mod code;
mod descriptors;
mod long;
mod mounts;
mod names;
mod namespaces;
mod network;
mod writes;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Case, case};
use crate::support::{
    Applied, Container, ContainerBuilder, DELIVERY, Guest, Image, Output, Watched,
};

/// Every case, by subject.
pub(super) const CASES: &[&[Case]] = &[
    code::CASES,
    names::CASES,
    namespaces::CASES,
    network::CASES,
    writes::CASES,
    descriptors::CASES,
    long::CASES,
    mounts::CASES,
];

/// Where a container finds `karmor-tries`, and a busybox for what Debian's tools leave out.
const TOOLS: &str = "/opt/tools";
/// Host side of [`TOOLS`].
const HOST_TOOLS: &str = "/run/karmor-e2e/tools";
/// Where a container and the case can leave each other files.
pub(super) const SHARE: &str = "/opt/share";
/// Host side of [`SHARE`].
pub(super) const HOST_SHARE: &str = "/run/karmor-e2e/share";

/// Fills /srv with what the policies are about, and with what they are not about.
const PREPARE: &str = "rm -rf /srv/* && mkdir -p /srv/vault /srv/open \
    && echo secret > /srv/vault/secret && echo free > /srv/vault/free \
    && cp /usr/bin/true /srv/vault/tool && cp /usr/bin/true /srv/vault/other";

/// Nobody reads the secret or runs the tool; the files beside them are free.
const SHUT: &str = "
  file:
    matchPaths:
    - path: /srv/vault/secret
  process:
    matchPaths:
    - path: /srv/vault/tool
  action: Block
";

/// A file that may be read.
const READ_ONLY: &str = "
  file:
    matchPaths:
    - path: /srv/vault/secret
      readOnly: true
  action: Block
";

/// An escape and its fate.
#[derive(Clone, Copy, Debug)]
struct Escape<'a> {
    /// A line of bash that must work without the policy and be refused with it.
    line: &'a str,
    /// What the alert says: `Operation` and `Resource`.
    operation: &'a str,
    resource: &'a str,
    /// What the tool that was refused says.
    complaint: &'a str,
    /// A rule of the policy names what is refused; else the alert names the default posture.
    is_named: bool,
}

/// The words of EACCES, as most tools pass them on.
const DENIED: &str = "ermission denied";

const fn reading<'a>(line: &'a str, resource: &'a str) -> Escape<'a> {
    Escape {
        line,
        operation: "File",
        resource,
        complaint: DENIED,
        is_named: true,
    }
}

const fn running<'a>(line: &'a str, resource: &'a str) -> Escape<'a> {
    Escape {
        line,
        operation: "Process",
        resource,
        complaint: DENIED,
        is_named: true,
    }
}

/// Everything about one case.
#[derive(Clone, Copy, Debug)]
struct Plan<'a> {
    /// The policy's name.
    name: &'a str,
    /// Sections and action of its `spec`.
    spec: &'a str,
    /// Bash that makes the files; repeatable.
    prepare: &'a str,
    escapes: &'a [Escape<'a>],
    /// Lines nearly the same as the escapes, which must work and cause no alert.
    twins: &'a [&'a str],
}

/// An ordinary container: root with containerd's default capabilities.
pub(super) fn ordinary(guest: &Guest) -> Result<Container<'_>> {
    with_tools(guest, &[], "escape")
}

/// One whose root may nearly everything.
pub(super) fn privileged(guest: &Guest) -> Result<Container<'_>> {
    with_tools(guest, &["--privileged"], "escape-privileged")
}

/// Does something in each of them.
pub(super) fn in_both(guest: &Guest, work: impl Fn(&Container<'_>) -> Result<()>) -> Result<()> {
    for container in [ordinary(guest)?, privileged(guest)?] {
        work(&container).with_context(|| format!("in {}", container.name()))?;
    }
    Ok(())
}

/// One that later cases use too, from [`toolbox`].
pub(super) fn with_tools<'a>(
    guest: &'a Guest,
    options: &[&str],
    name: &str,
) -> Result<Container<'a>> {
    toolbox(guest, options)?.kept(name)
}

/// A container to be, with `karmor-tries` in [`TOOLS`], and a copy of it, and a shared directory.
pub(super) fn toolbox<'a>(guest: &'a Guest, options: &[&str]) -> Result<ContainerBuilder<'a>> {
    for directory in [HOST_TOOLS, HOST_SHARE] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {directory}"))?;
    }
    for (program, name) in [
        ("/usr/local/bin/karmor-tries", "karmor-tries"),
        ("/usr/local/bin/karmor-tries", "other"),
        ("/usr/bin/busybox", "busybox"),
    ] {
        let copy = format!("{HOST_TOOLS}/{name}");
        if !fs::exists(&copy).with_context(|| format!("cannot look at {copy}"))? {
            fs::copy(program, &copy).with_context(|| format!("cannot copy {program}"))?;
        }
    }
    let container = guest
        .container(Image::Debian)?
        .bind(HOST_TOOLS, TOOLS)
        .bind(HOST_SHARE, SHARE);
    // The usual one refuses to execute anything.
    let memory = "--mount=type=tmpfs,src=tmpfs,dst=/dev/shm,options=nosuid:mode=1777";
    let container = container.option(memory);
    Ok(options
        .iter()
        .fold(container, |container, option| container.option(option)))
}

pub(super) fn manifest(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  \
         name: {name}\nspec:\n  selector:\n    matchLabels:\n      app: nginx\n{}",
        spec.trim_start_matches('\n')
    )
}

impl Plan<'_> {
    /// Tries everything as root of an ordinary container and of a privileged one.
    fn play(&self, watched: &Watched, guest: &Guest) -> Result<()> {
        self.play_in(watched, &[&ordinary(guest)?, &privileged(guest)?])
    }

    /// Tries everything without the policy, then with it.
    fn play_in(&self, watched: &Watched, containers: &[&Container<'_>]) -> Result<()> {
        for container in containers {
            self.before(container)?;
        }
        let policy = watched.policy(&manifest(self.name, self.spec))?;
        for container in containers {
            self.after(&policy, container)?;
        }
        Ok(())
    }

    /// An escape that fails for another reason would prove nothing.
    fn before(&self, container: &Container<'_>) -> Result<()> {
        let mut lines = vec![self.prepare];
        for escape in self.escapes {
            lines.extend([escape.line, self.prepare]);
        }
        // One after the other, as with the policy.
        lines.extend(self.twins);
        lines.push(self.prepare);
        let outputs = container.lines(&lines)?.into_iter();
        all(outputs.map(|output| output.success().map(drop)))
            .with_context(|| format!("without a policy in {}", container.name()))
    }

    fn after(&self, policy: &Applied<'_>, container: &Container<'_>) -> Result<()> {
        let attempts = self.escapes.iter().map(|escape| escape.line);
        let lines: Vec<&str> = self.twins.iter().copied().chain(attempts).collect();
        let mut outputs = container.lines(&lines)?;
        let refused = outputs.split_off(self.twins.len());
        let twins = outputs
            .into_iter()
            .map(|output| output.success().context("refused, but it is no escape"));
        all(twins.map(|twin| twin.map(drop)))?;
        // Refusals come in order: each escape has an alert of its own.
        let (mut past, deadline) = (0, Instant::now() + DELIVERY);
        let escapes = self.escapes.iter().zip(refused);
        all(escapes.map(|(escape, output)| {
            let patience = deadline.saturating_duration_since(Instant::now());
            escape.refused(policy, container.name(), &output, &mut past, patience)
        }))
        .with_context(|| format!("in {}", container.name()))?;
        // The twins went first.
        let expected: BTreeSet<&str> = self.escapes.iter().map(|e| e.resource).collect();
        for alert in policy.alerts()? {
            let resource = alert["Resource"].as_str().unwrap_or_default();
            ensure!(expected.contains(resource), "about no escape: {alert:#}");
        }
        Ok(())
    }
}

/// One error of them all.
fn all(results: impl Iterator<Item = Result<()>>) -> Result<()> {
    let errors: Vec<String> = results
        .filter_map(|result| Some(format!("{:#}", result.err()?)))
        .collect();
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

impl Escape<'_> {
    /// The same about what is on no list, or of which no rule can tell the path.
    const fn unnamed(self) -> Self {
        Self {
            is_named: false,
            ..self
        }
    }

    /// Whether it was refused in a container, and an alert says so.
    fn failed(
        &self,
        policy: &Applied<'_>,
        container: &Container<'_>,
        output: &Output,
    ) -> Result<()> {
        self.refused(policy, container.name(), output, &mut 0, DELIVERY)
    }

    /// As [`Escape::failed`]; see [`Applied::expect_next`].
    fn refused(
        &self,
        policy: &Applied<'_>,
        container: &str,
        output: &Output,
        past: &mut usize,
        patience: Duration,
    ) -> Result<()> {
        let said = format!("{}{}", output.stdout, output.stderr);
        ensure!(
            output.code != 0 && said.contains(self.complaint),
            "not refused: {output}"
        );
        let what = format!("an alert about `{}`", self.line);
        let alert = policy
            .expect_next(past, patience, &what, |alert| {
                alert["Operation"] == self.operation
                    && alert["Resource"] == self.resource
                    && alert["ContainerName"] == container
            })
            .with_context(|| output.to_string())?;
        let policy = match self.is_named {
            true => policy.name(),
            false => "DefaultPosture",
        };
        ensure!(
            alert["Action"] == "Block"
                && alert["Result"] == "Permission denied"
                && alert["PolicyName"] == policy,
            "not in the name of {policy}: {alert:#}"
        );
        Ok(())
    }
}

/// Waits for a file that a container leaves in [`SHARE`].
pub(super) fn shared_file(name: &str) -> Result<()> {
    crate::support::until(
        &format!("{name} in the shared directory"),
        Duration::from_secs(60),
        || Ok(fs::exists(format!("{HOST_SHARE}/{name}"))?.then_some(())),
    )
}
