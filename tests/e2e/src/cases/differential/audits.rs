//! What is audited: such a call goes ahead as one that is allowed does, so the alerts alone tell
//! the two apart.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use karmor_abi::{op::Op, verdict::Action};
use serde_json::Value;

use super::{
    ROOT,
    calls::{Call, Judge},
};
use crate::support::{Applied, DELIVERY, until};

/// `Operation` and path.
type Audit = (String, String);

/// Waits until every file of the calls that the reference audits has been told of; that none of
/// what came is about a file that it does not audit. How many there are.
pub(super) fn check<'a>(
    judge: &Judge<'_>,
    calls: impl Iterator<Item = &'a Call>,
    applied: &Applied<'_>,
) -> Result<usize> {
    let due: BTreeSet<Audit> = calls.flat_map(|call| due(judge, call)).collect();
    let mut told = BTreeSet::new();
    until("what is audited to be told of", DELIVERY, || {
        told = told_of(applied)?;
        Ok(due.is_subset(&told).then_some(()))
    })
    .with_context(|| format!("not told of: {:?}", due.difference(&told)))?;
    let wrong: Vec<&Audit> = told.iter().filter(|it| !may_be(judge, it)).collect();
    ensure!(wrong.is_empty(), "told of, but not audited: {wrong:?}");
    Ok(due.len())
}

/// Of a call that goes ahead. One that gives another name does so twice, there and back, which
/// [`may_be`] is for.
fn due(judge: &Judge<'_>, call: &Call) -> Vec<Audit> {
    let audits = call.asks().iter().filter(|&&op| {
        !judge.refuses(call) && judge.action_to(op, call.path(), call.is_owned()) == Action::Audit
    });
    audits
        .map(|&op| (operation(op).to_owned(), call.path().to_owned()))
        .collect()
}

/// Whether the reference audits anything about it: what a call made is taken away again, by its owner.
fn may_be(judge: &Judge<'_>, (told, path): &Audit) -> bool {
    let ops = [Op::Read, Op::Write, Op::Exec].into_iter();
    ops.filter(|&op| operation(op) == told).any(|op| {
        [true, false]
            .map(|owner| judge.action_to(op, path, owner))
            .contains(&Action::Audit)
    })
}

const fn operation(op: Op) -> &'static str {
    match op {
        Op::Exec => "Process",
        _ => "File",
    }
}

/// What the alerts since the policy came say about the files of the test.
fn told_of(applied: &Applied<'_>) -> Result<BTreeSet<Audit>> {
    let text = |alert: &Value, field| alert[field].as_str().unwrap_or_default().to_owned();
    let alerts = applied.alerts()?.into_iter();
    let audits = alerts.filter_map(|alert| {
        let path = text(&alert, "Resource");
        let path = path.split(' ').next()?.to_owned();
        let is_ours = alert["Action"] == "Audit"
            && alert["PolicyName"] == applied.name()
            && path.starts_with(&format!("{ROOT}/"));
        is_ours.then(|| (text(&alert, "Operation"), path))
    });
    Ok(audits.collect())
}
