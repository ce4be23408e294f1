//! What `karmor policy explain` says.

mod common;

use karmor_abi::{op::Op, word::Protocol};
use karmor_policy::{
    alias::Aliases,
    explain::{Asked, DecidedBy, Query, explain},
    model::{Action, Endpoint, Family, Kind, Policy, Posture, Postures, Rule, SocketKind, Target},
    select::WorkloadKind,
    syscall::Syscall,
};

fn query(op: Op, object: &str) -> Query {
    Query {
        op,
        object: object.into(),
        source: None,
        parent: None,
        arguments: None,
        uid: 0,
        owner: 0,
        terminal: false,
        workload: WorkloadKind::Container,
        postures: Postures::all(Posture::Block),
        aliases: Aliases::merged_usr(),
        has_links: true,
    }
}

fn deep(path: &str) -> Target {
    Target::Directory {
        path: path.into(),
        recursive: true,
    }
}

fn file(target: Target, action: Action) -> Rule {
    common::rule(Family::File, target, action)
}

#[test]
fn who_connects_to_no_address_reaches_the_host_itself() {
    let rule = |cidr: &str| {
        let endpoint = Endpoint {
            network: Some(cidr.parse().expect("a network")),
            ports: Vec::new(),
            protocol: None,
            direction: None,
        };
        common::rule(Family::Endpoints, Target::Endpoint(endpoint), Action::Block)
    };
    let policies = [common::policy(
        "p",
        vec![rule("127.0.0.0/8"), rule("::1/128")],
    )];
    let ask = |op: Op, address: &str| {
        let object = Asked::Endpoint {
            address: address.parse().expect("an address"),
            protocol: 6,
        };
        explain(
            &policies,
            &Query {
                object,
                ..query(op, "")
            },
        )
    };
    for (address, reached) in [
        ("0.0.0.0:80", Some("127.0.0.1:80/tcp")),
        ("[::]:80", Some("[::1]:80/tcp")),
        ("[::ffff:0.0.0.0]:80", Some("127.0.0.1:80/tcp")),
        ("127.0.0.1:80", None),
    ] {
        let answer = ask(Op::Egress, address);
        assert_eq!(
            (answer.action, answer.real_object.as_deref()),
            ("Block", reached),
            "{address}"
        );
    }
    let answer = ask(Op::Ingress, "0.0.0.0:80");
    assert_eq!((answer.action, answer.real_object), ("Allow", None));
}

