//! Field numbers, checked on the bytes: what KubeArmor's clients decode.

use karmor_proto::{
    feeder::{Alert, Log},
    policy::{PolicyStatus, Response},
};
use prost::Message as _;

/// The field number a string field is written with.
fn number(bytes: &[u8]) -> u64 {
    let mut bytes = bytes;
    prost::encoding::decode_varint(&mut bytes).expect("a key") >> 3
}

macro_rules! assert_numbers {
    ($message:ident: $($field:ident = $number:literal),+ $(,)?) => {
        $(
            let bytes = $message { $field: "x".into(), ..$message::default() }.encode_to_vec();
            assert_eq!(number(&bytes), $number, "{}", stringify!($field));
        )+
    };
}

macro_rules! assert_int_numbers {
    ($message:ident: $($field:ident = $number:literal),+ $(,)?) => {
        $(
            let bytes = $message { $field: 1, ..$message::default() }.encode_to_vec();
            assert_eq!(number(&bytes), $number, "{}", stringify!($field));
        )+
    };
}

#[test]
fn alert() {
    assert_numbers!(Alert:
        updated_time = 2, cluster_name = 3, host_name = 4, namespace_name = 5, pod_name = 6,
        container_id = 7, container_name = 8, policy_name = 13, severity = 14, tags = 15,
        message = 16, r#type = 17, source = 18, operation = 19, resource = 20, data = 21,
        action = 22, result = 23, container_image = 24, parent_process_name = 25,
        process_name = 26, enforcer = 28, labels = 29, cwd = 32, tty = 33,
        kube_armor_version = 37, node_id = 38, process_hash = 39, parent_hash = 40,
        resource_hash = 41, hash_algo = 42, user_name = 44,
    );
    assert_int_numbers!(Alert:
        timestamp = 1, host_pid = 9, ppid = 10, pid = 11, uid = 12, host_ppid = 27,
        max_alerts_per_sec = 34, dropping_alerts_interval = 35,
    );
    let of = |alert: Alert| number(&alert.encode_to_vec());
    assert_eq!(
        of(Alert {
            a_tags: vec!["x".into()],
            ..Alert::default()
        }),
        30
    );
    assert_eq!(
        of(Alert {
            owner: Some(Default::default()),
            ..Alert::default()
        }),
        31
    );
    assert_eq!(
        of(Alert {
            exec_event: Some(Default::default()),
            ..Alert::default()
        }),
        36
    );
    let event_data = [("a".to_owned(), "b".to_owned())].into();
    assert_eq!(
        of(Alert {
            event_data,
            ..Alert::default()
        }),
        43
    );
}

#[test]
fn log() {
    assert_numbers!(Log:
        updated_time = 2, cluster_name = 3, host_name = 4, namespace_name = 5, pod_name = 6,
        container_id = 7, container_name = 8, r#type = 13, source = 14, operation = 15,
        resource = 16, data = 17, result = 18, container_image = 19, parent_process_name = 20,
        process_name = 21, labels = 23, cwd = 25, tty = 26, node_id = 28, process_hash = 29,
        parent_hash = 30, resource_hash = 31, hash_algo = 32, user_name = 34,
    );
    assert_int_numbers!(Log:
        timestamp = 1, host_pid = 9, ppid = 10, pid = 11, uid = 12, host_ppid = 22,
    );
    let of = |log: Log| number(&log.encode_to_vec());
    assert_eq!(
        of(Log {
            owner: Some(Default::default()),
            ..Log::default()
        }),
        24
    );
    assert_eq!(
        of(Log {
            exec_event: Some(Default::default()),
            ..Log::default()
        }),
        27
    );
    let event_data = [("a".to_owned(), "b".to_owned())].into();
    assert_eq!(
        of(Log {
            event_data,
            ..Log::default()
        }),
        33
    );
}

#[test]
fn policy_statuses() {
    for (status, value) in [
        (PolicyStatus::Failure, 0),
        (PolicyStatus::Applied, 1),
        (PolicyStatus::Deleted, 2),
        (PolicyStatus::Modified, 3),
        (PolicyStatus::NotExist, 4),
        (PolicyStatus::Invalid, 5),
        (PolicyStatus::NotEnabled, 6),
    ] {
        assert_eq!(
            Response {
                status: status.into()
            }
            .status,
            value
        );
    }
}
