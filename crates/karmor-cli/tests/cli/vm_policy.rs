//! `karmor vm policy`.

use std::fs;

use karmor_proto::karmor::v1::{
    Enforcement, NotEnforced, Outcome, Policy, PolicyRef, PolicyResult, ProbeResponse,
};

use crate::{
    fake::{Daemon, State},
    run::{run, run_with_stdin},
};

const POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: block-apt
  namespace: default
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchPaths:
    - path: /usr/bin/apt
  action: Block
";

fn reference() -> PolicyRef {
    PolicyRef {
        kind: "KubeArmorPolicy".into(),
        namespace: "default".into(),
        name: "block-apt".into(),
    }
}

fn result(outcome: Outcome, enforcement: Enforcement) -> PolicyResult {
    PolicyResult {
        policy: Some(reference()),
        outcome: outcome.into(),
        enforcement: enforcement.into(),
        workloads: 2,
        ..PolicyResult::default()
    }
}

fn answering(results: Vec<PolicyResult>) -> Daemon {
    Daemon::start(State {
        results: results.into(),
        ..State::default()
    })
}

#[test]
fn add_prints_the_line_users_know() {
    let daemon = answering(vec![
        result(Outcome::Applied, Enforcement::Full),
        result(Outcome::Modified, Enforcement::Idle),
    ]);
    let file = daemon.dir().join("policy.yaml");
    fs::write(&file, POLICY).unwrap();
    let args = [
        "vm",
        "policy",
        "add",
        file.to_str().unwrap(),
        "--socket",
        daemon.socket(),
    ];
    let ran = run(&args);
    insta::assert_snapshot!(ran, @r"
    exit 0
    --- stdout
    Policy Applied
    --- stderr
    KubeArmorPolicy default/block-apt: full, applies to 2 workloads
    ");
    assert_eq!(run(&args).stdout, "Policy Modified\n");
    assert_eq!(daemon.state().applied[0].text, POLICY);
    assert_eq!(daemon.state().applied[0].file_name, file.to_str().unwrap());
}

#[test]
fn what_does_not_block_is_not_called_applied() {
    let observing = PolicyResult {
        message: "nothing is enforced on this node: --observe".into(),
        ..result(Outcome::Applied, Enforcement::None)
    };
    let partial = PolicyResult {
        not_enforced: vec![NotEnforced {
            field: "spec.network".into(),
            why: "this version has no network rules".into(),
            line: 14,
        }],
        ..result(Outcome::Applied, Enforcement::Partial)
    };
    let daemon = answering(vec![observing, partial]);
    let add = || {
        run_with_stdin(
            POLICY,
            &["vm", "policy", "add", "-", "--gRPC", &daemon.address],
        )
    };
    insta::assert_snapshot!(add(), @r"
    exit 6
    --- stdout
    Policy Not Enforced
    --- stderr
    warning: KubeArmorPolicy default/block-apt: nothing is enforced on this node: --observe
    ");
    insta::assert_snapshot!(add(), @r"
    exit 6
    --- stdout
    Policy Partly Enforced
    --- stderr
    KubeArmorPolicy default/block-apt
    warning: KubeArmorPolicy default/block-apt: line 14: spec.network is not enforced: this version has no network rules
    ");
}

#[test]
fn an_invalid_policy_is_not_sent() {
    let daemon = answering(vec![]);
    let text = POLICY.replace("path:", "pth:");
    let ran = run_with_stdin(
        &text,
        &["vm", "policy", "add", "-", "--socket", daemon.socket()],
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran}");
    assert!(ran.stderr.contains("<stdin>:12:7"), "{ran}");
    assert!(daemon.state().applied.is_empty());
}

#[test]
fn a_directory_is_applied_file_by_file() {
    let daemon = answering(vec![
        result(Outcome::Applied, Enforcement::Full),
        result(Outcome::Unchanged, Enforcement::Full),
    ]);
    let dir = daemon.dir().join("policies");
    fs::create_dir_all(dir.join("more")).unwrap();
    fs::write(dir.join("a.yaml"), POLICY).unwrap();
    fs::write(dir.join("more/b.yml"), POLICY.replace("apt", "dpkg")).unwrap();
    fs::write(dir.join("README"), "no policy").unwrap();
    fs::write(dir.join(".hidden.yaml"), "no policy").unwrap();
    let dir = dir.to_str().unwrap();
    let ran = run(&["vm", "policy", "add", dir, "--socket", daemon.socket()]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "Policy Applied\nPolicy Unchanged\n"),
        "{ran}"
    );
}

#[test]
fn delete_takes_names_and_files() {
    let daemon = answering(vec![
        result(Outcome::Deleted, Enforcement::Unspecified),
        result(Outcome::Deleted, Enforcement::Unspecified),
    ]);
    let file = daemon.dir().join("policy.yaml");
    fs::write(&file, POLICY).unwrap();
    let delete = |what: &str| run(&["vm", "policy", "delete", what, "--socket", daemon.socket()]);
    for what in [file.to_str().unwrap(), "default/block-apt"] {
        let ran = delete(what);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, "Policy Deleted\n"),
            "{ran}"
        );
    }
    let by_name = PolicyRef {
        kind: String::new(),
        ..reference()
    };
    assert_eq!(daemon.state().deleted, [reference(), by_name]);
    let ran = delete("nothing");
    insta::assert_snapshot!(ran, @r"
    exit 6
    --- stdout
    Policy NotExist
    --- stderr
    nothing
    ");
}

#[test]
fn nothing_to_apply_or_to_delete_is_an_error() {
    let daemon = answering(vec![]);
    let file = daemon.dir().join("none.yaml");
    fs::write(&file, "# nothing yet\n").unwrap();
    for verb in ["add", "delete"] {
        for what in ["-", file.to_str().unwrap()] {
            let args = ["vm", "policy", verb, what, "--socket", daemon.socket()];
            let ran = run_with_stdin("", &args);
            assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran}");
            assert!(ran.stderr.contains("there is no policy to "), "{ran}");
        }
    }
}

