//! The corpus, asked of the kernel. The policy crate's tests ask the reference evaluator and the
//! compiled table the same.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use karmor_cases::{Access, Operation, Posture, Verdict};
use serde_json::Value;

use super::Case;
use crate::support::{Alerts, Container, Enforcer, Guest, Image, KernelVersion};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "corpus_posture_audit",
        since: KernelVersion::new(6, 1),
        run: |guest| corpus(guest, Posture::Audit, "audit"),
    },
    Case {
        name: "corpus_posture_block",
        since: KernelVersion::new(6, 1),
        run: |guest| corpus(guest, Posture::Block, "block"),
    },
];

fn corpus(guest: &Guest, posture: Posture, flag: &str) -> Result<()> {
    let flag = format!("--defaultFilePosture={flag}");
    let enforcer = Enforcer::start(guest.containerd()?, &[&flag])?;
    let container = guest
        .container(Image::Debian)?
        .start(&format!("corpus-{posture:?}").to_lowercase())?;
    let file = Path::new("/tmp/corpus.yaml");
    let mut wrong = Vec::new();
    let cases = karmor_cases::all()?;
    for case in cases.iter().filter(|case| case.posture == posture) {
        fs::write(file, case.policy).context("cannot write the policy")?;
        let alerts = Alerts::watch(&[])?;
        enforcer.add_policy(file)?;
        for problem in try_accesses(&container, &alerts, &case.accesses)? {
            wrong.push(format!("{}: {problem}", case.name));
        }
        enforcer.delete_policy(file)?;
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), enforcer.log());
    Ok(())
}

/// Makes the accesses one after the other from one shell in the container, which costs one exec
/// rather than one each, and says what did not come out as it must.
fn try_accesses(
    container: &Container<'_>,
    alerts: &Alerts,
    accesses: &[Access],
) -> Result<Vec<String>> {
    let script: String = accesses.iter().map(attempt).collect();
    let output = container.exec(&["/usr/bin/bash", "-c", &script])?;
    let ends: Vec<_> = output.stdout.split_inclusive(END).collect();
    ensure!(
        ends.len() >= accesses.len(),
        "the shell ended early: {output}"
    );
    let mut problems = Vec::new();
    for (access, said) in accesses.iter().zip(ends) {
        let refused = said.contains("ermission denied");
        let failed = !said.ends_with(&format!("0{END}"));
        let (action, as_wanted) = match access.expect {
            Verdict::Allow => (None, !failed),
            Verdict::Audit => (Some("Audit"), !failed),
            Verdict::Block => (Some("Block"), refused && failed),
        };
        if !as_wanted {
            problems.push(format!("{access:?}: {said}"));
        } else if let Some(action) = action {
            alerts.expect("the alert", |alert| is_about(alert, access, action))?;
        }
    }
    Ok(problems)
}

/// What the script prints after the exit code of an attempt.
const END: &str = " is how it ended\n";

/// One attempt, in a subshell, which is the same image as its shell.
fn attempt(access: &Access) -> String {
    let Access { path, by, .. } = access;
    let action = match access.operation {
        _ if !by.ends_with("/bash") => format!("{by} {path} >/dev/null"),
        Operation::Exec => format!("exec {path} --version >/dev/null"),
        Operation::Read => format!("exec 3< {path}"),
        Operation::Write => format!(": >> {path}"),
    };
    format!("( {action} ) 2>&1; echo \"$?{}\"\n", END.trim_end())
}

fn is_about(alert: &Value, access: &Access, action: &str) -> bool {
    // A written /bin/x is /usr/bin/x where the alert comes from.
    let resource = alert["Resource"].as_str().unwrap_or_default();
    alert["Action"] == action
        && resource
            .split(' ')
            .next()
            .is_some_and(|p| p.ends_with(&access.path))
}
