//! Descriptors that were open before the policy that forbids them.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Case, PREPARE, READ_ONLY, case, manifest, ordinary, privileged, reading};
use crate::support::{
    Actor, Applied, Container, DELIVERY, DefaultPostures, Guest, Output, probe, until,
};

pub(super) const CASES: &[Case] = &[
    case("escape_by_descriptor_from_before", from_before),
    case("escape_by_descriptor_inherited", inherited),
    case("escape_by_descriptor_passed_on", passed_on),
    case("escape_by_descriptor_on_its_way", on_its_way),
    case("escape_by_descriptor_of_a_directory", of_a_directory),
    case("escape_by_descriptor_of_what_the_kernel_executes", helper),
    case("descriptor_hook_is_attached_while_needed", while_needed),
    case("descriptor_for_reading_alone_goes_on", reading_alone),
    case("descriptor_is_decided_by_who_uses_it", by_who_uses_it),
];

const SECRET: &str = "/srv/vault/secret";
const FREE: &str = "/srv/vault/free";
const CLOSED: &str = "/srv/vault/closed";

/// Neither the file nor the directory, for nobody.
const SHUT: &str = "
  file:
    matchPaths:
    - path: /srv/vault/secret
    - path: /srv/vault/closed
  action: Block
";

const FROM_TRIES: &str = "
  file:
    matchPaths:
    - path: /srv/vault/secret
      fromSource:
      - path: /opt/tools/karmor-tries
  action: Block
";

/// Nothing moves the data of a file without one of these.
const USES: &[&str] = &[
    "read",
    "pread",
    "write",
    "pwrite",
    "splice-from",
    "splice-into",
    "sendfile-from",
    "sendfile-into",
    "copy-from",
    "copy-into",
    "ring-read",
    "ring-write",
    "map",
    "control",
    "reopen",
    // Whose program tries twice.
    "inherit",
];

/// Once each what reads, what writes, and what another program does.
const SOME_USES: &[&str] = &["pread", "pwrite", "map", "inherit"];

/// One who keeps files open in a container, and uses them.
struct Holder {
    actor: Actor,
    /// Where.
    container: String,
}

impl Drop for Holder {
    fn drop(&mut self) {
        // A process in a container outlives whoever started it there.
        for file in [SECRET, FREE, CLOSED] {
            let _ = self.attempt(&["use", "close", file]);
        }
    }
}

impl Holder {
    /// Begins with a line of bash; what that opens is inherited.
    fn start(container: &Container<'_>, opens: &str, keeps: &[&[&str]]) -> Result<Self> {
        for output in container.lines(&[PREPARE, "mkdir /srv/vault/closed"])? {
            output.success()?;
        }
        let line = format!("{opens} exec /opt/tools/karmor-tries obey");
        let mut holder = Self {
            actor: container.actor(&["bash", "-c", &line])?,
            container: container.name().to_owned(),
        };
        for keep in keeps {
            holder.attempt(&[&["keep"], *keep].concat())?.success()?;
        }
        Ok(holder)
    }

    /// One in an ordinary container and one in a privileged one.
    fn start_both(guest: &Guest, opens: &str, keeps: &[&[&str]]) -> Result<[Self; 2]> {
        Ok([
            Self::start(&ordinary(guest)?, opens, keeps)?,
            Self::start(&privileged(guest)?, opens, keeps)?,
        ])
    }

    fn attempt(&mut self, words: &[&str]) -> Result<Output> {
        let words = words.iter().copied().map(str::to_owned).collect();
        let outputs = self.actor.attempts(&[words])?;
        outputs.into_iter().next().context("one answer an attempt")
    }

    fn goes_on(&mut self, uses: &[&str], file: &str) -> Result<()> {
        for how in uses {
            let output = self.attempt(&["use", how, file])?;
            output
                .success()
                .with_context(|| format!("{how} of {file}"))?;
        }
        Ok(())
    }

    /// Each use is refused, and each has an alert.
    fn is_refused(&mut self, policy: &Applied<'_>, uses: &[&str], file: &str) -> Result<()> {
        let mut past = policy.alerts()?.len();
        let deadline = Instant::now() + DELIVERY;
        for how in uses {
            let output = self.attempt(&["use", how, file])?;
            let patience = deadline.saturating_duration_since(Instant::now());
            reading(how, file).refused(policy, &self.container, &output, &mut past, patience)?;
        }
        Ok(())
    }
}

/// Every alert is about this file.
fn only_about(policy: &Applied<'_>, file: &str) -> Result<()> {
    for alert in policy.alerts()? {
        ensure!(alert["Resource"] == file, "about no escape: {alert:#}");
    }
    Ok(())
}

fn from_before(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let [ordinary, privileged] = Holder::start_both(guest, "", &[&[SECRET], &[FREE]])?;
        let mut holders = [(ordinary, USES), (privileged, SOME_USES)];
        for (holder, uses) in &mut holders {
            holder.goes_on(uses, SECRET)?;
        }
        let policy = watched.policy(&manifest("descriptor-before", SHUT))?;
        for (holder, uses) in &mut holders {
            holder.goes_on(uses, FREE)?;
            holder.is_refused(&policy, uses, SECRET)?;
        }
        only_about(&policy, SECRET)?;
        // It is not the descriptor that is spoilt.
        drop(policy);
        for (holder, _) in &mut holders {
            holder.goes_on(SOME_USES, SECRET)?;
        }
        Ok(())
    })
}

