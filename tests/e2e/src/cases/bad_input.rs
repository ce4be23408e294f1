//! Input that is wrong: it is refused with a reason, and what was in force stays in force.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use karmor_proto::{karmor::v1::Outcome, policy::PolicyStatus};
use serde_json::Value;

use super::{Case, case};
use crate::support::{
    Applied, Container, DefaultPostures, Guest, Image, Watched, Wire, run, until,
};

pub(super) const CASES: &[Case] = &[
    case("bad_input_over_grpc_changes_nothing", over_grpc),
    case(
        "bad_input_in_the_directory_keeps_what_was_good",
        in_directory,
    ),
    case("bad_input_of_a_million_rules_is_refused", million_rules),
    case("bad_input_in_an_image_name_forges_nothing", image_name),
    case("bad_input_of_a_short_life_is_survived", short_life),
];

const GOOD: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: stays-in-force
spec:
  selector:
    matchLabels:
      app: nginx
  file:
    matchPaths:
    - path: /etc/nginx/nginx.conf
  action: Block
";

/// Unfinished: the file ends in the middle of a word.
const HALF: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: half-written
spec:
  selec";

const PATIENCE: Duration = Duration::from_secs(60);

/// Does something wrong beside a good policy, which must hold afterwards, with its alert.
fn beside(
    guest: &Guest,
    wrong: impl FnOnce(&Watched, &Container<'_>, &Applied<'_>) -> Result<()>,
) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest.container(Image::Debian)?.kept("bad-input")?;
        watched.enforcer.knows(container.name())?;
        let good = watched.policy(GOOD)?;
        wrong(watched, &container, &good)?;
        let output = container.exec(&["cat", "/etc/nginx/nginx.conf"])?;
        ensure!(output.denied(), "no longer in force: {output}");
        good.expect("its alert", |alert| {
            alert["PolicyName"] == good.name() && alert["ContainerName"] == container.name()
        })?;
        Ok(())
    })
}

fn over_grpc(guest: &Guest) -> Result<()> {
    beside(guest, |_, _, _| {
        let wire = Wire::connect()?;
        let worse: [&[u8]; 5] = [
            HALF.as_bytes(),
            b"kind: [",
            b"\xff\xfe\x00",
            b"",
            b"a: &a [*a, *a]",
        ];
        for bytes in worse {
            let status = wire.container_policy(bytes)?;
            ensure!(
                status == PolicyStatus::Invalid || status == PolicyStatus::Failure,
                "{} is {status:?}",
                bytes.escape_ascii()
            );
        }
        // The same name as the good one: half of a change is none.
        let answer = wire.apply(&format!("{GOOD}---\n{HALF}"))?;
        let refused = answer
            .results
            .iter()
            .find(|result| result.outcome() == Outcome::Invalid)
            .with_context(|| format!("all of it was accepted: {answer:?}"))?;
        ensure!(
            format!("{}{}", answer.rendered, refused.message).contains("case.yaml:"),
            "no place is named: {answer:?}"
        );
        Ok(())
    })
}

