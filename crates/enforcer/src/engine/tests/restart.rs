//! What is in force after a restart, whatever became of files meanwhile.

use std::{fs, path::PathBuf};

use karmor_abi::{op::Op, verdict::Action};
use tempfile::TempDir;

use super::*;
use crate::{
    backend::memory::{Access, Handle},
    events::decode::tests::plain,
    source::{directory::Directory, last_good::LastGood, read::Document, store::Store},
};

const CGROUP: u64 = 7;

/// A policy that blocks the execution of /bin/NAME.
fn text(name: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  process:\n    matchPaths:\n    - path: /bin/{name}\n  action: Block\n"
    )
}

fn document(name: &str) -> Document {
    read(&text(name), "t.yaml").documents.remove(0)
}

/// A node, between daemons.
pub(super) struct Node {
    pub(super) dir: TempDir,
    pub(super) clock: Clock,
}

/// A daemon with a container.
pub(super) struct Daemon {
    pub(super) core: Core,
    pub(super) backend: Handle,
}

impl Node {
    fn new() -> Self {
        Self::with(Clock::of_machine())
    }

    pub(super) fn with(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("watched")).unwrap();
        Self { dir, clock }
    }

    fn watched(&self) -> PathBuf {
        self.dir.path().join("watched")
    }

    /// The only file that a client's policy is kept in.
    fn stored(&self) -> PathBuf {
        let mut files = fs::read_dir(self.dir.path().join("policies")).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        file
    }

    fn try_start(&self) -> std::io::Result<Daemon> {
        let memory = Memory::new(Capabilities::default());
        let backend = memory.handle();
        let setup = Setup {
            rules: rules(),
            store: Some(Store::open(self.dir.path().join("policies")).unwrap()),
            last_good: Some(LastGood::open(self.dir.path().join("files"), self.watched()).unwrap()),
            trials: Trials::open(self.dir.path().join("trials.json"), self.clock.clone())?,
            numbers: Numbers::in_memory(),
            identities: Identities::default(),
        };
        let mut core = Core::new(Box::new(memory), setup)?;
        let mut directory = Directory::new(self.watched(), core.known_files());
        let changes = directory.scan().into_iter();
        core.files(changes.map(FileChange::checked).collect());
        let mut container = Container::new("default", "c", "img", None, [].into());
        container.cgroup.id = CGROUP;
        core.runtime(RuntimeEvent::Running(Box::new(container)));
        Ok(Daemon { core, backend })
    }

    pub(super) fn start(&self) -> Daemon {
        self.try_start().unwrap()
    }
}

impl Daemon {
    pub(super) fn blocks(&self, name: &str) -> bool {
        let mut header = plain();
        header.op = Op::Exec as u8;
        let path = format!("/bin/{name}");
        let texts = [path.as_bytes(), b"/bin/sh", b"/init", b"x\0", b"/"];
        let workload = self.backend.workload(CGROUP).unwrap();
        let access = Access {
            workload,
            header,
            texts,
        };
        self.backend.access(&access).action() == Action::Block
    }

    /// The only complaint.
    fn complaint(&self) -> (PathBuf, String) {
        let mut complaints = self.core.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        complaints.remove(0)
    }
}

#[test]
fn a_damaged_file_keeps_its_last_good_version() {
    let node = Node::new();
    let file = node.watched().join("p.yaml");
    fs::write(&file, text("a")).unwrap();
    assert!(node.start().blocks("a"));
    fs::write(&file, "kind: [").unwrap();
    for _ in 0..2 {
        let daemon = node.start();
        assert!(daemon.blocks("a"));
        let (path, why) = daemon.complaint();
        assert_eq!(path, file);
        assert!(
            why.ends_with("its last good version stays in force"),
            "{why}"
        );
    }
    fs::write(&file, text("b")).unwrap();
    let daemon = node.start();
    assert!(daemon.blocks("b") && !daemon.blocks("a"));
    assert!(daemon.core.complaints().is_empty());
}

#[test]
fn a_file_that_is_removed_between_daemons_is_forgotten() {
    let node = Node::new();
    let file = node.watched().join("p.yaml");
    fs::write(&file, text("a")).unwrap();
    assert!(node.start().blocks("a"));
    fs::remove_file(&file).unwrap();
    let daemon = node.start();
    assert!(!daemon.blocks("a") && daemon.core.policies().is_empty());
    assert!(daemon.core.complaints().is_empty());
    // Nothing is left of it to fall back to.
    fs::write(&file, "kind: [").unwrap();
    let daemon = node.start();
    assert!(!daemon.blocks("a"));
    assert_eq!(daemon.complaint().0, file);
}

#[test]
fn a_directory_that_cannot_be_read_takes_nothing_out_of_force() {
    let node = Node::new();
    fs::write(node.watched().join("p.yaml"), text("a")).unwrap();
    assert!(node.start().blocks("a"));
    fs::rename(node.watched(), node.dir.path().join("away")).unwrap();
    fs::write(node.watched(), "no directory").unwrap();
    let daemon = node.start();
    assert!(daemon.blocks("a"));
    let (path, why) = daemon.complaint();
    assert_eq!(path, node.watched());
    assert!(why.contains("cannot be read"), "{why}");
}

