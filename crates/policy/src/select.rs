//! Which policies apply to a workload, and in what order.

mod scope;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    alias::Aliases,
    model::{Family, Kind, NameMatch, Policy, Postures, Rule, Selector, Term},
};

pub(crate) use self::scope::{Label, Namespaces, Scope};
pub use karmor_abi::verdict::Action;

/// Namespace of containers that no orchestrator gave one.
pub const CONTAINER_NAMESPACE: &str = "container_namespace";

/// Namespace of policies that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// Labels a controller puts on every pod and changes at each rollout; no policy means them.
pub(crate) const IGNORED_LABELS: [&str; 3] = [
    "pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
];

/// The label that every container has by its namespace.
pub(crate) const NAMESPACE_LABEL: &str = "namespaceName";

/// Whether a container of one namespace is meant by policies of another.
pub(crate) fn is_in(container: &str, policy: &str) -> bool {
    container == policy || (container == CONTAINER_NAMESPACE && policy == DEFAULT_NAMESPACE)
}

/// What kind of workload it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// Every process outside a container.
    Host,
    /// A container.
    Container,
}

/// A workload, as selectors see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Kind.
    pub kind: WorkloadKind,
    /// Name of the host it runs on.
    pub host: String,
    /// Namespace; [`CONTAINER_NAMESPACE`] where nothing gave one; empty for hosts.
    pub namespace: String,
    /// Container name; empty for hosts.
    pub name: String,
    /// Labels: of the pod, the container and its image, or of the host.
    pub labels: BTreeMap<String, String>,
}

impl Workload {
    /// A label's value. What the runtime knows for certain shadows labels of the same name, which
    /// an image's author chooses.
    fn label(&self, key: &str) -> Option<&str> {
        let container = self.kind == WorkloadKind::Container;
        match key {
            NAMESPACE_LABEL if container => Some(&self.namespace),
            "kubearmor.io/container.name" if container => Some(&self.name),
            "kubearmor.io/hostname" if !container => Some(&self.host),
            key if container && IGNORED_LABELS.contains(&key) => None,
            key => self.labels.get(key).map(String::as_str),
        }
    }

    /// Whether a policy applies.
    #[must_use]
    pub fn is_selected_by(&self, policy: &Policy) -> bool {
        let kind = match (policy.kind, self.kind) {
            (Kind::Container, WorkloadKind::Container) => self.is_in(&policy.namespace),
            (Kind::Cluster, WorkloadKind::Container) => true,
            // A host policy must say which hosts.
            (Kind::Host, WorkloadKind::Host) => !policy.selector.terms.is_empty(),
            _ => false,
        };
        kind && self.satisfies(&policy.selector)
    }

    /// Whether policies of `namespace` are about this container.
    fn is_in(&self, namespace: &str) -> bool {
        is_in(&self.namespace, namespace)
    }

    fn satisfies(&self, selector: &Selector) -> bool {
        let has = |(key, value): &(String, String)| self.label(key) == Some(value);
        selector.terms.iter().all(|term| match term {
            Term::Label { key, value } => self.label(key) == Some(value),
            Term::LabelIn(labels) => labels.iter().any(has),
            Term::LabelNotIn(labels) => !labels.iter().any(has),
            Term::NamespaceIn(names) => names.iter().any(|name| self.is_in(name)),
            Term::NamespaceNotIn(names) => !names.iter().any(|name| self.is_in(name)),
            Term::ContainerName(name) => {
                self.kind == WorkloadKind::Container && name_matches(name, &self.name)
            }
            Term::HostName(name) => name_matches(name, &self.host),
            Term::HostNameRegex(pattern) => pattern.0.is_match(&self.host),
        })
    }
}

fn name_matches(wanted: &NameMatch, name: &str) -> bool {
    match wanted {
        NameMatch::Any => true,
        NameMatch::OneOf(names) => names.iter().any(|n| n == name),
        NameMatch::Regex(pattern) => pattern.0.is_match(name),
    }
}

/// Everything that decides about one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The rules, by the index that verdicts name.
    pub rules: Vec<EffectiveRule>,
    /// Default postures.
    pub postures: Postures,
    /// Links in the workload's root.
    pub aliases: Aliases,
}

