//! What the verifier makes of the programs.

use anyhow::{Context as _, Result, ensure};

use super::{
    Case, case,
    escapes::{manifest, ordinary},
};
use crate::support::{DefaultPostures, Guest, KernelVersion, note, probe};

pub(super) const CASES: &[Case] = &[case(
    "verifier_is_done_with_every_program_in_time",
    processed,
)];

/// Instructions that it may process of one program; it gives up at 1,000,000.
const MOST: u64 = 200_000;

/// A file that is open before the policy forbids it.
const HELD: &str = "/srv/held";

/// A policy that needs every program there is: most are loaded when the first does.
const EVERYTHING: &str = "
  process:
    matchPaths:
    - path: /usr/bin/apt
  file:
    matchPaths:
    - path: /etc/shadow
    - path: /srv/held
      action: Block
  network:
    matchProtocols:
    - protocol: sctp
    matchDNSQueries:
    - domain: everything.test
    matchEndpoints:
    - cidr: 203.0.113.0/24
      direction: egress
    - cidr: 203.0.113.0/24
      direction: ingress
  capabilities:
    matchCapabilities:
    - capability: sys_boot
  syscalls:
    matchSyscalls:
    - syscall: [reboot]
  presets:
  - name: anonymousMapExec
  - name: filelessExec
  - name: protectEnv
  - name: protectProc
  - name: exec
  - name: drift
  - name: ptrace
  - name: mount
  - name: namespace
  - name: kernelModule
  - name: bpf
  - name: ioUring
  action: Audit
";

/// Whether there is no hook for a program yet.
fn may_lack(kernel: KernelVersion, program: &str) -> bool {
    program == "file_truncate" && kernel < KernelVersion::new(6, 2)
}

fn processed(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = ordinary(guest)?;
        watched.enforcer.knows(container.name())?;
        // Programs about descriptors from before a policy are loaded when there is one.
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let [keep, close] = [&["keep", HELD][..], &["use", "close", HELD]].map(words);
        for output in container.lines(&[&format!("mkdir -p /srv && echo held > {HELD}")])? {
            output.success()?;
        }
        let mut holder = container.actor(&["/opt/tools/karmor-tries", "obey"])?;
        for output in holder.attempts(&[keep])? {
            output.success()?;
        }
        let _policy = watched.policy(&manifest("needs-everything", EVERYTHING))?;
        let probe = probe()?;
        for output in holder.attempts(&[close])? {
            output.success()?;
        }
        let hooks = probe["hooks"].as_array().context("no programs")?;
        let mut missing = Vec::new();
        let mut above = Vec::new();
        for hook in hooks {
            let name = hook["hook"].as_str().unwrap_or_default();
            let count = hook["verifiedInstructions"].as_u64().unwrap_or_default();
            if hook["loads"] != true {
                missing.push((name, &hook["error"]));
                continue;
            }
            note(&format!("{name}: {count} instructions processed"));
            if count == 0 || count >= MOST {
                above.push(format!("{name}: {count}"));
            }
        }
        let kernel = KernelVersion::running()?;
        missing.retain(|(name, _)| !may_lack(kernel, name));
        ensure!(missing.is_empty(), "not loaded: {missing:#?}");
        ensure!(hooks.len() > 60, "only {} programs", hooks.len());
        ensure!(
            above.is_empty(),
            "programs of {MOST} instructions and more, or of none:\n{}",
            above.join("\n")
        );
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_kernel_has_no_hook_for_may_be_missing() {
        let [old, new] = [1, 2].map(|minor| KernelVersion::new(6, minor));
        assert!(may_lack(old, "file_truncate"));
        assert!(!may_lack(new, "file_truncate"));
        assert!(!may_lack(old, "file_open"));
    }
}