fn in_directory(guest: &Guest) -> Result<()> {
    let directory = Path::new("/etc/karmor/policies");
    let file = directory.join("directory.yaml");
    let manifest = GOOD
        .replace("stays-in-force", "from-a-file")
        .replace("/etc/nginx/nginx.conf", "/etc/nginx/mime.types");
    let outcome = beside(guest, |_, container, _| {
        fs::create_dir_all(directory).context("cannot make the policy directory")?;
        let read = || container.exec(&["cat", "/etc/nginx/mime.types"]);
        write(&file, &manifest)?;
        until("the file's policy to be in force", PATIENCE, || {
            Ok(read()?.denied().then_some(()))
        })?;
        let (half, _) = manifest.split_at(manifest.len() / 2);
        for bad in [half, "kind: [", "\0"] {
            write(&file, bad)?;
            until("the file's trouble to be told", PATIENCE, || {
                let list = list()?;
                let told = list.iter().any(|policy| {
                    let message = policy["message"].as_str().unwrap_or_default();
                    message.contains("last good version")
                });
                Ok(told.then_some(()))
            })?;
            ensure!(read()?.denied(), "{bad:?} took the policy out of force");
        }
        fs::remove_file(&file).context("cannot remove the policy's file")?;
        until("the policy to go with its file", PATIENCE, || {
            Ok((read()?.code == 0).then_some(()))
        })
    });
    // The next case begins without it; there is none when all went well.
    let _ = fs::remove_file(&file);
    outcome
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Policies as `karmor vm policy list` tells of them.
fn list() -> Result<Vec<Value>> {
    let output = run("karmor", ["vm", "policy", "list", "-o", "json"])?.success()?;
    serde_json::from_str(&output.stdout).context("the list is not JSON")
}

fn million_rules(guest: &Guest) -> Result<()> {
    beside(guest, |_, _, _| {
        let (head, tail) = GOOD
            .replace("stays-in-force", "a-million")
            .split_once("    - path: /etc/nginx/nginx.conf\n")
            .map(|(head, tail)| (head.to_owned(), tail.to_owned()))
            .context("the manifest has no rule")?;
        let rules = "    - path: /etc/a\n".repeat(1_000_000);
        let file = std::env::temp_dir().join("a-million.yaml");
        write(&file, &format!("{head}{rules}{tail}"))?;
        let output = run(
            "karmor",
            ["vm", "policy", "add", &file.display().to_string()],
        )?;
        fs::remove_file(&file).context("cannot remove the file")?;
        ensure!(output.code != 0, "accepted: {output}");
        ensure!(
            output.stderr.contains("a-million.yaml") && output.stderr.contains("MiB"),
            "no reason: {output}"
        );
        // Past the command, straight to the daemon.
        let wire = Wire::connect()?;
        let error = wire.apply(&format!("{head}{rules}{tail}")).err();
        let error = error.context("the daemon took a million rules")?;
        ensure!(format!("{error:#}").contains("too large"), "{error:#}");
        let rules = "    - path: /etc/a\n".repeat(40_000);
        let answer = wire.apply(&format!("{head}{rules}{tail}"))?;
        ensure!(
            answer
                .results
                .iter()
                .all(|result| result.outcome() == Outcome::Invalid),
            "{answer:?}"
        );
        ensure!(
            !list()?.iter().any(|policy| policy["name"] == "a-million"),
            "something of it stayed"
        );
        Ok(())
    })
}

/// A name that would begin a line of its own, clear the terminal, and end a JSON string.
const FORGED: &str = "localhost/karmor/forged:1\n\u{1b}[2J\"Action\":\"Audit\"";

fn image_name(guest: &Guest) -> Result<()> {
    beside(guest, |watched, _, good| {
        let containerd = guest.containerd()?;
        containerd
            .ctr(&["images", "tag", Image::Debian.reference(), FORGED])?
            .success()
            .context("containerd takes such names from its clients")?;
        let forged = guest
            .container(Image::Debian)?
            .named(FORGED)
            .start("forged")?;
        watched.enforcer.knows(forged.name())?;
        let output = forged.exec(&["cat", "/etc/nginx/nginx.conf"])?;
        ensure!(output.denied(), "{output}");
        let alert = good.expect("the alert", |alert| {
            alert["ContainerName"] == forged.name() && alert["Action"] == "Block"
        })?;
        let image = alert["ContainerImage"].as_str().unwrap_or_default();
        ensure!(
            image.starts_with("localhost/karmor/forged:1\\n\\u{1b}"),
            "{image:?}"
        );
        drop(forged);
        containerd.ctr(&["images", "rm", FORGED])?.success()?;
        Ok(())
    })
}

fn short_life(guest: &Guest) -> Result<()> {
    beside(guest, |watched, container, _| {
        for number in 0..8 {
            let name = format!("short-{number}");
            // It ends while the daemon asks containerd, the cgroup and the root about it.
            guest
                .containerd()?
                .ctr(&["run", "--rm", Image::Busybox.reference(), &name, "true"])?
                .success()?;
        }
        watched.enforcer.knows(container.name())?;
        until("the dead to be forgotten", PATIENCE, || {
            let probe = crate::support::probe()?;
            let workloads = probe["workloads"].as_array().context("no workloads")?;
            let left = workloads.iter().any(|workload| {
                workload["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with("short-"))
            });
            Ok((!left).then_some(()))
        })
    })
}
