//! Default postures that change while they are needed.

use karmor_abi::{
    op::Op,
    verdict::{Action, Verdict},
};
use karmor_policy::model::Posture;

use super::*;
use crate::{
    backend::memory::{Access, Handle},
    events::decode::tests::plain,
};

/// Two containers with a whitelist and a Block rule, another without a policy, and the host.
fn rig() -> (Core, Handle) {
    let memory = Memory::new(Capabilities::default());
    let kernel = memory.handle();
    let mut core = core(memory);
    core.add_host();
    for (number, (id, app)) in [("a", "web"), ("b", "web"), ("c", "other")]
        .iter()
        .enumerate()
    {
        let labels = [("app".to_owned(), (*app).to_owned())].into();
        let mut container = Container::new("default", id, "img", None, labels);
        container.cgroup.id = cgroup(number);
        core.runtime(RuntimeEvent::Running(Box::new(container)));
    }
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p}\n\
                spec:\n  selector: {matchLabels: {app: web}}\n  process:\n    matchPaths:\n    \
                - {path: /bin/good, action: Allow}\n    - {path: /bin/bad, action: Block}\n";
    let reading = read(text, "p.yaml");
    assert!(!reading.failed(), "{}", reading.rendered);
    let done = core.set(reading.documents.into_iter().next().unwrap());
    assert!(matches!(done, Done::Applied), "{done:?}");
    (core, kernel)
}

fn cgroup(number: usize) -> u64 {
    100 + number as u64
}

fn exec(kernel: &Handle, number: usize, path: &str) -> Verdict {
    let mut header = plain();
    header.op = Op::Exec as u8;
    kernel.access(&Access {
        workload: kernel.workload(cgroup(number)).unwrap(),
        header,
        texts: [path.as_bytes(), b"/bin/sh", b"/init", b"x\0", b"/"],
    })
}

fn containers(file: Posture) -> DefaultPostures {
    let mut postures = DefaultPostures::default();
    postures.containers.file = file;
    postures
}

#[test]
fn all_workloads_are_switched_once_and_block_rules_stay() {
    let (mut core, kernel) = rig();
    let verdicts = |number| {
        ["/bin/good", "/bin/bad", "/bin/unnamed"].map(|path| exec(&kernel, number, path).action())
    };
    assert_eq!(verdicts(0), [Action::Allow, Action::Block, Action::Audit]);
    let before = kernel.applies().len();
    assert_eq!(core.set_postures(Ok(containers(Posture::Block))), Ok(true));
    for number in [0, 1] {
        assert_eq!(
            verdicts(number),
            [Action::Allow, Action::Block, Action::Block]
        );
    }
    assert_eq!(verdicts(2), [Action::Allow; 3], "without a policy");
    let applies = kernel.applies();
    assert_eq!(applies.len(), before + 1, "{applies:?}");
    assert_eq!(applies[before].len(), 2);

    assert_eq!(core.set_postures(Ok(containers(Posture::Block))), Ok(false));
    let mut host = containers(Posture::Block);
    host.host.file = Posture::Block;
    assert_eq!(core.set_postures(Ok(host)), Ok(true));
    assert_eq!(
        kernel.applies().len(),
        before + 1,
        "no container is touched"
    );
    assert_eq!(core.postures(), (host, None));
    assert_eq!(core.set_postures(Ok(containers(Posture::Allow))), Ok(true));
    assert_eq!(verdicts(0), [Action::Allow, Action::Block, Action::Allow]);
}

#[test]
fn what_cannot_be_put_in_force_leaves_all_as_it_is() {
    let (mut core, kernel) = rig();
    kernel.refuse(Some("table"));
    let why = core
        .set_postures(Ok(containers(Posture::Block)))
        .unwrap_err();
    assert!(why.contains("cannot be put in force"), "{why}");
    assert_eq!(core.postures(), (DefaultPostures::default(), Some(why)));
    kernel.refuse(None);
    assert_eq!(exec(&kernel, 0, "/bin/unnamed").action(), Action::Audit);
    assert_eq!(exec(&kernel, 0, "/bin/bad").action(), Action::Block);
    let wrong = Err("it is empty".to_owned());
    assert_eq!(core.set_postures(wrong.clone()), Err("it is empty".into()));
    assert_eq!(core.postures().1, wrong.err());
    assert_eq!(core.set_postures(Ok(containers(Posture::Block))), Ok(true));
    assert_eq!(core.postures(), (containers(Posture::Block), None));
    assert_eq!(exec(&kernel, 0, "/bin/unnamed").action(), Action::Block);
}
