//! `karmor logs`.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use karmor_proto::feeder::{Alert, Log, Message};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Status;

use crate::{
    fake::{Daemon, State},
    run::{karmor, run},
};

fn alert(name: &str) -> Alert {
    Alert {
        timestamp: 1_700_000_000,
        updated_time: "2023-11-14T22:13:20.000001Z".into(),
        host_name: "node-1".into(),
        pid: 7,
        policy_name: name.into(),
        resource: "/usr/bin/apt update".into(),
        action: "Block".into(),
        ..Alert::default()
    }
}

fn daemon(alerts: &[&[&str]]) -> Daemon {
    let alerts = alerts
        .iter()
        .map(|names| names.iter().copied().map(alert).collect());
    Daemon::start(State {
        alerts: alerts.collect(),
        logs: vec![Log {
            updated_time: "2023-11-14T22:13:21.000001Z".into(),
            resource: "/etc/hosts".into(),
            ..Log::default()
        }],
        messages: vec![Message {
            updated_time: "2023-11-14T22:13:19.000001Z".into(),
            cluster_name: "default".into(),
            host_name: "node-1".into(),
            level: "INFO".into(),
            message: "started".into(),
            ..Message::default()
        }],
        ..State::default()
    })
}

#[test]
fn text_is_a_block_of_lines_and_status_is_on_stderr() {
    let daemon = daemon(&[&["a"]]);
    let ran = run(&["logs", "--gRPC", &daemon.address, "--limit", "1"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(
        ran.stdout,
        "== Alert / 2023-11-14 22:13:20.000001 ==\nHostName: node-1\nPolicyName: a\n\
         Resource: /usr/bin/apt update\nAction: Block\nPID: 7\nPPID: 0\nUID: 0\n"
    );
    assert_eq!(ran.stderr, format!("connected to {}\n", daemon.address));
    assert_eq!(daemon.state().filters, ["alerts policy"]);
}

#[test]
fn json_is_one_object_a_line_with_root_in_it() {
    let daemon = daemon(&[&["a", "b"]]);
    for output in [&["--json"][..], &["-o", "json"]] {
        daemon.state().alerts = [vec![alert("a"), alert("b"), alert("c")]].into();
        let args = [
            &["-q", "logs", "--socket", daemon.socket(), "--limit", "2"],
            output,
        ]
        .concat();
        let ran = run(&args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
        let line = |name| {
            format!(
                r#"{{"Timestamp":1700000000,"UpdatedTime":"2023-11-14T22:13:20.000001Z","HostName":"node-1","PPID":0,"PID":7,"UID":0,"PolicyName":"{name}","Resource":"/usr/bin/apt update","Action":"Block"}}"#
            )
        };
        assert_eq!(ran.stdout, format!("{}\n{}\n", line("a"), line("b")));
    }
}

#[test]
fn pretty_json_is_the_same_indented() {
    let daemon = daemon(&[&["a"]]);
    let ran = run(&[
        "logs",
        "--gRPC",
        &daemon.address,
        "--limit",
        "1",
        "-o",
        "pretty-json",
    ]);
    assert!(
        ran.stdout.starts_with("{\n  \"Timestamp\": 1700000000,\n"),
        "{ran}"
    );
}

#[test]
fn the_filter_chooses_the_streams() {
    let daemon = daemon(&[&[]]);
    let ran = run(&[
        "logs",
        "--gRPC",
        &daemon.address,
        "--logFilter",
        "system",
        "--limit",
        "1",
    ]);
    assert!(
        ran.stdout
            .starts_with("== Log / 2023-11-14 22:13:21.000001 ==\n"),
        "{ran}"
    );
    assert_eq!(daemon.state().filters, ["logs system"]);

    daemon.state().alerts = [vec![alert("a")]].into();
    daemon.state().filters.clear();
    let ran = run(&[
        "logs",
        "--gRPC",
        &daemon.address,
        "--logFilter",
        "all",
        "--limit",
        "2",
    ]);
    assert!(
        ran.stdout.contains("== Alert") && ran.stdout.contains("== Log"),
        "{ran}"
    );
    let mut filters = daemon.state().filters.clone();
    filters.sort();
    assert_eq!(filters, ["alerts all", "logs all"]);
}

#[test]
fn messages_go_where_they_are_told_and_do_not_count() {
    let daemon = daemon(&[&["a"]]);
    let messages = daemon.dir().join("messages");
    let messages = messages.to_str().unwrap();
    let mut child = karmor(&["logs", "--gRPC", &daemon.address, "--logPath", "none"])
        .args(["--msgPath", messages, "--limit", "1"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line = "2023-11-14 22:13:19.000001  default  node-1  [INFO]  started\n";
    for _ in 0..500 {
        if fs::read_to_string(messages).is_ok_and(|text| text == line) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(fs::read_to_string(messages).unwrap(), line);
    assert!(
        child.try_wait().unwrap().is_none(),
        "a message must not reach the limit"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_file_is_appended_to_and_private() {
    use std::os::unix::fs::PermissionsExt;

    let daemon = daemon(&[&["a"]]);
    let path = daemon.dir().join("alerts");
    for name in ["a", "b"] {
        daemon.state().alerts = [vec![alert(name)]].into();
        let ran = run(&[
            "logs",
            "--gRPC",
            &daemon.address,
            "--limit",
            "1",
            "--json",
            "--logPath",
            path.to_str().unwrap(),
        ]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_lost_connection_is_told_and_made_again() {
    let daemon = daemon(&[&["a"], &["b"]]);
    let ran = run(&["logs", "--gRPC", &daemon.address, "--json", "--limit", "2"]);
    assert_eq!(ran.code, 0, "{ran}");
    let names: Vec<_> = ran
        .stdout
        .lines()
        .map(|line| line.contains(r#""PolicyName":"a""#))
        .collect();
    assert_eq!(names, [true, false], "{ran}");
    let address = &daemon.address;
    assert_eq!(
        ran.stderr,
        format!(
            "connected to {address}\nwarning: the connection to {address} is lost (the daemon has \
             closed it); what happens until it is back is not shown\nconnecting again in 0.25 s\n\
             connected again to {address}\n"
        )
    );
}

#[test]
fn connected_is_said_of_streams_that_stand() {
    let busy = || {
        Some(Status::resource_exhausted(
            "64 clients are listening already",
        ))
    };
    let never = || Some(Status::permission_denied("not for you"));
    let following = |refused: Vec<Option<Status>>| {
        let daemon = daemon(&[&["a"], &["b"]]);
        daemon.state().refused = refused.into();
        let ran = run(&["logs", "--gRPC", &daemon.address, "--limit", "2"]);
        let stderr = ran.stderr.replace(&daemon.address, "ADDRESS");
        (ran.code, stderr)
    };
    let busy_at_first = following(vec![busy()]);
    assert_eq!(
        busy_at_first,
        (
            1,
            "error: the daemon at ADDRESS answers: 64 clients are listening already\n".to_owned()
        )
    );

    let lost = "connected to ADDRESS\nwarning: the connection to ADDRESS is lost (the daemon has \
                closed it); what happens until it is back is not shown\nconnecting again in 0.25 s\n";
    let (code, told) = following(vec![None, busy()]);
    assert_eq!(
        (code, told),
        (
            0,
            format!(
                "{lost}the daemon at ADDRESS answers: 64 clients are listening already\n\
                 connecting again in 0.5 s\nconnected again to ADDRESS\n"
            )
        )
    );
    let (code, told) = following(vec![None, never()]);
    assert_eq!(
        (code, told),
        (
            1,
            format!("{lost}error: the daemon at ADDRESS refuses: not for you\n")
        )
    );
}

#[test]
fn an_interrupt_is_a_good_end() {
    let daemon = daemon(&[&["a"]]);
    let mut child = karmor(&["logs", "--gRPC", &daemon.address, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let many = vec!["a"; 20_000];
    let daemon = daemon(&[&many]);
    let mut child = karmor(&["-q", "logs", "--gRPC", &daemon.address, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn without_a_daemon_it_says_so_and_ends() {
    let ran = run(&["logs", "--socket", "/nonexistent/karmor.sock"]);
    insta::assert_snapshot!(ran, @r"
    exit 4
    --- stdout
    --- stderr
    error: cannot reach the daemon at unix:/nonexistent/karmor.sock: No such file or directory (os error 2)
    hint: is karmor-enforcer running? Say where with --socket PATH or --gRPC HOST:PORT
    ");
}

#[test]
fn nothing_to_show_is_wrong_usage() {
    let ran = run(&["logs", "--logPath", "none"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.contains("nothing to show"), "{ran}");
}

#[test]
fn the_environment_names_the_daemon() {
    let daemon = daemon(&[&["a"]]);
    let output = karmor(&["logs", "--limit", "1"])
        .env("KUBEARMOR_SERVICE", &daemon.address)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"== Alert"));
}
