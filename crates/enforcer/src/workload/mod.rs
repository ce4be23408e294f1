//! Who runs here: containers, as their runtime tells, and the host.
//!
//! ```text
//! containerd ──events, list──▶ RuntimeEvent ──▶ engine ──number, cgroup id──▶ Backend
//! ```

pub mod cgroup;
pub mod containerd;
pub mod numbers;
pub mod root;

use std::{collections::BTreeMap, os::unix::fs::MetadataExt as _, sync::Arc};

use karmor_policy::{
    alias::Aliases,
    select::{CONTAINER_NAMESPACE, Workload as Selectable, WorkloadKind},
};

use self::cgroup::Cgroup;
use crate::{
    backend::{Origin, device_number},
    text,
};

/// Where the daemon runs, as alerts say it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the host.
    pub host: String,
    /// Identity of the machine.
    pub node_id: String,
}

/// Whose process it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Every process outside a container.
    Host,
    /// A container.
    Container(Arc<Container>),
}

impl Identity {
    /// A name for lists.
    #[must_use]
    pub fn name<'a>(&'a self, node: &'a Node) -> &'a str {
        match self {
            Self::Host => &node.host,
            Self::Container(container) => &container.name,
        }
    }

    /// The workload as selectors see it.
    #[must_use]
    pub fn selectable(&self, node: &Node) -> Selectable {
        match self {
            Self::Host => Selectable {
                kind: WorkloadKind::Host,
                host: node.host.clone(),
                namespace: String::new(),
                name: String::new(),
                labels: BTreeMap::new(),
            },
            Self::Container(container) => Selectable {
                kind: WorkloadKind::Container,
                host: node.host.clone(),
                namespace: container.namespace.clone(),
                name: container.name.clone(),
                labels: container.labels.clone(),
            },
        }
    }

    /// What it was started with.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self {
            Self::Host => Origin {
                namespace: mount_namespace_of(1),
                init: 0,
                root: root_device_of(1),
            },
            Self::Container(container) => Origin {
                namespace: container.mount_namespace,
                init: container.pid,
                root: container.root_device,
            },
        }
    }

    /// Links in its root.
    #[must_use]
    pub fn aliases(&self) -> Aliases {
        match self {
            Self::Host => root::host_aliases(),
            Self::Container(container) => container.aliases.clone(),
        }
    }
}

/// What is known of a running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Namespace of the runtime (`k8s.io`, `moby`, `default`); ids are unique only within it.
    pub runtime_namespace: String,
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Namespace as policies know it.
    pub namespace: String,
    /// Image, with tag and digest where known.
    pub image: String,
    /// Labels of the container and its image.
    pub labels: BTreeMap<String, String>,
    /// First process, in the host's numbers.
    pub pid: u32,
    /// The cgroup its first process is in, or above that the one that is named after it.
    pub cgroup: Cgroup,
    /// Number of the mount namespace its first process is in; 0 when that cannot be told.
    pub mount_namespace: u32,
    /// Device of its first process' root, as the kernel numbers it; 0 when that cannot be told.
    pub root_device: u32,
    /// Links in its root.
    pub aliases: Aliases,
}

/// Number of the mount namespace that a process is in; 0 when that cannot be told.
pub(crate) fn mount_namespace_of(pid: u32) -> u32 {
    // The link itself is `mnt:[4026531841]`; what it leads to has that number.
    let metadata = std::fs::metadata(format!("/proc/{pid}/ns/mnt"));
    metadata.map_or(0, |m| u32::try_from(m.ino()).unwrap_or(0))
}

/// Device of a process' root as the kernel numbers it; 0 when that cannot be told.
pub(crate) fn root_device_of(pid: u32) -> u32 {
    let metadata = std::fs::metadata(format!("/proc/{pid}/root/"));
    metadata.map_or(0, |found| device_number(found.dev()))
}

/// The runtime's namespace of what Kubernetes starts. Only root can put a container there.
const KUBERNETES: &str = "k8s.io";

/// Labels by which the runtimes' tools remember things; no user means them.
const INTERNAL: [&str; 5] = [
    "io.kubernetes.",
    "io.cri-containerd",
    "io.containerd.",
    "containerd.io/",
    "nerdctl/",
];

/// Most bytes of the labels in an alert.
const LABELS_BYTES: usize = 4096;

impl Container {
    /// Takes what the runtime says, and makes it fit for use.
    #[must_use]
    pub fn new(
        runtime_namespace: &str,
        id: &str,
        image: &str,
        digest: Option<&str>,
        labels: BTreeMap<String, String>,
    ) -> Self {
        let stated = |key: &str| {
            let value = labels.get(key).filter(|v| !v.is_empty());
            value.map(|v| text::name(v))
        };
        // An image can bring any label, so each is believed only where somebody else writes it
        // last: Kubernetes in what it starts, nerdctl in what it starts.
        let (name, namespace) = if runtime_namespace == KUBERNETES {
            (
                "io.kubernetes.container.name",
                "io.kubernetes.pod.namespace",
            )
        } else {
            ("nerdctl/name", "kubearmor.io/namespace")
        };
        let (name, namespace) = (stated(name), stated(namespace));
        let mut image = text::name(image);
        if let Some(digest) = digest.filter(|d| !image.contains(*d)) {
            image = format!("{image}@{}", text::name(digest));
        }
        Self {
            runtime_namespace: runtime_namespace.to_owned(),
            id: text::name(id),
            name: name.unwrap_or_else(|| text::name(id)),
            namespace: namespace.unwrap_or_else(|| CONTAINER_NAMESPACE.into()),
            image,
            labels,
            pid: 0,
            mount_namespace: 0,
            root_device: 0,
            cgroup: Cgroup::default(),
            aliases: Aliases::merged_usr(),
        }
    }

