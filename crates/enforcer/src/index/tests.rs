use karmor_abi::op::Op;
use karmor_policy::model::{Action, Family, Location, Meta, Rule, Selector, Target, Term};

use super::*;
use crate::{
    backend::{
        Capabilities,
        memory::{Access, Handle, Memory},
    },
    events::decode::tests::plain,
    workload::Container,
};

fn location() -> Location {
    Location {
        file: "t.yaml".into(),
        line: 1,
        column: 1,
    }
}

/// A policy that blocks the execution of `path` in containers with the label `app=APP`.
pub(crate) fn block(name: &str, app: &str, path: &str) -> Change {
    let policy = Policy {
        kind: Kind::Container,
        name: name.into(),
        namespace: "default".into(),
        selector: Selector {
            terms: vec![Term::Label {
                key: "app".into(),
                value: app.into(),
            }],
        },
        rules: vec![Rule {
            family: Family::Process,
            target: Target::Path(path.into()),
            sources: Vec::new(),
            read_only: false,
            owner_only: false,
            no_terminal: false,
            spares: false,
            arguments: None,
            action: Action::Block,
            meta: Arc::new(Meta::default()),
            location: location(),
        }],
        not_enforced: Vec::new(),
        location: location(),
    };
    let id = PolicyId::of(&policy, Source::Grpc);
    Change::Set {
        id,
        policy: Arc::new(policy),
        text: format!("{name} {path}").into(),
        since: None,
    }
}

fn id(name: &str) -> PolicyId {
    let (namespace, name) = ("default".into(), name.into());
    PolicyId {
        source: Source::Grpc,
        kind: Kind::Container,
        namespace,
        name,
    }
}

pub(crate) fn container(id: &str, app: &str) -> Identity {
    let labels = [("app".to_owned(), app.to_owned())].into();
    Identity::Container(Arc::new(Container::new("default", id, "img", None, labels)))
}

fn rules() -> Rules {
    Rules {
        node: Node {
            host: "node-1".into(),
            ..Node::default()
        },
        containers: true,
        hosts: false,
        postures: DefaultPostures::default(),
        untracked: vec!["kube-system".into()],
    }
}

struct Rig {
    index: Index,
    backend: Memory,
    handle: Handle,
}

