//! `PolicyService`, as KubeArmor's clients use it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_service_answers_as_its_clients_expect() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let cases: [(&[u8], PolicyStatus); 7] = [
        (&object("ADDED", "p", "/bin/p"), PolicyStatus::Applied),
        (&object("MODIFIED", "p", "/bin/q"), PolicyStatus::Modified),
        (&object("DELETED", "p", "/bin/q"), PolicyStatus::Deleted),
        (&object("DELETED", "p", "/bin/q"), PolicyStatus::NotExist),
        (&object("ADDED", "p", "relative"), PolicyStatus::Invalid),
        (b"\xff{not json", PolicyStatus::Invalid),
        (
            br#"{"type":"ADDED","object":{"kind":"KubeArmorHostPolicy"}}"#,
            PolicyStatus::Invalid,
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(
            daemon.send(bytes).await,
            expected,
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
    let host = serde_json::json!({
        "type": "ADDED",
        "object": {
            "apiVersion": "security.kubearmor.com/v1",
            "kind": "KubeArmorHostPolicy",
            "metadata": { "name": "h" },
            "spec": {
                "nodeSelector": { "matchLabels": { "kubearmor.io/hostname": "*" } },
                "process": { "matchPaths": [{ "path": "/bin/p" }] },
                "action": "Block",
            },
        },
    });
    let mut client = PolicyServiceClient::new(daemon.channel().await);
    let answer = client
        .host_policy(Policy {
            policy: host.to_string().into_bytes(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.status(), PolicyStatus::NotEnabled);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_service_says_applied_of_nothing_that_does_not_block() {
    let backend = Memory::new(Capabilities::default());
    let handle = backend.handle();
    let mut core = crate::engine::tests::core(backend);
    // All is not well with this container from its start: what befalls it is no news to a change.
    handle.refuse(Some("the tables"));
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let mut container = Container::new("default", "a", "img", None, labels);
    container.pid = std::process::id();
    container.cgroup.id = 5;
    core.runtime(RuntimeEvent::Running(Box::new(container)));
    let daemon = Daemon::serving(core, handle).await;
    let policy = object("ADDED", "p", "/bin/p");
    assert_eq!(daemon.send(&policy).await, PolicyStatus::Failure);
    assert_eq!(daemon.send(&policy).await, PolicyStatus::Failure);
    assert_eq!(daemon.list().await[0].enforcement(), Enforcement::None);
    daemon.handle.refuse(None);
    assert_eq!(
        daemon.send(&object("MODIFIED", "p", "/bin/q")).await,
        PolicyStatus::Modified
    );
    assert_eq!(daemon.list().await[0].enforcement(), Enforcement::Full);

    for app in ["web", "nobody"] {
        let beyond = format!(
            r#"{{"type":"ADDED","object":{{
                "apiVersion":"security.kubearmor.com/v1","kind":"KubeArmorPolicy",
                "metadata":{{"name":"net-{app}"}},
                "spec":{{
                    "selector":{{"matchLabels":{{"app":"{app}"}}}},
                    "apparmor":"deny network raw,",
                    "action":"Block"
                }}
            }}}}"#
        );
        assert_eq!(
            daemon.send(beyond.as_bytes()).await,
            PolicyStatus::NotEnabled
        );
    }
    let listed = daemon.list().await;
    let beyond: Vec<_> = listed
        .iter()
        .filter(|p| p.name.starts_with("net-"))
        .collect();
    assert_eq!(beyond.len(), 2);
    for policy in beyond {
        assert_eq!(policy.enforcement(), Enforcement::None);
        assert_eq!(policy.message, "this version enforces none of its rules");
        assert!(!policy.not_enforced.is_empty());
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_given_twice_is_refused_over_policy_service_too() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let whole = String::from_utf8(object("ADDED", "p", "/bin/p")).unwrap();
    let delete = whole.replace("ADDED", "DELETED");
    let twice = |text: &str, field: &str, value: &str| {
        let changed = text.replacen(
            &format!("{field}:"),
            &format!("{field}:{value},{field}:"),
            1,
        );
        assert_ne!(changed, text);
        changed
    };
    for wrong in [
        twice(&whole, "\"action\"", "\"Allow\""),
        twice(&whole, "\"path\"", "\"/bin/q\""),
        twice(&whole, "\"name\"", "\"q\""),
        twice(&whole, "\"object\"", "{}"),
        twice(&whole, "\"type\"", "\"DELETED\""),
    ] {
        assert_eq!(
            daemon.send(wrong.as_bytes()).await,
            PolicyStatus::Invalid,
            "{wrong}"
        );
    }
    assert_eq!(daemon.send(whole.as_bytes()).await, PolicyStatus::Applied);
    let wrong = twice(&delete, "\"name\"", "\"q\"");
    assert_eq!(daemon.send(wrong.as_bytes()).await, PolicyStatus::Invalid);
    assert_eq!(daemon.send(delete.as_bytes()).await, PolicyStatus::Deleted);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_service_wants_labels_as_kubearmors_does() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let labelled = String::from_utf8(object("ADDED", "p", "/bin/p")).unwrap();
    let of_all = labelled.replace(r#""matchLabels":{"app":"web"}"#, "");
    assert_ne!(of_all, labelled);
    assert_eq!(daemon.send(of_all.as_bytes()).await, PolicyStatus::Invalid);
    assert!(daemon.list().await.is_empty());
    daemon.stop().await;
}