/// A rule of a policy that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveRule {
    /// Policy.
    pub policy: Arc<Policy>,
    /// Index into its rules.
    pub index: usize,
}

impl EffectiveRule {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.policy.rules[self.index]
    }
}

impl Effective {
    /// Puts policies together, ordered by namespace, name and kind whatever the order they came
    /// in, so that equal sets give equal tables.
    pub fn new(
        policies: impl IntoIterator<Item = Arc<Policy>>,
        postures: Postures,
        aliases: Aliases,
    ) -> Self {
        let mut policies: Vec<_> = policies.into_iter().collect();
        policies
            .sort_by(|a, b| (&a.namespace, &a.name, a.kind).cmp(&(&b.namespace, &b.name, b.kind)));
        let rules = policies
            .iter()
            .flat_map(|policy| {
                (0..policy.rules.len()).map(|index| EffectiveRule {
                    policy: Arc::clone(policy),
                    index,
                })
            })
            .collect();
        Self {
            rules,
            postures,
            aliases,
        }
    }

    /// The rules, in index order.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter().map(EffectiveRule::rule)
    }

    /// Whether some rule spares essential programs.
    #[must_use]
    pub fn spares(&self) -> bool {
        self.rules().any(|rule| rule.spares)
    }

    /// Whether what no single rule says is spared as well: no policy includes essential programs.
    #[must_use]
    pub fn spares_throughout(&self) -> bool {
        self.rules().len() > 0 && self.rules().all(|rule| rule.spares)
    }

    /// Whether some Allow rule makes the posture decide what no rule of the family matches.
    #[must_use]
    pub fn is_whitelisted(&self, family: Family) -> bool {
        self.rules()
            .any(|rule| rule.family == family && rule.action == Action::Allow)
    }
}

