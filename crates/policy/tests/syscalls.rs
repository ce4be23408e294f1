//! Rules about system calls: what they say, and what they become.

mod common;

use karmor_abi::{op::Op, table::Asker, verdict::Reason};
use karmor_policy::{
    alias::Aliases,
    compile::compile,
    model::{Action, Family, Policy, Posture, Source, Target},
    reference::{self, Access, AccessObject},
    syscall::Syscall,
};

fn manifest(rules: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: calls}}\n\
         spec:\n  severity: 2\n  tags: [spec]\n  action: Block\n  syscalls:\n{rules}"
    )
}

fn read(rules: &str) -> (Vec<Policy>, Vec<String>) {
    let report = karmor_policy::read("calls.yaml", &manifest(rules));
    let said = report.diagnostics.iter().map(|d| d.message.clone());
    (report.policies.clone(), said.collect())
}

fn policy(rules: &str) -> Policy {
    let (policies, said) = read(rules);
    assert_eq!(said, Vec::<String>::new());
    policies.into_iter().next().expect("a policy")
}

fn call(name: &str) -> Syscall {
    Syscall::named(name).expect("a system call")
}

#[test]
fn each_name_is_a_rule_that_audits() {
    let policy = policy(
        "    message: section\n    matchSyscalls:\n    - syscall: [getppid, openat]\n      severity: 7\n    \
         - syscall: [setns]\n      fromSource:\n      - path: /bin/a\n      - dir: /opt\n      \
         - {dir: /usr/, recursive: true}\n",
    );
    let rules: Vec<_> = policy
        .rules
        .iter()
        .map(|r| (r.family, r.target.clone(), r.action, r.meta.severity))
        .collect();
    let audited = |name, severity| {
        let target = Target::Syscall(call(name));
        (Family::Syscalls, target, Action::Audit, severity)
    };
    assert_eq!(
        rules,
        [
            audited("getppid", 7),
            audited("openat", 7),
            audited("setns", 2)
        ]
    );
    assert_eq!(policy.rules[0].meta.message, "section");
    assert_eq!(policy.rules[0].meta.tags, ["spec"]);
    let directory = |path: &str, recursive| Source::Directory {
        path: path.to_owned(),
        recursive,
    };
    assert_eq!(
        policy.rules[2].sources,
        [
            "/bin/a".into(),
            directory("/opt/", false),
            directory("/usr/", true)
        ]
    );
}

#[test]
fn a_place_is_a_file_or_a_directory() {
    let policy = policy(
        "    matchPaths:\n    - {syscall: [rmdir, unlinkat], path: /home/, recursive: true}\n    \
         - {syscall: [openat], path: /etc/shadow}\n    - {syscall: [openat], path: /}\n",
    );
    let targets: Vec<_> = policy.rules.iter().map(|r| r.target.clone()).collect();
    let at = |name, place| Target::SyscallAt {
        syscall: call(name),
        place: Box::new(place),
    };
    let directory = |path: &str, recursive| Target::Directory {
        path: path.to_owned(),
        recursive,
    };
    assert_eq!(
        targets,
        [
            at("rmdir", directory("/home/", true)),
            at("unlinkat", directory("/home/", true)),
            at("openat", Target::Path("/etc/shadow".into())),
            at("openat", directory("/", false)),
        ]
    );
}

#[test]
fn what_the_kernel_does_not_show_is_not_enforced() {
    let (policies, said) =
        read("    matchPaths:\n    - {syscall: [statx, mkdirat], path: /etc/, recursive: true}\n");
    assert_eq!(said, ["rules about `statx` and a path are not enforced"]);
    let policy = &policies[0];
    assert_eq!(policy.rules.len(), 1);
    assert_eq!(policy.not_enforced.len(), 1);
    assert_eq!(
        policy.not_enforced[0].field,
        "spec.syscalls.matchPaths[0].syscall[0]"
    );
}

