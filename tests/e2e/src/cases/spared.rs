//! What a policy for the host does not stop by accident.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{Case, case};
use crate::support::{DefaultPostures, Guest, Image, run};

pub(super) const CASES: &[Case] = &[case(
    "host_policies_spare_what_starts_containers",
    starts_containers,
)];

/// What no container can be started without: runc executes itself from memory, makes namespaces, mounts
/// what the container is to see, and tells the kernel under `/proc` and in the cgroups.
const EVERYTHING: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorHostPolicy
metadata:
  name: stops-containers
spec:
  nodeSelector:
    matchLabels:
      kubearmor.io/hostname: '*'
  file:
    matchDirectories:
    - dir: /proc/
      recursive: true
    - dir: /sys/fs/cgroup/
      recursive: true
  presets:
  - name: filelessExec
  - name: mount
  - name: namespace
  action: Block
";

/// What `ctr` is called in the place of a runtime that is spared: it mounts a container's files to look
/// up its user.
const CLIENT: &str = "/usr/local/bin/crio";

fn starts_containers(guest: &Guest) -> Result<()> {
    fs::copy("/usr/bin/ctr", CLIENT).context("cannot copy ctr")?;
    fs::create_dir_all("/tmp/spared").context("cannot make a place to mount at")?;
    let ctr = |arguments: &str| run(CLIENT, arguments.split(' '));
    // It is unpacked by then, and there is nothing to wait for.
    guest.container(Image::Busybox)?.start("spared-before")?;
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let policy = watched.policy(EVERYTHING)?;
        for line in [
            "busybox cat /proc/version",
            "karmor-tries memfd /usr/bin/busybox true",
            "busybox unshare -U true",
            "busybox mount -t tmpfs none /tmp/spared",
        ] {
            let mut words = line.split(' ');
            let output = run(words.next().context("no program")?, words)?;
            ensure!(output.denied(), "not refused: {line}: {output}");
        }
        ctr("run --detach localhost/karmor/busybox:latest spared sleep 1000000")?.success()?;
        ctr("task exec --exec-id it spared cat /proc/version")?.success()?;
        // It is told what would have been refused.
        policy.expect("an alert about what starts containers", |alert| {
            alert["Action"] == "Audit" && alert["ProcessName"] == "/usr/sbin/runc"
        })?;
        drop(policy);
        ctr("task rm --force spared")?.success()?;
        ctr("container rm spared")?.success()?;
        Ok(())
    })
}
