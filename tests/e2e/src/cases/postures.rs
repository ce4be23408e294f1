//! Default postures that change while the daemon runs.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Case, case};
use crate::support::{
    Container, DefaultPostures, Enforcer, Guest, Hammer, Image, full, probe, until,
};

pub(super) const CASES: &[Case] = &[case(
    "posture_changed_in_the_file_counts_at_once_and_opens_no_gap",
    changed,
)];

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
