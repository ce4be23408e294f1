//! A look into a workload's file system, without falling for what it put there.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use karmor_policy::alias::Aliases;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The most links that are followed on the way to a file, as in the kernel.
const FOLLOWED: usize = 40;

/// The root of a mount namespace.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    /// What was written on top of the image, where the root is an overlay over one.
    upper: Option<OwnedFd>,
}

impl Root {
    /// Opens the root of the mount namespace of a process, where the kernel half's paths begin.
    /// The root of the process itself lies deeper after a chroot.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
        // To enter a mount namespace changes the root and the working directory, which the threads
        // of a process share; this one takes its own along, and ends.
        let inside = thread::scope(|scope| scope.spawn(|| enter(&namespace)).join());
        match inside.map_err(|_panic| io::Error::other("looking into a namespace failed"))? {
            Ok(root) => Ok(root),
            // Who may not enter can still look, as far as the process itself sees.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // The magic link itself is meant to be followed here, and only here.
                let directory = openat(CWD, format!("/proc/{pid}/root"), DIRECTORY, Mode::empty())?;
                Ok(Self::plain(directory))
            }
            Err(error) => Err(error),
        }
    }

    /// A directory that is no overlay.
    pub(crate) const fn plain(directory: OwnedFd) -> Self {
        Self {
            directory,
            upper: None,
        }
    }

    /// Opens something below as a process inside would find it; no link leads out.
    ///
    /// # Errors
    /// When there is no such thing.
    pub fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_in(self.directory.as_fd(), path, flags)
    }

    /// Whether what is at `path`, in a directory of the device `device`, is as the image brought
    /// it. `false` where that cannot be told.
    #[must_use]
    pub fn from_image(&self, path: &[u8], device: u64) -> bool {
        let Some(upper) = &self.upper else {
            return false;
        };
        // Another mount lies over the overlay there.
        if fstat(&self.directory).map(|stat| stat.st_dev) != Ok(device) {
            return false;
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = openat2(upper, path, flags, Mode::empty(), resolve);
        matches!(written, Err(Errno::NOENT | Errno::NOTDIR))
    }

    /// The path under which a process inside sees what a path leads to, without a slash at the end.
    /// What does not exist is taken to be no link. `None` for links that lead in circles, and for names
    /// that are not UTF-8.
    #[must_use]
    pub fn real_path(&self, path: &str) -> Option<String> {
        let mut real = String::new();
        let mut followed = 0;
        let components = |path: &str| -> Vec<String> {
            let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
            parts.rev().map(str::to_owned).collect()
        };
        let mut left = components(path);
        while let Some(component) = left.pop() {
            if component == ".." {
                real.truncate(real.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{real}/{component}");
            let link = self
                .open(&next, OFlags::PATH | OFlags::NOFOLLOW)
                .and_then(|file| readlinkat(file, "", Vec::new()));
            let Ok(target) = link else {
                real = next;
                continue;
            };
            followed += 1;
            if followed > FOLLOWED {
                return None;
            }
            let target = target.into_string().ok()?;
            if target.starts_with('/') {
                real.clear();
            }
            left.extend(components(&target));
        }
        Some(real)
    }

    /// Which of the directories that policies name are links here (`/bin` to `usr/bin`).
    #[must_use]
    pub fn aliases(&self) -> Aliases {
        let links: Vec<(&str, String)> = Aliases::candidates()
            .filter_map(|path| {
                let link = self.open(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
                let target = readlinkat(link.as_fd(), "", Vec::new()).ok()?;
                Some((path, target.into_string().ok()?))
            })
            .collect();
        Aliases::observed(links.iter().map(|(path, target)| (*path, target.as_str())))
    }
}

/// [`Root::aliases`] of the host.
#[must_use]
pub fn host_aliases() -> Aliases {
    openat(CWD, "/", DIRECTORY, Mode::empty()).map_or_else(
        |_| Aliases::merged_usr(),
        |directory| Root::plain(directory).aliases(),
    )
}

fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Moves the calling thread into a mount namespace, and opens its root.
fn enter(namespace: &File) -> io::Result<Root> {
    // Inside there may be no /proc, or one of other processes.
    let thread = openat(CWD, "/proc/thread-self", DIRECTORY, Mode::empty())?;
    let host = openat(CWD, "/proc/1/root", DIRECTORY, Mode::empty())?;
    unshare(CloneFlags::CLONE_FS)?;
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    let directory = openat(CWD, "/", DIRECTORY, Mode::empty())?;
    let mut mounts = String::new();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    File::from(openat(&thread, "mountinfo", flags, Mode::empty())?).read_to_string(&mut mounts)?;
    // Runtimes name it as the host sees it.
    let upper = upper_directory(&mounts).and_then(|p| open_in(host.as_fd(), p, DIRECTORY).ok());
    Ok(Root { directory, upper })
}

/// `upperdir` of the overlay at the root, from `mountinfo` of proc(5).
fn upper_directory(mounts: &str) -> Option<&str> {
    let (_, root) = mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .rfind(|(mount, _)| mount.split(' ').nth(4) == Some("/"))?;
    let mut fields = root.split(' ');
    if fields.next() != Some("overlay") {
        return None;
    }
    let options = fields.nth(1)?.split(',');
    // Escaped characters would need more than this; then it is not told.
    options
        .filter_map(|option| option.strip_prefix("upperdir="))
        .find(|path| !path.contains('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_links_without_following_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        let root = Root::plain(rustix::fs::open(dir.path(), DIRECTORY, Mode::empty()).unwrap());
        assert_eq!(root.aliases(), Aliases::observed([("/bin", "usr/bin")]));
    }

    #[test]
    fn what_was_written_is_not_from_the_image() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["merged/etc", "upper/etc"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("upper/etc/written"), "").unwrap();
        let open =
            |name| rustix::fs::open(dir.path().join(name), DIRECTORY, Mode::empty()).unwrap();
        let root = Root {
            directory: open("merged"),
            upper: Some(open("upper")),
        };
        let device = fstat(&root.directory).unwrap().st_dev;
        assert!(root.from_image(b"/etc/passwd", device));
        assert!(root.from_image(b"/usr/bin/perl", device));
        assert!(!root.from_image(b"/etc/written", device));
        assert!(!root.from_image(b"/etc/passwd", device + 1));
        assert!(!Root::plain(open("merged")).from_image(b"/etc/passwd", device));
    }

    #[test]
    fn the_upper_directory_is_that_of_the_last_root() {
        let overlay = "501 400 0:52 / / rw,relatime shared:1 master:2 - overlay overlay \
             rw,lowerdir=/l/2:/l/1,upperdir=/var/lib/u,workdir=/w\n\
             502 501 0:53 / /data rw - overlay overlay rw,upperdir=/other\n";
        assert_eq!(upper_directory(overlay), Some("/var/lib/u"));
        let under = format!("{overlay}503 501 254:1 / / rw - ext4 /dev/vda1 rw\n");
        assert_eq!(upper_directory(&under), None);
        assert_eq!(upper_directory(&overlay.replace("/lib/u", "/a\\,b")), None);
        assert_eq!(upper_directory(""), None);
    }
}
