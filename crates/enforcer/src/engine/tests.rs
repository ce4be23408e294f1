mod postures;
mod restart;
mod trials;

use std::os::unix::fs::MetadataExt as _;

use karmor_policy::{
    alias::Aliases, compile::compile, compiled::Compiled, model::Postures, select::Effective,
};

use super::*;
use crate::{
    backend::{Capabilities, memory::Memory},
    config::DefaultPostures,
    index::Rules,
    source::{
        directory::{FileChange, Sound},
        read::read,
    },
    trial::{Trials, clock::Clock},
    workload::{Container, Node, RuntimeEvent, cgroup::Cgroup, numbers::Numbers},
};

fn rules() -> Rules {
    Rules {
        node: Node::default(),
        containers: true,
        hosts: false,
        postures: DefaultPostures::default(),
        untracked: Vec::new(),
    }
}

/// An engine's inside that keeps nothing on disk.
pub(crate) fn core(backend: Memory) -> Core {
    core_with(backend, Numbers::in_memory())
}

fn core_with(backend: Memory, numbers: Numbers) -> Core {
    let identities = Identities::default();
    Core::new(
        Box::new(backend),
        Setup {
            rules: rules(),
            store: None,
            last_good: None,
            trials: Trials::in_memory(Clock::of_machine()),
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
            Postures::default(),
            Aliases::default(),
        ))
        .unwrap(),
    )
}

#[test]
fn a_container_is_registered_though_its_number_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gone/workloads.json");
    let memory = Memory::new(Capabilities::default());
    let backend = memory.handle();
    let mut core = core_with(memory, Numbers::open(file.clone()).unwrap());
    let container = container(dir.path(), "c");
    let cgroup = container.cgroup.id;
    core.runtime(RuntimeEvent::Running(Box::new(container)));
    assert_eq!(backend.workload(cgroup), Some(1));
    core.retry();
    assert!(!file.exists());
    std::fs::create_dir(dir.path().join("gone")).unwrap();
    core.retry();
    assert!(file.exists());
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

#[tokio::test]
async fn a_rule_on_a_link_is_told_of_until_it_names_the_real_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("real"), "").unwrap();
    std::os::unix::fs::symlink("real", path("link")).unwrap();
    let mut container = Container::new("default", "c", "img", None, [].into());
    container.pid = std::process::id();
    container.cgroup.id = 7;
    let policy = |path: &str| {
        let text = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\n\
             spec:\n  file:\n    matchPaths:\n    - path: {path}\n  action: Block\n"
        );
        let reading = read(&text, "p.yaml");
        assert!(!reading.failed(), "{}", reading.rendered);
        reading.documents.into_iter().next().unwrap()
    };
    // Of this machine's own, which may be behind a link itself.
    let real = std::fs::canonicalize(path("real")).unwrap();
    let real = real.to_str().unwrap().to_owned();

    let (engine, _thread) = Engine::start(core(Memory::new(Capabilities::default()))).unwrap();
    let (on_link, on_real) = (policy(&path("link")), policy(&real));
    let remarks = async |wanted: usize| {
        for _ in 0..500 {
            let listed = engine.ask(|core| core.policies()).await.unwrap();
            let remarks = listed[0].remarks.iter();
            let told: Vec<String> = remarks.map(|(remark, names)| remark.text(names)).collect();
            if told.len() == wanted {
                return told.concat();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("waited in vain");
    };
    let running = RuntimeEvent::Running(Box::new(container));
    engine.ask(|core| core.runtime(running)).await.unwrap();
    engine.ask(|core| core.set(on_link)).await.unwrap();
    let told = remarks(1).await;
    let expected = format!("in c this is a link to {real}: ");
    assert!(told.starts_with(&expected), "{told}");
    engine.ask(|core| core.set(on_real)).await.unwrap();
    remarks(0).await;
}

/// A container in a cgroup that is a directory here, with a process in it.
fn container(dir: &std::path::Path, id: &str) -> Container {
    let path = dir.join(id);
    std::fs::create_dir_all(&path).unwrap();
    populated(&path, true);
    let mut container = Container::new("default", id, "img\n", None, [].into());
    container.cgroup = Cgroup {
        id: path.metadata().unwrap().ino(),
        path,
    };
    container
}

fn populated(cgroup: &std::path::Path, populated: bool) {
    let events = format!("populated {}\nfrozen 0\n", u8::from(populated));
    std::fs::write(cgroup.join("cgroup.events"), events).unwrap();
}

fn runs(core: &mut Core, container: &Container) {
    core.runtime(RuntimeEvent::Running(Box::new(container.clone())));
}

fn number(core: &Core) -> u32 {
    let members = core.members();
    assert_eq!(members.len(), 1);
    members[0].number
}

#[test]
fn a_container_is_gone_when_its_last_process_is_whatever_the_runtime_says() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new(Capabilities::default());
    let kernel = memory.handle();
    let mut core = core(memory);
    core.runtime(RuntimeEvent::Ended("default/unknown".into()));
    let web = container(dir.path(), "web");
    runs(&mut core, &web);
    runs(&mut core, &web);
    let first = number(&core);
    core.runtime(RuntimeEvent::Listed(Vec::new()));
    core.runtime(RuntimeEvent::Ended(web.key()));
    assert_eq!(number(&core), first, "a process is left");
    assert_eq!(kernel.workload(web.cgroup.id), Some(first));
    runs(&mut core, &web);
    assert_eq!(number(&core), first);

    populated(&web.cgroup.path, false);
    core.runtime(RuntimeEvent::Listed(vec![web.key()]));
    assert_eq!(number(&core), first, "it may be starting");
    core.runtime(RuntimeEvent::Listed(Vec::new()));
    assert!(core.members().is_empty());
    assert_eq!(kernel.workload(web.cgroup.id), None);
}