#[test]
fn who_names_no_system_call_is_told_what_would_be_one() {
    let of_x86_64 = "names are those of x86-64, as in syscalls(2): read, openat, umount2";
    let each = "nothing stands for all or several: write each that is meant";
    let items = "write an item of the list for each: [read, write]";
    for (name, suggestion, help) in [
        ("umount", Some("umount2"), of_x86_64),
        ("sys_read", Some("read"), of_x86_64),
        ("SYS_CHOWN32", Some("chown"), of_x86_64),
        ("Rmdir", Some("rmdir"), of_x86_64),
        ("opemat", Some("openat"), of_x86_64),
        ("bogus", None, of_x86_64),
        ("all", None, each),
        ("'*'", None, each),
        ("'read,write'", None, items),
        ("read write", None, items),
    ] {
        let rules = format!("    matchSyscalls:\n    - syscall: [{name}]\n");
        let report = karmor_policy::read("calls.yaml", &manifest(&rules));
        let [told] = &report.diagnostics[..] else {
            panic!("{name}: {:#?}", report.diagnostics)
        };
        assert_eq!(told.suggestion.as_deref(), suggestion, "{name}");
        assert_eq!(told.help, [help], "{name}");
    }
}

#[test]
fn a_file_is_not_recursive() {
    let (policies, said) =
        read("    matchPaths:\n    - {syscall: [mkdirat], path: /etc, recursive: true}\n");
    assert_eq!(said, ["`recursive` says nothing of a file"]);
    assert!(matches!(
        &policies[0].rules[0].target,
        Target::SyscallAt { place, .. } if **place == Target::Path("/etc".into())
    ));
}

#[test]
fn what_says_nothing_of_a_source_is_warned_of() {
    for (sources, warning) in [
        (
            "[]",
            "`fromSource` is empty, so the rule is for every executable",
        ),
        (
            "[{path: /a/b, recursive: true}]",
            "`recursive` says nothing of a file",
        ),
    ] {
        let text =
            format!("    matchSyscalls:\n    - {{syscall: [mkdirat], fromSource: {sources}}}\n");
        let (policies, said) = read(&text);
        assert_eq!(said, [warning]);
        assert_eq!(policies[0].rules.len(), 1);
    }
}

#[test]
fn table_and_reference_agree() {
    let policy = policy(
        "    matchSyscalls:\n    - {syscall: [getppid]}\n    \
         - {syscall: [unlinkat], fromSource: [{dir: /opt/, recursive: true}]}\n    \
         matchPaths:\n    - {syscall: [openat], path: /etc/, recursive: true}\n    \
         - {syscall: [openat], path: /bin/a, fromSource: [{path: /bin/b}]}\n",
    );
    let effective = common::effective(policy.rules, Posture::Block, Aliases::merged_usr());
    let compiled = compile(&effective).unwrap();
    let told = |op, object, source: &str| {
        let access = Access {
            op,
            object,
            source: Some(source.as_bytes()),
            parent: None,
            asker: Asker::default(),
            trusted: true,
            arguments: None,
        };
        let verdict = reference::decide(&effective, &access);
        assert_eq!(compiled.decide(&access), verdict, "{access:?}");
        let is_told = verdict.action() == Action::Audit;
        assert_eq!(is_told, verdict.reason() == Reason::Rule);
        is_told
    };
    let by_name = |name, source| told(Op::Syscall, AccessObject::Syscall(call(name)), source);
    let at = |name, path: &'static str, source| {
        let object = AccessObject::SyscallAt(call(name), path.as_bytes());
        told(Op::SyscallAt, object, source)
    };
    assert!(by_name("getppid", "/x"));
    assert!(!by_name("getpid", "/x"));
    assert!(by_name("unlinkat", "/opt/a/b"));
    assert!(!by_name("unlinkat", "/x"));
    // Rules about a path say nothing of the call as such, and the other way round.
    assert!(!by_name("openat", "/x"));
    assert!(!at("getppid", "/etc/a", "/x"));
    assert!(at("openat", "/etc/a/b", "/x"));
    assert!(at("openat", "/etc", "/x"));
    assert!(!at("openat", "/etcetera", "/x"));
    assert!(!at("unlinkat", "/etc/a", "/x"));
    assert!(at("openat", "/usr/bin/a", "/usr/bin/b"));
    assert!(!at("openat", "/usr/bin/a", "/usr/bin/c"));
}
