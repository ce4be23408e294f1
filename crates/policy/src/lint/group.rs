//! Policies by the workloads they are for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::{Family, Policy},
    select::{Label, Namespaces, Scope},
};

/// Most pairs of scopes that are held against each other.
const COMPARED_MAX: usize = 1 << 22;

/// Policies for the same workloads.
#[derive(Debug)]
pub(super) struct Group {
    scope: Scope,
    pub(super) policies: Vec<Arc<Policy>>,
    /// Of their rules.
    pub(super) families: HashSet<Family>,
    /// Groups that are for all of these workloads and more, by index.
    pub(super) wider: Vec<usize>,
    /// There were too many others to find those.
    pub(super) is_alone: bool,
}

/// What a scope has to have for those of a shelf to include it: a namespace, unless they are not
/// for some namespaces only, and their first label.
type Shelf<'s> = (Option<&'s str>, Option<&'s Label>);

/// Puts policies together that are for the same workloads, and finds who is for more.
pub(super) fn collect(policies: impl IntoIterator<Item = Arc<Policy>>) -> Vec<Group> {
    let mut known: HashMap<Scope, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for policy in policies {
        let scope = Scope::of(&policy);
        let families = policy.rules.iter().map(|rule| rule.family);
        if let Some(&at) = known.get(&scope) {
            groups[at].families.extend(families);
            groups[at].policies.push(policy);
            continue;
        }
        let families = families.collect();
        known.insert(scope.clone(), groups.len());
        groups.push(Group {
            scope,
            policies: vec![policy],
            families,
            wider: Vec::new(),
            is_alone: false,
        });
    }
    let found = wider(&groups);
    for (group, wider) in groups.iter_mut().zip(found) {
        group.is_alone = wider.is_none();
        group.wider = wider.unwrap_or_default();
    }
    groups
}

/// The wider groups of each; none of those after there were too many to compare.
fn wider(groups: &[Group]) -> Vec<Option<Vec<usize>>> {
    let mut shelves: HashMap<Shelf<'_>, Vec<usize>> = HashMap::new();
    for (index, group) in groups.iter().enumerate() {
        let label = group.scope.labels.first();
        match &group.scope.namespaces {
            Namespaces::NotIn(_) => shelves.entry((None, label)).or_default().push(index),
            Namespaces::In(names) => {
                for name in names {
                    shelves.entry((Some(name), label)).or_default().push(index);
                }
            }
        }
    }
    let mut compared = 0;
    let of = |(own, group): (usize, &Group)| {
        let scope = &group.scope;
        let namespace = match &scope.namespaces {
            Namespaces::In(names) => names.first().map(String::as_str),
            Namespaces::NotIn(_) => None,
        };
        let namespaces: HashSet<Option<&str>> = HashSet::from([None, namespace]);
        let labels = || scope.labels.iter().map(Some).chain([None]);
        let shelved: Vec<&[usize]> = namespaces
            .into_iter()
            .flat_map(|namespace| labels().map(move |label| (namespace, label)))
            .filter_map(|shelf| shelves.get(&shelf).map(Vec::as_slice))
            .collect();
        compared += shelved.iter().map(|shelf| shelf.len()).sum::<usize>();
        if compared > COMPARED_MAX {
            return None;
        }
        let is_wider = |&other: &usize| other != own && groups[other].scope.includes(scope);
        let mut wider: Vec<usize> = shelved.concat();
        wider.retain(is_wider);
        wider.sort_unstable();
        Some(wider)
    };
    groups.iter().enumerate().map(of).collect()
}
