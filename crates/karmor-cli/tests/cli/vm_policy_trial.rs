//! `karmor vm policy add --confirm-within`, `confirm` and `revert`.

use std::fs;

use karmor_proto::karmor::v1::{
    Enforcement, Outcome, Policy, PolicyRef, PolicyResult, Trial, Verdict,
};
use tonic::Status;

use crate::{
    fake::{Daemon, State},
    run::{Ran, run, run_with_stdin},
};

const POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorHostPolicy
metadata:
  name: hosts
spec:
  nodeSelector:
    matchLabels:
      kubearmor.io/hostname: '*'
  process:
    matchPaths:
    - path: /usr/bin/apt
  action: Block
";

fn result(outcome: Outcome, enforcement: Enforcement) -> PolicyResult {
    PolicyResult {
        policy: Some(PolicyRef {
            kind: "KubeArmorHostPolicy".into(),
            namespace: String::new(),
            name: "hosts".into(),
        }),
        outcome: outcome.into(),
        enforcement: enforcement.into(),
        workloads: 1,
        ..PolicyResult::default()
    }
}

fn trial() -> Trial {
    Trial {
        token: "1a2b3c4d".into(),
        until: "2026-11-22T21:00:00.000000Z".into(),
        seconds_left: 90,
        ..Trial::default()
    }
}

fn answering(results: Vec<PolicyResult>, trial: Option<Trial>) -> Daemon {
    Daemon::start(State {
        results: results.into(),
        trial,
        ..State::default()
    })
}

fn add(daemon: &Daemon, args: &[&str]) -> Ran {
    let add = ["vm", "policy", "add", "-", "--socket", daemon.socket()];
    run_with_stdin(POLICY, &[&add, args].concat())
}

#[test]
fn add_says_until_when_and_how_to_confirm() {
    let applied = result(Outcome::Applied, Enforcement::Full);
    let daemon = answering(vec![applied], Some(trial()));
    insta::assert_snapshot!(add(&daemon, &["--confirm-within", "1m30s"]), @r"
    exit 0
    --- stdout
    Policy Applied
    --- stderr
    KubeArmorHostPolicy hosts: full, applies to 1 workload
    warning: trial 1a2b3c4d: taken back at 2026-11-22T21:00:00.000000Z (1m 30s from now) unless confirmed
    hint: `karmor vm policy confirm 1a2b3c4d` keeps what was applied, `karmor vm policy revert 1a2b3c4d` takes it back at once
    ");
    let state = daemon.state();
    assert!(state.applied.is_empty());
    assert_eq!(state.tried[0].confirm_within_seconds, 90);
    assert_eq!(state.tried[0].texts[0].text, POLICY);
    assert_eq!(state.tried[0].texts[0].file_name, "<stdin>");
}

#[test]
fn several_files_are_one_request() {
    let applied = result(Outcome::Applied, Enforcement::Full);
    let daemon = answering(vec![applied.clone(), applied], Some(trial()));
    let dir = daemon.dir().join("policies");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.yaml"), POLICY).unwrap();
    fs::write(dir.join("b.yaml"), POLICY.replace("hosts", "more")).unwrap();
    let args = ["vm", "policy", "add", dir.to_str().unwrap()];
    let more = [
        "--confirm-within=60s",
        "--quiet",
        "--socket",
        daemon.socket(),
    ];
    let ran = run(&[&args[..], &more].concat());
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "Policy Applied\nPolicy Applied\n"),
        "{ran}"
    );
    assert!(ran.stderr.starts_with("warning: trial 1a2b3c4d"), "{ran}");
    assert_eq!(daemon.state().tried.len(), 1);
    assert_eq!(daemon.state().tried[0].texts.len(), 2);
}