impl Rig {
    fn new() -> Self {
        let backend = Memory::new(Capabilities::default());
        let handle = backend.handle();
        Self {
            index: Index::new(rules()),
            backend,
            handle,
        }
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<(), IndexError> {
        self.index.change(&mut self.backend, changes)
    }

    fn try_add(&mut self, number: u32, identity: Identity) -> Result<(), IndexError> {
        let cgroup = 100 + u64::from(number);
        self.index
            .add(&mut self.backend, number, identity, Some(cgroup))
    }

    fn add(&mut self, number: u32, identity: Identity) {
        self.try_add(number, identity).unwrap();
    }

    fn exec(&self, workload: u32, path: &str) -> Action {
        let mut header = plain();
        header.op = Op::Exec as u8;
        let texts = [path.as_bytes(), b"/bin/sh", b"/init", b"x\0", b"/"];
        self.handle
            .access(&Access {
                workload,
                header,
                texts,
            })
            .action()
    }
}

#[test]
fn equal_workloads_share_one_table_and_switch_together() {
    let mut rig = Rig::new();
    for number in 1..=500 {
        rig.add(
            number,
            container(
                &format!("c{number}"),
                if number > 450 { "db" } else { "web" },
            ),
        );
    }
    let before = rig.handle.applies().len();
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    let calls = rig.handle.applies();
    assert_eq!(calls.len(), before + 1, "one call for all");
    assert_eq!(calls[before].len(), 450, "and only those it selects");
    let (first, last) = (rig.handle.table(1).unwrap(), rig.handle.table(450).unwrap());
    assert!(Arc::ptr_eq(&first, &last));
    assert!(rig.handle.table(451).is_none());
    assert_eq!(rig.index.tables(), 1);
    assert_eq!(rig.exec(7, "/usr/bin/apt"), Action::Block);
    assert_eq!(rig.exec(451, "/usr/bin/apt"), Action::Allow);
}

#[test]
fn a_workload_that_comes_later_takes_the_table_that_is_there() {
    let mut rig = Rig::new();
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    rig.add(1, container("a", "web"));
    rig.add(2, container("b", "web"));
    assert!(Arc::ptr_eq(
        &rig.handle.table(1).unwrap(),
        &rig.handle.table(2).unwrap()
    ));
    assert_eq!(rig.handle.workload(102), Some(2));
}

#[test]
fn a_refused_change_leaves_everything_as_it_was() {
    let mut rig = Rig::new();
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    rig.add(1, container("a", "web"));
    rig.handle.refuse(Some("table"));
    let error = rig
        .change(vec![
            block("p", "web", "/usr/bin/cat"),
            block("q", "web", "/q"),
        ])
        .unwrap_err();
    assert!(
        error_text(&error).contains("no room for another table"),
        "{}",
        error_text(&error)
    );
    rig.handle.refuse(None);
    assert_eq!(rig.exec(1, "/usr/bin/apt"), Action::Block);
    assert_eq!(rig.exec(1, "/usr/bin/cat"), Action::Allow);
    assert!(rig.index.policy(&id("q")).is_none());
    rig.change(vec![block("q", "web", "/q")]).unwrap();
    assert_eq!(rig.exec(1, "/q"), Action::Block);
    assert_eq!(rig.exec(1, "/usr/bin/apt"), Action::Block);
}

#[test]
fn a_change_that_fails_late_is_undone_all_the_same() {
    let mut rig = Rig::new();
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    rig.add(1, container("a", "web"));
    rig.handle.fail_late("link");
    rig.change(vec![Change::Remove(id("p"))]).unwrap_err();
    assert_eq!(rig.exec(1, "/usr/bin/apt"), Action::Block);
    assert_eq!(rig.index.reach(&id("p")), (vec!["a".to_owned()], None));
}

#[test]
fn a_policy_that_may_be_out_of_force_is_not_listed_as_in_force() {
    let mut rig = Rig::new();
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    rig.add(1, container("a", "web"));
    rig.handle.refuse(Some("table"));
    rig.change(vec![Change::Remove(id("p"))]).unwrap_err();
    let (workloads, error) = rig.index.reach(&id("p"));
    assert!(workloads.is_empty() && error.is_some());
    // The next change puts it in force, whatever it is about.
    rig.handle.refuse(None);
    rig.change(vec![block("q", "db", "/q")]).unwrap();
    assert_eq!(rig.index.reach(&id("p")), (vec!["a".to_owned()], None));
    assert_eq!(rig.exec(1, "/usr/bin/apt"), Action::Block);
}

#[test]
fn removing_the_last_policy_removes_the_table() {
    let mut rig = Rig::new();
    rig.add(1, container("a", "web"));
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    assert_eq!(rig.index.reach(&id("p")).0, ["a"]);
    rig.change(vec![Change::Remove(id("p"))]).unwrap();
    assert!(rig.handle.table(1).is_none());
    assert_eq!(rig.index.tables(), 0);
}

#[test]
fn a_swap_never_passes_through_no_policy() {
    let mut rig = Rig::new();
    rig.add(1, container("a", "web"));
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    let before = rig.handle.applies().len();
    // A file that was renamed: the same policy under another source.
    let mut moved = block("p", "web", "/usr/bin/apt");
    let Change::Set { id, .. } = &mut moved else {
        unreachable!()
    };
    let old = id.clone();
    id.source = Source::File("/p.yaml".into());
    rig.change(vec![moved, Change::Remove(old)]).unwrap();
    assert_eq!(rig.handle.applies().len(), before + 1);
    assert_eq!(rig.exec(1, "/usr/bin/apt"), Action::Block);
}

#[test]
fn untracked_namespaces_and_disabled_kinds_get_nothing() {
    let mut rig = Rig::new();
    rig.change(vec![block("p", "web", "/usr/bin/apt")]).unwrap();
    let labels = [
        ("app", "web"),
        ("io.kubernetes.pod.namespace", "kube-system"),
    ];
    let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let container = Container::new("k8s.io", "x", "img", None, labels);
    rig.add(1, Identity::Container(Arc::new(container)));
    rig.index
        .add(&mut rig.backend, 0, Identity::Host, None)
        .unwrap();
    assert!(rig.handle.table(1).is_none() && rig.handle.table(0).is_none());
}

#[test]
fn an_image_cannot_excuse_itself_by_a_label() {
    let mut rig = Rig::new();
    let mut cluster = block("p", "web", "/usr/bin/apt");
    let Change::Set { policy, .. } = &mut cluster else {
        unreachable!();
    };
    Arc::make_mut(policy).kind = Kind::Cluster;
    rig.change(vec![cluster]).unwrap();
    let labels = [
        ("app", "web"),
        ("kubearmor.io/namespace", "kube-system"),
        ("io.kubernetes.pod.namespace", "kube-system"),
    ];
    let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let container = Container::new("default", "x", "img", None, labels);
    rig.add(1, Identity::Container(Arc::new(container)));
    assert_eq!(rig.exec(1, "/usr/bin/apt"), Action::Block);
}

/// A policy that compiles, and does not beside another such.
fn large(name: &str, app: &str) -> Change {
    let mut change = block(name, app, &format!("/bin/{name}"));
    let Change::Set { policy, .. } = &mut change else {
        unreachable!()
    };
    let rules = &mut Arc::make_mut(policy).rules;
    let plain = rules[0].clone();
    // Every source is a column of the table, and every file a row.
    rules.extend((0..200).map(|n| Rule {
        target: Target::Path(format!("/{name}/file-{n}")),
        sources: vec![karmor_policy::model::Source::Path(format!(
            "/{name}/source-{n}"
        ))],
        ..plain.clone()
    }));
    change
}

/// The policies in force on a workload, and whether all is well.
fn status(rig: &Rig, number: u32) -> (Vec<String>, bool) {
    let member = rig.index.members().find(|m| m.number == number).unwrap();
    (member.policies, member.error.is_none())
}

#[test]
fn a_workload_whose_policies_do_not_compile_together_has_a_part_of_them() {
    let mut rig = Rig::new();
    rig.change(vec![large("h0", "web"), large("h1", "web")])
        .unwrap();
    let small = (0..60).map(|n| block(&format!("s{n:02}"), "web", &format!("/bin/s{n:02}")));
    rig.change(small.collect()).unwrap();
    let web = || container("a", "web");
    let added = rig.try_add(1, web());
    assert!(error_text(&added.unwrap_err()).contains("split the policy"));
    let (part, is_well) = status(&rig, 1);
    assert_eq!((part.len(), is_well), (61, false), "all but one of 62");
    assert_eq!(part[0], "h0");
    for name in ["h0", "s00", "s59"] {
        assert_eq!(rig.exec(1, &format!("/bin/{name}")), Action::Block);
    }
    // As long as nothing changes, nothing is done.
    let applied = rig.handle.applies().len();
    rig.index.heal(&mut rig.backend);
    rig.try_add(1, web()).unwrap_err();
    assert_eq!(rig.handle.applies().len(), applied);
    assert_eq!(status(&rig, 1), (part.clone(), false));

    // Who changes a policy does not change which are in force.
    rig.change(vec![large("h0", "web")]).unwrap();
    assert_eq!(status(&rig, 1), (part, false));
    rig.change(vec![Change::Remove(id("h0"))]).unwrap();
    let (whole, is_well) = status(&rig, 1);
    assert_eq!((whole.len(), is_well), (61, true));
    assert_ne!(rig.exec(1, "/bin/h0"), Action::Block);
    assert_eq!(rig.exec(1, "/bin/h1"), Action::Block);
}

#[test]
fn a_change_that_is_undone_leaves_nothing_where_it_helped() {
    let mut rig = Rig::new();
    let first = [large("d0", "db"), large("d1", "db"), large("w0", "web")];
    rig.change(first.into()).unwrap();
    rig.try_add(1, container("a", "db")).unwrap_err();
    rig.add(2, container("b", "web"));
    let before = (status(&rig, 1), status(&rig, 2));
    assert_eq!(before.0, (vec!["d0".to_owned()], false));
    // It would make the first workload well, and cannot be on the second.
    rig.change(vec![Change::Remove(id("d0")), large("w1", "web")])
        .unwrap_err();
    assert_eq!((status(&rig, 1), status(&rig, 2)), before);
    assert_eq!(rig.exec(1, "/bin/d0"), Action::Block);
    assert_eq!(rig.exec(2, "/bin/w0"), Action::Block);
}

#[test]
fn a_workload_that_becomes_another_keeps_nothing_of_the_first() {
    let mut rig = Rig::new();
    rig.change(vec![
        large("d0", "db"),
        large("d1", "db"),
        block("w", "web", "/bin/w"),
    ])
    .unwrap();
    rig.add(1, container("a", "web"));
    rig.try_add(1, container("a", "db")).unwrap_err();
    assert_eq!(status(&rig, 1), (vec!["d0".to_owned()], false));
    assert_eq!(rig.exec(1, "/bin/d0"), Action::Block);
}
