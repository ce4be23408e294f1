//! The corpus, asked of the kernel. The policy crate's tests ask the reference evaluator and the
//! compiled table the same.

use anyhow::{Context as _, Result, ensure};
use karmor_cases::{Access, Operation, Posture, Verdict};
use serde_json::Value;

use super::Case;
use crate::support::{Container, Guest, Image, KernelVersion, Watched};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "corpus_posture_audit",
        since: KernelVersion::new(6, 1),
        run: |guest| corpus(guest, Posture::Audit, &[]),
    },
    Case {
        name: "corpus_posture_block",
        since: KernelVersion::new(6, 1),
        run: |guest| corpus(guest, Posture::Block, &["--defaultFilePosture=block"]),
    },
];

fn corpus(guest: &Guest, posture: Posture, flags: &[&str]) -> Result<()> {
    let cases = karmor_cases::all()?;
    guest.watched(flags, |watched| {
        let container = guest.container(Image::Debian)?.kept("corpus")?;
        watched.enforcer.knows(container.name())?;
        let mut wrong = Vec::new();
        for case in cases.iter().filter(|case| case.posture == posture) {
            let problems = hold(watched, &container, case.policy, &case.accesses);
            let problems = problems.with_context(|| case.name)?;
            wrong.extend(problems.iter().map(|p| format!("{}: {p}", case.name)));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

/// Makes the accesses under the policy, and says what did not come out as it must.
fn hold(
    watched: &Watched,
    container: &Container<'_>,
    manifest: &str,
    accesses: &[Access],
) -> Result<Vec<String>> {
    let policy = watched.policy(manifest)?;
    let lines: Vec<String> = accesses.iter().map(attempt).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    for (access, output) in accesses.iter().zip(container.lines(&lines)?) {
        match access.expect {
            Verdict::Allow if output.code == 0 => {}
            Verdict::Audit if output.code == 0 => {
                policy.expect("the alert", |alert| is_about(alert, access, "Audit"))?;
            }
            Verdict::Block if output.denied() => {
                policy.expect("the alert", |alert| is_about(alert, access, "Block"))?;
            }
            _ => problems.push(format!("{access:?}: {output}")),
        }
    }
    // Alerts come in order, so those about earlier accesses are here by now; what follows the last
    // alert that is due is for the next case to stumble over.
    for alert in policy.alerts()? {
        let due = |access: &&Access| match access.expect {
            Verdict::Allow => false,
            Verdict::Audit => is_about(&alert, access, "Audit"),
            Verdict::Block => is_about(&alert, access, "Block"),
        };
        if !accesses.iter().any(|access| due(&access)) {
            problems.push(format!("an alert that is not due: {alert}"));
        }
    }
    Ok(problems)
}

/// One access, as a line of bash. A subshell is the same image as its shell.
fn attempt(access: &Access) -> String {
    let Access { path, by, .. } = access;
    match access.operation {
        _ if !by.ends_with("/bash") => format!("{by} {path} >/dev/null"),
        Operation::Exec => format!("exec {path} --version >/dev/null"),
        Operation::Read => format!("exec 3< {path}"),
        Operation::Write => format!(": >> {path}"),
    }
}

fn is_about(alert: &Value, access: &Access, action: &str) -> bool {
    // A written /bin/x is /usr/bin/x where the alert comes from.
    let resource = alert["Resource"].as_str().unwrap_or_default();
    alert["Action"] == action
        && resource
            .split(' ')
            .next()
            .is_some_and(|path| path.ends_with(&access.path))
}
