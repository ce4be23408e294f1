//! Changing what a policy says may only be read.

use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};

use super::{
    Case, HOST_SHARE, PREPARE, Plan, READ_ONLY, SHARE, SHUT, case, manifest, ordinary, privileged,
    reading, shared_file,
};
use crate::support::{Container, DefaultPostures, Guest};

pub(super) const CASES: &[Case] = &[
    case("escape_by_truncating_open", truncating_open),
    case("escape_by_ftruncate", ftruncate),
    case("escape_by_shared_mapping", shared_mapping),
    case("escape_by_io_uring", io_uring),
];

/// What `karmor-tries` asks of io_uring, as a line of bash.
macro_rules! ring {
    ($line:literal) => {
        concat!("/opt/tools/karmor-tries ring ", $line)
    };
}

/// What a ring does, and a thread of the kernel's in the name of whoever asks.
fn io_uring(guest: &Guest) -> Result<()> {
    const SECRET: &str = "/srv/vault/secret";
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-io-uring",
            spec: SHUT,
            prepare: PREPARE,
            escapes: &[
                reading(ring!("read /srv/vault/secret"), SECRET),
                reading(ring!("--by-worker read /srv/vault/secret"), SECRET),
                reading(ring!("write /srv/vault/secret"), SECRET),
                reading(ring!("--by-worker write /srv/vault/secret"), SECRET),
                reading(ring!("link /srv/vault/secret /srv/open/s"), SECRET),
                reading(
                    ring!("--by-worker rename /srv/vault/secret /srv/open/s"),
                    SECRET,
                ),
                reading(ring!("--by-worker unlink /srv/vault/secret"), SECRET),
            ],
            twins: &[
                ring!("read /srv/vault/free"),
                ring!("--by-worker read /srv/vault/free"),
                ring!("write /srv/vault/free"),
                ring!("--by-worker link /srv/vault/free /srv/open/f"),
                ring!("rename /srv/open/f /srv/open/g"),
                ring!("--by-worker unlink /srv/open/g"),
            ],
        }
        .play(watched, guest)
    })
}

/// It still holds what it held, and can be read.
const INTACT: &str = "[ \"$(cat /srv/vault/secret)\" = secret ]";

fn intact(container: &Container<'_>) -> Result<()> {
    for output in container.lines(&[INTACT])? {
        output.success()?;
    }
    Ok(())
}

fn truncating_open(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let plan = Plan {
            name: "escape-truncating-open",
            spec: READ_ONLY,
            prepare: PREPARE,
            escapes: &[
                reading(": > /srv/vault/secret", "/srv/vault/secret"),
                reading(
                    "/opt/tools/karmor-tries truncate /srv/vault/secret",
                    "/srv/vault/secret",
                ),
                reading("truncate -s 0 /srv/vault/secret", "/srv/vault/secret"),
                // Neither for reading nor for writing, for `ioctl`.
                reading(
                    "/opt/tools/karmor-tries open-to-control /srv/vault/secret",
                    "/srv/vault/secret",
                ),
            ],
            twins: &[
                INTACT,
                ": > /srv/vault/free",
                "/opt/tools/karmor-tries truncate /srv/vault/free",
                "/opt/tools/karmor-tries open-to-control /srv/vault/free",
            ],
        };
        let containers = [&ordinary(guest)?, &privileged(guest)?];
        plan.play_in(watched, &containers)?;
        containers.into_iter().try_for_each(intact)
    })
}

/// A file opened for writing before the policy is not shortened after it.
fn ftruncate(guest: &Guest) -> Result<()> {
    held(
        guest,
        "escape-ftruncate",
        "truncate",
        "/srv/vault/secret",
        true,
    )?;
    held(
        guest,
        "escape-ftruncate-free",
        "truncate",
        "/srv/vault/free",
        false,
    )
}

fn shared_mapping(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let plan = Plan {
            name: "escape-mapping",
            spec: READ_ONLY,
            prepare: PREPARE,
            escapes: &[reading(
                "/opt/tools/karmor-tries map /srv/vault/secret",
                "/srv/vault/secret",
            )],
            twins: &[INTACT, "/opt/tools/karmor-tries map /srv/vault/free"],
        };
        let containers = [&ordinary(guest)?, &privileged(guest)?];
        plan.play_in(watched, &containers)?;
        containers.into_iter().try_for_each(intact)
    })?;
    held(
        guest,
        "escape-held-mapping",
        "map",
        "/srv/vault/secret",
        true,
    )?;
    held(
        guest,
        "escape-held-mapping-free",
        "map",
        "/srv/vault/free",
        false,
    )
}

/// Opens a file, adds the policy, and lets the opener change the file.
fn held(guest: &Guest, name: &str, change: &str, file: &str, refused: bool) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = ordinary(guest)?;
        for output in container.lines(&[PREPARE])? {
            output.success()?;
        }
        for signal in ["ready", "go"] {
            // From the case before.
            let _ = fs::remove_file(format!("{HOST_SHARE}/{signal}"));
        }
        let (policy, output) = thread::scope(|scope| {
            let opener = scope.spawn(|| {
                container.exec(&["/opt/tools/karmor-tries", "hold", change, file, SHARE])
            });
            let policy =
                shared_file("ready").and_then(|()| watched.policy(&manifest(name, READ_ONLY)));
            // Whatever happened, the opener must end.
            let go = fs::write(format!("{HOST_SHARE}/go"), "");
            let output = opener
                .join()
                .map_err(|_panic| anyhow::anyhow!("the opener panicked"));
            go.context("cannot tell the opener to go on")?;
            anyhow::Ok((policy?, output??))
        })?;
        if refused {
            reading("a change of the open file", file).failed(&policy, &container, &output)?;
        } else {
            output.success()?;
            ensure!(policy.alerts()?.is_empty(), "{:#?}", policy.alerts()?);
        }
        Ok(())
    })
}
