use super::{file::parse_file, *};

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
    assert_eq!(config.postures.containers.file, Posture::Block);
    assert_eq!(config.grpc_health_port, 32766);
}

#[test]
fn each_family_has_a_posture_in_containers_and_on_the_host() {
    let text = "defaultFilePosture: block\ndefaultNetworkPosture: Allow\n\
                hostDefaultNetworkPosture: block\nhostDefaultCapabilitiesPosture: block\n";
    let (settings, notices) = parse_file(text, "f").unwrap();
    assert!(notices.is_empty(), "{notices:?}");
    let given = Settings {
        default_file_posture: Some(PostureSetting::Audit),
        ..Settings::default()
    };
    let postures = Config::new(given.over(settings)).unwrap().postures;
    let expected = DefaultPostures {
        containers: Postures {
            network: Posture::Allow,
            ..Postures::all(Posture::Audit)
        },
        host: Postures {
            file: Posture::Audit,
            ..Postures::all(Posture::Block)
        },
    };
    assert_eq!(postures, expected);
}

#[test]
fn a_mistyped_name_gets_a_suggestion() {
    let error = parse_file("defaultFilePostur: block\n", "f.yaml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.yaml:1:20: there is no setting `defaultFilePostur`; did you mean `defaultFilePosture`?"
    );
}

#[test]
fn names_without_meaning_are_said() {
    let (_, notices) =
        parse_file("visibility: process,file\nalertThrottling: true\n", "f").unwrap();
    assert_eq!(notices.len(), 2);
}

#[test]
fn what_is_wrong_in_a_file_has_its_place_and_what_is_allowed() {
    let told = |text: &str| {
        let error = parse_file(text, "f").map(|_| ()).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        told("# a\ndefaultFilePosture: deny\n"),
        "f:2:21: defaultFilePosture cannot be \"deny\"; allowed is audit, block or allow"
    );
    assert_eq!(
        told("gRPC: 65536\n"),
        "f:1:7: gRPC cannot be 65536; allowed is a port, from 0 to 65535"
    );
    assert_eq!(
        told("debug: 5\n"),
        "f:1:8: debug cannot be 5; allowed is true or false"
    );
    assert_eq!(
        told("host: {a: b}\n"),
        "f:1:7: host cannot be {\"a\":\"b\"}; allowed is text"
    );
    assert_eq!(told("gRPC: 1\ngRPC: 2\n"), "f:2:1: gRPC is set twice");
    let no_settings =
        "this cannot be read as settings in YAML, which are lines of the form `name: value`";
    for (text, place) in [
        ("cluster: [a", "f:1:10"),
        ("a: b: c", "f:1:5"),
        ("text", "f:1:1"),
    ] {
        assert_eq!(told(text), format!("{place}: {no_settings}"));
    }
}

#[test]
fn values_in_a_file_may_be_written_in_several_ways() {
    let text = "cluster: 5\ngRPC: \"4001\"\nlsm: [bpf, apparmor]\nhost: ~\nhostDefaultFilePosture: ALLOW\n\
                self-protection: off\n";
    let (settings, _) = parse_file(text, "f").unwrap();
    assert_eq!(settings.cluster.as_deref(), Some("5"));
    assert_eq!(settings.grpc, Some(4001));
    assert_eq!(settings.lsm.as_deref(), Some("bpf,apparmor"));
    assert_eq!(settings.host, None);
    let posture = settings.host_default_file_posture;
    assert_eq!(posture, Some(PostureSetting::Allow));
    assert_eq!(settings.self_protection, Some(SelfProtection::Off));
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

#[test]
fn a_host_without_a_name_has_its_own() {
    let (settings, _) = parse_file("host: \"\"\n", "f").unwrap();
    let config = Config::new(settings).unwrap();
    assert_eq!(config.host, host_name());
    assert!(!config.host.is_empty());
}
