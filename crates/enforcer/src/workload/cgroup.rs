//! From a container's first process to the id of its cgroup.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Why a process leads to no cgroup of a container's own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The process ended.
    #[error("process {0} has ended")]
    Gone(u32),
    /// Only cgroup v1 here.
    #[error(
        "this host has no cgroup v2 hierarchy, by which containers are told apart; boot it with systemd.unified_cgroup_hierarchy=1"
    )]
    NoV2,
    /// In the root of the hierarchy, or in the daemon's.
    #[error(
        "process {pid} shares cgroup `{path}` with the host, so it cannot be told from host processes"
    )]
    Shared {
        /// The process.
        pid: u32,
        /// Its cgroup.
        path: String,
    },
    /// The kernel refused.
    #[error("cannot read {path}")]
    Read {
        /// What was read.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where the v2 hierarchy is mounted.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    proc: PathBuf,
}

impl Hierarchy {
    /// Finds it.
    ///
    /// # Errors
    /// When there is none.
    pub fn find() -> Result<Self, CgroupError> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).map_err(|source| CgroupError::Read {
            path: path.into(),
            source,
        })?;
        let mount = mount_point(&text).ok_or(CgroupError::NoV2)?;
        Ok(Self {
            mount: mount.into(),
            proc: "/proc".into(),
        })
    }

    /// A made-up one.
    #[cfg(test)]
    pub(crate) fn at(mount: PathBuf, proc: PathBuf) -> Self {
        Self { mount, proc }
    }

    /// How containers can be told apart here: `v2`, `hybrid` or `v1`.
    #[must_use]
    pub fn kind() -> &'static str {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        match mount_point(&text) {
            Some("/sys/fs/cgroup") => "v2",
            Some(_) => "hybrid",
            None => "v1",
        }
    }

    /// Id and directory of the cgroup of the container with this id, whose first process is `pid`.
    ///
    /// # Errors
    /// When the process has ended, or has no cgroup that is the container's alone.
    pub fn of_container(&self, id: &str, pid: u32) -> Result<(u64, PathBuf), CgroupError> {
        let path = self
            .of_process(&pid.to_string())
            .map_err(|error| match error {
                CgroupError::Read { .. } => CgroupError::Gone(pid),
                other => other,
            })?;
        let path = up_to_container(&path, id);
        let own = self.of_process("self")?;
        let escapes = path.split('/').any(|part| part == "..");
        if path == "/" || escapes || Path::new(&own).starts_with(path) {
            return Err(CgroupError::Shared {
                pid,
                path: path.to_owned(),
            });
        }
        let directory = self.mount.join(path.trim_start_matches('/'));
        match std::fs::metadata(&directory) {
            Ok(metadata) => Ok((metadata.ino(), directory)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(CgroupError::Gone(pid))
            }
            Err(source) => Err(CgroupError::Read {
                path: directory.display().to_string(),
                source,
            }),
        }
    }

    fn of_process(&self, pid: &str) -> Result<String, CgroupError> {
        let path = self.proc.join(pid).join("cgroup");
        let text = std::fs::read_to_string(&path).map_err(|source| CgroupError::Read {
            path: path.display().to_string(),
            source,
        })?;
        let line = text.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(line.ok_or(CgroupError::NoV2)?.to_owned())
    }
}

/// Whether no process is left in a cgroup or below.
#[must_use]
pub fn is_empty(directory: &Path) -> bool {
    match std::fs::read_to_string(directory.join("cgroup.events")) {
        Ok(text) => text.lines().any(|line| line == "populated 0"),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Mount point of the first cgroup2 mount.
fn mount_point(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next() == Some("cgroup2"))
            .then(|| left.split(' ').nth(4))
            .flatten()
    })
}

/// The container's own cgroup: a container that runs an init system moves its first process to a
/// cgroup below, where its other processes are not.
fn up_to_container<'a>(path: &'a str, id: &str) -> &'a str {
    let mut end = 0;
    for part in path.split_inclusive('/') {
        end += part.len();
        if !id.is_empty() && part.trim_end_matches('/').contains(id) {
            return path[..end].trim_end_matches('/');
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_v2_mount() {
        let v2 = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
        assert_eq!(mount_point(v2), Some("/sys/fs/cgroup"));
        let v1 = "33 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(mount_point(v1), None);
    }

    #[test]
    fn stops_at_the_containers_cgroup() {
        assert_eq!(
            up_to_container("/default/abc/init.scope", "abc"),
            "/default/abc"
        );
        assert_eq!(
            up_to_container("/kubepods.slice/cri-containerd-abc.scope", "abc"),
            "/kubepods.slice/cri-containerd-abc.scope"
        );
        assert_eq!(up_to_container("/custom/place", "abc"), "/custom/place");
    }

    fn fake(entries: &[(&str, &str)], cgroups: &[&str]) -> (tempfile::TempDir, Hierarchy) {
        let dir = tempfile::tempdir().unwrap();
        for (pid, text) in entries {
            std::fs::create_dir_all(dir.path().join("proc").join(pid)).unwrap();
            std::fs::write(dir.path().join("proc").join(pid).join("cgroup"), text).unwrap();
        }
        for cgroup in cgroups {
            std::fs::create_dir_all(dir.path().join("cg").join(cgroup)).unwrap();
        }
        let hierarchy = Hierarchy {
            mount: dir.path().join("cg"),
            proc: dir.path().join("proc"),
        };
        (dir, hierarchy)
    }

    #[test]
    fn the_id_is_the_inode() {
        let (dir, hierarchy) = fake(
            &[("self", "0::/system.slice/k\n"), ("7", "0::/default/abc\n")],
            &["default/abc"],
        );
        let inode = std::fs::metadata(dir.path().join("cg/default/abc"))
            .unwrap()
            .ino();
        assert_eq!(hierarchy.of_container("abc", 7).unwrap().0, inode);
    }

    #[test]
    fn a_shared_cgroup_is_refused() {
        let (_dir, hierarchy) = fake(
            &[
                ("self", "0::/system.slice/k.service\n"),
                ("7", "0::/\n"),
                ("8", "0::/system.slice\n"),
                ("9", "0::/../x\n"),
                ("10", "1:cpu:/x\n"),
            ],
            &["system.slice"],
        );
        for pid in [7, 8, 9] {
            let error = hierarchy.of_container("abc", pid).unwrap_err();
            assert!(
                matches!(error, CgroupError::Shared { .. }),
                "{pid}: {error}"
            );
        }
        assert!(matches!(
            hierarchy.of_container("abc", 10),
            Err(CgroupError::NoV2)
        ));
        assert!(matches!(
            hierarchy.of_container("abc", 11),
            Err(CgroupError::Gone(11))
        ));
    }
}
