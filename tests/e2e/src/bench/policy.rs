//! Policies with many rules, none of which matches what is measured.

use std::fmt::Write as _;

/// What the manifest of a policy that blocks begins with.
fn head(name: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: {name}\n\
         spec:\n  selector:\n    matchLabels:\n      app: nginx\n  action: Block\n"
    )
}

/// The manifest: a quarter each of paths, directories and patterns of files, and of programs, all
/// blocked.
pub(crate) fn manifest(rules: u32) -> String {
    let [mut paths, mut directories, mut patterns, mut programs] = [const { String::new() }; 4];
    for rule in 0..rules {
        // Writing to a String cannot fail.
        let _ = match rule % 4 {
            0 => writeln!(paths, "    - path: /opt/service-{rule}/etc/config.yaml"),
            1 => writeln!(
                directories,
                "    - dir: /srv/data-{rule}/private/\n      recursive: true"
            ),
            2 => writeln!(patterns, "    - pattern: /var/lib/app-{rule}/*.key"),
            _ => writeln!(programs, "    - path: /opt/service-{rule}/bin/tool"),
        };
    }
    let mut text = head("bench") + "  file:\n";
    for (section, rules) in [
        ("matchPaths", paths),
        ("matchDirectories", directories),
        ("matchPatterns", patterns),
    ] {
        if !rules.is_empty() {
            let _ = write!(text, "    {section}:\n{rules}");
        }
    }
    if !programs.is_empty() {
        let _ = write!(text, "  process:\n    matchPaths:\n{programs}");
    }
    text
}

/// The manifests of a policy that blocks so many networks, at most 65,536, and of one that blocks a
/// capability: one policy has 10,000 rules at most.
pub(crate) fn networks(networks: u32) -> String {
    const CAPABILITY: &str =
        "  capabilities:\n    matchCapabilities:\n    - capability: sys_time\n---\n";
    let mut text = head("bench-capability") + CAPABILITY + &head("bench");
    text.push_str("  network:\n    matchEndpoints:\n");
    for network in 0..networks {
        let [_, _, high, low] = network.to_be_bytes();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    - cidr: 10.{high}.{low}.0/24");
    }
    text
}

/// System calls that nothing makes while it is measured.
const CALLS: [&str; 4] = ["setns", "swapon", "reboot", "init_module"];

/// The manifest of a policy that audits so many system calls, at most four.
pub(crate) fn syscalls(calls: u32) -> String {
    let calls = CALLS.iter().take(calls.try_into().unwrap_or(CALLS.len()));
    let calls: Vec<&str> = calls.copied().collect();
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: bench\n\
         spec:\n  selector:\n    matchLabels:\n      app: nginx\n  syscalls:\n    matchSyscalls:\n    \
         - syscall: [{}]\n",
        calls.join(", ")
    )
}

/// A rule of each family that is about nothing that is measured. Three presets are left out, for what is
/// measured is about them: a program in memory, that did not come with the image, in a session from outside.
const OTHERS: &str = "  network:
    matchProtocols:
    - protocol: sctp
    matchEndpoints:
    - cidr: 10.0.0.0/8
    matchDNSQueries:
    - domain: example.com
  capabilities:
    matchCapabilities:
    - capability: sys_time
  syscalls:
    matchSyscalls:
    - syscall: [setns, swapon, reboot, init_module]
  presets:
  - name: anonymousMapExec
  - name: protectEnv
  - name: protectProc
  - name: ptrace
  - name: mount
  - name: namespace
  - name: kernelModule
  - name: bpf
  - name: ioUring
";

/// The manifest of a policy with so many rules about files and programs, and with every other family.
pub(crate) fn everything(rules: u32) -> String {
    manifest(rules) + OTHERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_as_many_networks_as_asked_for() {
        for count in [1, 300] {
            assert_eq!(networks(count).matches("- cidr:").count(), count as usize);
        }
        assert!(networks(300).contains("10.1.43.0/24"));
    }

    #[test]
    fn has_as_many_rules_as_asked_for() {
        for rules in [1, 3, 4, 100] {
            let text = manifest(rules);
            let found = ["- path:", "- dir:", "- pattern:"]
                .iter()
                .map(|kind| text.matches(kind).count())
                .sum::<usize>();
            assert_eq!(found, rules as usize);
        }
    }
}
