//! The guest's base: Debian's shell, tools, containerd and runc, built once per package list.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    cache::{self, Cache},
    debian::{Apt, Pool},
    shell,
    tree::Tree,
    ui,
};

/// Counts up when the recipe below changes in a way that the package list does not show.
const RECIPE: &str = "1";

const PACKAGES: [&str; 11] = [
    "bash",
    "busybox-static",
    "containerd",
    "coreutils",
    "findutils",
    "grep",
    "libgcc-s1",
    "procps",
    "runc",
    "sed",
    "util-linux",
];

/// Dependencies of maintainer scripts, which nothing in the guest runs.
const NOT_NEEDED: [&str; 21] = [
    "adduser",
    "debconf",
    "dpkg",
    "gcc-12-base",
    "init-system-helpers",
    "iproute2",
    "libaudit-common",
    "libdb5.3",
    "libfile-find-rule-perl",
    "libgdbm-compat4",
    "libgdbm6",
    "libnumber-compare-perl",
    "libperl5.36",
    "libtext-glob-perl",
    "mawk",
    "passwd",
    "perl",
    "perl-base",
    "perl-modules-5.36",
    "tar",
    "usrmerge",
];

/// Programs of those packages that nothing in the guest runs.
const NOT_RUN: [&str; 3] = [
    "usr/bin/containerd-shim",
    "usr/bin/containerd-shim-runc-v1",
    "usr/bin/containerd-stress",
];

/// The base archive, from the cache or built now.
pub(crate) fn base(cache: &Cache) -> Result<PathBuf> {
    let path = path(cache);
    if path.is_file() {
        return Ok(path);
    }
    ui::status("building the guest's base from Debian packages");
    let debs = Apt::open(cache, Pool::Release)?.download(&PACKAGES)?;
    let mut tree = Tree::merged_usr();
    for deb in debs.iter().filter(|deb| is_needed(deb, &PACKAGES)) {
        tree.package(deb)?;
    }
    for path in NOT_RUN {
        tree.remove(path);
    }
    busybox_applets(&mut tree)?;
    for path in [
        "dev", "proc", "sys", "run", "tmp", "root", "var/lib", "var/log", "newroot",
    ] {
        tree.directory(path, 0o755);
    }
    tree.directory("tmp", 0o1777);
    // The kernel opens /dev/console for init before anything is mounted.
    tree.char_device("dev/console", 0o600, 5, 1);
    tree.char_device("dev/null", 0o666, 1, 3);
    tree.symlink("var/run", "/run");
    tree.file("etc/hostname", 0o644, *b"karmor-vm\n");
    tree.file(
        "etc/hosts",
        0o644,
        *b"127.0.0.1 localhost karmor-vm\n::1 localhost\n",
    );
    tree.file(
        "etc/passwd",
        0o644,
        *b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
    );
    tree.file("etc/group", 0o644, *b"root:x:0:\nnogroup:x:65534:\n");
    cache::write_atomically(&path, |out| tree.write_cpio(out))?;
    Ok(path)
}

/// Where the base is. Newer packages alone do not replace it: a test run must not depend on what
/// a mirror holds today.
pub(super) fn path(cache: &Cache) -> PathBuf {
    let parts = [RECIPE]
        .iter()
        .chain(&PACKAGES)
        .chain(&NOT_NEEDED)
        .chain(&NOT_RUN);
    cache.join(format!("guest/base-{}.cpio", cache::key(parts)))
}

/// Whether the package was asked for, or is of use in a system that installs nothing.
pub(super) fn is_needed(deb: &Path, asked_for: &[&str]) -> bool {
    let name = deb.file_name().unwrap_or_default().to_string_lossy();
    let package = name.split('_').next().unwrap_or_default();
    asked_for.contains(&package) || !NOT_NEEDED.contains(&package)
}

/// Links every applet of busybox that no package has a program for.
pub(super) fn busybox_applets(tree: &mut Tree) -> Result<()> {
    const BUSYBOX: &str = "usr/bin/busybox";
    let content = tree
        .content(BUSYBOX)
        .context("busybox-static has a busybox")?;
    let mut file = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    file.write_all(content)
        .context("cannot write a temporary file")?;
    let path = file.into_temp_path();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    // Busybox is the applet that it is called by the name of.
    let mut list = Command::new(&*path);
    list.arg0("busybox").arg("--list");
    for applet in shell::capture_text(&mut list)?.lines() {
        let taken = ["usr/bin", "usr/sbin"]
            .iter()
            .any(|directory| tree.contains(&format!("{directory}/{applet}")));
        if !taken {
            tree.symlink(&format!("usr/bin/{applet}"), "busybox");
        }
    }
    Ok(())
}
