//! What `karmor policy explain` says.

mod common;

use karmor_abi::op::Op;
use karmor_policy::{
    alias::Aliases,
    explain::{DecidedBy, Query, explain},
    model::{Action, Family, Posture, Rule, Target},
};

fn query(op: Op, object: &str) -> Query {
    Query {
        op,
        object: object.into(),
        source: None,
        parent: None,
        uid: 0,
        owner: 0,
        posture: Posture::Block,
        aliases: Aliases::merged_usr(),
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
      "object": "/etc/x",
      "source": "/bin/cat",
      "isOwner": true,
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
