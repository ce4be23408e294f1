//! Changing what a policy says may only be read.

use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};

use super::{
    Case, HOST_SHARE, PREPARE, Plan, READ_ONLY, SHARE, SHUT, case, in_both, manifest, ordinary,
    privileged, reading, shared_file,
};
use crate::support::{Container, DefaultPostures, Guest, Output};

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
    held(guest, "escape-ftruncate", "truncate")
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
    held(guest, "escape-held-mapping", "map")
}

/// Changes files that were opened before: without a policy, and with one that is about the first.
fn held(guest: &Guest, name: &str, change: &str) -> Result<()> {
    const SECRET: &str = "/srv/vault/secret";
    const FREE: &str = "/srv/vault/free";
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        in_both(guest, |container| {
            for output in container.lines(&[PREPARE])? {
                output.success()?;
            }
            let (_, output) = meanwhile(container, change, SECRET, || Ok(()))?;
            output.success().context("without a policy")?;
            let policy = || watched.policy(&manifest(name, READ_ONLY));
            let (policy_of_free, output) = meanwhile(container, change, FREE, policy)?;
            output.success().context("refused, but it is no escape")?;
            let told = policy_of_free.alerts()?;
            ensure!(told.is_empty(), "{told:#?}");
            drop(policy_of_free);
            let (policy, output) = meanwhile(container, change, SECRET, policy)?;
            reading("a change of the open file", SECRET).failed(&policy, container, &output)
        })
    })
}

/// Has a file opened, does something, and has the file changed.
fn meanwhile<T>(
    container: &Container<'_>,
    change: &str,
    file: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Output)> {
    for signal in ["ready", "go"] {
        // From the time before.
        let _ = fs::remove_file(format!("{HOST_SHARE}/{signal}"));
    }
    thread::scope(|scope| {
        let opener = scope
            .spawn(|| container.exec(&["/opt/tools/karmor-tries", "hold", change, file, SHARE]));
        let done = shared_file("ready").and_then(|()| work());
        // Whatever happened, the opener must end.
        let go = fs::write(format!("{HOST_SHARE}/go"), "");
        let output = opener
            .join()
            .map_err(|_panic| anyhow::anyhow!("the opener panicked"));
        go.context("cannot tell the opener to go on")?;
        Ok((done?, output??))
    })
}
