use std::sync::Arc;

use karmor_abi::{
    event::{Header, OBJECT_PATH, OBJECT_WORD, TEXTS},
    verdict::{NO_RULE, Verdict},
};
use karmor_policy::model::{Location, Meta};

use super::*;
use crate::{
    backend::memory::encode,
    events::decode::{decode, tests::plain},
    workload::Container,
};

fn rule(policy: &str) -> RuleInfo {
    RuleInfo {
        policy: policy.into(),
        namespace: "default".into(),
        meta: Arc::new(Meta {
            severity: 5,
            tags: vec!["MITRE".into(), "T1".into()],
            message: "no package managers".into(),
        }),
        location: Location {
            file: "p.yaml".into(),
            line: 3,
            column: 5,
        },
    }
}

fn table() -> Compiled {
    Compiled {
        words: Vec::new(),
        rules: vec![rule("block-apt"), rule("audit-bin"), rule("block-apt")],
        sets: vec![Box::default(), Box::new([0, 1, 2])],
    }
}

fn node() -> Node {
    Node {
        cluster: "default".into(),
        host: "node-1".into(),
        node_id: "abc123".into(),
    }
}

fn container() -> Identity {
    let labels = [("app", "web"), ("nerdctl/name", "web-1")];
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    let container = Container::new(
        "default",
        "9af5",
        "docker.io/library/web:1",
        Some("sha256:62"),
        labels,
    );
    Identity::Container(Arc::new(container))
}

fn alert_of(header: Header, texts: [&[u8]; TEXTS], who: Option<&Identity>) -> Alert {
    let bytes = encode(header, texts);
    alert(&decode(&bytes).unwrap(), Some(&table()), who, &node())
}

const EXEC: [&[u8]; TEXTS] = [
    b"/usr/bin/apt",
    b"/usr/bin/bash",
    b"/init",
    b"apt\0update\0",
    b"/root",
];

fn blocked(reason: Reason, rule: u32) -> u64 {
    Verdict::new(Action::Block, reason, 9, rule).0
}