/// The policies that apply to a workload.
#[must_use]
pub fn select(
    policies: &[Arc<Policy>],
    workload: &Workload,
    postures: Postures,
    aliases: Aliases,
) -> Effective {
    let selected = policies
        .iter()
        .filter(|policy| workload.is_selected_by(policy))
        .cloned();
    Effective::new(selected, postures, aliases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Location, Pattern};

    fn policy(kind: Kind, namespace: &str, name: &str, terms: Vec<Term>) -> Arc<Policy> {
        Arc::new(Policy {
            kind,
            name: name.into(),
            namespace: namespace.into(),
            selector: Selector { terms },
            rules: Vec::new(),
            not_enforced: Vec::new(),
            location: Location {
                file: "t.yaml".into(),
                line: 1,
                column: 1,
            },
        })
    }

    fn container(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Workload {
        Workload {
            kind: WorkloadKind::Container,
            host: "node-1".into(),
            namespace: namespace.into(),
            name: name.into(),
            labels: labels.iter().map(|&(k, v)| (k.into(), v.into())).collect(),
        }
    }

    fn host(name: &str) -> Workload {
        Workload {
            kind: WorkloadKind::Host,
            ..container("", "", &[("os", "linux")])
        }
        .named(name)
    }

    impl Workload {
        fn named(mut self, host: &str) -> Self {
            self.host = host.into();
            self
        }
    }

    fn label(key: &str, value: &str) -> Term {
        Term::Label {
            key: key.into(),
            value: value.into(),
        }
    }

    fn pairs(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        labels.iter().map(|&(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn kinds_and_namespaces() {
        let web = container("shop", "web", &[]);
        assert!(web.is_selected_by(&policy(Kind::Container, "shop", "p", vec![])));
        assert!(!web.is_selected_by(&policy(Kind::Container, "default", "p", vec![])));
        assert!(web.is_selected_by(&policy(Kind::Cluster, "", "p", vec![])));
        assert!(!web.is_selected_by(&policy(Kind::Host, "", "p", vec![label("a", "b")])));

        let plain = container(CONTAINER_NAMESPACE, "web", &[]);
        assert!(plain.is_selected_by(&policy(Kind::Container, "default", "p", vec![])));
        assert!(plain.is_selected_by(&policy(Kind::Container, CONTAINER_NAMESPACE, "p", vec![])));
        assert!(!plain.is_selected_by(&policy(Kind::Container, "shop", "p", vec![])));
    }

    #[test]
    fn an_empty_selector_selects_no_host() {
        assert!(!host("h").is_selected_by(&policy(Kind::Host, "", "p", vec![])));
        let any = vec![Term::HostName(NameMatch::Any)];
        assert!(host("h").is_selected_by(&policy(Kind::Host, "", "p", any)));
        let other = vec![Term::HostName(NameMatch::OneOf(vec!["x".into()]))];
        assert!(!host("h").is_selected_by(&policy(Kind::Host, "", "p", other)));
        let node = regex_lite::Regex::new("web.*").expect("valid");
        let by_regex = policy(
            Kind::Host,
            "",
            "p",
            vec![Term::HostNameRegex(Pattern(node))],
        );
        assert!(host("my-web-1").is_selected_by(&by_regex));
        assert!(!host("db-1").is_selected_by(&by_regex));
        let by_label = policy(
            Kind::Host,
            "",
            "p",
            vec![label("kubearmor.io/hostname", "h")],
        );
        assert!(host("h").is_selected_by(&by_label));
    }

    #[test]
    fn labels() {
        let web = container("shop", "web", &[("app", "web"), ("tier", "front")]);
        let selects = |terms| web.is_selected_by(&policy(Kind::Container, "shop", "p", terms));
        assert!(selects(vec![label("app", "web"), label("tier", "front")]));
        assert!(!selects(vec![label("app", "web"), label("tier", "back")]));
        let is_in = Term::LabelIn(pairs(&[("app", "db"), ("app", "web")]));
        assert!(selects(vec![is_in.clone()]));
        // Both conditions hold, in whatever order they are written.
        let not_in = Term::LabelNotIn(pairs(&[("tier", "front")]));
        assert!(!selects(vec![is_in.clone(), not_in.clone()]));
        assert!(!selects(vec![not_in, is_in]));
        assert!(selects(vec![Term::LabelNotIn(pairs(&[("tier", "back")]))]));
    }

    #[test]
    fn what_the_runtime_knows_shadows_labels() {
        let fake = [
            ("namespaceName", "kube-system"),
            ("kubearmor.io/container.name", "dns"),
        ];
        let evil = container("shop", "web", &fake);
        let selects = |terms| evil.is_selected_by(&policy(Kind::Container, "shop", "p", terms));
        assert!(!selects(vec![label("namespaceName", "kube-system")]));
        assert!(selects(vec![label("namespaceName", "shop")]));
        assert!(!selects(vec![label("kubearmor.io/container.name", "dns")]));
        assert!(!selects(vec![Term::ContainerName(NameMatch::OneOf(vec![
            "dns".into()
        ]))]));
        assert!(selects(vec![Term::ContainerName(NameMatch::OneOf(vec![
            "web".into()
        ]))]));
    }

    #[test]
    fn cluster_policies_choose_namespaces() {
        let web = container("shop", "web", &[]);
        let selects = |terms| web.is_selected_by(&policy(Kind::Cluster, "", "p", terms));
        assert!(selects(vec![Term::NamespaceIn(vec![
            "shop".into(),
            "x".into()
        ])]));
        assert!(!selects(vec![Term::NamespaceIn(vec!["x".into()])]));
        assert!(!selects(vec![Term::NamespaceNotIn(vec!["shop".into()])]));
        assert!(selects(vec![Term::NamespaceNotIn(vec!["x".into()])]));
    }

    #[test]
    fn order_does_not_depend_on_arrival() {
        let all = vec![Term::HostName(NameMatch::Any)];
        let a = policy(Kind::Container, "shop", "a", all.clone());
        let b = policy(Kind::Container, "shop", "b", all.clone());
        let c = policy(Kind::Cluster, "", "z", all);
        let web = container("shop", "web", &[]);
        let pick = |order: &[&Arc<Policy>]| {
            let order: Vec<_> = order.iter().map(|&p| Arc::clone(p)).collect();
            select(&order, &web, Postures::default(), Aliases::none())
        };
        assert_eq!(pick(&[&a, &b, &c]), pick(&[&c, &b, &a]));
    }
}