#[test]
fn what_is_not_wholly_in_force_is_on_trial_all_the_same() {
    let partial = PolicyResult {
        message: "some of it is not enforced".into(),
        ..result(Outcome::Applied, Enforcement::Partial)
    };
    let daemon = answering(vec![partial], Some(trial()));
    let ran = add(&daemon, &["--confirm-within", "60s"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (6, "Policy Partly Enforced\n"),
        "{ran}"
    );
    assert!(ran.stderr.contains("warning: trial 1a2b3c4d"), "{ran}");
}

#[test]
fn without_a_trial_there_is_nothing_to_confirm() {
    let unchanged = result(Outcome::Unchanged, Enforcement::Full);
    let daemon = answering(vec![unchanged], None);
    let ran = add(&daemon, &["--confirm-within", "60s"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("there is nothing to confirm"), "{ran}");

    let failed = PolicyResult {
        message: "it cannot be compiled".into(),
        ..result(Outcome::Failed, Enforcement::Unspecified)
    };
    let daemon = answering(vec![failed], None);
    let ran = add(&daemon, &["--confirm-within", "60s"]);
    insta::assert_snapshot!(ran, @r"
    exit 6
    --- stdout
    Policy Failure
    --- stderr
    warning: KubeArmorHostPolicy hosts: it cannot be compiled
    ");
}

#[test]
fn json_has_the_trial_beside_the_results() {
    let applied = result(Outcome::Applied, Enforcement::Full);
    let daemon = answering(vec![applied], Some(trial()));
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&add(&daemon, args).stdout).unwrap()
    };
    let found = json(&["--confirm-within", "60s", "-o", "json"]);
    assert_eq!(found["results"][0]["outcome"], "applied");
    assert_eq!(found["trial"]["token"], "1a2b3c4d");
    assert_eq!(found["trial"]["secondsLeft"], 90);
    daemon.state().trial = None;
    let found = json(&["--confirm-within", "60s", "-o", "json"]);
    assert!(
        found["trial"].is_null() && found.get("trial").is_some(),
        "{found}"
    );
}

#[test]
fn a_time_out_of_bounds_is_wrong_usage() {
    let daemon = answering(vec![], None);
    for (time, told) in [
        ("4s", "allowed are 5s to 24h"),
        ("25h", "allowed are 5s to 24h"),
        ("60", "its unit is missing"),
        ("soon", "a time is written as"),
    ] {
        let args = ["vm", "policy", "add", "p.yaml", "--confirm-within", time];
        let ran = run(&[&args[..], &["--socket", daemon.socket()]].concat());
        assert_eq!(ran.code, 2, "{ran}");
        assert!(ran.stderr.contains(told), "{ran}");
    }
    assert!(daemon.state().tried.is_empty());
}

#[test]
fn confirm_and_revert_end_a_trial() {
    let confirmed = result(Outcome::Confirmed, Enforcement::Full);
    let daemon = answering(vec![confirmed], None);
    let ran = run(&["vm", "policy", "confirm", "--socket", daemon.socket()]);
    insta::assert_snapshot!(ran, @r"
    exit 0
    --- stdout
    Policy Confirmed
    --- stderr
    KubeArmorHostPolicy hosts: full, applies to 1 workload
    ");
    daemon.state().results = [
        result(Outcome::Reverted, Enforcement::Full),
        result(Outcome::Reverted, Enforcement::Unspecified),
    ]
    .into();
    let ran = run(&[
        "vm",
        "policy",
        "revert",
        "1a2b3c4d",
        "--socket",
        daemon.socket(),
    ]);
    insta::assert_snapshot!(ran, @r"
    exit 0
    --- stdout
    Policy Reverted
    Policy Reverted
    --- stderr
    KubeArmorHostPolicy hosts: full, applies to 1 workload
    KubeArmorHostPolicy hosts
    ");
    let state = daemon.state();
    assert_eq!(state.settled[0].token, "");
    assert_eq!(state.settled[0].verdict(), Verdict::Keep);
    assert_eq!(state.settled[1].token, "1a2b3c4d");
    assert_eq!(state.settled[1].verdict(), Verdict::Revert);
}

#[test]
fn who_comes_too_late_is_told() {
    let daemon = answering(vec![], None);
    daemon.state().unsettled = Some(Status::not_found("no policy is on trial"));
    let confirm = || run(&["vm", "policy", "confirm", "--socket", daemon.socket()]);
    insta::assert_snapshot!(confirm(), @r"
    exit 6
    --- stdout
    --- stderr
    error: no policy is on trial
    hint: `karmor vm policy list` shows what is in force, and what is on trial
    ");
    let several = "there are several trials; name one of a, b";
    daemon.state().unsettled = Some(Status::failed_precondition(several));
    let ran = confirm();
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains(several), "{ran}");
    let ran = run(&["vm", "policy", "confirm", "--socket", "/nonexistent/s"]);
    assert_eq!(ran.code, 4, "{ran}");
}

#[test]
fn lists_show_the_time_left() {
    let daemon = Daemon::start(State {
        policies: vec![Policy {
            kind: "KubeArmorHostPolicy".into(),
            name: "hosts".into(),
            source: "grpc".into(),
            enforcement: Enforcement::Full.into(),
            trial: Some(trial()),
            ..Policy::default()
        }],
        ..State::default()
    });
    let of = |args: &[&str]| {
        run(&[&["vm", "policy"], args, &["--socket", daemon.socket()]].concat()).stdout
    };
    let told = "on trial 1a2b3c4d, taken back in 1m 30s unless confirmed";
    assert!(of(&["list"]).contains(told), "{}", of(&["list"]));
    let get = of(&["get", "hosts"]);
    assert!(get.contains(&format!("Trial:        {told}\n")), "{get}");
    let json = of(&["list", "-o", "json"]);
    assert!(json.contains("\"secondsLeft\": 90"), "{json}");
    let policies = daemon.state().policies.clone();
    daemon.state().probe.policies = policies;
    let probe = run(&["probe", "--socket", daemon.socket()]).stdout;
    assert!(probe.contains(told), "{probe}");
}
