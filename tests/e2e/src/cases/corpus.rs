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
        for access in &case.accesses {
            if let Err(error) = try_access(&container, &alerts, access) {
                wrong.push(format!("{}: {access:?}: {error:#}", case.name));
            }
        }
        enforcer.delete_policy(file)?;
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), enforcer.log());
    Ok(())
}

fn try_access(container: &Container<'_>, alerts: &Alerts, access: &Access) -> Result<()> {
    let script = match access.operation {
        Operation::Exec => "exec \"$0\" --version",
        Operation::Read => "exec 3< \"$0\"",
        Operation::Write => ": >> \"$0\"",
    };
    let shell = [access.by.as_str(), "-c", script, access.path.as_str()];
    let reader = [access.by.as_str(), access.path.as_str()];
    let is_shell = access.by.ends_with("/bash");
    let output = container.exec(if is_shell { &shell } else { &reader })?;
    let (action, refused) = match access.expect {
        Verdict::Allow => (None, false),
        Verdict::Audit => (Some("Audit"), false),
        Verdict::Block => (Some("Block"), true),
    };
    ensure!(output.denied() == refused, "{output}");
    ensure!(refused || output.code == 0, "{output}");
    if let Some(action) = action {
        alerts.expect("the alert", |alert| is_about(alert, access, action))?;
    }
    Ok(())
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