#[test]
fn a_blocked_exec() {
    let header = Header {
        verdict: blocked(Reason::Rule, 0),
        set: 1,
        ..plain()
    };
    let alert = alert_of(header, EXEC, Some(&container()));
    assert_eq!(alert.r#type, "MatchedPolicy");
    assert_eq!(alert.operation, "Process");
    assert_eq!(alert.resource, "/usr/bin/apt update");
    assert_eq!(alert.source, "/usr/bin/bash");
    assert_eq!(alert.process_name, "/usr/bin/apt");
    assert_eq!(alert.parent_process_name, "/usr/bin/bash");
    assert_eq!(alert.data, "lsm=SECURITY_BPRM_CHECK");
    assert_eq!(alert.event_data["Lsm"], "SECURITY_BPRM_CHECK");
    assert_eq!(alert.event_data["MatchedPolicies"], "audit-bin");
    assert!(!alert.event_data.contains_key("Reason"));
    assert_eq!(
        (alert.action.as_str(), alert.result.as_str()),
        ("Block", "Permission denied")
    );
    assert_eq!(alert.enforcer, "BPFLSM");
    assert_eq!(
        (alert.policy_name.as_str(), alert.severity.as_str()),
        ("block-apt", "5")
    );
    assert_eq!(alert.tags, "MITRE,T1");
    assert_eq!(alert.a_tags, ["MITRE", "T1"]);
    assert_eq!(alert.message, "no package managers");
    assert_eq!(alert.namespace_name, "container_namespace");
    assert_eq!(
        (alert.pod_name.as_str(), alert.container_name.as_str()),
        ("web-1", "web-1")
    );
    assert_eq!(alert.container_image, "docker.io/library/web:1@sha256:62");
    assert_eq!(alert.labels, "app=web");
    assert_eq!(
        (alert.host_pid, alert.host_ppid, alert.pid, alert.ppid),
        (1001, 1000, 7, 1)
    );
    assert_eq!((alert.cwd.as_str(), alert.tty.as_str()), ("/root", "pts0"));
    assert_eq!(
        (alert.cluster_name.as_str(), alert.host_name.as_str()),
        ("default", "node-1")
    );
    assert_eq!(alert.node_id, "abc123");
    assert!(alert.updated_time.ends_with('Z') && alert.updated_time.len() == 27);
}

#[test]
fn the_argument_that_decided_is_counted_and_not_repeated() {
    let reason = |argument: u16, hook: Hook, action: Action| {
        let header = Header {
            verdict: Verdict::new(action, Reason::Rule, 9, 0).0,
            hook: hook as u8,
            argument,
            ..plain()
        };
        let alert = alert_of(header, EXEC, Some(&container()));
        assert_eq!(alert.resource, "/usr/bin/apt update");
        alert.event_data.get("Reason").cloned().unwrap_or_default()
    };
    assert_eq!(reason(0, Hook::Exec, Action::Block), "");
    assert_eq!(
        reason(2, Hook::Exec, Action::Block),
        "argument 2 is not allowed"
    );
    assert_eq!(
        reason(65, Hook::Exec, Action::Block),
        "more than 64 arguments are not allowed"
    );
    assert_eq!(
        reason(1, Hook::Committed, Action::Block),
        "argument 1 is not allowed; the program was killed before its first instruction"
    );
    assert_eq!(
        reason(u16::MAX, Hook::Committed, Action::Audit),
        "the arguments could not be read"
    );
}

#[test]
fn an_audited_read_on_the_host() {
    let header = Header {
        verdict: Verdict::new(Action::Audit, Reason::Rule, 9, 1).0,
        hook: Hook::Open as u8,
        op: Op::Read as u8,
        workload: 0,
        ..plain()
    };
    let texts: [&[u8]; TEXTS] = [
        b"/etc/nginx/nginx.conf",
        b"/bin/cat",
        b"/bin/sh",
        b"cat\0/etc/nginx/nginx.conf\0",
        b"/",
    ];
    let alert = alert_of(header, texts, Some(&Identity::Host));
    assert_eq!(alert.r#type, "MatchedHostPolicy");
    assert_eq!(alert.operation, "File");
    assert_eq!(alert.resource, "/etc/nginx/nginx.conf");
    assert_eq!(alert.source, "/bin/cat /etc/nginx/nginx.conf");
    assert_eq!(
        (
            alert.process_name.as_str(),
            alert.parent_process_name.as_str()
        ),
        ("/bin/cat", "/bin/sh")
    );
    assert_eq!(alert.data, "lsm=FILE_OPEN");
    assert_eq!(
        (alert.action.as_str(), alert.result.as_str()),
        ("Audit", "Passed")
    );
    assert_eq!(alert.policy_name, "audit-bin");
    assert!(alert.container_id.is_empty() && alert.namespace_name.is_empty());
}

#[test]
fn a_default_posture_has_a_name_of_its_own_and_no_metadata() {
    let header = Header {
        verdict: blocked(Reason::Posture, NO_RULE),
        ..plain()
    };
    let alert = alert_of(header, EXEC, Some(&container()));
    assert_eq!(alert.policy_name, DEFAULT_POSTURE);
    assert!(alert.severity.is_empty() && alert.tags.is_empty());
}

#[test]
fn an_object_without_a_path_is_named_and_explained() {
    let header = Header {
        verdict: blocked(Reason::Object, NO_RULE),
        object: Object::Anonymous as u8,
        ..plain()
    };
    let alert = alert_of(
        header,
        [b"", b"/usr/bin/python3", b"/init", b"x\0", b"/"],
        Some(&container()),
    );
    assert_eq!(alert.resource, "@anonymous");
    assert!(
        alert.event_data["Reason"].contains("anonymous"),
        "{:?}",
        alert.event_data
    );
}

#[test]
fn a_mount_is_about_a_file_whatever_it_could_lead_to() {
    let header = Header {
        verdict: blocked(Reason::Object, NO_RULE),
        hook: Hook::PivotRoot as u8,
        op: Op::Exec as u8,
        object: Object::Unreachable as u8,
        ..plain()
    };
    let alert = alert_of(
        header,
        [b"/new", b"/usr/sbin/pivot_root", b"/init", b"x\0", b"/"],
        Some(&container()),
    );
    assert_eq!(alert.operation, "File");
    assert_eq!(alert.resource, "/new");
    assert_eq!(alert.data, "lsm=SB_PIVOTROOT");
    assert!(
        alert.event_data["Reason"].contains("other names"),
        "{:?}",
        alert.event_data
    );
}

#[test]
fn what_is_no_longer_known_is_said() {
    let header = Header {
        verdict: blocked(Reason::Rule, 77),
        object: OBJECT_PATH,
        ..plain()
    };
    let alert = alert_of(header, EXEC, None);
    assert!(alert.policy_name.is_empty());
    assert!(alert.event_data["Reason"].contains("no longer"));
    assert!(alert.event_data["Workload"].contains('1'));
}

#[test]
fn arguments_cannot_forge_a_line() {
    let header = Header {
        verdict: blocked(Reason::Rule, 0),
        ..plain()
    };
    let texts: [&[u8]; TEXTS] = [
        b"/bin/x\ny",
        b"/bin/sh",
        b"",
        b"x\0a\nAction: Allow\0\xff\0",
        b"/",
    ];
    let alert = alert_of(header, texts, None);
    assert_eq!(alert.resource, "/bin/x\\ny a\\nAction: Allow \u{fffd}");
}

#[test]
fn a_system_call_is_only_told_of() {
    use karmor_abi::{
        event::OBJECT_WORD,
        word::{self, Convention},
    };
    let told = Verdict::new(Action::Audit, Reason::Rule, 9, 1).0;
    let (convention, number) = (Convention::Native, 39);
    let word = word::syscall(convention, number);
    let name = karmor_policy::syscall::name_of(convention, number).unwrap();
    let name = format!("SYS_{}", name.to_ascii_uppercase());
    let by_name = Header {
        verdict: told,
        hook: Hook::Syscall as u8,
        op: Op::Syscall as u8,
        object: OBJECT_WORD,
        set: 1,
        ..plain()
    };
    let texts: [&[u8]; TEXTS] = [&word, b"/usr/bin/rmdir", b"/bin/sh", b"rmdir\0x\0", b"/"];
    let check = |header, texts, resource: &str| {
        let alert = alert_of(header, texts, Some(&container()));
        assert_eq!(alert.operation, "Syscall");
        assert_eq!(alert.resource, resource);
        assert_eq!(alert.data, format!("syscall={name}"));
        assert_eq!(alert.event_data["Syscall"], name);
        assert!(!alert.event_data.contains_key("Lsm"));
        assert_eq!(alert.event_data["MatchedPolicies"], "block-apt");
        assert_eq!(alert.source, "/usr/bin/rmdir x");
        assert_eq!(alert.process_name, "/usr/bin/rmdir");
        assert_eq!(alert.parent_process_name, "/bin/sh");
        assert_eq!(
            (alert.action.as_str(), alert.result.as_str()),
            ("Audit", "Passed")
        );
        assert_eq!(alert.enforcer, "eBPF Monitor");
        assert_eq!(alert.policy_name, "audit-bin");
    };
    check(by_name, texts, &name);
    let by_path = Header {
        hook: Hook::Rmdir as u8,
        op: Op::SyscallAt as u8,
        object: OBJECT_PATH,
        flags: u32::from_ne_bytes(word),
        ..by_name
    };
    let texts = [
        b"/home/x".as_slice(),
        texts[1],
        texts[2],
        texts[3],
        texts[4],
    ];
    check(by_path, texts, "/home/x");
}

#[test]
fn presets_have_names_of_their_own() {
    let header = Header {
        verdict: blocked(Reason::Rule, 0),
        op: Op::FilelessExec as u8,
        object: Object::Anonymous as u8,
        ..plain()
    };
    let texts: [&[u8]; TEXTS] = [
        b"/memfd:x",
        b"/usr/bin/bash",
        b"/init",
        b"x\0-a\0",
        b"/root",
    ];
    let alert = alert_of(header, texts, Some(&container()));
    assert_eq!(alert.enforcer, "PRESET-FilelessExecutionPreset");
    assert_eq!(
        (alert.operation.as_str(), alert.resource.as_str()),
        ("Process", "/memfd:x -a")
    );
    assert_eq!(alert.policy_name, "block-apt");

    let header = Header {
        op: Op::AnonymousMapExec as u8,
        hook: Hook::Mprotect as u8,
        object: OBJECT_WORD,
        flags: 5,
        ..header
    };
    let word = karmor_abi::word::preset(Op::AnonymousMapExec);
    let texts = [&word[..], texts[1], texts[2], texts[3], texts[4]];
    let alert = alert_of(header, texts, Some(&container()));
    assert_eq!(alert.enforcer, "PRESET-AnonMapExecutionPreset");
    assert_eq!(
        (alert.operation.as_str(), alert.resource.as_str()),
        ("File", "anonymousMapExec")
    );
    assert_eq!(alert.data, "lsm=FILE_MPROTECT prot=PROT_READ|PROT_EXEC");
    assert_eq!(alert.event_data["Prot"], "PROT_READ|PROT_EXEC");
}
