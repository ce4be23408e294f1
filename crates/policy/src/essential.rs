//! Programs that a host cannot do without: init, the enforcer, what starts containers, and the way
//! in at the console.
//!
//! A policy for hosts that forgot one of them would leave a machine that does not boot, starts no
//! containers and lets nobody in to mend it. Such policies spare them unless they say
//! `includeEssential: true`: what a sparing rule, or the default posture, would refuse to one of these
//! programs is audited, and so is refusing anybody to execute one.

use crate::{
    alias::Aliases,
    model::{Source, Target},
    reference::matches,
    select::Effective,
};

/// Where they lie. Names under `/bin`, `/sbin` and `/lib` hold in `/usr` as well, by the links every
/// system has.
const PROGRAMS: [&str; 38] = [
    // Init, and what it starts itself.
    "/sbin/init",
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-executor",
    "/usr/lib/systemd/systemd-journald",
    "/usr/lib/systemd/systemd-logind",
    "/usr/lib/systemd/systemd-networkd",
    "/usr/lib/systemd/systemd-resolved",
    "/usr/lib/systemd/systemd-shutdown",
    "/usr/lib/systemd/systemd-sulogin-shell",
    "/usr/lib/systemd/systemd-udevd",
    "/usr/bin/dbus-daemon",
    "/usr/bin/dbus-broker",
    "/usr/bin/dbus-broker-launch",
    // The enforcer, and the way to change policies.
    "/usr/bin/karmor-enforcer",
    "/usr/bin/karmor",
    "/usr/local/bin/karmor-enforcer",
    "/usr/local/bin/karmor",
    // What starts containers.
    "/usr/bin/containerd",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/bin/runc",
    "/usr/bin/crun",
    "/usr/bin/crio",
    "/usr/bin/conmon",
    "/usr/bin/dockerd",
    "/usr/bin/docker-proxy",
    "/usr/bin/podman",
    "/usr/bin/kubelet",
    "/usr/sbin/runc",
    "/usr/local/bin/containerd",
    "/usr/local/bin/containerd-shim-runc-v2",
    "/usr/local/sbin/runc",
    "/usr/local/bin/crio",
    "/usr/local/bin/kubelet",
    // The console.
    "/sbin/agetty",
    "/sbin/getty",
    "/bin/login",
    "/sbin/sulogin",
    "/usr/sbin/unix_chkpwd",
];

/// The programs, as sources.
pub(crate) fn sources() -> impl Iterator<Item = Source> {
    PROGRAMS.into_iter().map(Source::from)
}

/// The one of them that a rule names, by its path or by the last part of it.
pub(crate) fn named(target: &Target) -> Option<&str> {
    match target {
        Target::Path(path) => is_one(path).then_some(path),
        Target::ExecName(name) => called(name).next(),
        _ => None,
    }
}

/// The one of them that a source is.
pub(crate) fn source(source: &Source) -> Option<&str> {
    match source {
        Source::Path(path) => is_one(path).then_some(path),
        Source::Directory { .. } => None,
    }
}

/// Whether this is one of them where the usual links are.
fn is_one(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    called(name).next().is_some() && {
        let aliases = Aliases::merged_usr();
        is_essential(&aliases, aliases.resolve(path).as_bytes())
    }
}

/// Those whose last component this is.
fn called(name: &str) -> impl Iterator<Item = &'static str> {
    let is_last = move |program: &&str| program.rsplit('/').next() == Some(name);
    PROGRAMS.into_iter().filter(is_last)
}

/// Whether this is one of them, and some policy spares it.
#[must_use]
pub fn is_spared(effective: &Effective, path: Option<&[u8]>) -> bool {
    let Some(path) = path else { return false };
    effective.spares() && is_essential(&effective.aliases, path)
}

fn is_essential(aliases: &Aliases, path: &[u8]) -> bool {
    let mut programs = PROGRAMS.into_iter();
    programs.any(|program| matches(&Target::Path(program.to_owned()), aliases, path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The table of the document: a directory, which ends with a slash, stands before the names in it.
    #[test]
    fn the_documented_programs_are_these() {
        let document = include_str!("../../../docs/host-policies.md");
        let (_, spared) = document
            .split_once("## What they spare")
            .expect("a section about it");
        let mut documented = BTreeSet::new();
        for row in spared.lines().filter(|line| line.starts_with("| ")) {
            let mut directory = "";
            for name in row.split('`').skip(1).step_by(2) {
                if name.ends_with('/') {
                    directory = name;
                } else if name.starts_with('/') {
                    documented.insert(name.to_owned());
                } else {
                    documented.insert(format!("{directory}{name}"));
                }
            }
        }
        let programs = PROGRAMS.into_iter().map(str::to_owned).collect();
        assert_eq!(documented, programs);
    }
}
