//! The file systems a container host has: cgroup v2 only, and everything BPF wants.

use std::{ffi::CString, fs};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};

const NEW_ROOT: &str = "/newroot";

/// Makes `/` a mount with a parent.
///
/// The kernel unpacks an initramfs into its very first mount, and pivot_root refuses to work
/// below that one. Binding it elsewhere and moving the bind over `/` copies nothing.
pub(crate) fn leave_rootfs() -> Result<()> {
    mount_bind("/", NEW_ROOT).context("cannot bind / to /newroot")?;
    rustix::process::chdir(NEW_ROOT).context("cannot enter /newroot")?;
    mount_move(".", "/").context("cannot move /newroot over /")?;
    rustix::process::chroot(".").context("cannot make /newroot the root")?;
    rustix::process::chdir("/").context("cannot enter /")
}

struct Mount {
    kind: &'static str,
    target: &'static str,
    options: &'static str,
    /// Some kernels lack it, and not every test needs it.
    optional: bool,
}

const fn needed(kind: &'static str, target: &'static str, options: &'static str) -> Mount {
    Mount {
        kind,
        target,
        options,
        optional: false,
    }
}

const fn optional(kind: &'static str, target: &'static str) -> Mount {
    Mount {
        kind,
        target,
        options: "",
        optional: true,
    }
}

#[rustfmt::skip]
const MOUNTS: [Mount; 14] = [
    needed("devtmpfs", "/dev", "mode=0755"),
    needed("proc", "/proc", ""),
    needed("sysfs", "/sys", ""),
    needed("devpts", "/dev/pts", "mode=0620,ptmxmode=0666"),
    needed("tmpfs", "/dev/shm", "mode=1777"),
    needed("mqueue", "/dev/mqueue", ""),
    needed("tmpfs", "/run", "mode=0755"),
    needed("tmpfs", "/tmp", "mode=1777"),
    needed("cgroup2", "/sys/fs/cgroup", "nsdelegate"),
    needed("bpf", "/sys/fs/bpf", "mode=0700"),
    needed("securityfs", "/sys/kernel/security", ""),
    needed("tracefs", "/sys/kernel/tracing", ""),
    // Snapshots need an overlay's upper directory on a file system with extended attributes.
    needed("tmpfs", "/var/lib/containerd", "mode=0711"),
    optional("debugfs", "/sys/kernel/debug"),
];

pub(crate) fn all() -> Result<()> {
    for Mount {
        kind,
        target,
        options,
        optional,
    } in &MOUNTS
    {
        // Below /sys the directory exists or the kernel lacks the feature.
        if !target.starts_with("/sys/") {
            fs::create_dir_all(target).with_context(|| format!("cannot create {target}"))?;
        }
        let data = CString::new(*options).context("mount options have no NUL")?;
        let flags = MountFlags::NOSUID;
        let result = mount(*kind, *target, *kind, flags, data.as_c_str());
        if !optional {
            result.with_context(|| format!("cannot mount {kind} on {target}"))?;
        }
    }
    Ok(())
}
