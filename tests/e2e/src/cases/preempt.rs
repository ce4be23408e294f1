//! Hooks that are preempted in the middle, on a machine with more work than CPUs.

use anyhow::{Context as _, Result, ensure};

use super::{Case, case};
use crate::support::{DefaultPostures, Guest, Hammer, Image, probe, refusals, run};

pub(super) const CASES: &[Case] = &[case("preempt_full_makes_no_wrong_verdict", preempt)];

const POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: preempted
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchPaths:
    - path: /usr/bin/apt
  file:
    matchPaths:
    - path: /etc/nginx/nginx.conf
    matchDirectories:
    - dir: /etc/apt/
      recursive: true
  action: Block
";

const HAMMER: [&str; 8] = [
    "--deny-open=/etc/nginx/nginx.conf",
    "--deny-open=/etc/apt/trusted.gpg.d",
    "--deny-exec=/usr/bin/apt",
    "--allow-open=/etc/nginx/mime.types",
    "--allow-open=/usr/bin/apt",
    "--allow-exec=/usr/bin/true",
    "--processes=8",
    "--seconds=30",
];

fn preempt(guest: &Guest) -> Result<()> {
    let log = run("dmesg", [""; 0])?.success()?.stdout;
    ensure!(
        log.contains("Dynamic Preempt: full"),
        "the kernel was not started with preempt=full"
    );
    let cpus = std::thread::available_parallelism().context("cannot count the CPUs")?;
    ensure!(cpus.get() == 2, "{cpus} CPUs");

    let hammer = Hammer::new("preempt")?;
    let container = hammer
        .mount(guest.container(Image::Debian)?)?
        .start("preempt")?;
    guest.unwatched(&DefaultPostures::AUDIT, |enforcer| {
        enforcer.knows(container.name())?;
        let policy = enforcer.add_manifest("preempted", POLICY)?;
        let (faults, told) = (faults()?, refusals()?);
        let report = std::thread::scope(|scope| hammer.start(scope, &container, &HAMMER).report())?;
        let counts = report.all_right()?;
        for (what, count) in [
            ("refused openings", counts.denied_opens),
            ("refused executions", counts.denied_execs),
            ("openings", counts.allowed_opens),
            ("executions", counts.allowed_execs),
        ] {
            // Emulation is slow, but eight processes that stood still would show nothing.
            ensure!(count >= 100, "only {count} {what}: {counts:?}");
        }
        let (told, denials) = (refusals()? - told, counts.denials());
        ensure!(told >= denials, "{told} events of {denials} refusals");
        ensure!(
            self::faults()? == faults,
            "accesses could not be decided: {} before, {} after",
            faults,
            self::faults()?
        );
        enforcer.delete_policy(&policy)?;
        Ok(())
    })
}

/// Accesses that could not be decided.
fn faults() -> Result<u64> {
    let report = probe()?;
    report["events"]["faults"]
        .as_u64()
        .context("the probe shows no faults")
}