fn listed() -> Daemon {
    Daemon::start(State {
        policies: vec![
            Policy {
                kind: "KubeArmorPolicy".into(),
                namespace: "default".into(),
                name: "block-apt".into(),
                source: "/etc/karmor/policies/apt.yaml".into(),
                enforcement: Enforcement::Full.into(),
                workloads: vec!["nginx".into()],
                updated_at: "2026-01-01T00:00:00Z".into(),
                text: POLICY.into(),
                ..Policy::default()
            },
            Policy {
                kind: "KubeArmorHostPolicy".into(),
                name: "hsp".into(),
                source: "grpc".into(),
                enforcement: Enforcement::None.into(),
                message: "observing\u{1b}[2J only".into(),
                ..Policy::default()
            },
        ],
        ..State::default()
    })
}

#[test]
fn list_is_a_table_json_or_yaml() {
    let daemon = listed();
    let list = |output: &[&str]| {
        let ran = run(&[
            &["vm", "policy", "list", "--socket", daemon.socket()],
            output,
        ]
        .concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
        ran.stdout
    };
    insta::assert_snapshot!(list(&[]), @r"
    KIND                 NAMESPACE  NAME       ENFORCED  WORKLOADS  SOURCE                         REMARK
    KubeArmorPolicy      default    block-apt  full      1          /etc/karmor/policies/apt.yaml
    KubeArmorHostPolicy             hsp        none      0          grpc                           observing\u{1b}[2J only
    ");
    let json: serde_json::Value = serde_json::from_str(&list(&["-o", "json"])).unwrap();
    assert_eq!(json[0]["enforcement"], "full");
    assert_eq!(json[1]["name"], "hsp");
    let yaml = list(&["-o", "yaml"]);
    assert!(
        yaml.contains("name: block-apt\n") && yaml.contains("enforcement: none\n"),
        "{yaml}"
    );
}

#[test]
fn get_shows_one_and_its_text_comes_back_as_it_went() {
    let daemon = listed();
    let get = |args: &[&str]| {
        run(&[&["vm", "policy", "get", "--socket", daemon.socket()], args].concat())
    };
    assert_eq!(get(&["block-apt", "-o", "text"]).stdout, POLICY);
    insta::assert_snapshot!(get(&["hsp"]), @r"
    exit 0
    --- stdout
    Kind:         KubeArmorHostPolicy
    Name:         hsp
    Source:       grpc
    Enforced:     none
    Remark:       observing\u{1b}[2J only
    --- stderr
    ");
    let json: Policy = serde_json::from_str(&get(&["block-apt", "-o", "json"]).stdout).unwrap();
    assert_eq!(json, daemon.state().policies[0]);
    let ran = get(&["nothing"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("there is no policy `nothing`"), "{ran}");
}

#[test]
fn get_shows_a_policy_from_everywhere_it_came_from() {
    let daemon = listed();
    let again = Policy {
        source: "grpc".into(),
        text: POLICY.replace("/usr/bin/apt", "/usr/bin/dpkg"),
        ..daemon.state().policies[0].clone()
    };
    daemon.state().policies.push(again);
    let get = |output: &str| {
        let args = ["vm", "policy", "get", "block-apt", "-o", output];
        let ran = run(&[&args[..], &["--socket", daemon.socket()]].concat());
        assert_eq!(ran.code, 0, "{ran}");
        ran.stdout
    };
    let text = get("text");
    let expected = format!(
        "# from /etc/karmor/policies/apt.yaml\n{POLICY}---\n# from grpc\n{}",
        POLICY.replace("/usr/bin/apt", "/usr/bin/dpkg")
    );
    assert_eq!(text, expected);
    let table = get("table");
    assert!(
        table.contains("Source:       grpc\n") && table.contains("\n\nKind:"),
        "{table}"
    );
    let json: Vec<Policy> = serde_json::from_str(&get("json")).unwrap();
    let known = daemon.state().policies.clone();
    assert_eq!(json, [known[0].clone(), known[2].clone()]);
    assert!(get("yaml").starts_with("- "));
}

#[test]
fn the_rest_of_what_is_not_enforced_is_a_number() {
    let parts = vec![
        NotEnforced {
            field: "spec.network".into(),
            why: "this version has no network rules".into(),
            line: 14,
        },
        NotEnforced {
            why: "7 more parts of this policy are not enforced".into(),
            ..NotEnforced::default()
        },
    ];
    let result = PolicyResult {
        not_enforced: parts.clone(),
        ..result(Outcome::Applied, Enforcement::Partial)
    };
    let daemon = Daemon::start(State {
        policies: vec![Policy {
            name: "p".into(),
            not_enforced: parts,
            ..Policy::default()
        }],
        results: [result].into(),
        ..State::default()
    });
    let of = |args: &[&str]| {
        run_with_stdin(
            POLICY,
            &[&["vm", "policy"], args, &["--socket", daemon.socket()]].concat(),
        )
    };
    let get = of(&["get", "p"]).stdout;
    assert!(
        get.ends_with(
            "Not enforced: line 14: spec.network: this version has no network rules\n\
             Not enforced: 7 more parts of this policy are not enforced\n"
        ),
        "{get}"
    );
    let list = of(&["list"]).stdout;
    assert!(list.contains(" 7 more parts"), "{list}");
    let add = of(&["add", "-"]).stderr;
    assert!(
        add.ends_with("default/block-apt: 7 more parts of this policy are not enforced\n"),
        "{add}"
    );
}

#[test]
fn an_answer_may_be_large_on_the_same_machine() {
    let policies: Vec<Policy> = (0..200)
        .map(|n| Policy {
            name: format!("p{n}"),
            workloads: vec!["0123456789abcdef-0123456789abcdef-0123456789abcdef".into(); 500],
            ..Policy::default()
        })
        .collect();
    let daemon = Daemon::start(State {
        probe: ProbeResponse {
            policies: policies.clone(),
            ..ProbeResponse::default()
        },
        policies,
        ..State::default()
    });
    for args in [&["vm", "policy", "list"][..], &["probe"]] {
        let near = run(&[args, &["--socket", daemon.socket()]].concat());
        assert!(near.stdout.contains("p199"), "{}", near.stderr);
        let far = run(&[args, &["--gRPC", &daemon.address]].concat());
        assert_eq!(far.code, 1);
        assert!(far.stderr.contains("too large"), "{}", far.stderr);
    }
}

#[test]
fn without_a_daemon_the_code_says_so() {
    for args in [&["list"][..], &["get", "x"], &["delete", "x"]] {
        let ran = run(&[&["vm", "policy"], args, &["--socket", "/nonexistent/s"]].concat());
        assert_eq!(ran.code, 4, "{ran}");
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_not_waited_for_forever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    // The kernel takes connections; nobody reads from them.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let ran = run(&["vm", "policy", "list", "--socket", path.to_str().unwrap()]);
    assert_eq!(ran.code, 4, "{ran}");
    assert!(ran.stderr.contains("it does not answer"), "{ran}");
}
