//! Rules on names that are links.
//!
//! The kernel names a file by its real path. A rule that names a link which is not one of
//! [`karmor_policy::alias`] is therefore not about what the link leads to; whoever wrote it should
//! hear of that, since the rule itself looks right. Nothing else follows from what is found here:
//! whoever may write to the root can plant links.

use std::sync::Arc;

use karmor_policy::{model::Rule, select::Effective};

use crate::{
    remark::{About, Remark},
    text,
    workload::root::Root,
};

/// Most rules that are told of for one workload.
const LINKS: usize = 100;

/// Finds the rules that name links in a workload's root.
#[must_use]
pub fn find(root: &Root, effective: &Effective) -> Vec<Remark> {
    let links = effective.rules.iter().flat_map(|rule| {
        named(rule.rule()).filter_map(move |(path, is_source)| {
            let real = root.real_path(path)?;
            let is_known = (effective.aliases.names(path).iter())
                .any(|name| name.trim_end_matches('/') == real.trim_end_matches('/'));
            let real = text::name(&real);
            (!is_known).then(|| Remark {
                policy: Arc::clone(&rule.policy),
                line: rule.rule().location.line,
                path: path.to_owned(),
                about: if is_source {
                    About::SourceLink(real)
                } else {
                    About::Link(real)
                },
            })
        })
    });
    links.take(LINKS).collect()
}

/// The paths that a rule names, and whether as a source.
fn named(rule: &Rule) -> impl Iterator<Item = (&str, bool)> {
    let target = rule.target.path().map(|path| (path, false));
    let sources = rule.sources.iter().map(|source| (source.path(), true));
    target
        .into_iter()
        .chain(sources)
        // Links there depend on who looks.
        .filter(|(path, _)| !path.starts_with("/proc/"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use karmor_policy::{alias::Aliases, model::Postures};
    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::source::read::read;

    #[test]
    fn finds_rules_on_links_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("usr/bin")).unwrap();
        std::fs::create_dir_all(path("opt/app-2/keys")).unwrap();
        for name in ["dash", "cat", "bash"] {
            std::fs::write(path("usr/bin").join(name), name).unwrap();
        }
        for (to, name) in [
            ("usr/bin", "bin"),
            ("dash", "usr/bin/sh"),
            // Absolute, and more levels up than there are.
            ("/opt/app-2", "opt/app"),
            ("../../../../usr/bin/cat", "usr/bin/show"),
            ("loop", "loop"),
        ] {
            symlink(to, path(name)).unwrap();
        }
        let paths = ["/bin/sh", "/bin/bash", "/loop", "/opt/app/missing"]
            .map(|path| format!("    - path: {path}\n"))
            .concat();
        let policy = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\n\
             spec:\n  process:\n    matchPaths:\n{paths}  file:\n    matchDirectories:\n    \
             - dir: /opt/app/keys/\n      fromSource:\n      - path: /bin/show\n    - dir: /opt/app-2/\n  \
             action: Block\n"
        );
        let reading = read(&policy, "p.yaml");
        assert!(!reading.failed(), "{}", reading.rendered);
        let policies = reading.documents.into_iter().map(|d| d.policy);
        let aliases = Aliases::observed([("/bin", "usr/bin")]);
        let effective = Effective::new(policies, Postures::default(), aliases);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        let found = find(&Root::plain(root), &effective);
        let found: Vec<_> = found
            .iter()
            .map(|remark| (remark.line, remark.path.as_str(), remark.about.clone()))
            .collect();
        let link = |real: &str| About::Link(real.to_owned());
        assert_eq!(
            found,
            [
                (7, "/bin/sh", link("/usr/bin/dash")),
                (10, "/opt/app/missing", link("/opt/app-2/missing")),
                (13, "/opt/app/keys/", link("/opt/app-2/keys")),
                (
                    13,
                    "/bin/show",
                    About::SourceLink("/usr/bin/cat".to_owned())
                ),
            ]
        );
    }
}
