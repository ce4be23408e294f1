//! Which workloads a policy is for, as a set that can be held against another policy's.

use std::collections::BTreeSet;

use super::{CONTAINER_NAMESPACE, DEFAULT_NAMESPACE};
use crate::model::{Kind, NameMatch, Pattern, Policy, Term};

/// A label's key and value.
pub(crate) type Label = (String, String);

/// The workloads that a policy selects, whatever order its selector is written in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    is_host: bool,
    pub(crate) namespaces: Namespaces,
    /// All of these are carried.
    pub(crate) labels: BTreeSet<Label>,
    /// Of each, one is carried.
    one_of: BTreeSet<BTreeSet<Label>>,
    /// None of these is.
    none_of: BTreeSet<Label>,
    /// Each of these is true of the name of the container or host.
    names: BTreeSet<Name>,
}

/// Namespaces of workloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Namespaces {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    OneOf(BTreeSet<String>),
    Regex(String),
}

impl Scope {
    pub(crate) fn of(policy: &Policy) -> Self {
        let mut scope = Self {
            is_host: policy.kind == Kind::Host,
            namespaces: match policy.kind {
                Kind::Container => Namespaces::In(of_workloads([&policy.namespace])),
                Kind::Cluster | Kind::Host => Namespaces::NotIn(BTreeSet::new()),
            },
            labels: BTreeSet::new(),
            one_of: BTreeSet::new(),
            none_of: BTreeSet::new(),
            names: BTreeSet::new(),
        };
        for term in &policy.selector.terms {
            scope.narrow(term);
        }
        scope
    }

    fn narrow(&mut self, term: &Term) {
        match term {
            Term::Label { key, value } => {
                self.labels.insert((key.clone(), value.clone()));
            }
            Term::LabelIn(labels) => match labels.as_slice() {
                [label] => {
                    self.labels.insert(label.clone());
                }
                labels => {
                    self.one_of.insert(labels.iter().cloned().collect());
                }
            },
            Term::LabelNotIn(labels) => self.none_of.extend(labels.iter().cloned()),
            Term::NamespaceIn(names) => self.namespaces.keep(of_workloads(names)),
            Term::NamespaceNotIn(names) => self.namespaces.remove(of_workloads(names)),
            Term::ContainerName(name) | Term::HostName(name) => match name {
                NameMatch::Any => {}
                NameMatch::OneOf(names) => {
                    self.names
                        .insert(Name::OneOf(names.iter().cloned().collect()));
                }
                NameMatch::Regex(pattern) => self.matching(pattern),
            },
            Term::HostNameRegex(pattern) => self.matching(pattern),
        }
    }

    fn matching(&mut self, pattern: &Pattern) {
        self.names
            .insert(Name::Regex(pattern.0.as_str().to_owned()));
    }

    /// Whether every workload of `other` is surely one of these. What only the workloads can tell
    /// counts as no.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let lacks = |(key, value): &Label| {
            let mut carried = other.labels.iter();
            other.none_of.contains(&(key.clone(), value.clone()))
                || carried.any(|(known, other)| known == key && other != value)
        };
        self.is_host == other.is_host
            && self.labels.is_subset(&other.labels)
            && self.namespaces.includes(&other.namespaces)
            && self.one_of.iter().all(|labels| {
                !labels.is_disjoint(&other.labels)
                    || other
                        .one_of
                        .iter()
                        .any(|narrower| narrower.is_subset(labels))
            })
            && self.none_of.iter().all(lacks)
            && self.names.iter().all(|name| {
                let mut narrower = other.names.iter();
                narrower.any(|narrower| name.includes(narrower))
            })
    }
}

impl Namespaces {
    fn keep(&mut self, names: BTreeSet<String>) {
        *self = Self::In(match self {
            Self::In(own) => own.intersection(&names).cloned().collect(),
            Self::NotIn(not) => names.difference(not).cloned().collect(),
        });
    }

    fn remove(&mut self, names: BTreeSet<String>) {
        match self {
            Self::In(own) => own.retain(|name| !names.contains(name)),
            Self::NotIn(not) => not.extend(names),
        }
    }

    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::In(own), Self::In(other)) => other.is_subset(own),
            (Self::In(_), Self::NotIn(_)) => false,
            (Self::NotIn(not), Self::In(other)) => other.is_disjoint(not),
            (Self::NotIn(not), Self::NotIn(other)) => not.is_subset(other),
        }
    }
}

impl Name {
    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::OneOf(own), Self::OneOf(other)) => other.is_subset(own),
            (Self::Regex(own), Self::Regex(other)) => own == other,
            (Self::Regex(own), Self::OneOf(names)) => regex_lite::Regex::new(own)
                .is_ok_and(|own| names.iter().all(|name| own.is_match(name))),
            (Self::OneOf(_), Self::Regex(_)) => false,
        }
    }
}

