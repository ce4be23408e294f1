//! Other names of protected files.
//!
//! A rule names a path; a file with a second hard link can be reached by a path no rule names. The
//! kernel half refuses new links to protected files; those that exist when a policy arrives are
//! found here, and the file itself is marked.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
};

use karmor_abi::{
    op::Op,
    table::{View, walk},
};
use karmor_policy::{
    compiled::Compiled,
    model::{Action, Target},
    select::Effective,
};
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, major, minor, openat};

use crate::{
    backend::{FileId, MarkedFile},
    workload::root::Root,
};

/// Most directory entries looked at for one workload.
pub const ENTRIES: usize = 100_000;

/// Most files marked for one workload.
pub const FILES: usize = 4096;

/// What a rule says about a file under other names that its image gave it: what is in it. Images
/// hold programs that do by their name what they do (busybox and its applets are one file); to
/// refuse one is not to refuse all.
const NAMED_BY_THE_IMAGE: u32 = Op::Read.bit() | Op::Write.bit();

/// Deepest directory looked into.
const DEPTH: usize = 64;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Files with other names.
    pub files: Vec<MarkedFile>,
    /// Why not everything was looked at.
    pub cut: Option<String>,
}

/// Finds files below `root` that Block rules protect by path and that have other names.
#[must_use]
pub fn find(root: &Root, effective: &Effective, compiled: &Compiled) -> Found {
    let Ok(view) = View::parse(&compiled.words) else {
        return Found::default();
    };
    let mut search = Search {
        root,
        view,
        left: ENTRIES,
        found: Found::default(),
    };
    for rule in effective.rules() {
        if search.found.cut.is_some() {
            break;
        }
        if rule.action != Action::Block {
            continue;
        }
        match &rule.target {
            Target::Path(path) => {
                let path = effective.aliases.resolve(path);
                let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                if let Ok(directory) = root.open(&format!("{above}/"), flags) {
                    search.file(directory.as_fd(), OsStr::new(name), path.as_bytes());
                }
            }
            Target::Directory { path, recursive } => {
                let path = effective.aliases.resolve(path);
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                if let Ok(directory) = root.open(&path, flags) {
                    let depth = if *recursive { DEPTH } else { 0 };
                    let mut path = path.trim_end_matches('/').as_bytes().to_vec();
                    search.directory(directory.as_fd(), &mut path, depth);
                }
            }
            // Patterns and bare names speak of every path there is; only what they match at the
            // moment of an access is known.
            Target::ExecName(_) | Target::Glob(_) | Target::Object(_) => {}
        }
    }
    search.found
}

struct Search<'a> {
    root: &'a Root,
    view: View<'a>,
    left: usize,
    found: Found,
}

impl Search<'_> {
    fn file(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &[u8]) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = openat(directory, name, flags, Mode::empty()) else {
            return;
        };
        let Ok(stat) = fstat(&file) else { return };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink < 2 {
            return;
        }
        let Ok(device) = fstat(directory).map(|stat| stat.st_dev) else {
            return;
        };
        let Some(inode) = inode(file.as_fd()) else {
            return;
        };
        if self.found.files.len() >= FILES {
            self.found.cut = Some(format!(
                "more than {FILES} protected files have other names"
            ));
            return;
        }
        let ops = if self.root.from_image(path, device) {
            NAMED_BY_THE_IMAGE
        } else {
            u32::MAX
        };
        self.found.files.push(MarkedFile {
            file: FileId {
                device: major(device) << 20 | minor(device),
                inode,
            },
            set: walk(&self.view, path),
            ops,
        });
    }

    fn directory(&mut self, directory: BorrowedFd<'_>, path: &mut Vec<u8>, depth: usize) {
        let Ok(entries) = Dir::read_from(directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.left == 0 {
                self.found.cut = Some(format!(
                    "the ruled directories hold more than {ENTRIES} entries"
                ));
            }
            if self.found.cut.is_some() {
                return;
            }
            self.left -= 1;
            let end = path.len();
            path.push(b'/');
            path.extend_from_slice(name);
            self.entry(
                directory,
                OsStr::from_bytes(name),
                entry.file_type(),
                path,
                depth,
            );
            path.truncate(end);
        }
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        path: &mut Vec<u8>,
        depth: usize,
    ) {
        let base = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match kind {
            FileType::RegularFile | FileType::Unknown => {
                self.file(directory, name, path);
            }
            FileType::Directory if depth > 0 => {
                let flags = base | OFlags::RDONLY | OFlags::DIRECTORY;
                if let Ok(below) = openat(directory, name, flags, Mode::empty()) {
                    self.directory(below.as_fd(), path, depth - 1);
                }
            }
            _ => {}
        }
    }
}

/// The kernel's own number of a file (`ino` in proc(5)'s `fdinfo`, since 5.14). An overlay may show
/// another in `stat`, and of a file the device of the layer it comes from; of a directory it shows
/// its own device.
fn inode(file: BorrowedFd<'_>) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let inode = info.lines().find_map(|line| line.strip_prefix("ino:"))?;
    inode.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use karmor_policy::{alias::Aliases, compile::compile, model::Posture};

    use super::*;
    use crate::source::read::read;

    const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
        metadata:\n  name: p\nspec:\n  selector:\n    matchLabels:\n      app: web\n  process:\n    \
        matchPaths:\n    - path: /bin/apt\n  file:\n    matchDirectories:\n    - dir: /etc/keys/\n      \
        recursive: true\n  action: Block\n";

    #[test]
    fn finds_ruled_files_with_other_names_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["usr/bin", "etc/keys/deep", "tmp", "srv"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for name in [
            "usr/bin/apt",
            "etc/keys/single",
            "etc/keys/deep/key",
            "srv/free",
        ] {
            std::fs::write(path(name), name).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", path("bin")).unwrap();
        // Leads out of the root; must not be followed.
        std::os::unix::fs::symlink("/usr", path("etc/keys/out")).unwrap();
        for (from, to) in [
            ("usr/bin/apt", "tmp/a"),
            ("etc/keys/deep/key", "tmp/k"),
            ("srv/free", "tmp/f"),
        ] {
            std::fs::hard_link(path(from), path(to)).unwrap();
        }

        let reading = read(POLICY, "p.yaml");
        assert!(!reading.failed(), "{}", reading.rendered);
        let policies = reading.documents.into_iter().map(|d| d.policy);
        let aliases = Aliases::observed([("/bin", "usr/bin")]);
        let effective = Effective::new(policies, Posture::Audit, aliases);
        let compiled = compile(&effective).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        let found = find(&Root::plain(root), &effective, &compiled);
        assert_eq!(found.cut, None);
        let view = View::parse(&compiled.words).unwrap();
        let mut is: Vec<(u64, u32)> = found
            .files
            .iter()
            .map(|marked| (marked.file.inode, marked.set))
            .collect();
        let inode = |name: &str| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(path(name)).unwrap().ino()
        };
        let mut should = vec![
            (inode("tmp/a"), walk(&view, b"/usr/bin/apt")),
            (inode("tmp/k"), walk(&view, b"/etc/keys/deep/key")),
        ];
        is.sort_unstable();
        should.sort_unstable();
        assert_eq!(is, should);
        assert!(
            is.iter().all(|(_, set)| *set != 0),
            "the set is that of the ruled path"
        );
    }
}
