//! `karmor probe`.

use karmor_proto::karmor::v1::{
    Capabilities, ClassCounters, DefaultPostures, Enforcement, EventCounters, HookSupport, Policy,
    Postures, ProbeResponse, RuntimeSocket, Workload,
};

use crate::{
    fake::{Daemon, State},
    run::run,
};

fn answer() -> ProbeResponse {
    ProbeResponse {
        version: "9.9.9".into(),
        host_name: "node-1".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        cgroup: "v2".into(),
        capabilities: Some(Capabilities {
            kernel: "6.12.1".into(),
            btf: true,
            lsms: vec!["capability".into(), "bpf".into()],
            hooks: vec![
                HookSupport {
                    hook: "file_open".into(),
                    loads: true,
                    attached: true,
                    verified_instructions: 1234,
                    error: None,
                },
                HookSupport {
                    hook: "file_truncate".into(),
                    error: Some("the kernel has no such hook".into()),
                    ..HookSupport::default()
                },
            ],
            observe_only: None,
        }),
        runtimes: vec![RuntimeSocket {
            runtime: "containerd".into(),
            path: "/run/containerd/containerd.sock".into(),
            connected: true,
            error: None,
        }],
        workloads: vec![Workload {
            id: 1,
            namespace: "container_namespace".into(),
            name: "nginx".into(),
            container_id: "9af5246810fd0a732e74d391".into(),
            image: "nginx:1".into(),
            labels: Vec::new(),
            policies: vec!["block-apt".into()],
            error: None,
        }],
        policies: vec![Policy {
            kind: "KubeArmorPolicy".into(),
            namespace: "default".into(),
            name: "block-apt".into(),
            source: "grpc".into(),
            enforcement: Enforcement::Full.into(),
            workloads: vec!["nginx".into()],
            ..Policy::default()
        }],
        events: Some(EventCounters {
            emitted: 7,
            delivered: 6,
            lost: 1,
            denials: Some(ClassCounters {
                emitted: 6,
                delivered: 5,
                lost: 1,
            }),
            audits: Some(ClassCounters {
                emitted: 1,
                delivered: 1,
                lost: 0,
            }),
            faults: 2,
            malformed: 0,
        }),
        postures: Some(DefaultPostures {
            containers: Some(Postures {
                file: "block".into(),
                network: "audit".into(),
                capabilities: "audit".into(),
            }),
            host: Some(Postures {
                file: "audit".into(),
                network: "audit".into(),
                capabilities: "allow".into(),
            }),
            error: None,
        }),
    }
}

fn daemon(probe: ProbeResponse) -> Daemon {
    Daemon::start(State {
        probe,
        ..State::default()
    })
}

#[test]
fn a_daemon_tells_everything() {
    let daemon = daemon(answer());
    let ran = run(&["probe", "--socket", daemon.socket()]);
    let text = ran.to_string().replace(daemon.socket(), "SOCKET");
    insta::assert_snapshot!(text);
}

#[test]
fn json_has_the_documented_shape() {
    let daemon = daemon(answer());
    for flags in [["-o", "json"], ["-f", "json"], ["--format", "json"]] {
        let ran = run(&[&["probe", "--socket", daemon.socket()], &flags[..]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
        let text = ran.stdout.replace(daemon.socket(), "SOCKET").replace(
            concat!("\"", env!("CARGO_PKG_VERSION"), "\""),
            "\"VERSION\"",
        );
        // docs/probe.md shows this very text.
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/probe.md");
        let documented = std::fs::read_to_string(root).unwrap();
        assert!(
            documented.contains(&text),
            "docs/probe.md does not show:\n{text}"
        );
    }
}

#[test]
fn a_workload_that_is_not_protected_says_why() {
    let mut answer = answer();
    answer.workloads[0].policies.clear();
    answer.workloads[0].error = Some("no room for another workload".into());
    let daemon = daemon(answer);
    let ran = run(&["probe", "--socket", daemon.socket()]);
    assert!(
        ran.stdout.contains("error: no room for another workload"),
        "{ran}"
    );
}

#[test]
fn a_daemon_that_only_observes_is_not_enough() {
    let mut answer = answer();
    answer.capabilities.as_mut().unwrap().observe_only = Some("started with --observe".into());
    let daemon = daemon(answer);
    let ran = run(&["probe", "--socket", daemon.socket()]);
    assert_eq!(ran.code, 5, "{ran}");
    assert!(
        ran.stdout
            .starts_with("Enforcement:  impossible\nReason:       started with --observe\n"),
        "{ran}"
    );
}

#[test]
fn a_daemon_that_was_named_must_answer() {
    assert_eq!(run(&["probe", "--socket", "/nonexistent/s"]).code, 4);
}

#[test]
fn without_a_daemon_this_machine_is_looked_at() {
    // Port 9 (discard) has nobody behind it; what the machine can do differs, the shape does not.
    let output = crate::run::karmor(&["probe", "-o", "json"])
        .env("KUBEARMOR_SERVICE", "127.0.0.1:9")
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(json["kernel"], kernel.trim());
    assert_eq!(json["daemon"], serde_json::Value::Null);
    let expected = if json["enforcement"] == "impossible" {
        5
    } else {
        0
    };
    assert_eq!(output.status.code(), Some(expected), "{json}");
}