#[test]
fn a_stored_policy_that_cannot_be_read_prevents_the_start() {
    let node = Node::new();
    assert!(matches!(
        node.start().core.set(document("a")),
        Done::Applied
    ));
    let file = node.stored();
    // Reading it fails, whoever asks.
    fs::rename(&file, node.dir.path().join("aside")).unwrap();
    fs::create_dir(&file).unwrap();
    let error = node.try_start().err().unwrap().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    assert_eq!(node.stored(), file, "it is where it was");
    fs::remove_dir(&file).unwrap();
    fs::rename(node.dir.path().join("aside"), &file).unwrap();
    assert!(node.start().blocks("a"));
}

#[test]
fn a_stored_policy_that_is_not_valid_any_more_stays_and_is_told_of() {
    let node = Node::new();
    assert!(matches!(
        node.start().core.set(document("a")),
        Done::Applied
    ));
    let file = node.stored();
    fs::write(&file, text("a").replace("Block", "Nonsense")).unwrap();
    let mut daemon = node.start();
    assert!(!daemon.blocks("a"));
    let (path, why) = daemon.complaint();
    assert_eq!(path, node.stored());
    assert!(
        why.contains("Nonsense") && why.contains("this version does not take it"),
        "{why}"
    );
    assert!(matches!(daemon.core.set(document("a")), Done::Applied));
    assert!(daemon.core.complaints().is_empty());
    // As after the return to the version that took it.
    assert!(node.start().blocks("a"));
}

#[test]
fn a_stored_policy_that_is_damaged_is_told_of_until_it_is_replaced() {
    let node = Node::new();
    assert!(matches!(
        node.start().core.set(document("a")),
        Done::Applied
    ));
    fs::write(node.stored(), "kind: [").unwrap();
    for _ in 0..2 {
        let (path, why) = node.start().complaint();
        assert!(path.to_str().unwrap().ends_with(".yaml.broken"));
        assert!(why.contains("not in force"), "{why}");
    }
    let mut daemon = node.start();
    assert!(matches!(daemon.core.set(document("a")), Done::Applied));
    assert!(daemon.core.complaints().is_empty());
    assert!(
        node.stored()
            .extension()
            .is_some_and(|ending| ending == "yaml")
    );
}

#[test]
fn a_policy_is_as_old_as_it_was() {
    let node = Node::new();
    fs::write(node.watched().join("p.yaml"), text("a")).unwrap();
    let updated = |daemon: &Daemon| {
        let policies = daemon.core.policies().into_iter();
        policies.map(|p| p.loaded.updated).collect::<Vec<_>>()
    };
    let mut first = node.start();
    assert!(matches!(first.core.set(document("b")), Done::Applied));
    let before = updated(&first);
    drop(first);
    let late = before.iter().max().unwrap().as_millisecond() + 50;
    while jiff::Timestamp::now().as_millisecond() < late {
        thread::sleep(std::time::Duration::from_millis(10));
    }
    let after = updated(&node.start());
    assert_eq!(after.len(), 2);
    assert!(
        after.iter().all(|time| time.as_millisecond() < late),
        "{before:?} {after:?}"
    );
}

#[test]
fn a_file_that_cannot_be_compiled_is_refused_before_anything_is_selected() {
    let node = Node::new();
    let patterns: String = (0..60)
        .map(|i| format!("    - pattern: /**/a{i}*/**/b{i}*/**/c{i}\n"))
        .collect();
    let paths = "    matchPaths:\n    - path: /bin/a\n";
    let complex = text("a").replace(paths, &format!("    matchPatterns:\n{patterns}"));
    let complex = complex.replace("spec:\n", "spec:\n  selector: {matchLabels: {app: none}}\n");
    let file = node.watched().join("p.yaml");
    fs::write(&file, complex).unwrap();
    let daemon = node.start();
    assert!(daemon.core.policies().is_empty());
    let (path, why) = daemon.complaint();
    assert_eq!(path, file);
    assert!(why.contains("too complex"), "{why}");
}

#[test]
fn a_policy_that_moves_within_its_file_is_found_where_it_is() {
    let node = Node::new();
    let mut daemon = node.start();
    let mut write = |first: &str| {
        let change = FileChange {
            path: node.watched().join("p.yaml"),
            content: Some(Ok(format!("{first}---\n{}", text("b")))),
        };
        daemon.core.files(vec![change.checked()]);
        let policies = daemon.core.policies().into_iter();
        let mut policies = policies.map(|p| (p.loaded.policy.location.line, p.loaded.updated));
        (policies.next().unwrap(), policies.next().unwrap())
    };
    let ((_, first), (line, second)) = write(&text("a"));
    let ((_, first_later), (line_later, second_later)) =
        write(&format!("{}  tags: [x]\n", text("a")));
    assert_eq!((line_later, second_later), (line + 1, second));
    assert!(first_later > first);
    assert!(daemon.blocks("a") && daemon.blocks("b"));
}