    /// Whether Kubernetes started it, so that its namespace is one of the cluster's.
    #[must_use]
    pub fn is_of_kubernetes(&self) -> bool {
        self.runtime_namespace == KUBERNETES
    }

    /// What tells this container from every other on this machine.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.runtime_namespace, self.id)
    }

    /// `PodName` of an alert: outside Kubernetes, the container's name.
    #[must_use]
    pub fn pod_name(&self) -> String {
        let label = self.labels.get("io.kubernetes.pod.name");
        match label.filter(|name| self.is_of_kubernetes() && !name.is_empty()) {
            Some(name) => text::name(name),
            None => self.name.clone(),
        }
    }

    /// The labels a user set, as `key=value`.
    pub fn user_labels(&self) -> impl Iterator<Item = String> {
        self.labels
            .iter()
            .filter(|(key, _)| !INTERNAL.iter().any(|prefix| key.starts_with(prefix)))
            .map(|(key, value)| text::name(&format!("{key}={value}")))
    }

    /// The labels a user set, as alerts show them; whole labels only.
    #[must_use]
    pub fn labels_text(&self) -> String {
        let mut out = String::new();
        for label in self.user_labels() {
            if out.len() + label.len() > LABELS_BYTES {
                break;
            }
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(&label);
        }
        out
    }
}

/// What a runtime tells.
#[derive(Debug)]
pub enum RuntimeEvent {
    /// A container runs. Told again and again.
    Running(Box<Container>),
    /// A container has ended, by its key, or at least its first process: others may be left where
    /// it shares the host's pid namespace.
    Ended(String),
    /// These containers run, by their keys. Others may too: a runtime under pressure leaves some
    /// out.
    Listed(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn names_come_from_labels_and_else_from_the_id() {
        let plain = Container::new(
            "default",
            "abc",
            "docker.io/library/web:1",
            None,
            labels(&[]),
        );
        assert_eq!(
            (plain.name.as_str(), plain.namespace.as_str()),
            ("abc", CONTAINER_NAMESPACE)
        );
        let pod = Container::new(
            "k8s.io",
            "abc",
            "img",
            Some("sha256:1"),
            labels(&[
                ("io.kubernetes.container.name", "web"),
                ("io.kubernetes.pod.namespace", "shop"),
                ("io.kubernetes.pod.name", "web-7"),
                ("app", "web"),
            ]),
        );
        assert_eq!((pod.name.as_str(), pod.namespace.as_str()), ("web", "shop"));
        assert_eq!(pod.pod_name(), "web-7");
        assert_eq!(pod.image, "img@sha256:1");
        assert_eq!(pod.labels_text(), "app=web");
    }

    #[test]
    fn names_with_control_characters_are_escaped() {
        let bad = Container::new(
            "default",
            "abc",
            "web\n:1\x1b[2J",
            None,
            labels(&[("a\n", "b")]),
        );
        assert_eq!(bad.image, "web\\n:1\\u{1b}[2J");
        assert_eq!(bad.labels_text(), "a\\n=b");
    }

    #[test]
    fn an_image_does_not_choose_the_names_in_alerts() {
        let brought = [
            ("io.kubernetes.pod.name", "db-0\x1b[2J"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.container.name", "db"),
        ];
        let plain = Container::new("default", "abc", "img", None, labels(&brought));
        assert_eq!(
            (plain.name.as_str(), plain.pod_name().as_str()),
            ("abc", "abc")
        );
        assert_eq!(plain.namespace, CONTAINER_NAMESPACE);

        let long = "x".repeat(2 * text::NAME_BYTES);
        let mut set = labels(&brought);
        set.insert("nerdctl/name".into(), "web".into());
        let pod = Container::new("k8s.io", "abc", "img", None, set.clone());
        assert_eq!(pod.name, "db", "nerdctl has no say in Kubernetes");
        assert_eq!(pod.pod_name(), "db-0\\u{1b}[2J");
        set.insert("io.kubernetes.pod.name".into(), long);
        let pod = Container::new("k8s.io", "abc", "img", None, set);
        assert_eq!(pod.pod_name().len(), text::NAME_BYTES);
    }

    #[test]
    fn many_labels_are_cut_between_labels() {
        let many = (0..2000)
            .map(|i| (format!("key{i:04}"), "value".to_owned()))
            .collect();
        let container = Container::new("default", "abc", "web", None, many);
        assert!(container.labels_text().len() <= LABELS_BYTES + 1024);
        assert!(container.labels_text().ends_with("=value"));
    }
}
