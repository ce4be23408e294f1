//! From a container's first process to the id of its cgroup.

use std::{
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

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

/// A cgroup of a container's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Id; the kernel gives none twice.
    pub id: u64,
    /// Directory.
    pub path: PathBuf,
}

impl Cgroup {
    /// Whether no process is left in it or below. `false` where that cannot be told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self.path.metadata() {
            // Another one in its place: this one was removed, and so was empty.
            Ok(metadata) if metadata.ino() != self.id => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::NotFound,
        }
        match std::fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(text) => text.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() == ErrorKind::NotFound && !self.path.exists(),
        }
    }
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

    /// The cgroup of the container with this id, whose first process is `pid`.
    ///
    /// # Errors
    /// When the process has ended, or has no cgroup that is the container's alone.
    pub fn of_container(&self, id: &str, pid: u32) -> Result<Cgroup, CgroupError> {
        let ended = |error: &std::io::Error| {
            error.kind() == ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
        };
        let path = self
            .of_process(&pid.to_string())
            .map_err(|error| match error {
                CgroupError::Read { source, .. } if ended(&source) => CgroupError::Gone(pid),
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
            Ok(metadata) => Ok(Cgroup {
                id: metadata.ino(),
                path: directory,
            }),
            Err(error) if ended(&error) => Err(CgroupError::Gone(pid)),
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
    let mut own = path;
    while let Some((above, name)) = own.rsplit_once('/') {
        if names(name, id) {
            return own;
        }
        own = above;
    }
    path
}

/// Whether a cgroup is named after a container: `ID`, `docker-ID.scope`, `cri-containerd:ID`. An id
/// may be short and part of the name of what holds all containers.
fn names(cgroup: &str, id: &str) -> bool {
    let border = |text: &str, end: fn(&str) -> Option<char>| {
        end(text).is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
    };
    !id.is_empty()
        && cgroup.match_indices(id).any(|(at, _)| {
            let (before, after) = (&cgroup[..at], &cgroup[at + id.len()..]);
            border(before, |text| text.chars().next_back())
                && border(after, |text| text.chars().next())
        })
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

    #[test]
    fn a_short_id_is_not_taken_for_what_holds_all_containers() {
        for (path, id) in [
            ("/default/a", "a"),
            ("/default/default", "default"),
            ("/system.slice/docker-c.scope", "c"),
            ("/kubepods.slice/pod-7.slice/crio-po.scope", "po"),
        ] {
            assert_eq!(up_to_container(path, id), path);
        }
    }

    #[test]
    fn a_cgroup_is_empty_when_the_kernel_says_so_or_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let events = |text: &str| std::fs::write(dir.path().join("cgroup.events"), text).unwrap();
        let cgroup = Cgroup {
            id: std::fs::metadata(dir.path()).unwrap().ino(),
            path: dir.path().to_owned(),
        };
        assert!(!cgroup.is_empty(), "it cannot be told");
        events("populated 1\nfrozen 0\n");
        assert!(!cgroup.is_empty());
        events("populated 0\nfrozen 0\n");
        assert!(cgroup.is_empty());
        events("populated 1\nfrozen 0\n");
        let earlier = Cgroup {
            id: cgroup.id + 1,
            ..cgroup.clone()
        };
        assert!(earlier.is_empty(), "another is in its place");
        drop(dir);
        assert!(cgroup.is_empty());
    }

    #[test]
    fn only_the_end_of_a_process_is_taken_for_its_end() {
        let (dir, hierarchy) = fake(&[("self", "0::/system.slice/k\n")], &[]);
        std::fs::create_dir_all(dir.path().join("proc/7/cgroup")).unwrap();
        assert!(matches!(
            hierarchy.of_container("abc", 7),
            Err(CgroupError::Read { .. })
        ));
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
        assert_eq!(hierarchy.of_container("abc", 7).unwrap().id, inode);
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
