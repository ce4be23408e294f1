//! Default postures: one that is silent, and ones that change while the daemon runs.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    Case, case,
    escapes::{manifest, ordinary},
};
use crate::support::{
    Container, DefaultPostures, Enforcer, Guest, Hammer, Image, Watched, full, probe, until,
};

pub(super) const CASES: &[Case] = &[
    case("posture_allow_is_silent_where_audit_tells", silent),
    case(
        "posture_changed_in_the_file_counts_at_once_and_opens_no_gap",
        changed,
    ),
];

/// A whitelist in each family, and rules that hold and tell whatever the posture is.
const LISTS: &str = "
  process:
    matchPaths:
    - path: /usr/bin/bash
      action: Allow
  file:
    matchPaths:
    - path: /etc/passwd
      action: Allow
    - path: /etc/nginx/mime.types
      action: Audit
    - path: /etc/nginx/nginx.conf
  network:
    matchProtocols:
    - protocol: icmp
      action: Allow
  capabilities:
    matchCapabilities:
    - capability: chown
      action: Allow
  action: Block
";

/// What is on no list, in each family.
const UNLISTED: [&str; 3] = [
    "cat /usr/bin/true > /dev/null",
    "/opt/tools/karmor-tries socket create 2 1 0",
    "/opt/tools/karmor-tries capability setuid",
];

/// What alerts call the families.
const FAMILIES: [&str; 4] = ["Process", "File", "Network", "Capabilities"];

/// With the posture audit each family tells, or silence would prove nothing.
fn silent(guest: &Guest) -> Result<()> {
    for (postures, told) in [
        (DefaultPostures::AUDIT, &FAMILIES[..]),
        (DefaultPostures::ALLOW, &[]),
    ] {
        guest.watched(&postures, |watched| tells(watched, guest, told))?;
    }
    Ok(())
}

/// Of these families, and of no others, the default posture tells.
fn tells(watched: &Watched, guest: &Guest, families: &[&str]) -> Result<()> {
    let container = ordinary(guest)?;
    watched.enforcer.knows(container.name())?;
    let policy = watched.policy(&manifest("lists", LISTS))?;
    for output in container.lines(&UNLISTED)? {
        output.success()?;
    }
    // Alerts of each of these come behind those of what went before.
    for (file, action) in [("mime.types", "Audit"), ("nginx.conf", "Block")] {
        let path = format!("/etc/nginx/{file}");
        for output in container.lines(&[&format!("exec 3< {path}")])? {
            ensure!(output.denied() == (action == "Block"), "{output}");
        }
        policy.expect(&path, |alert| {
            alert["Resource"] == *path
                && alert["Action"] == action
                && alert["PolicyName"] == policy.name()
        })?;
    }
    let alerts = policy.alerts()?;
    let by_posture: Vec<_> = alerts
        .iter()
        .filter(|alert| alert["PolicyName"] == "DefaultPosture")
        .collect();
    for family in FAMILIES {
        let is_told = by_posture.iter().any(|alert| alert["Operation"] == family);
        ensure!(
            is_told == families.contains(&family),
            "{family}: {by_posture:#?}"
        );
    }
    Ok(())
}

/// A whitelist of processes, and Block rules that hold whatever the posture is.
const POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: whitelisted
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchPaths:
    - path: /usr/bin/bash
      action: Allow
    - path: /usr/bin/apt
    matchDirectories:
    - dir: /opt/karmor/
      recursive: true
      action: Allow
  file:
    matchPaths:
    - path: /etc/nginx/nginx.conf
  action: Block
";

const HAMMER: [&str; 4] = [
    "--deny-open=/etc/nginx/nginx.conf",
    "--deny-exec=/usr/bin/apt",
    "--processes=2",
    "--until=stop",
];

/// How often the posture changes: at least, and in a full run.
const CHANGES: [usize; 2] = [4, 10];

const PATIENCE: Duration = Duration::from_secs(60);

fn changed(guest: &Guest) -> Result<()> {
    let hammer = Hammer::new("whitelisted")?;
    let container = hammer
        .mount(guest.container(Image::Debian)?)?
        .start("whitelisted")?;
    guest.unwatched(&DefaultPostures::AUDIT, |enforcer| {
        follows(enforcer, &hammer, &container)
    })
}

fn follows(enforcer: &Enforcer, hammer: &Hammer, container: &Container<'_>) -> Result<()> {
    let path = DefaultPostures::file();
    let changes = CHANGES[usize::from(full())];
    let write = |posture: &str| {
        let text = format!("defaultFilePosture: {posture}\n");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    enforcer.knows(container.name())?;
    let policy = enforcer.add_manifest("whitelisted", POLICY)?;
    ensure!(runs_unnamed(container)?, "refused with the posture audit");

    std::thread::scope(|scope| {
        let hammering = hammer.start(scope, container, &HAMMER);
        let changed = (|| {
            let start = hammer.reaches(10, &hammering)?;
            for posture in ["block", "audit"].into_iter().cycle().take(changes) {
                write(posture)?;
                until(&format!("the posture {posture}"), PATIENCE, || {
                    let posture_now = &probe()?["postures"]["containers"]["file"];
                    Ok((posture_now == posture).then_some(()))
                })?;
                ensure!(
                    runs_unnamed(container)? == (posture == "audit"),
                    "told that the posture is {posture}, and it is not"
                );
            }
            Ok(start)
        })();
        let end = hammer.counts();
        hammer.stop()?;
        let report = hammering.report()?;
        let start = changed?;
        let tried = end?.denials() - start.denials();
        crate::support::note(&format!("{changes} changes, {tried} refusals meanwhile"));
        report.all_right()?;
        ensure!(tried > changes as u64, "only {tried} attempts");
        Ok(())
    })?;

    // What cannot be meant changes nothing, and is told.
    write("block")?;
    until("the posture to be block", PATIENCE, || {
        Ok((!runs_unnamed(container)?).then_some(()))
    })?;
    write("deny")?;
    until("to be told", PATIENCE, || {
        let error = probe()?["postures"]["error"].clone();
        let told = error.as_str().is_some_and(|e| e.contains("deny"));
        Ok(told.then_some(()))
    })?;
    ensure!(!runs_unnamed(container)?, "a wrong value opened it");
    enforcer.delete_policy(&policy)?;
    Ok(())
}

/// Whether a program that no rule names can be executed.
fn runs_unnamed(container: &Container<'_>) -> Result<bool> {
    let output = container.exec(&["bash", "-c", "ls /"])?;
    ensure!(output.code == 0 || output.denied(), "{output}");
    Ok(output.code == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sound() {
        crate::cases::assert_sound(&manifest("lists", LISTS));
    }
}
