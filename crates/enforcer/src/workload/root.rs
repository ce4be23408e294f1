//! A look into a workload's file system, without falling for what it put there.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use karmor_policy::alias::Aliases;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, readlinkat};

/// Opens the root of a process.
///
/// # Errors
/// When the process is gone.
pub fn of_process(pid: u32) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    // The magic link itself is meant to be followed here, and only here.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Opens something below a root as a process inside would find it; no link leads out.
///
/// # Errors
/// When there is no such thing.
pub fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The most links that are followed on the way to a file, as in the kernel.
const FOLLOWED: usize = 40;

/// The path under which a process inside sees what a path leads to, without a slash at the end.
/// What does not exist is taken to be no link. `None` for links that lead in circles, and for names
/// that are not UTF-8.
#[must_use]
pub fn real_path(root: BorrowedFd<'_>, path: &str) -> Option<String> {
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
        let link = open_in(root, &next, OFlags::PATH | OFlags::NOFOLLOW)
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
pub fn aliases(root: BorrowedFd<'_>) -> Aliases {
    let links: Vec<(&str, String)> = Aliases::candidates()
        .filter_map(|path| {
            let link = open_in(root, path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
            let target = readlinkat(link.as_fd(), "", Vec::new()).ok()?;
            Some((path, target.into_string().ok()?))
        })
        .collect();
    Aliases::observed(links.iter().map(|(path, target)| (*path, target.as_str())))
}

/// The same for the host.
#[must_use]
pub fn host_aliases() -> Aliases {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/", flags, Mode::empty())
        .map_or_else(|_| Aliases::merged_usr(), |root| aliases(root.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_links_without_following_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        let root =
            rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let aliases = aliases(root.as_fd());
        assert_eq!(aliases, Aliases::observed([("/bin", "usr/bin")]));
    }
}
