//! The JSON form of an alert is what users' tools parse.

use karmor_proto::feeder::{Alert, ExecEvent, Podowner};

#[test]
fn an_alert_has_kubearmors_names_in_order_and_no_empty_values() {
    let alert = Alert {
        timestamp: 1_765_218_527,
        updated_time: "2025-12-08T18:28:47.125539Z".into(),
        cluster_name: "default".into(),
        host_name: "node-1".into(),
        namespace_name: "default".into(),
        owner: Some(Podowner {
            r#ref: "Deployment".into(),
            name: "nginx".into(),
            namespace: "default".into(),
        }),
        pod_name: "nginx-1".into(),
        labels: "app=nginx".into(),
        host_ppid: 10,
        host_pid: 11,
        ppid: 0,
        pid: 7,
        uid: 0,
        policy_name: "block-apt".into(),
        severity: "5".into(),
        tags: "A,B".into(),
        a_tags: vec!["A".into(), "B".into()],
        resource: "/usr/bin/apt update".into(),
        data: "lsm=SECURITY_BPRM_CHECK".into(),
        event_data: [("Lsm".to_owned(), "SECURITY_BPRM_CHECK".to_owned())].into(),
        tty: "pts0".into(),
        exec_event: Some(ExecEvent {
            exec_id: "0".into(),
            executable_name: "apt".into(),
        }),
        ..Alert::default()
    };
    let text = serde_json::to_string(&alert).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"Timestamp":1765218527,"UpdatedTime":"2025-12-08T18:28:47.125539Z","#,
            r#""ClusterName":"default","HostName":"node-1","NamespaceName":"default","#,
            r#""Owner":{"Ref":"Deployment","Name":"nginx","Namespace":"default"},"#,
            r#""PodName":"nginx-1","Labels":"app=nginx","HostPPID":10,"HostPID":11,"#,
            r#""PPID":0,"PID":7,"UID":0,"PolicyName":"block-apt","Severity":"5","Tags":"A,B","#,
            r#""ATags":["A","B"],"Resource":"/usr/bin/apt update","#,
            r#""Data":"lsm=SECURITY_BPRM_CHECK","EventData":{"Lsm":"SECURITY_BPRM_CHECK"},"#,
            r#""TTY":"pts0","ExecEvent":{"ExecID":"0","ExecutableName":"apt"}}"#
        )
    );
    assert_eq!(serde_json::from_str::<Alert>(&text).unwrap(), alert);
}

#[test]
fn root_is_visible_in_an_empty_alert() {
    let text = serde_json::to_string(&Alert::default()).unwrap();
    assert_eq!(text, r#"{"PPID":0,"PID":0,"UID":0}"#);
}

#[test]
fn enumerations_are_words() {
    use karmor_proto::karmor::v1::{Enforcement, Policy};
    let policy = Policy {
        enforcement: Enforcement::Partial.into(),
        ..Policy::default()
    };
    let value = serde_json::to_value(&policy).unwrap();
    assert_eq!(value["enforcement"], "partial");
    assert_eq!(serde_json::from_value::<Policy>(value).unwrap(), policy);
}
