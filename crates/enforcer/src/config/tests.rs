use super::*;

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let (file, _) = parse_file(
        "cluster: from-file\ngRPC: \"4001\"\ndefaultFilePosture: Block\n",
        "f",
    )
    .unwrap();
    let flags = Settings {
        cluster: Some("from-flag".into()),
        ..Settings::default()
    };
    let config = Config::new(flags.over(file)).unwrap();
    assert_eq!(config.cluster, "from-flag");
    assert_eq!(config.grpc, 4001);
    assert_eq!(config.file_posture, Posture::Block);
    assert_eq!(config.grpc_health_port, 32766);
}

#[test]
fn a_mistyped_name_gets_a_suggestion() {
    let error = parse_file("defaultFilePostur: block\n", "f.yaml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.yaml: there is no setting `defaultFilePostur`; did you mean `defaultFilePosture`?"
    );
}

#[test]
fn names_without_meaning_are_said() {
    let (_, notices) =
        parse_file("visibility: process,file\nalertThrottling: true\n", "f").unwrap();
    assert_eq!(notices.len(), 2);
}

#[test]
fn a_wrong_value_names_what_is_allowed() {
    let error = parse_file("defaultFilePosture: deny\n", "f.yaml")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("f.yaml") && error.contains("audit"),
        "{error}"
    );
}

#[test]
fn an_empty_file_says_nothing() {
    assert!(
        parse_file("# only a comment\n\n", "f")
            .unwrap()
            .1
            .is_empty()
    );
}

#[test]
fn lsm_none_is_observing_and_apparmor_alone_is_refused() {
    assert!(observe(false, Some("none")).unwrap().is_some());
    assert!(
        observe(false, Some("bpf,apparmor,selinux"))
            .unwrap()
            .is_none()
    );
    assert!(observe(false, Some("apparmor")).is_err());
    assert!(observe(false, Some("bfp")).is_err());
}

#[test]
fn a_socket_needs_its_scheme() {
    assert!(socket_path("/run/containerd/containerd.sock").is_err());
    assert_eq!(
        socket_path("unix:///run/x.sock").unwrap(),
        Some(PathBuf::from("/run/x.sock"))
    );
}
