//! Namespaces of one's own.

use anyhow::{Result, ensure};

use super::{Case, PREPARE, Plan, SHUT, case, ordinary, privileged, reading, running};
use crate::support::{DefaultPostures, Guest};

pub(super) const CASES: &[Case] = &[
    case("escape_by_unshare_mounts", mounts),
    case("escape_by_unshare_pids", pids),
    case("escape_by_unshare_user_and_mounts", user),
];

/// The same from inside `unshare` with these options.
fn plan<'a>(
    name: &'a str,
    lines: &'a [String; 4],
) -> ([super::Escape<'a>; 2], [&'a str; 2], &'a str) {
    (
        [
            reading(&lines[0], "/srv/vault/secret"),
            running(&lines[1], "/srv/vault/tool"),
        ],
        [&lines[2], &lines[3]],
        name,
    )
}

/// The secret, the tool, the free file and the other tool, each from inside new namespaces.
fn inside(options: &str) -> [String; 4] {
    [
        "cat /srv/vault/secret",
        "/srv/vault/tool",
        "cat /srv/vault/free",
        "/srv/vault/other",
    ]
    .map(|command| format!("/opt/tools/busybox unshare {options} sh -c 'echo in; exec {command}'"))
}

fn mounts(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let lines = inside("-m");
        let (escapes, twins, name) = plan("escape-unshare-m", &lines);
        let plan = Plan {
            name,
            spec: SHUT,
            prepare: PREPARE,
            escapes: &escapes,
            twins: &twins,
        };
        plan.play_in(watched, &[&privileged(guest)?])?;
        not_allowed_anyway(guest, &lines[0])
    })
}

fn pids(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let lines = inside("-p -f");
        let (escapes, twins, name) = plan("escape-unshare-p", &lines);
        let plan = Plan {
            name,
            spec: SHUT,
            prepare: PREPARE,
            escapes: &escapes,
            twins: &twins,
        };
        plan.play_in(watched, &[&privileged(guest)?])?;
        not_allowed_anyway(guest, &lines[0])
    })
}

/// An ordinary container's root lacks what it takes; no policy is needed.
fn not_allowed_anyway(guest: &Guest, line: &str) -> Result<()> {
    for output in ordinary(guest)?.lines(&[line])? {
        ensure!(
            output.code != 0 && !output.stdout.contains("in\n"),
            "an ordinary container can do this: {output}"
        );
    }
    Ok(())
}

/// A user namespace gives every capability, in itself.
fn user(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        for (name, options) in [
            ("escape-unshare-urm", "-Urm"),
            ("escape-unshare-urmp", "-Urmp -f"),
        ] {
            let lines = inside(options);
            let (escapes, twins, name) = plan(name, &lines);
            let plan = Plan {
                name,
                spec: SHUT,
                prepare: PREPARE,
                escapes: &escapes,
                twins: &twins,
            };
            plan.play(watched, guest)?;
        }
        Ok(())
    })
}