#[test]
fn every_rule_about_the_object_is_accounted_for() {
    let path = || Target::Path("/etc/ssl/key".into());
    let rules = vec![
        file(deep("/etc/"), Action::Allow),
        file(path(), Action::Block),
        file(path(), Action::Audit),
        file(path(), Action::Block),
        Rule {
            sources: vec!["/bin/cat".into()],
            ..file(path(), Action::Allow)
        },
        Rule {
            read_only: true,
            ..file(Target::Glob("/etc/**".into()), Action::Audit)
        },
        common::rule(Family::Process, path(), Action::Block),
        file(deep("/var/"), Action::Block),
    ];
    let source = Some("/bin/bash".to_owned());
    let answer = explain(
        &[common::policy("tls", rules)],
        &Query {
            source,
            ..query(Op::Read, "/etc/ssl/key")
        },
    );
    insta::assert_snapshot!(answer, @r"
    Block: read /etc/ssl/key from /bin/bash, as its owner
    where /bin and the like are links, as on most systems
    decided by:
      test.yaml:2:1: Block file path /etc/ssl/key [tls]
    beaten:
      test.yaml:1:1: Allow file directory /etc/ (recursive) [tls]
        directory /etc/ (5 bytes) loses to path
      test.yaml:3:1: Audit file path /etc/ssl/key [tls]
        Audit loses to Block at the same level
      test.yaml:4:1: Block file path /etc/ssl/key [tls]
        says the same at the same level
    did not apply:
      test.yaml:5:1: Allow file path /etc/ssl/key, from /bin/cat [tls]
        fromSource does not include /usr/bin/bash
      test.yaml:6:1: Audit file pattern /etc/**, readOnly [tls]
        readOnly with Audit reports writes only
    ");
}

#[test]
fn posture_names_the_rule_that_restricts() {
    let rules = vec![file(deep("/srv/"), Action::Allow)];
    let answer = explain(
        &[common::policy("only-srv", rules)],
        &query(Op::Write, "/bin/sh"),
    );
    insta::assert_snapshot!(answer, @r"
    Block: write /bin/sh (that is, /usr/bin/sh), as its owner
    where /bin and the like are links, as on most systems
    no rule decides; the default posture does, because of:
      test.yaml:1:1: Allow file directory /srv/ (recursive) [only-srv]
    ");
}

#[test]
fn directories_are_compared_by_length() {
    let rules = vec![
        file(deep("/etc/"), Action::Block),
        file(deep("/etc/ssl/"), Action::Allow),
    ];
    let answer = explain(
        &[common::policy("p", rules)],
        &query(Op::Read, "/etc/ssl/x"),
    );
    insta::assert_snapshot!(answer, @r"
    Allow: read /etc/ssl/x, as its owner
    decided by:
      test.yaml:2:1: Allow file directory /etc/ssl/ (recursive) [p]
    beaten:
      test.yaml:1:1: Block file directory /etc/ (recursive) [p]
        directory /etc/ (5 bytes) loses to directory /etc/ssl/ (9 bytes)
    ");
}

#[test]
fn moves_name_what_would_be_lost() {
    let target = Target::Path("/opt/app/run".into());
    let rules = vec![common::rule(Family::Process, target, Action::Block)];
    let answer = explain(&[common::policy("p", rules)], &query(Op::Move, "/opt/app"));
    assert_eq!(answer.decided_by, DecidedBy::Move);
    insta::assert_snapshot!(answer, @r"
    Block: move /opt/app, as its owner
    another name would take it out of reach of:
      test.yaml:1:1: Block process path /opt/app/run [p]
    ");
}

#[test]
fn objects_without_a_path_can_be_asked_about() {
    let rules = vec![file(Target::Path("/etc/shadow".into()), Action::Block)];
    let answer = explain(
        &[common::policy("p", rules)],
        &query(Op::Read, "@unreachable"),
    );
    assert_eq!(
        (answer.action, answer.decided_by),
        ("Block", DecidedBy::Object)
    );
}

#[test]
fn json_has_the_names_of_the_policy_language() {
    let rules = vec![Rule {
        read_only: true,
        sources: vec!["/bin/cat".into()],
        ..file(deep("/etc/"), Action::Block)
    }];
    let source = Some("/bin/cat".to_owned());
    let answer = explain(
        &[common::policy("p", rules)],
        &Query {
            source,
            ..query(Op::Write, "/etc/x")
        },
    );
    let json = serde_json::to_string_pretty(&answer).expect("serialises");
    insta::assert_snapshot!(json, @r#"
    {
      "operation": "write",
      "workload": "container",
      "object": "/etc/x",
      "source": "/bin/cat",
      "linksAssumed": true,
      "isOwner": true,
      "hasTerminal": false,
      "action": "Block",
      "decidedBy": "rule",
      "rule": {
        "policy": "p",
        "namespace": "default",
        "file": "test.yaml",
        "line": 1,
        "column": 1,
        "family": "file",
        "target": "directory /etc/ (recursive)",
        "fromSource": [
          "/bin/cat"
        ],
        "modifiers": [
          "readOnly"
        ],
        "action": "Block"
      },
      "others": []
    }
    "#);
}

#[test]
fn names_are_taken_as_they_are_where_there_are_no_links() {
    let path = |path: &str| Target::Path(path.into());
    let policies = [common::policy(
        "p",
        vec![
            common::rule(Family::Process, path("/bin/cat"), Action::Audit),
            common::rule(Family::Process, path("/usr/bin/cat"), Action::Block),
        ],
    )];
    let with_links = query(Op::Exec, "/bin/cat");
    let without = Query {
        has_links: false,
        ..with_links.clone()
    };
    let (with_links, without) = (
        explain(&policies, &with_links),
        explain(&policies, &without),
    );
    assert_eq!(
        (with_links.action, with_links.links_assumed),
        ("Block", true)
    );
    assert!(
        with_links
            .to_string()
            .contains("where /bin and the like are links"),
        "{with_links}"
    );
    assert_eq!((without.action, without.links_assumed), ("Audit", false));
    assert_eq!(without.real_object, None);
}

#[test]
fn policies_of_hosts_and_of_containers_do_not_meet() {
    let path = || Target::Path("/etc/shadow".into());
    let host = Policy {
        kind: Kind::Host,
        ..common::policy("host", vec![file(path(), Action::Block)])
    };
    let container = common::policy("container", vec![file(path(), Action::Audit)]);
    let asked = |workload| {
        let query = Query {
            workload,
            ..query(Op::Read, "/etc/shadow")
        };
        explain(&[host.clone(), container.clone()], &query)
    };
    insta::assert_snapshot!(asked(WorkloadKind::Container), @r"
    Audit: read /etc/shadow, as its owner
    decided by:
      test.yaml:1:1: Audit file path /etc/shadow [container]
    left out, as not about a container: KubeArmorHostPolicy (1)
    ");
    insta::assert_snapshot!(asked(WorkloadKind::Host), @r"
    Block: read /etc/shadow, as its owner, on the host
    decided by:
      test.yaml:1:1: Block file path /etc/shadow [host]
    left out, as not about a host: KubeArmorPolicy (1)
    ");
}

#[test]
fn an_exec_is_refused_with_the_opening_of_its_file() {
    let path = || Target::Path("/opt/tool".into());
    let process = |action| common::rule(Family::Process, path(), action);
    let asked = |rules| explain(&[common::policy("p", rules)], &query(Op::Exec, "/opt/tool"));

    let refused = asked(vec![process(Action::Allow), file(path(), Action::Block)]);
    assert_eq!(
        (refused.action, refused.decided_by),
        ("Block", DecidedBy::Besides)
    );
    insta::assert_snapshot!(refused, @r"
    Block: exec /opt/tool, as its owner
    an exec opens the file first, and that is stricter:
      Block: read /opt/tool, as its owner
      decided by:
        test.yaml:2:1: Block file path /opt/tool [p]
    beaten:
      test.yaml:1:1: Allow process path /opt/tool [p]
        Allow loses to Block of the read
    ");

    let no_stricter = asked(vec![process(Action::Block), file(path(), Action::Audit)]);
    insta::assert_snapshot!(no_stricter, @r"
    Block: exec /opt/tool, as its owner
    decided by:
      test.yaml:1:1: Block process path /opt/tool [p]
    an exec opens the file first, and that is no stricter:
      Audit: read /opt/tool, as its owner
      decided by:
        test.yaml:2:1: Audit file path /opt/tool [p]
    ");

    let without = asked(vec![
        process(Action::Block),
        file(deep("/etc/"), Action::Block),
    ]);
    assert_eq!(without.besides, None);
}

#[test]
fn an_address_and_a_name_are_refused_with_the_socket() {
    let protocol = |protocol| {
        let target = Target::Socket(SocketKind::Protocol(protocol));
        common::rule(Family::Network, target, Action::Block)
    };
    let asked = |rule, op, object| {
        let policies = [common::policy("p", vec![rule])];
        explain(
            &policies,
            &Query {
                object,
                ..query(op, "")
            },
        )
    };
    let web = || Asked::Endpoint {
        address: "1.2.3.4:80".parse().expect("an address"),
        protocol: 6,
    };
    let name = || Asked::Domain("other.org".to_owned());
    insta::assert_snapshot!(asked(protocol(Protocol::Tcp), Op::Egress, web()), @r"
    Block: connect 1.2.3.4:80/tcp
    the socket is asked about as well, and that is stricter:
      Block: socket tcp (stream)
      decided by:
        test.yaml:1:1: Block network protocol tcp [p]
    ");
    insta::assert_snapshot!(asked(protocol(Protocol::Udp), Op::Query, name()), @r"
    Block: query other.org
    a query needs a socket, of UDP here, and that is stricter:
      Block: socket udp (dgram)
      decided by:
        test.yaml:1:1: Block network protocol udp [p]
    ");
    let accepted = asked(protocol(Protocol::Tcp), Op::Ingress, web());
    assert_eq!(
        (accepted.action, accepted.decided_by),
        ("Block", DecidedBy::Besides)
    );
    // A socket of another kind.
    for other in [
        asked(protocol(Protocol::Udp), Op::Egress, web()),
        asked(protocol(Protocol::Tcp), Op::Query, name()),
    ] {
        assert_eq!((other.action, other.besides), ("Allow", None));
    }
}

#[test]
fn a_call_about_a_path_is_asked_about_by_its_name_as_well() {
    let rmdir = Syscall::named("rmdir").expect("a system call");
    let rule = common::rule(Family::Syscalls, Target::Syscall(rmdir), Action::Audit);
    let object = Asked::Syscall(rmdir, Some("/srv/x".to_owned()));
    let answer = explain(
        &[common::policy("p", vec![rule])],
        &Query {
            object,
            ..query(Op::SyscallAt, "")
        },
    );
    insta::assert_snapshot!(answer, @r"
    Audit: syscall rmdir /srv/x
    the call is asked about without its path as well, and that is stricter:
      Audit: syscall rmdir
      decided by:
        test.yaml:1:1: Audit syscalls system call rmdir [p]
    ");
}

#[test]
fn presets_that_may_have_a_say_are_named() {
    let presets = Op::PRESETS
        .into_iter()
        .map(|op| common::rule(Family::Presets, Target::Preset(op), Action::Block));
    let policies = [common::policy("p", presets.collect())];
    let asked = |op, object| {
        explain(
            &policies,
            &Query {
                object,
                ..query(op, "")
            },
        )
    };
    let call = |name: &str| {
        let call = Syscall::named(name).expect("a system call");
        asked(Op::Syscall, Asked::Syscall(call, None)).presets
    };
    insta::assert_snapshot!(asked(Op::Exec, "/opt/tool".into()), @r"
    Allow: exec /opt/tool, as its owner
    no rule decides, and no Allow rule restricts the rest
    preset filelessExec may have a say as well: explain --preset filelessExec
    preset drift may have a say as well: explain --preset drift
    preset exec may have a say as well: explain --preset exec
    ");
    assert_eq!(
        asked(Op::Read, "/proc/1/task/2/environ".into()).presets,
        ["protectProc", "protectEnv"]
    );
    assert_eq!(asked(Op::Read, "/proc/meminfo".into()).presets, [""; 0]);
    assert_eq!(call("umount2"), ["mount"]);
    assert_eq!(call("setns"), ["namespace"]);
    assert_eq!(call("io_uring_setup"), ["ioUring"]);
    assert_eq!(call("getpid"), [""; 0]);
    // Of no policy, there is nothing to say.
    let none = explain(&[], &query(Op::Exec, "/opt/tool"));
    assert_eq!(none.presets, [""; 0]);
}
