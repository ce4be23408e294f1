//! What can be seen of this machine without root, by reading files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use karmor_proto::karmor::v1::RuntimeSocket;

/// Sockets of container runtimes, as they are installed.
const RUNTIMES: [(&str, &str); 6] = [
    ("containerd", "run/containerd/containerd.sock"),
    ("containerd", "run/k3s/containerd/containerd.sock"),
    ("cri-o", "run/crio/crio.sock"),
    ("docker", "run/docker.sock"),
    ("podman", "run/podman/podman.sock"),
    ("containerd", "run/dockershim.sock"),
];

/// A machine's properties.
#[derive(Debug, PartialEq)]
pub(crate) struct Node {
    /// `uname -r`; empty when it cannot be read.
    pub(crate) kernel: String,
    /// The kernel's BTF is there.
    pub(crate) btf: bool,
    /// Active LSMs; `None` when the kernel does not tell.
    pub(crate) lsms: Option<Vec<String>>,
    /// `v2`, `hybrid`, `v1`, or empty.
    pub(crate) cgroup: &'static str,
    /// Sockets that exist.
    pub(crate) runtimes: Vec<RuntimeSocket>,
}

/// Looks at the machine whose files are below a root.
pub(crate) fn look(root: &Path) -> Node {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let exists = |path: &str| root.join(path).exists();
    let lsms = read("sys/kernel/security/lsm");
    let cgroup = if exists("sys/fs/cgroup/cgroup.controllers") {
        "v2"
    } else if exists("sys/fs/cgroup/unified/cgroup.controllers") {
        "hybrid"
    } else if exists("sys/fs/cgroup") {
        "v1"
    } else {
        ""
    };
    Node {
        kernel: read("proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        btf: exists("sys/kernel/btf/vmlinux"),
        lsms: lsms.map(|names| names.trim().split(',').map(str::to_owned).collect()),
        cgroup,
        runtimes: RUNTIMES
            .iter()
            .filter(|(_, path)| exists(path))
            .map(|(runtime, path)| RuntimeSocket {
                runtime: (*runtime).to_owned(),
                path: PathBuf::from("/").join(path).display().to_string(),
                connected: false,
                error: None,
            })
            .collect(),
    }
}

impl Node {
    /// What stands in the way of enforcing anything, each with its remedy.
    pub(crate) fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if !self.btf {
            obstacles.push(
                "the kernel has no BTF: it must be built with CONFIG_DEBUG_INFO_BTF".to_owned(),
            );
        }
        if let Some(lsms) = &self.lsms
            && !lsms.iter().any(|lsm| lsm == "bpf")
        {
            let list = if lsms.is_empty() {
                String::new()
            } else {
                lsms.join(",") + ","
            };
            obstacles.push(format!(
                "BPF is not among the active LSMs: boot with lsm={list}bpf on a kernel built with \
                 CONFIG_BPF_LSM"
            ));
        }
        obstacles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_machine_that_can_enforce() {
        let root = tempfile::tempdir().unwrap();
        file(root.path(), "proc/sys/kernel/osrelease", "6.12.1\n");
        file(
            root.path(),
            "sys/kernel/security/lsm",
            "lockdown,capability,bpf",
        );
        file(root.path(), "sys/kernel/btf/vmlinux", "");
        file(root.path(), "sys/fs/cgroup/cgroup.controllers", "");
        file(root.path(), "run/containerd/containerd.sock", "");
        let node = look(root.path());
        assert_eq!(node.kernel, "6.12.1");
        assert_eq!(node.cgroup, "v2");
        assert_eq!(node.runtimes[0].path, "/run/containerd/containerd.sock");
        assert_eq!(node.obstacles(), [""; 0]);
    }

    #[test]
    fn a_machine_that_cannot() {
        let root = tempfile::tempdir().unwrap();
        file(
            root.path(),
            "sys/kernel/security/lsm",
            "capability,apparmor",
        );
        let obstacles = look(root.path()).obstacles();
        assert_eq!(obstacles.len(), 2, "{obstacles:?}");
        assert!(
            obstacles[1].contains("lsm=capability,apparmor,bpf"),
            "{obstacles:?}"
        );
    }

    #[test]
    fn a_machine_that_does_not_tell_its_lsms_is_not_accused() {
        let root = tempfile::tempdir().unwrap();
        file(root.path(), "sys/kernel/btf/vmlinux", "");
        assert_eq!(look(root.path()).obstacles(), [""; 0]);
    }
}
