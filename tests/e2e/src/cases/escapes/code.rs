//! Running a program without executing it by its name.

use std::fs;

use anyhow::{Context as _, Result};

use super::{
    Case, DENIED, Escape, HOST_SHARE, PREPARE, Plan, SHARE, SHUT, case, manifest, ordinary,
    reading, running,
};
use crate::support::{DELIVERY, DefaultPostures, Guest, until};

pub(super) const CASES: &[Case] = &[
    case("escape_by_loader", loader),
    case("escape_by_script", script),
    case("escape_by_double_fork", double_fork),
    case("escape_by_orphan_when_policies_change", orphan_of_another),
    case("escape_by_memfd", memfd),
    case("escape_by_shared_memory", shared_memory),
];

/// The dynamic loader as a program maps what it runs.
fn loader(guest: &Guest) -> Result<()> {
    const fn by_loader(line: &str) -> Escape<'_> {
        Escape {
            // It keeps the reason to itself.
            complaint: "failed to map segment from shared object",
            ..running(line, "/srv/vault/tool")
        }
    }
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-loader",
            spec: SHUT,
            prepare: PREPARE,
            escapes: &[
                by_loader("/lib64/ld-linux-x86-64.so.2 /srv/vault/tool"),
                by_loader("cd /srv/vault && /lib64/ld-linux-x86-64.so.2 ./tool"),
            ],
            twins: &["/lib64/ld-linux-x86-64.so.2 /srv/vault/other"],
        }
        .play(watched, guest)
    })
}

/// The kernel executes a script's interpreter.
fn script(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-script",
            spec: SHUT,
            prepare: &format!(
                "{PREPARE} && cd /srv/open && printf '#!/srv/vault/tool\\n' > shut \
                 && printf '#!/srv/vault/other\\n' > free \
                 && printf '#!/srv/open/shut\\n' > nested && chmod +x shut free nested"
            ),
            escapes: &[
                running("/srv/open/shut", "/srv/vault/tool"),
                running("/srv/open/nested", "/srv/vault/tool"),
            ],
            twins: &["/srv/open/free"],
        }
        .play(watched, guest)
    })
}

/// A rule about who executes or who started who executes; an orphan was started all the same.
fn double_fork(guest: &Guest) -> Result<()> {
    /// Executes `env PROGRAM` once the kernel has given it another parent; says how it ended.
    fn orphan(launcher: &str, program: &str) -> String {
        format!(
            r#"said=$({launcher} -c '( (
                until read -r _ _ _ parent _ < /proc/$BASHPID/stat && [ "$parent" = 1 ]; do :; done
                exec env {program} ) & )' 2>&1); echo "$said"; [ -z "$said" ]"#
        )
    }
    let escape = orphan("/srv/launcher", "/srv/vault/tool");
    let other_program = orphan("/srv/launcher", "/srv/vault/other");
    let other_launcher = orphan("bash", "/srv/vault/tool");
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-orphan",
            spec: "
  process:
    matchPaths:
    - path: /srv/vault/tool
      fromSource:
      - path: /srv/launcher
  action: Block
",
            prepare: &format!("{PREPARE} && cp /usr/bin/bash /srv/launcher"),
            escapes: &[
                running("/srv/launcher -c 'exec /srv/vault/tool'", "/srv/vault/tool"),
                running(
                    "/srv/launcher -c 'env /srv/vault/tool; exit'",
                    "/srv/vault/tool",
                ),
                running(&escape, "/srv/vault/tool"),
            ],
            twins: &[&other_program, &other_launcher, "env /srv/vault/tool"],
        }
        .play(watched, guest)
    })
}

/// The container's first process, which orphans are given to.
const FIRST: &str = "
  process:
    matchDirectories:
    - {dir: /usr/, recursive: true}
    matchPaths:
    - path: /srv/vault/tool
      fromSource:
      - path: /usr/bin/sleep
  action: Allow
";

/// Whose child an orphan is says nothing about who started it, also when that has to be found out again.
fn orphan_of_another(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::BLOCK_FILES, |watched| {
        let container = ordinary(guest)?;
        let line = format!(
            "{PREPARE} && rm -f {SHARE}/go && ( ( until [ -e {SHARE}/go ]; do sleep 0.1; done; \
             exec /srv/vault/tool ) < /dev/null > {SHARE}/said 2>&1 & )"
        );
        let policy = watched.policy(&manifest("escape-orphan-of-another", FIRST))?;
        container.shell(&line)?.success()?;
        let of_capabilities =
            "  capabilities:\n    matchCapabilities:\n    - capability: sys_time\n";
        let _change = watched.policy(&manifest("escape-change", of_capabilities))?;
        fs::write(format!("{HOST_SHARE}/go"), "").context("cannot let it go on")?;
        policy.expect("the orphan's exec", |alert| {
            alert["Resource"] == "/srv/vault/tool" && alert["Action"] == "Block"
        })?;
        until("what it says", DELIVERY, || {
            let said = fs::read_to_string(format!("{HOST_SHARE}/said"))?;
            Ok(said.contains(DENIED).then_some(()))
        })
    })
}

/// What a policy of Allow rules lists, and everything to read.
const ALLOW: &str = "
  file:
    matchDirectories:
    - dir: /
      recursive: true
  process:
    matchPaths:
    - path: /bin/bash
    - path: /opt/tools/karmor-tries
    - path: /dev/shm/listed
    - path: /srv/vault/other
  action: Allow
";

/// A program that has no path is on no list.
fn memfd(guest: &Guest) -> Result<()> {
    const FROM_MEMORY: &str = "/opt/tools/karmor-tries memfd /srv/vault/other";
    let (_, processes) = ALLOW.split_at(ALLOW.find("  process:").unwrap_or(0));
    guest.watched(&DefaultPostures::BLOCK_FILES, |watched| {
        let plan = Plan {
            name: "escape-memfd",
            spec: processes,
            prepare: PREPARE,
            escapes: &[
                running(FROM_MEMORY, "/memfd:nothing").unnamed(),
                running("/srv/vault/tool", "/srv/vault/tool").unnamed(),
            ],
            twins: &["/srv/vault/other"],
        };
        plan.play(watched, guest)?;
        // Where files are listed as well, opening it for the exec is refused before.
        Plan {
            name: "escape-memfd-open",
            spec: ALLOW,
            escapes: &[reading(FROM_MEMORY, "/memfd:nothing").unnamed()],
            ..plan
        }
        .play(watched, guest)
    })
}

fn shared_memory(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::BLOCK_FILES, |watched| {
        Plan {
            name: "escape-shm",
            spec: ALLOW,
            prepare: &format!(
                "{PREPARE} && rm -f /dev/shm/* && cp /usr/bin/true /dev/shm/listed \
                 && cp /usr/bin/true /dev/shm/other"
            ),
            escapes: &[running("/dev/shm/other", "/dev/shm/other").unnamed()],
            twins: &["/dev/shm/listed"],
        }
        .play(watched, guest)
    })
}
