//! Policies on trial: what is in force, now and after a restart.

use std::{fs, time::Duration};

use super::{
    restart::{Daemon, Node},
    *,
};
use crate::{index::Source, source::read::Document, trial::tests::Hands};

const MINUTE: Duration = Duration::from_secs(60);

/// A policy of the name that blocks the execution of /bin/PROGRAM.
fn document(name: &str, program: &str) -> Document {
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  process:\n    matchPaths:\n    - path: /bin/{program}\n  action: Block\n"
    );
    read(&text, "t.yaml").documents.remove(0)
}

fn node() -> (Node, Hands) {
    let hands = Hands::new();
    (Node::with(hands.clock()), hands)
}

impl Daemon {
    /// The trial's name.
    fn tries<const N: usize>(&mut self, documents: [Document; N]) -> String {
        let tried = self.core.try_policies(documents.to_vec(), MINUTE);
        let done = tried.done.iter().map(|(_, done)| done);
        let is_done =
            |done: &Done| matches!(done, Done::Applied | Done::Modified | Done::Unchanged);
        assert!(done.clone().all(is_done), "{:?}", tried.done);
        tried.trial.unwrap().0.token
    }

    fn expired(&mut self) -> Vec<String> {
        let ended = self.core.expire().into_iter();
        let names = ended.flat_map(|ended| ended.policies.into_iter().map(|id| id.name));
        names.collect()
    }

    fn texts(&self) -> Vec<(String, Arc<str>)> {
        let policies = self.core.policies().into_iter();
        policies.map(|p| (p.id.name, p.loaded.text)).collect()
    }

    fn on_trial(&self) -> usize {
        let policies = self.core.policies();
        policies.iter().filter(|p| p.trial.is_some()).count()
    }
}

#[test]
fn what_is_not_confirmed_in_time_is_as_it_was_before() {
    let (node, hands) = node();
    let mut daemon = node.start();
    daemon.core.set(document("changed", "old"));
    let before = daemon.core.policies().remove(0).loaded;
    daemon.tries([document("changed", "new"), document("added", "added")]);
    assert!(daemon.blocks("new") && daemon.blocks("added") && !daemon.blocks("old"));
    assert_eq!(daemon.on_trial(), 2);
    hands.advance(59);
    assert!(daemon.expired().is_empty());
    assert!(daemon.blocks("new"));
    hands.advance(1);
    assert_eq!(daemon.expired(), ["added", "changed"]);
    assert!(daemon.blocks("old") && !daemon.blocks("new") && !daemon.blocks("added"));
    let after = daemon.core.policies();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].loaded.text, before.text);
    assert_eq!(after[0].loaded.updated, before.updated);
    assert!(daemon.expired().is_empty(), "once");
    // And stays so.
    let daemon = node.start();
    assert!(daemon.blocks("old") && !daemon.blocks("new") && !daemon.blocks("added"));
}

#[test]
fn what_is_confirmed_stays() {
    let (node, hands) = node();
    let mut daemon = node.start();
    let token = daemon.tries([document("a", "a"), document("b", "b")]);
    assert!(daemon.core.confirm("other").is_err());
    let settled = daemon.core.confirm(&token).unwrap();
    assert!(settled.iter().all(|(_, why)| why.is_none()), "{settled:?}");
    assert_eq!(settled.len(), 2);
    assert!(daemon.core.confirm(&token).is_err(), "once");
    hands.advance(100);
    assert!(daemon.expired().is_empty());
    let mut daemon = node.start();
    assert!(daemon.expired().is_empty());
    assert!(daemon.blocks("a") && daemon.blocks("b"));
    assert_eq!(daemon.on_trial(), 0);
}

#[test]
fn a_restart_goes_on_counting_and_finds_what_is_over() {
    let (node, hands) = node();
    let mut daemon = node.start();
    daemon.core.set(document("changed", "old"));
    daemon.tries([document("changed", "new"), document("added", "added")]);
    // Nothing is said to the daemon: it is killed.
    drop(daemon);
    hands.advance(59);
    let mut daemon = node.start();
    assert!(daemon.expired().is_empty());
    assert!(daemon.blocks("new") && daemon.blocks("added"));
    drop(daemon);
    hands.advance(1);
    let mut daemon = node.start();
    // Already when the container gets its first table.
    assert!(daemon.blocks("old") && !daemon.blocks("new") && !daemon.blocks("added"));
    assert_eq!(daemon.expired(), ["added", "changed"]);
    drop(daemon);
    let mut daemon = node.start();
    assert!(daemon.expired().is_empty(), "told once");
    assert_eq!(daemon.texts().len(), 1);
}

#[test]
fn a_restart_of_the_machine_takes_back() {
    let (node, hands) = node();
    node.start().tries([document("a", "a")]);
    hands.reboot();
    let mut daemon = node.start();
    assert!(!daemon.blocks("a"));
    assert_eq!(daemon.expired(), ["a"]);
}