#[test]
fn a_container_that_moved_keeps_its_number_and_one_that_was_restarted_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new(Capabilities::default());
    let kernel = memory.handle();
    let mut core = core(memory);
    let web = container(dir.path(), "web");
    runs(&mut core, &web);
    let first = number(&core);
    let mut moved = web.clone();
    populated(&web.cgroup.path, false);
    moved.cgroup = container(dir.path(), "elsewhere").cgroup;
    runs(&mut core, &moved);
    assert_eq!(number(&core), first);
    assert_eq!(kernel.workload(web.cgroup.id), Some(first));
    // What is in there besides is not the container's.
    assert_eq!(kernel.workload(moved.cgroup.id), None);

    populated(&web.cgroup.path, true);
    core.runtime(RuntimeEvent::Ended(web.key()));
    assert_eq!(number(&core), first, "a process is left where it came from");

    populated(&web.cgroup.path, false);
    let mut again = web.clone();
    again.pid = 77;
    again.cgroup = container(dir.path(), "again").cgroup;
    runs(&mut core, &again);
    assert_ne!(number(&core), first);
    assert_eq!(kernel.workload(web.cgroup.id), None);
}

#[test]
fn the_links_of_a_root_count_as_they_were_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new(Capabilities::default());
    let kernel = memory.handle();
    let mut core = core(memory);
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
        metadata: {name: p}\nspec:\n  process:\n    matchPaths:\n    - path: /sbin/ip\n  \
        action: Block\n";
    let reading = read(text, "p.yaml");
    assert!(!reading.failed(), "{}", reading.rendered);
    core.set(reading.documents.into_iter().next().unwrap());
    let mut web = container(dir.path(), "web");
    web.aliases = Aliases::observed([("/sbin", "usr/sbin")]);
    runs(&mut core, &web);
    let before = kernel.table(number(&core)).unwrap();
    web.aliases = Aliases::observed([("/sbin", "usr/bin")]);
    runs(&mut core, &web);
    let after = kernel.table(number(&core)).unwrap();
    assert_eq!(before.words, after.words);
}

#[test]
fn a_container_that_could_not_be_registered_is_told_of_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new(Capabilities::default());
    let kernel = memory.handle();
    let mut core = core(memory);
    let web = container(dir.path(), "web");
    kernel.refuse_workloads(Some("workload"));
    runs(&mut core, &web);
    let error = core.members()[0].error.clone();
    assert!(error.is_some_and(|error| error.contains("no room")));
    assert_eq!(kernel.workload(web.cgroup.id), None);
    kernel.refuse_workloads(None);
    runs(&mut core, &web);
    assert_eq!(core.members()[0].error, None);
    assert_eq!(kernel.workload(web.cgroup.id), Some(number(&core)));
}

