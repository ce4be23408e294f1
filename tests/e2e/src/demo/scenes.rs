//! The three scenes: a policy, commands, and what each command must come to.

/// What becomes of a command once the policy is there. Before, all of them succeed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// "Permission denied", and an alert.
    Blocked,
    /// It works, and there is an alert.
    Audited,
    /// It works, and nobody hears of it.
    Allowed,
}

/// A command in the container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// A line of shell.
    pub(crate) command: &'static str,
    pub(crate) fate: Fate,
    /// What the alert's `Resource` contains.
    pub(crate) resource: &'static str,
}

/// One policy at work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    /// The policy's `metadata.name`.
    pub(crate) policy: &'static str,
    pub(crate) manifest: &'static str,
    pub(crate) steps: &'static [Step],
}

const TOKEN: &str = "/run/secrets/kubernetes.io/serviceaccount/token";

pub(crate) const SCENES: [Scene; 3] = [
    Scene {
        title: "No package manager in a running container",
        policy: "block-package-tools",
        manifest: include_str!("../../scenes/block-package-tools.yaml"),
        steps: &[
            Step {
                command: "apt --version",
                fate: Fate::Blocked,
                resource: "/usr/bin/apt",
            },
            Step {
                command: "apt-get --version",
                fate: Fate::Blocked,
                resource: "/usr/bin/apt-get",
            },
            Step {
                command: "wget --version",
                fate: Fate::Allowed,
                resource: "",
            },
        ],
    },
    Scene {
        title: "The service account's token is for /bin/cat alone",
        policy: "token-for-cat-only",
        manifest: include_str!("../../scenes/token-for-cat-only.yaml"),
        steps: &[
            Step {
                command: "head -n 1 /run/secrets/kubernetes.io/serviceaccount/token",
                fate: Fate::Blocked,
                resource: TOKEN,
            },
            Step {
                command: "read -r token < /run/secrets/kubernetes.io/serviceaccount/token",
                fate: Fate::Blocked,
                resource: TOKEN,
            },
            Step {
                command: "/bin/cat /run/secrets/kubernetes.io/serviceaccount/token",
                fate: Fate::Allowed,
                resource: "",
            },
        ],
    },
    Scene {
        title: "Whoever reads nginx's configuration is heard of",
        policy: "audit-nginx-configuration",
        manifest: include_str!("../../scenes/audit-nginx-configuration.yaml"),
        steps: &[Step {
            command: "head -n 1 /etc/nginx/nginx.conf",
            fate: Fate::Audited,
            resource: "/etc/nginx/nginx.conf",
        }],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_name_the_policies_they_show() {
        for scene in SCENES {
            assert!(
                scene
                    .manifest
                    .contains(&format!("name: {}\n", scene.policy)),
                "{}",
                scene.title
            );
        }
    }
}
