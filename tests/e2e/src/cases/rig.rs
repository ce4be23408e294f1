//! The ground the other cases stand on: the kernel has what we need, containers run.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{Case, case};
use crate::support::{Guest, Image, security_modules};

pub(super) const CASES: &[Case] = &[
    case("rig_kernel_has_bpf_lsm_and_btf", kernel),
    case("rig_only_cgroup_v2_is_mounted", cgroups),
    case("rig_containerd_runs_containers", containers),
];

fn kernel(_: &Guest) -> Result<()> {
    let modules = security_modules()?;
    ensure!(
        modules.iter().any(|module| module == "bpf"),
        "bpf is not among {modules:?}"
    );
    let btf = fs::read("/sys/kernel/btf/vmlinux").context("no type information")?;
    // BTF's magic number, little-endian.
    ensure!(
        btf.starts_with(&[0x9f, 0xeb]),
        "/sys/kernel/btf/vmlinux is not BTF"
    );
    Ok(())
}

fn cgroups(_: &Guest) -> Result<()> {
    ensure!(
        Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        "cgroup v2 is not mounted"
    );
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let legacy: Vec<&str> = mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some("cgroup"))
        .collect();
    ensure!(legacy.is_empty(), "cgroup v1 is mounted: {legacy:?}");
    Ok(())
}

fn containers(guest: &Guest) -> Result<()> {
    let container = guest.container(Image::Busybox)?.start("rig-busybox")?;
    let output = container
        .shell("cat /proc/self/cgroup; echo $((6 * 7))")?
        .success()?;
    ensure!(output.stdout == "0::/default/rig-busybox\n42\n", "{output}");

    let container = guest
        .container(Image::Debian)?
        .service_account()?
        .start("rig-debian")?;
    container.exec(&["apt", "--version"])?.success()?;
    container.exec(&["nginx", "-t"])?.success()?;
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let output = container.exec(&["/bin/cat", token])?.success()?;
    ensure!(output.stdout == "made-up-token\n", "{output}");
    Ok(())
}