#[tokio::test]
async fn a_workload_that_cannot_be_searched_is_told_of() {
    let mut container = Container::new("default", "c", "img", None, [].into());
    // No process has it.
    container.pid = u32::MAX;
    container.cgroup.id = 7;
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p}\n\
        spec:\n  file:\n    matchPaths:\n    - path: /etc/key\n  action: Block\n";
    let document = read(text, "p.yaml").documents.remove(0);

    let (engine, _thread) = Engine::start(core(Memory::new(Capabilities::default()))).unwrap();
    let running = RuntimeEvent::Running(Box::new(container));
    engine.ask(|core| core.runtime(running)).await.unwrap();
    engine.ask(|core| core.set(document)).await.unwrap();
    for _ in 0..500 {
        let listed = engine.ask(|core| core.policies()).await.unwrap();
        if let [(remark, names)] = listed[0].remarks.as_slice() {
            let told = remark.text(names);
            let expected = "in c not every file was checked for hard links, which go by other \
                            names: its files cannot be looked at: ";
            assert!(told.starts_with(expected), "{told}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("waited in vain");
}

#[test]
fn a_file_that_holds_no_policy_any_more_keeps_its_last_good_version() {
    let policy = |name: &str| {
        format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
             spec:\n  file:\n    matchPaths:\n    - path: /a\n  action: Block\n"
        )
    };
    let mut core = core(Memory::new(Capabilities::default()));
    let mut write = |name: &str, content: Option<&str>| {
        let change = FileChange {
            path: name.into(),
            content: content.map(|text| Ok(text.to_owned())),
        };
        core.files(vec![change.checked()]);
        let complaints = core.complaints().into_iter().map(|(_, why)| why);
        (core.policies().len(), complaints.collect::<String>())
    };
    let fine = |policies| (policies, String::new());
    assert_eq!(write("other.yaml", Some("# nothing yet\n")), fine(0));
    assert_eq!(write("other.yaml", Some("")), fine(0));
    let both = format!("{}---\n{}", policy("a"), policy("b"));
    assert_eq!(write("p.yaml", Some(&both)), fine(2));
    for empty in [
        "",
        "\n",
        "# a comment\n",
        "---\n",
        "apiVersion: v1\nkind: List\nitems: []\n",
    ] {
        let (policies, complaint) = write("p.yaml", Some(empty));
        assert_eq!(policies, 2, "{empty:?}");
        assert!(complaint.contains("remove the file"), "{complaint}");
        assert!(complaint.contains("last good version"), "{complaint}");
    }
    assert_eq!(write("p.yaml", Some(&policy("b"))), fine(1));
    assert_eq!(write("p.yaml", Some("")).0, 1);
    assert_eq!(write("p.yaml", None), fine(0));
}

#[test]
fn a_file_that_could_not_be_put_in_force_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new(Capabilities::default());
    let kernel = memory.handle();
    let mut core = core(memory);
    runs(&mut core, &container(dir.path(), "web"));
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
        metadata: {name: p}\nspec:\n  process:\n    matchPaths:\n    - path: /bin/ip\n  \
        action: Block\n";
    let write = |core: &mut Core, content: Option<&str>| {
        let change = FileChange {
            path: "p.yaml".into(),
            content: content.map(|text| Ok(text.to_owned())),
        };
        core.files(vec![change.checked()]);
    };
    for (content, policies) in [(Some(text), 1), (None, 0)] {
        kernel.refuse(Some("table"));
        write(&mut core, content);
        assert_eq!(core.complaints().len(), 1);
        assert_eq!(core.policies().len(), 1 - policies);
        kernel.refuse(None);
        core.retry();
        assert_eq!(core.complaints(), []);
        assert_eq!(core.policies().len(), policies);
    }
}

#[test]
fn a_file_that_cannot_be_compiled_stays_a_complaint_and_its_last_good_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut core = core(Memory::new(Capabilities::default()));
    runs(&mut core, &container(dir.path(), "web"));
    let policy = |rules: &str| {
        format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
             metadata: {{name: p}}\nspec:\n  file:\n    matchPatterns:\n{rules}  action: Block\n"
        )
    };
    let rule = |n: usize| format!("    - pattern: /**/a{n}*/**/b{n}*/**/c{n}\n");
    let good = policy(&rule(0));
    let complex = policy(&(0..60).map(rule).collect::<String>());
    for text in [&good, &complex] {
        // As if it compiled alone, and not beside others.
        let sound = Sound {
            text: text.clone(),
            documents: read(text, "p.yaml").documents,
        };
        core.files(vec![FileChange {
            path: "p.yaml".into(),
            content: Some(Ok(sound)),
        }]);
    }
    for _ in 0..3 {
        let [(_, why)] = core.complaints().try_into().unwrap();
        assert!(
            why.ends_with("its last good version stays in force"),
            "{why}"
        );
        assert_eq!(*core.policies()[0].loaded.text, *good);
        assert_eq!(core.members()[0].error, None, "what it has, it has");
        core.retry();
    }
    let document = read(&complex, "p.yaml").documents.remove(0);
    for _ in 0..2 {
        assert!(matches!(core.set(document.clone()), Done::Failed(_)));
    }
}
