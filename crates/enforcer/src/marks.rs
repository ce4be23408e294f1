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
    sync::Arc,
};

use karmor_abi::{
    op::Op,
    table::{View, walk},
};
use karmor_policy::{
    compiled::Compiled,
    model::{Action, Target},
    reference::matches,
    select::{Effective, EffectiveRule},
};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, fstat, fstatfs, openat, statat, statx},
    io::Errno,
};

use crate::{
    backend::{FileId, MarkedFile},
    remark::{About, Remark},
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

/// Most rules that are told of for one workload.
const REMARKS: usize = 100;

/// Deepest directory looked into.
const DEPTH: usize = 64;

/// File systems without files that somebody has put there: `PROC_SUPER_MAGIC`, `SYSFS_MAGIC`,
/// `CGROUP2_SUPER_MAGIC`, `DEBUGFS_MAGIC`, `TRACEFS_MAGIC`.
const OF_THE_KERNEL: [i64; 5] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x6462_6720, 0x7472_6163];

const ABOVE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Files with other names.
    pub files: Vec<MarkedFile>,
    /// Rules whose files were not all looked at, and what else there is to say.
    pub remarks: Vec<Remark>,
}

impl Found {
    /// Says of every rule that was looked at that its files are not marked after all.
    pub fn unmarked(&mut self, effective: &Effective, why: &str) {
        let patterns = patterns(effective).into_iter().map(|(_, rule)| rule);
        for rule in named(effective).into_iter().chain(patterns) {
            self.remark(rule, why);
        }
    }

    fn remark(&mut self, rule: &EffectiveRule, why: &str) {
        if self.remarks.len() < REMARKS {
            self.remarks.push(Remark {
                policy: Arc::clone(&rule.policy),
                line: rule.rule().location.line,
                path: rule.rule().target.to_string(),
                about: About::Unsearched(why.to_owned()),
            });
        }
    }
}

/// Finds files below `root` that Block rules protect by path and that have other names.
#[must_use]
pub fn find(root: &Root, effective: &Effective, compiled: &Compiled) -> Found {
    let mut found = Found::default();
    let Ok(view) = View::parse(&compiled.words) else {
        return found;
    };
    let mut search = Search {
        root,
        effective,
        view,
        patterns: Vec::new(),
        left: ENTRIES,
        files: Vec::new(),
        cut: None,
    };
    for rule in named(effective) {
        search.rule(&rule.rule().target);
        if let Some(why) = search.cut.take() {
            found.remark(rule, &why);
        }
    }
    for (base, rules) in bases(patterns(effective)) {
        search.patterns = rules;
        search.tree(&base, Some(DEPTH));
        if let Some(why) = search.cut.take() {
            for rule in &search.patterns {
                found.remark(rule, &why);
            }
        }
    }
    found.files = search.files;
    found
}

/// The rules that name a path or a directory. Paths first: they cost next to nothing, and what a
/// workload puts into a ruled directory shall not use up what is left for them.
fn named(effective: &Effective) -> Vec<&EffectiveRule> {
    let mut rules: Vec<_> = blocks(effective)
        .filter(|rule| rule.rule().target.path().is_some())
        .collect();
    rules.sort_by_key(|rule| !matches!(rule.rule().target, Target::Path(_)));
    rules
}

/// The rules that name files by a pattern, each with the directory that all of them are below. A bare
/// name (`execname`) is not about a file, but about what it is called.
fn patterns(effective: &Effective) -> Vec<(String, &EffectiveRule)> {
    let rules = blocks(effective).filter_map(|rule| {
        let Target::Glob(pattern) = &rule.rule().target else {
            return None;
        };
        let literal = pattern.split(['*', '?', '[', '{', '\\']).next()?;
        let (base, _) = literal.rsplit_once('/')?;
        Some((effective.aliases.resolve(&format!("{base}/")), rule))
    });
    rules.collect()
}

fn blocks(effective: &Effective) -> impl Iterator<Item = &EffectiveRule> {
    let rules = effective.rules.iter();
    rules.filter(|rule| rule.rule().action == Action::Block)
}

/// The rules by the outermost directory, so that none is walked through twice.
fn bases(mut patterns: Vec<(String, &EffectiveRule)>) -> Vec<(String, Vec<&EffectiveRule>)> {
    patterns.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut bases: Vec<(String, Vec<&EffectiveRule>)> = Vec::new();
    for (base, rule) in patterns {
        match bases.last_mut() {
            Some((outer, rules)) if base.starts_with(outer.as_str()) => rules.push(rule),
            _ => bases.push((base, vec![rule])),
        }
    }
    bases
}

struct Search<'a> {
    root: &'a Root,
    effective: &'a Effective,
    view: View<'a>,
    /// What files must match; none when all that are come upon are ruled.
    patterns: Vec<&'a EffectiveRule>,
    left: usize,
    files: Vec<MarkedFile>,
    /// Why not everything was looked at.
    cut: Option<String>,
}

