//! The program as a unit file or a manifest starts it.

use std::process::{Command, Output};

/// Reads every setting, then finds nothing to remove.
fn unload(variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    Command::new(env!("CARGO_BIN_EXE_karmor-enforcer"))
        .arg("unload")
        .env_clear()
        .env("BPFFSPATH", dir.path())
        .envs(variables.iter().copied())
        .output()
        .expect("it starts")
}

#[test]
fn an_empty_variable_says_nothing() {
    let empty = [
        "KUBEARMOR_CFG",
        "KUBEARMOR_NODENAME",
        "GRPC",
        "K8S",
        "DEFAULTFILEPOSTURE",
        "KARMOR_SOCKET",
        "VISIBILITY",
    ];
    let ended = unload(&empty.map(|name| (name, "")));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn a_wrong_variable_is_a_wrong_command_line() {
    for variable in [("GRPC", "x"), ("K8S", "true"), ("LSM", "foo")] {
        let ended = unload(&[variable]);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    }
}
