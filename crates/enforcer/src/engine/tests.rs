use karmor_policy::{
    alias::Aliases, compile::compile, compiled::Compiled, model::Posture, select::Effective,
};

use super::*;
use crate::{
    backend::memory::Memory,
    index::Rules,
    source::read::read,
    workload::{Node, numbers::Numbers},
};

/// An engine's inside that keeps nothing on disk.
pub(crate) fn core(backend: Memory) -> Core {
    let rules = Rules {
        node: Node::default(),
        containers: true,
        hosts: false,
        posture: Posture::Audit,
        host_posture: Posture::Audit,
        untracked: Vec::new(),
    };
    let (numbers, identities) = (Numbers::in_memory(), Identities::default());
    Core::new(
        Box::new(backend),
        Setup {
            rules,
            store: None,
            numbers,
            identities,
        },
    )
    .unwrap()
}

/// The table of a text's policies.
pub(crate) fn compiled(text: &str) -> Arc<Compiled> {
    let reading = read(text, "t.yaml");
    assert!(!reading.failed(), "{}", reading.rendered);
    let policies = reading.documents.into_iter().map(|d| d.policy);
    Arc::new(
        compile(&Effective::new(
            policies,
            Posture::Audit,
            Aliases::default(),
        ))
        .unwrap(),
    )
}

#[test]
fn the_dead_are_remembered_for_a_while() {
    let identities = Identities::default();
    for number in 0..=u32::try_from(GONE).unwrap() {
        identities.insert(number, Identity::Host);
        identities.remove(number);
    }
    assert!(identities.get(0).is_none());
    assert!(identities.get(1).is_some());
}
