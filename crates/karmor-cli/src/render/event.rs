//! Alerts, logs and messages as text, in the shape users and their scripts know.

use std::fmt::Write as _;

use karmor_proto::feeder::{Alert, Log, Message};
use serde::Serialize;
use serde_json::{Map, Value};

use super::text::printable;

/// The keys that come first, in this order; all others follow by alphabet.
const FIRST: [&str; 18] = [
    "ClusterName",
    "HostName",
    "NamespaceName",
    "PodName",
    "Labels",
    "ContainerName",
    "ContainerID",
    "ContainerImage",
    "Type",
    "PolicyName",
    "Severity",
    "Message",
    "Source",
    "Resource",
    "Operation",
    "Action",
    "Data",
    "EventData",
];

/// These close the first group.
const THEN: [&str; 2] = ["Enforcer", "Result"];

/// What the heading says already.
const IN_HEADING: [&str; 2] = ["Timestamp", "UpdatedTime"];

/// An alert as a block of lines.
pub(crate) fn alert(alert: &Alert) -> String {
    block("Alert", &alert.updated_time, alert)
}

/// A log as a block of lines.
pub(crate) fn log(log: &Log) -> String {
    block("Log", &log.updated_time, log)
}

/// A message of the daemon as one line.
pub(crate) fn message(message: &Message) -> String {
    let line = format!(
        "{}  {}  {}  [{}]  {}",
        time(&message.updated_time),
        message.cluster_name,
        message.host_name,
        message.level,
        message.message
    );
    format!("{}\n", printable(&line))
}

fn time(rfc3339: &str) -> String {
    rfc3339.replacen('T', " ", 1).replace('Z', "")
}

fn block(word: &str, updated_time: &str, event: &impl Serialize) -> String {
    let mut text = format!("== {word} / {} ==\n", printable(&time(updated_time)));
    // The events' JSON form is a map with text keys, so this cannot fail.
    let Ok(Value::Object(mut fields)) = serde_json::to_value(event) else {
        return text;
    };
    for key in IN_HEADING {
        fields.remove(key);
    }
    for key in FIRST.iter().chain(&THEN) {
        if let Some(value) = fields.remove(*key) {
            line(&mut text, key, &value);
        }
    }
    let mut rest: Vec<_> = fields.iter().collect();
    rest.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in rest {
        line(&mut text, key, value);
    }
    text
}

fn line(text: &mut String, key: &str, value: &Value) {
    let value = go(value);
    let _ = writeln!(text, "{key}: {}", printable(&value));
}

/// A value as Go prints it.
fn go(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => format!("map[{}]", go_map(fields)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn go_map(fields: &Map<String, Value>) -> String {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_unstable_by_key(|(key, _)| *key);
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(key, value)| format!("{key}:{}", go(value)))
        .collect();
    fields.join(" ")
}

#[cfg(test)]
mod tests {
    use karmor_proto::feeder::Podowner;

    use super::*;

    #[test]
    fn an_alert_has_the_shape_users_know() {
        let alert_ = Alert {
            timestamp: 1,
            updated_time: "2023-01-04T04:58:37.689182Z".into(),
            cluster_name: "default".into(),
            host_name: "node-1".into(),
            namespace_name: "wordpress-mysql".into(),
            pod_name: "wordpress-1".into(),
            labels: "app=wordpress".into(),
            container_name: "wordpress".into(),
            container_id: "9af5".into(),
            container_image: "docker.io/library/wordpress:4.8-apache".into(),
            r#type: "MatchedPolicy".into(),
            policy_name: "ksp-wordpress-block-process".into(),
            severity: "3".into(),
            source: "/bin/bash".into(),
            resource: "/usr/bin/apt update".into(),
            operation: "Process".into(),
            action: "Block".into(),
            data: "lsm=SECURITY_BPRM_CHECK".into(),
            event_data: [("Lsm".to_owned(), "SECURITY_BPRM_CHECK".to_owned())].into(),
            enforcer: "BPFLSM".into(),
            result: "Permission denied".into(),
            host_pid: 17462,
            host_ppid: 17293,
            pid: 199,
            ppid: 193,
            parent_process_name: "/bin/bash".into(),
            process_name: "/usr/bin/apt".into(),
            a_tags: vec!["A".into(), "B".into()],
            owner: Some(Podowner {
                r#ref: "Deployment".into(),
                name: "wordpress".into(),
                namespace: "wordpress-mysql".into(),
            }),
            ..Alert::default()
        };
        assert_eq!(
            alert(&alert_),
            concat!(
                "== Alert / 2023-01-04 04:58:37.689182 ==\n",
                "ClusterName: default\n",
                "HostName: node-1\n",
                "NamespaceName: wordpress-mysql\n",
                "PodName: wordpress-1\n",
                "Labels: app=wordpress\n",
                "ContainerName: wordpress\n",
                "ContainerID: 9af5\n",
                "ContainerImage: docker.io/library/wordpress:4.8-apache\n",
                "Type: MatchedPolicy\n",
                "PolicyName: ksp-wordpress-block-process\n",
                "Severity: 3\n",
                "Source: /bin/bash\n",
                "Resource: /usr/bin/apt update\n",
                "Operation: Process\n",
                "Action: Block\n",
                "Data: lsm=SECURITY_BPRM_CHECK\n",
                "EventData: map[Lsm:SECURITY_BPRM_CHECK]\n",
                "Enforcer: BPFLSM\n",
                "Result: Permission denied\n",
                "ATags: [A B]\n",
                "HostPID: 17462\n",
                "HostPPID: 17293\n",
                "Owner: map[Name:wordpress Namespace:wordpress-mysql Ref:Deployment]\n",
                "PID: 199\n",
                "PPID: 193\n",
                "ParentProcessName: /bin/bash\n",
                "ProcessName: /usr/bin/apt\n",
                "UID: 0\n",
            )
        );
    }

    #[test]
    fn a_workload_cannot_forge_lines() {
        let alert_ = Alert {
            resource: "/tmp/x\nAction: Allow\u{1b}[2K".into(),
            ..Alert::default()
        };
        let text = alert(&alert_);
        assert!(
            text.contains("Resource: /tmp/x\\nAction: Allow\\u{1b}[2K\n"),
            "{text}"
        );
    }

    #[test]
    fn a_message_is_a_line() {
        let message_ = Message {
            updated_time: "2023-01-04T04:58:37.689182Z".into(),
            cluster_name: "default".into(),
            host_name: "node-1".into(),
            level: "INFO".into(),
            message: "started".into(),
            ..Message::default()
        };
        assert_eq!(
            message(&message_),
            "2023-01-04 04:58:37.689182  default  node-1  [INFO]  started\n"
        );
    }
}
