use karmor_policy::{
    alias::Aliases, compile::compile, compiled::Compiled, model::Posture, select::Effective,
};

use super::*;
use crate::{
    backend::{Capabilities, memory::Memory},
    index::Rules,
    source::{directory::FileChange, read::read},
    workload::{Container, Node, RuntimeEvent, numbers::Numbers},
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

#[tokio::test]
async fn a_rule_on_a_link_is_told_of_until_it_names_the_real_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("real"), "").unwrap();
    std::os::unix::fs::symlink("real", path("link")).unwrap();
    let mut container = Container::new("default", "c", "img", None, [].into());
    (container.pid, container.cgroup_id) = (std::process::id(), 7);
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
        core.files(vec![FileChange {
            path: name.into(),
            content: content.map(|text| Ok(text.to_owned())),
        }]);
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