/// By a program that another opened it for.
fn inherited(guest: &Guest) -> Result<()> {
    const OPENS: &str = "exec 7<>/srv/vault/secret 8<>/srv/vault/free;";
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let keeps: &[&[&str]] = &[&["--inherited=7", SECRET], &["--inherited=8", FREE]];
        let mut holders = Holder::start_both(guest, OPENS, keeps)?;
        let policy = watched.policy(&manifest("descriptor-inherited", SHUT))?;
        for holder in &mut holders {
            holder.goes_on(SOME_USES, FREE)?;
            holder.is_refused(&policy, SOME_USES, SECRET)?;
        }
        only_about(&policy, SECRET)
    })
}

/// Over a socket.
fn passed_on(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let mut holders = Holder::start_both(guest, "", &[&[SECRET], &[FREE]])?;
        for holder in &mut holders {
            holder.goes_on(&["pass"], SECRET)?;
        }
        let policy = watched.policy(&manifest("descriptor-passed", SHUT))?;
        for holder in &mut holders {
            holder.goes_on(&["pass"], FREE)?;
            holder.is_refused(&policy, &["pass"], SECRET)?;
        }
        only_about(&policy, SECRET)
    })
}

/// In a socket when the policy comes, and open nowhere else.
fn on_its_way(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let mut holders = Holder::start_both(guest, "", &[&[SECRET], &[FREE]])?;
        for holder in &mut holders {
            for file in [SECRET, FREE] {
                holder.goes_on(&["send", "take", "send", "close"], file)?;
            }
        }
        let policy = watched.policy(&manifest("descriptor-on-its-way", SHUT))?;
        for holder in &mut holders {
            holder.goes_on(&["take"], FREE)?;
            holder.is_refused(&policy, &["take"], SECRET)?;
        }
        only_about(&policy, SECRET)
    })
}

fn of_a_directory(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let mut holders = Holder::start_both(guest, "", &[&[CLOSED], &["/srv/open"]])?;
        for holder in &mut holders {
            holder.goes_on(&["list"], CLOSED)?;
        }
        let policy = watched.policy(&manifest("descriptor-directory", SHUT))?;
        for holder in &mut holders {
            holder.goes_on(&["list"], "/srv/open")?;
            holder.is_refused(&policy, &["list"], CLOSED)?;
        }
        only_about(&policy, CLOSED)
    })
}

/// Of a file that names a program for the kernel to execute: no rule is about that.
fn helper(guest: &Guest) -> Result<()> {
    const HELPER: &str = "/proc/sys/kernel/core_pattern";
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let usual = fs::read(HELPER).context("cannot read it")?;
        let mut holder = Holder::start(&privileged(guest)?, "", &[&[HELPER], &[FREE]])?;
        holder.goes_on(&["pwrite"], HELPER)?;
        fs::write(HELPER, usual).context("cannot write it back")?;
        let policy = watched.policy(&manifest("descriptor-helper", SHUT))?;
        holder.goes_on(&["pwrite"], FREE)?;
        holder.goes_on(&["pread"], HELPER)?;
        let output = holder.attempt(&["use", "pwrite", HELPER])?;
        ensure!(output.denied(), "not refused: {output}");
        let alert = policy.expect("an alert about the helper", |alert| {
            alert["Resource"] == "a program for the kernel to execute"
                && alert["ContainerName"] == holder.container
        })?;
        ensure!(
            alert["PolicyName"] == "SelfProtection" && alert["Action"] == "Block",
            "{alert:#}"
        );
        holder.goes_on(&["close"], HELPER)
    })
}

/// What is forbidden is forbidden, and nothing more.
fn reading_alone(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let mut holder = Holder::start(&ordinary(guest)?, "", &[&[SECRET]])?;
        let policy = watched.policy(&manifest("descriptor-read-only", READ_ONLY))?;
        holder.goes_on(&["pread", "splice-from", "copy-from"], SECRET)?;
        ensure!(policy.alerts()?.is_empty(), "{:#?}", policy.alerts()?);
        holder.is_refused(&policy, &["pwrite", "splice-into", "copy-into"], SECRET)
    })
}

/// One program may, another may not, with the same open file.
fn by_who_uses_it(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let mut holder = Holder::start(&ordinary(guest)?, "", &[&[SECRET]])?;
        let policy = watched.policy(&manifest("descriptor-source", FROM_TRIES))?;
        holder.goes_on(&["inherit"], SECRET)?;
        ensure!(policy.alerts()?.is_empty(), "{:#?}", policy.alerts()?);
        holder.is_refused(&policy, &["pread", "pwrite"], SECRET)?;
        holder.goes_on(&["inherit"], SECRET)
    })
}

fn while_needed(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let attached = |wanted: bool| {
            let what = format!("file_permission to be attached: {wanted}");
            until(&what, Duration::from_secs(20), || {
                Ok((is_attached("file_permission")? == wanted).then_some(()))
            })
        };
        let mut holder = Holder::start(&ordinary(guest)?, "", &[&[FREE]])?;
        let policy = watched.policy(&manifest("descriptor-hook", SHUT))?;
        ensure!(
            !is_attached("file_permission")?,
            "nobody holds what is refused"
        );
        drop(policy);
        holder.attempt(&["keep", SECRET])?.success()?;
        let policy = watched.policy(&manifest("descriptor-hook", SHUT))?;
        ensure!(is_attached("file_permission")?, "somebody holds it");
        holder.goes_on(&["close"], SECRET)?;
        attached(false)?;
        ensure!(is_attached("file_open")?, "the policy is in force");
        ensure!(policy.alerts()?.is_empty(), "{:#?}", policy.alerts()?);
        Ok(())
    })
}

fn is_attached(hook: &str) -> Result<bool> {
    let report = probe()?;
    let hooks = report["hooks"].as_array();
    let mut hooks = hooks.context("the probe lists hooks")?.iter();
    let hook = hooks.find(|one| one["hook"] == hook);
    let attached = hook.and_then(|hook| hook["attached"].as_bool());
    attached.context("the probe tells of the hook")
}