#[test]
fn a_plain_change_or_removal_settles() {
    let (node, hands) = node();
    let mut daemon = node.start();
    daemon.tries([
        document("replaced", "r1"),
        document("again", "again"),
        document("removed", "removed"),
        document("left", "left"),
    ]);
    daemon.core.set(document("replaced", "r2"));
    assert!(matches!(
        daemon.core.set(document("again", "again")),
        Done::Unchanged
    ));
    let wanted = Reference {
        name: "removed".into(),
        ..Reference::default()
    };
    assert!(matches!(daemon.core.delete(&wanted).1, Done::Deleted));
    assert_eq!(daemon.on_trial(), 1);
    hands.advance(100);
    assert_eq!(daemon.expired(), ["left"]);
    for daemon in [daemon, node.start()] {
        assert!(daemon.blocks("r2") && daemon.blocks("again"));
        assert!(!daemon.blocks("removed") && !daemon.blocks("left"));
    }
}

#[test]
fn a_second_trial_goes_back_to_before_the_first() {
    let (node, hands) = node();
    let mut daemon = node.start();
    daemon.core.set(document("a", "a1"));
    daemon.tries([document("a", "a2")]);
    hands.advance(50);
    daemon.tries([document("a", "a3")]);
    hands.advance(50);
    assert!(daemon.expired().is_empty());
    assert!(daemon.blocks("a3"));
    hands.advance(10);
    assert_eq!(daemon.expired(), ["a"]);
    assert!(daemon.blocks("a1"));
}

#[test]
fn it_can_be_taken_back_at_once() {
    let (node, _hands) = node();
    let mut daemon = node.start();
    daemon.tries([document("a", "a")]);
    let settled = daemon.core.revert("").unwrap();
    assert!(matches!(settled.as_slice(), [(_, None)]), "{settled:?}");
    assert!(!daemon.blocks("a"));
    assert!(daemon.expired().is_empty(), "nobody is told what he did");
}

#[test]
fn all_or_none_are_applied() {
    let (node, _hands) = node();
    let mut daemon = node.start();
    daemon.core.set(document("a", "a1"));
    let before = daemon.texts();
    let reasons = |daemon: &mut Daemon, documents: Vec<Document>| {
        let tried = daemon.core.try_policies(documents, MINUTE);
        assert!(tried.trial.is_none());
        let why = |done| match done {
            Done::Failed(why) | Done::NotEnabled(why) => why,
            done => panic!("{done:?}"),
        };
        let done = tried.done.into_iter().map(|(_, done)| why(done));
        done.collect::<Vec<_>>()
    };
    let twice = vec![document("a", "a2"), document("b", "b"), document("b", "c")];
    let told = reasons(&mut daemon, twice);
    assert_eq!(told[2], "it is given twice");
    assert_eq!(told[0], "it is applied together with b or not at all");

    let two = || vec![document("a", "a2"), document("b", "b")];
    daemon.backend.refuse(Some("table"));
    let told = reasons(&mut daemon, two());
    assert!(told[0].contains("cannot be put in force"), "{told:?}");
    daemon.backend.refuse(None);

    // The second cannot be kept: a directory is in the way of its file.
    let kept = |name: &str| {
        daemon.core.policies().iter().find(|p| p.id.name == name);
        let files = fs::read_dir(node.dir.path().join("policies")).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        paths.find(|p| p.file_name().unwrap().to_str().unwrap().starts_with(name))
    };
    let other = Node::with(node.clock.clone());
    other.start().core.set(document("b", "b"));
    let name = fs::read_dir(other.dir.path().join("policies"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .file_name();
    assert!(kept("b-").is_none());
    fs::create_dir(node.dir.path().join("policies").join(&name)).unwrap();
    let told = reasons(&mut daemon, two());
    assert!(
        told[0].contains("b cannot be kept over a restart"),
        "{told:?}"
    );
    fs::remove_dir(node.dir.path().join("policies").join(&name)).unwrap();

    assert_eq!(daemon.texts(), before);
    assert_eq!(daemon.on_trial(), 0);
    let daemon = node.start();
    assert_eq!(daemon.texts(), before);
    assert!(daemon.blocks("a1") && !daemon.blocks("b"));
}

#[test]
fn what_cannot_be_taken_back_is_tried_again() {
    let (node, hands) = node();
    let mut daemon = node.start();
    daemon.tries([document("a", "a")]);
    hands.advance(60);
    daemon.backend.refuse(Some("table"));
    assert!(daemon.expired().is_empty());
    assert_eq!(daemon.on_trial(), 1);
    assert!(daemon.core.next_expiry().is_some());
    daemon.backend.refuse(None);
    assert_eq!(daemon.expired(), ["a"]);
    assert!(!daemon.blocks("a"));
    assert_eq!(daemon.core.next_expiry(), None);
}

#[test]
fn a_policy_of_a_file_is_another_one() {
    let (node, hands) = node();
    let mut daemon = node.start();
    let file = FileChange {
        path: "p.yaml".into(),
        content: Some(Ok((*document("a", "of-file").text).to_owned())),
    };
    daemon.core.files(vec![file.checked()]);
    daemon.tries([document("a", "tried")]);
    assert!(daemon.blocks("of-file") && daemon.blocks("tried"));
    hands.advance(60);
    assert_eq!(daemon.expired(), ["a"]);
    assert!(daemon.blocks("of-file") && !daemon.blocks("tried"));
    let left = daemon.core.policies();
    assert!(matches!(left[0].id.source, Source::File(_)));
}