/// The namespaces of workloads that these stand for in policies.
fn of_workloads<'a>(names: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = names.into_iter().cloned().collect();
    if names.contains(DEFAULT_NAMESPACE) {
        names.insert(CONTAINER_NAMESPACE.to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*, sample::select};
    use regex_lite::Regex;

    use super::*;
    use crate::{
        model::{Location, Selector},
        select::{Workload, WorkloadKind},
    };

    fn policy(kind: Kind, namespace: &str, terms: Vec<Term>) -> Policy {
        Policy {
            kind,
            name: "p".into(),
            namespace: namespace.into(),
            selector: Selector { terms },
            rules: Vec::new(),
            not_enforced: Vec::new(),
            location: Location {
                file: "t.yaml".into(),
                line: 1,
                column: 1,
            },
        }
    }

    fn labels() -> impl Strategy<Value = Vec<Label>> {
        let label = (select(vec!["a", "b"]), select(vec!["1", "2"]));
        vec(
            label.prop_map(|(key, value)| (key.into(), value.into())),
            1..3,
        )
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        vec(select(vec!["default", "shop", "x"]).prop_map_into(), 1..3)
    }

    fn name() -> impl Strategy<Value = NameMatch> {
        prop_oneof![
            Just(NameMatch::Any),
            names().prop_map(NameMatch::OneOf),
            select(vec!["o", "^x"])
                .prop_map(|text| NameMatch::Regex(Pattern(Regex::new(text).expect("valid")))),
        ]
    }

    fn term() -> impl Strategy<Value = Term> {
        prop_oneof![
            labels().prop_map(|mut labels| {
                let (key, value) = labels.remove(0);
                Term::Label { key, value }
            }),
            labels().prop_map(Term::LabelIn),
            labels().prop_map(Term::LabelNotIn),
            names().prop_map(Term::NamespaceIn),
            names().prop_map(Term::NamespaceNotIn),
            name().prop_map(Term::ContainerName),
        ]
    }

    fn some_policy() -> impl Strategy<Value = Policy> {
        let kind = select(vec![Kind::Container, Kind::Cluster]);
        let namespace = select(vec!["default", CONTAINER_NAMESPACE, "shop"]);
        (kind, namespace, vec(term(), 0..3))
            .prop_map(|(kind, namespace, terms)| policy(kind, namespace, terms))
    }

    /// Every workload that these terms can tell from another.
    fn workloads() -> Vec<Workload> {
        let values = [None, Some("1"), Some("2"), Some("3")];
        let mut workloads = Vec::new();
        for namespace in ["default", CONTAINER_NAMESPACE, "shop", "x", "y"] {
            for name in ["default", "shop", "x", "o", "y"] {
                for (a, b) in values.iter().flat_map(|a| values.map(|b| (*a, b))) {
                    let labels: BTreeMap<String, String> = [("a", a), ("b", b)]
                        .into_iter()
                        .filter_map(|(key, value)| Some((key.into(), value?.into())))
                        .collect();
                    workloads.push(Workload {
                        kind: WorkloadKind::Container,
                        host: String::new(),
                        namespace: namespace.into(),
                        name: name.into(),
                        labels,
                    });
                }
            }
        }
        workloads
    }

    proptest! {
        #[test]
        fn what_is_included_is_selected(a in some_policy(), b in some_policy()) {
            if Scope::of(&a).includes(&Scope::of(&b)) {
                for workload in workloads() {
                    prop_assert!(!workload.is_selected_by(&b) || workload.is_selected_by(&a), "{workload:?}");
                }
            }
        }
    }

    #[test]
    fn wider_and_narrower() {
        let label = |key: &str, value: &str| Term::Label {
            key: key.into(),
            value: value.into(),
        };
        let host = |name: NameMatch| policy(Kind::Host, "", vec![Term::HostName(name)]);
        let web = policy(Kind::Container, "shop", vec![label("app", "web")]);
        let one = || NameMatch::OneOf(vec!["node-1".into()]);
        let regex = Pattern(Regex::new("node").expect("valid"));
        for (wide, narrow) in [
            (policy(Kind::Container, "shop", Vec::new()), web.clone()),
            (policy(Kind::Cluster, "", Vec::new()), web.clone()),
            (
                policy(
                    Kind::Cluster,
                    "",
                    vec![Term::NamespaceIn(vec!["shop".into()])],
                ),
                web.clone(),
            ),
            (
                policy(Kind::Container, "default", Vec::new()),
                policy(Kind::Container, CONTAINER_NAMESPACE, Vec::new()),
            ),
            (
                policy(
                    Kind::Container,
                    "shop",
                    vec![Term::LabelNotIn(vec![("app".into(), "db".into())])],
                ),
                web.clone(),
            ),
            (host(NameMatch::Any), host(one())),
            (
                policy(Kind::Host, "", vec![Term::HostNameRegex(regex)]),
                host(one()),
            ),
        ] {
            assert!(Scope::of(&wide).includes(&Scope::of(&narrow)), "{wide:?}");
            assert!(!Scope::of(&narrow).includes(&Scope::of(&wide)), "{wide:?}");
        }
        let both = |a, b| policy(Kind::Container, "shop", vec![a, b]);
        let one = both(label("app", "web"), label("tier", "front"));
        let other = both(label("tier", "front"), label("app", "web"));
        assert_eq!(Scope::of(&one), Scope::of(&other));
        assert!(!Scope::of(&host(NameMatch::Any)).includes(&Scope::of(&web)));
    }
}
