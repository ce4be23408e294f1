//! What this machine must have before anything can be enforced.

use std::{fs, path::Path};

use crate::backend::Capabilities;

/// The oldest kernel that has all the kernel half needs.
const OLDEST: (u32, u32) = (5, 17);

/// Looks at the machine, without loading anything.
///
/// [`Capabilities::observe_only`] is the reason why nothing can be enforced, when there is one.
#[must_use]
pub fn look() -> Capabilities {
    look_at(Path::new("/"), rustix::process::geteuid().is_root())
}

fn look_at(root: &Path, is_root: bool) -> Capabilities {
    let kernel = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let btf = fs::File::open(root.join("sys/kernel/btf/vmlinux")).is_ok();
    let lsms = fs::read_to_string(root.join("sys/kernel/security/lsm"));
    let observe_only = obstacle(&kernel, btf, lsms.as_deref().ok(), is_root);
    let lsms = lsms.unwrap_or_default();
    Capabilities {
        kernel,
        btf,
        lsms: lsms
            .trim()
            .split(',')
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect(),
        hooks: Vec::new(),
        observe_only,
    }
}

fn obstacle(kernel: &str, btf: bool, lsms: Option<&str>, is_root: bool) -> Option<String> {
    if !is_root {
        return Some("this needs root, to load programs into the kernel".into());
    }
    if version(kernel).is_some_and(|v| v < OLDEST) {
        let (major, minor) = OLDEST;
        return Some(format!("kernel {kernel} is older than {major}.{minor}"));
    }
    if !btf {
        return Some(
            "the kernel does not describe its types: there is no /sys/kernel/btf/vmlinux \
             (CONFIG_DEBUG_INFO_BTF)"
                .into(),
        );
    }
    match lsms {
        None => Some(
            "/sys/kernel/security/lsm cannot be read; mount securityfs: mount -t securityfs \
             securityfs /sys/kernel/security"
                .into(),
        ),
        Some(active) if active.trim().split(',').all(|l| l != "bpf") => Some(format!(
            "BPF-LSM is not active (active: {}); add `bpf` to the lsm= parameter of the kernel's \
             command line",
            active.trim()
        )),
        Some(_) => None,
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_obstacle() {
        let ok = Some("capability,landlock,bpf\n");
        assert_eq!(obstacle("6.1.0-18-amd64", true, ok, true), None);
        let says = |kernel, btf, lsms, root, word: &str| {
            let text = obstacle(kernel, btf, lsms, root).unwrap();
            assert!(text.contains(word), "{text}");
        };
        says("6.1.0", true, ok, false, "root");
        says("5.15.0-91-generic", true, ok, true, "older than 5.17");
        says("6.1.0", false, ok, true, "btf");
        says("6.1.0", true, Some("capability,apparmor"), true, "lsm=");
        says("6.1.0", true, None, true, "securityfs");
    }

    #[test]
    fn reads_versions() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("7.2"), Some((7, 2)));
    }
}