impl Search<'_> {
    fn rule(&mut self, target: &Target) {
        let Some(path) = target.path() else { return };
        let path = self.effective.aliases.resolve(path);
        match target {
            Target::Directory { recursive, .. } => {
                self.tree(&path, recursive.then_some(DEPTH));
            }
            _ => {
                let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
                let opened = self.root.open(&format!("{above}/"), ABOVE);
                if let Some(above) = self.unless_refused(opened) {
                    self.file(above.as_fd(), OsStr::new(name), path.as_bytes());
                }
            }
        }
    }

    /// A directory by its real path.
    fn tree(&mut self, path: &str, depth: Option<usize>) {
        let path = path.trim_end_matches('/');
        let (above, name) = path.rsplit_once('/').unwrap_or(("", "."));
        let opened = self.root.open(&format!("{above}/"), ABOVE);
        if let Some(above) = self.unless_refused(opened) {
            let mut path = path.as_bytes().to_vec();
            self.directory(above.as_fd(), OsStr::new(name), &mut path, depth);
        }
    }

    /// Whether it is a file of the rules that are looked at now.
    fn is_ruled(&self, path: &[u8]) -> bool {
        let rules = &self.patterns;
        let mut targets = rules.iter().map(|rule| &rule.rule().target);
        rules.is_empty() || targets.any(|target| matches(target, &self.effective.aliases, path))
    }

    /// What was opened. What is not there, or is something else, has no other names.
    fn unless_refused<T>(&mut self, opened: rustix::io::Result<T>) -> Option<T> {
        match opened {
            Ok(opened) => Some(opened),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(error) => {
                self.cut = Some(format!("some could not be opened: {error}"));
                None
            }
        }
    }

    fn file(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &[u8]) {
        let set = walk(&self.view, path);
        // No rule matches it: most files below a pattern's directory.
        if set == 0 && !self.patterns.is_empty() {
            return;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(directory, name, flags, Mode::empty());
        let Some(file) = self.unless_refused(opened) else {
            return;
        };
        let Ok(stat) = fstat(&file) else { return };
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_regular || stat.st_nlink < 2 || !self.is_ruled(path) {
            return;
        }
        let (Ok(device), Some(inode)) = (device(directory, file.as_fd()), inode(file.as_fd()))
        else {
            self.cut = Some("the kernel does not tell which file one is".to_owned());
            return;
        };
        if self.files.len() >= FILES {
            self.cut = Some(format!("more than {FILES} ruled files have several names"));
            return;
        }
        let ops = if self.root.from_image(path, device) {
            NAMED_BY_THE_IMAGE
        } else {
            u32::MAX
        };
        self.files.push(MarkedFile {
            file: FileId::new(device, inode),
            set,
            ops,
        });
    }

    /// `depth`: how many levels of directories in this one are looked into; none where the rule is
    /// not about them.
    fn directory(
        &mut self,
        above: BorrowedFd<'_>,
        name: &OsStr,
        path: &mut Vec<u8>,
        depth: Option<usize>,
    ) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(above, name, flags, Mode::empty());
        let Some(directory) = self.unless_refused(opened) else {
            return;
        };
        // What the kernel shows there has one name each, and changes all the time.
        if fstatfs(&directory).is_ok_and(|found| OF_THE_KERNEL.contains(&found.f_type)) {
            return;
        }
        let read = Dir::read_from(&directory);
        for entry in self.unless_refused(read).into_iter().flatten() {
            let Some(entry) = self.unless_refused(entry) else {
                return;
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.left == 0 {
                self.cut = Some(format!(
                    "there are more than {ENTRIES} in ruled directories"
                ));
                return;
            }
            self.left -= 1;
            let end = path.len();
            path.push(b'/');
            path.extend_from_slice(name);
            let name = OsStr::from_bytes(name);
            let kind = entry.file_type();
            if matches!(kind, FileType::RegularFile | FileType::Unknown) {
                self.file(directory.as_fd(), name, path);
            }
            if let Some(depth) = depth
                && is_directory(directory.as_fd(), name, kind)
            {
                match depth.checked_sub(1) {
                    Some(depth) => self.directory(directory.as_fd(), name, path, Some(depth)),
                    None => {
                        self.cut = Some(format!(
                            "there are directories more than {DEPTH} levels below a ruled one"
                        ));
                    }
                }
            }
            path.truncate(end);
        }
    }
}

/// Whether an entry is a directory. Some file systems do not tell; then this finds out.
fn is_directory(above: BorrowedFd<'_>, name: &OsStr, kind: FileType) -> bool {
    let found = || statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
    match kind {
        FileType::Unknown => {
            found().is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        }
        kind => kind.is_dir(),
    }
}

/// The device of a file's inode. An overlay shows that of the layer a file comes from, but its own
/// for a directory; what is mounted over a name is of another file system than its directory.
fn device(directory: BorrowedFd<'_>, file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    let mount = |fd| {
        let flags = AtFlags::EMPTY_PATH;
        statx(fd, "", flags, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id)
    };
    let of = if mount(directory)? == mount(file)? {
        directory
    } else {
        file
    };
    Ok(fstat(of)?.st_dev)
}

/// The kernel's own number of a file (`ino` in proc(5)'s `fdinfo`, since 5.14), where an overlay may
/// show another in `stat`.
fn inode(file: BorrowedFd<'_>) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let inode = info.lines().find_map(|line| line.strip_prefix("ino:"))?;
    inode.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use karmor_policy::{alias::Aliases, compile::compile, model::Postures};

    use super::*;
    use crate::source::read::read;

    const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
        metadata:\n  name: p\nspec:\n  selector:\n    matchLabels:\n      app: web\n  process:\n    \
        matchPaths:\n    - path: /bin/apt\n  file:\n    matchDirectories:\n    - dir: /etc/keys/\n      \
        recursive: true\n  action: Block\n";

    fn search(directory: &std::path::Path) -> (Found, Compiled) {
        search_for(POLICY, directory)
    }

    fn search_for(policy: &str, directory: &std::path::Path) -> (Found, Compiled) {
        let reading = read(policy, "p.yaml");
        assert!(!reading.failed(), "{}", reading.rendered);
        let policies = reading.documents.into_iter().map(|d| d.policy);
        let aliases = Aliases::observed([("/bin", "usr/bin")]);
        let effective = Effective::new(policies, Postures::default(), aliases);
        let compiled = compile(&effective).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = rustix::fs::open(directory, flags, Mode::empty()).unwrap();
        (find(&Root::plain(root), &effective, &compiled), compiled)
    }

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

        let (found, compiled) = search(dir.path());
        assert!(found.remarks.is_empty(), "{:?}", found.remarks);
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

    #[test]
    fn finds_what_patterns_match_and_nothing_else() {
        const PATTERNS: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
            metadata:\n  name: p\nspec:\n  selector:\n    matchLabels:\n      app: web\n  file:\n    \
            matchPatterns:\n    - pattern: /bin/*.key\n    - pattern: /usr/**/{a,b}.pem\n    - pattern: \
            /usr/share/*.txt\n      action: Audit\n  action: Block\n";
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["usr/bin/deep", "usr/share/x", "tmp"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", path("bin")).unwrap();
        let ruled = ["usr/bin/x.key", "usr/share/x/a.pem", "usr/bin/b.pem"];
        let free = [
            "usr/bin/deep/x.key",
            "usr/share/c.pem",
            "usr/share/a.txt",
            "tmp/a.pem",
        ];
        for name in ruled.iter().chain(&free) {
            std::fs::write(path(name), name).unwrap();
            let other = format!("tmp/{}", name.replace('/', "-"));
            std::fs::hard_link(path(name), path(&other)).unwrap();
        }
        std::fs::write(path("usr/single.key"), "").unwrap();

        let (found, _) = search_for(PATTERNS, dir.path());
        assert!(found.remarks.is_empty(), "{:?}", found.remarks);
        let mut is: Vec<u64> = found.files.iter().map(|marked| marked.file.inode).collect();
        let mut should = ruled.map(|name| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(path(name)).unwrap().ino()
        });
        is.sort_unstable();
        should.sort_unstable();
        assert_eq!(is, should);
    }

    #[test]
    fn a_crowd_in_a_directory_pushes_no_path_out_and_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["usr/bin", "etc/keys", "tmp"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for number in 0..=FILES / 2 {
            let one = path(&format!("etc/keys/{number}"));
            std::fs::write(&one, "").unwrap();
            std::fs::hard_link(&one, path(&format!("etc/keys/{number}-too"))).unwrap();
        }
        std::fs::write(path("usr/bin/apt"), "").unwrap();
        std::fs::hard_link(path("usr/bin/apt"), path("tmp/a")).unwrap();

        let (found, compiled) = search(dir.path());
        assert_eq!(found.files.len(), FILES);
        let view = View::parse(&compiled.words).unwrap();
        let apt = walk(&view, b"/usr/bin/apt");
        assert!(found.files.iter().any(|marked| marked.set == apt));
        let told: Vec<(&str, u32)> = (found.remarks.iter())
            .map(|remark| (remark.path.as_str(), remark.line))
            .collect();
        assert_eq!(told, [("/etc/keys/", 14)]);
    }

    #[test]
    fn directories_that_are_too_deep_are_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let deepest = dir.path().join("etc/keys").join("d/".repeat(DEPTH));
        std::fs::create_dir_all(&deepest).unwrap();
        std::fs::write(deepest.join("key"), "").unwrap();
        std::fs::hard_link(deepest.join("key"), dir.path().join("k")).unwrap();
        let (found, _) = search(dir.path());
        assert!(found.remarks.is_empty(), "{:?}", found.remarks);
        assert_eq!(found.files.len(), 1);

        std::fs::create_dir(deepest.join("d")).unwrap();
        let (found, _) = search(dir.path());
        assert_eq!(found.files.len(), 1);
        let [remark] = &found.remarks[..] else {
            panic!("{:?}", found.remarks)
        };
        assert_eq!((remark.path.as_str(), remark.line), ("/etc/keys/", 14));
        let why = "there are directories more than 64 levels below a ruled one";
        assert_eq!(remark.about, About::Unsearched(why.to_owned()));
    }
}
