//! Texts that are right, in all the shapes people write them.

use karmor_policy::{
    model::{Action, Family, Kind, NameMatch, Policy, Target, Term},
    read, read_object,
};

/// Policies users know, exactly as published; one of them is not YAML.
const EXAMPLES: &str = include_str!("cases/examples.yaml");

#[track_caller]
fn accepted(text: &str) -> Vec<Policy> {
    let report = read("policy.yaml", text);
    let told = report.render(text, karmor_policy::diagnostic::Style::Plain);
    assert!(!report.has_errors(), "{told}");
    report.policies
}

#[track_caller]
fn one(text: &str) -> Policy {
    let mut policies = accepted(text);
    assert_eq!(policies.len(), 1);
    policies.remove(0)
}

#[test]
fn published_examples_are_accepted_as_they_are() {
    let report = read("examples.yaml", EXAMPLES);
    let errors: Vec<_> = report.diagnostics.iter().filter(|d| d.is_error()).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(
        errors[0].message,
        "`recursive` is indented deeper than `dir`"
    );
    assert_eq!((errors[0].place.line, errors[0].place.column), (75, 13));

    let names: Vec<&str> = report.policies.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ksp-wordpress-block-process",
            "ksp-block-read",
            "ksp-block-icmp",
            "block-pkg-mgmt-tools-exec",
            "audit-etc-nginx-access",
            "only-allow-nginx-exec",
            "ksp-group-1-proc-path-block",
            "ksp-ubuntu-5-net-tcp-allow-curl",
            "token-only-for-cat",
            "audit-home-rmdir",
        ]
    );
    let read = &report.policies[1];
    assert_eq!(read.rules[0].meta.severity, 9);
    assert_eq!(read.rules[0].action, Action::Block);
    let token = &report.policies[8];
    let rules: Vec<_> = token
        .rules
        .iter()
        .map(|r| (r.family, r.action, r.sources.clone()))
        .collect();
    assert_eq!(
        rules,
        [
            (Family::Process, Action::Allow, vec![]),
            (Family::File, Action::Block, vec![]),
            (Family::File, Action::Allow, vec![]),
            (Family::File, Action::Allow, vec!["/bin/cat".into()]),
        ]
    );
    let call = &report.policies[9];
    assert_eq!(call.not_enforced, []);
    let rules: Vec<_> = call.rules.iter().collect();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].family, Family::Syscalls);
    assert_eq!(rules[0].target.to_string(), "rmdir /home/");
    assert_eq!(
        (rules[0].action, rules[0].meta.severity),
        (Action::Audit, 3)
    );
}

#[test]
fn every_field_is_known() {
    let text = include_str!("cases/every-field.yaml");
    let policies = accepted(text);
    assert_eq!(policies.len(), 3);
    assert_eq!(policies[0].rules.len(), 22);
    let fields: Vec<&str> = policies[2]
        .not_enforced
        .iter()
        .map(|n| n.field.as_str())
        .collect();
    assert_eq!(fields, ["spec.device", "spec.apparmor"]);
}

const SHORT: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: a}\nspec: {process: {matchPaths: [{path: /a}]}}\n";

#[test]
fn documents_come_in_many_shapes() {
    let b = SHORT.replace("name: a", "name: b");
    assert_eq!(
        accepted(&format!(
            "---\n{SHORT}---\n---\n# nothing\n---\n{b}...\n---\n"
        ))
        .len(),
        2
    );
    assert_eq!(
        accepted(&format!("\u{feff}---\r\n{}", SHORT.replace('\n', "\r\n"))).len(),
        1
    );
    assert_eq!(accepted(&format!("%YAML 1.2\n---\n{SHORT}")).len(), 1);
    assert_eq!(accepted("").len(), 0);
    assert_eq!(accepted("# only a comment\n").len(), 0);
    assert_eq!(accepted("apiVersion: v1\nkind: List\nitems: []\n").len(), 0);
}

#[test]
fn lists_are_taken_apart() {
    let item = |name: &str| {
        SHORT
            .replace("name: a", &format!("name: {name}"))
            .replace('\n', "\n  ")
    };
    let list = |kind: &str| {
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{resourceVersion: \"\"}}\nitems:\n- {}\n- {}\n",
            item("a"),
            item("b")
        )
    };
    assert_eq!(accepted(&list("List")).len(), 2);
    assert_eq!(accepted(&list("KubeArmorPolicyList")).len(), 2);
}

#[test]
fn a_document_that_is_not_yaml_does_not_take_the_others_along() {
    let b = SHORT.replace("name: a", "name: b");
    for broken in [
        "a: [\n",
        "a: 'b\n",
        "\ta\n",
        "a: *b\n",
        "{\n",
        "a: b: c\n",
        "a: 1\n  b: 2\n",
    ] {
        let report = read("f", &format!("{SHORT}---\n{broken}---\n{b}"));
        assert_eq!(report.policies.len(), 2, "{broken:?}");
        assert_eq!(
            report.diagnostics.iter().filter(|d| d.is_error()).count(),
            1,
            "{broken:?}"
        );
    }
}

#[test]
fn json_is_read_with_any_white_space() {
    let json = r#"{"apiVersion":"security.kubearmor.com/v1","kind":"KubeArmorPolicy","metadata":{"name":"a","namespace":"b"},"spec":{"process":{"matchPaths":[{"path":"\/usr\/bin\/caf\u00e9"}]},"action":"Audit"}}"#;
    let compact = one(json);
    assert_eq!(
        compact.rules[0].target,
        Target::Path("/usr/bin/café".into())
    );
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    for text in [
        pretty.clone(),
        pretty.replace("  ", "\t"),
        pretty.replace('\n', "\r\n"),
    ] {
        assert_eq!(one(&text).rules[0].target, compact.rules[0].target);
    }
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let policy = one(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: a}\nspec:\n  process:\n    matchPaths:\n    - &curl\n      path: /usr/bin/curl\n      fromSource: &shells\n      - path: /bin/sh\n    - <<: *curl\n      path: /usr/bin/wget\n    - path: /usr/bin/nc\n      fromSource: *shells\n",
    );
    let rules: Vec<_> = policy
        .rules
        .iter()
        .map(|r| {
            (
                r.target.clone(),
                r.sources
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
            )
        })
        .collect();
    assert_eq!(
        rules,
        ["curl", "wget", "nc"].map(|name| (
            Target::Path(format!("/usr/bin/{name}")),
            "/bin/sh".to_owned()
        ))
    );
}

#[test]
fn what_kubernetes_adds_is_accepted() {
    one(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  annotations: {kubectl.kubernetes.io/last-applied-configuration: \"{}\"}\n  creationTimestamp: \"2024-01-01T00:00:00Z\"\n  generation: 1\n  labels: {a: b}\n  managedFields:\n  - {apiVersion: v1, fieldsV1: {f:spec: {.: {}}}, manager: kubectl}\n  name: a\n  namespace: default\n  ownerReferences: []\n  resourceVersion: \"1\"\n  uid: 5c7d\nspec:\n  process: {matchPaths: [{path: /a}]}\nstatus: {status: OK}\n",
    );
}

#[test]
fn inheritance_goes_from_rule_to_section_to_spec() {
    let policy = one(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: a}\nspec:\n  severity: 1\n  tags: [spec]\n  message: spec\n  action: audit\n  process:\n    severity: 2\n    matchPaths:\n    - path: /a\n    - path: /b\n      action: Allow\n      message: rule\n  file:\n    action: Block\n    tags: [section, two]\n    matchPaths:\n    - path: /c\n",
    );
    let told: Vec<_> = policy
        .rules
        .iter()
        .map(|r| {
            (
                r.action,
                r.meta.severity,
                r.meta.tags.join(","),
                r.meta.message.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (Action::Audit, 2, "spec".to_owned(), "spec"),
            (Action::Allow, 2, "spec".to_owned(), "rule"),
            (Action::Block, 1, "section,two".to_owned(), "spec"),
        ]
    );
    assert_eq!(policy.namespace, "default");
    assert_eq!(policy.rules[1].location.to_string(), "policy.yaml:13:7");
}

#[test]
fn the_action_is_block_when_nobody_says() {
    assert_eq!(one(SHORT).rules[0].action, Action::Block);
}

#[test]
fn labels_that_stand_for_names() {
    let select = |kind: &str, selector: &str| {
        let text = SHORT.replace("kind: KubeArmorPolicy", &format!("kind: {kind}"));
        let text = text.replace("spec: {", &format!("spec: {{{selector}, "));
        one(&text).selector.terms
    };
    let container = |value: &str| {
        let selector =
            format!("selector: {{matchLabels: {{kubearmor.io/container.name: {value:?}}}}}");
        match select("KubeArmorPolicy", &selector).remove(0) {
            Term::ContainerName(name) => name,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        container("[c1, c2]"),
        NameMatch::OneOf(vec!["c1".into(), "c2".into()])
    );
    assert_eq!(
        container("[container-1,,]"),
        NameMatch::OneOf(vec!["container-1".into()])
    );
    for all in ["", "[]", "*", "[,]"] {
        assert_eq!(container(all), NameMatch::Any);
    }
    assert!(matches!(container("^web"), NameMatch::Regex(p) if p.0.is_match("web-1")));

    let host = |key: &str, value: &str| {
        select(
            "KubeArmorHostPolicy",
            &format!("nodeSelector: {{matchLabels: {{{key}: {value:?}}}}}"),
        )
        .remove(0)
    };
    for key in ["kubearmor.io/hostname", "kubernetes.io/hostname"] {
        assert_eq!(host(key, "*"), Term::HostName(NameMatch::Any));
        assert_eq!(
            host(key, "a,b"),
            Term::HostName(NameMatch::OneOf(vec!["a".into(), "b".into()]))
        );
    }
    assert!(
        matches!(host("kubearmor.io/hostnamereg", "*"), Term::HostNameRegex(p) if p.0.is_match("x"))
    );
    assert_eq!(
        host("a", "b"),
        Term::Label {
            key: "a".into(),
            value: "b".into()
        }
    );

    let cluster = select(
        "KubeArmorClusterPolicy",
        "selector: {matchExpressions: [{key: namespace, operator: In, values: [a]}, {key: label, operator: NotIn, values: [k=v]}, {key: namespace, operator: In, values: [b]}]}",
    );
    assert_eq!(
        cluster,
        [
            Term::NamespaceIn(vec!["a".into(), "b".into()]),
            Term::LabelNotIn(vec![("k".into(), "v".into())]),
        ]
    );
}

#[test]
fn objects_of_other_programs() {
    let go = br#"{"metadata":{"name":"p","namespace":"n","creationTimestamp":null},"spec":{"selector":{"matchLabels":{"kubearmor.io/container.name":"web"}},"process":{"matchPaths":[{"path":"/usr/bin/apt","execname":""}]},"file":{},"network":{},"capabilities":{},"syscalls":{},"severity":0,"action":""}}"#;
    let report = read_object(Kind::Container, go);
    assert_eq!(report.diagnostics, []);
    assert_eq!(report.policies[0].rules[0].action, Action::Block);
    assert_eq!(report.policies[0].rules[0].meta.severity, 0);
    assert_eq!(&*report.policies[0].location.file, "<grpc>");

    let named = SHORT.as_bytes();
    assert_eq!(read_object(Kind::Container, named).policies.len(), 1);
    let other = read_object(Kind::Host, named);
    assert_eq!(other.policies, []);
    assert_eq!(
        other.diagnostics[0].message,
        "this is a KubeArmorPolicy, but a KubeArmorHostPolicy is expected here"
    );
    for wrong in [
        &b""[..],
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b"{\"metadata\":{\"name\":\"\"},\"spec\":{}}",
    ] {
        let report = read_object(Kind::Host, wrong);
        assert!(report.has_errors(), "{wrong:?}");
        assert_eq!(report.policies, []);
    }
}

#[test]
fn limits() {
    let large = format!("{SHORT}#{}", "x".repeat(1 << 20));
    assert!(
        read("f", &large).diagnostics[0]
            .message
            .contains("more than 1048576")
    );

    let rules = |count: usize| {
        let rules: String = (0..count)
            .map(|i| format!("    - path: /bin/x{i}\n"))
            .collect();
        let head = SHORT.split("spec:").next().unwrap().to_owned();
        read(
            "f",
            &format!("{head}spec:\n  process:\n    matchPaths:\n{rules}"),
        )
    };
    assert_eq!(rules(10_000).policies[0].rules.len(), 10_000);
    let over = rules(10_001);
    assert_eq!(over.policies, []);
    assert_eq!(
        over.diagnostics[0].message,
        "the policy has more than 10000 rules"
    );

    for open in ["[", "{a: ", "- ", "? "] {
        let report = read("f", &open.repeat(10_000));
        assert!(report.has_errors(), "{open}");
    }
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in ('a'..'m').zip('b'..'n') {
        bomb += &format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(","));
    }
    let message = &read("f", &bomb).diagnostics[0].message;
    assert!(message.contains("more than 1000000 values"), "{message}");

    let many = "---\na: [\n".repeat(50_000);
    assert!(read("f", &many).diagnostics.len() <= 101);
    let documents = "--- {}\n".repeat(1_001);
    assert!(
        read("f", &documents)
            .diagnostics
            .iter()
            .any(|d| d.message.contains("1000"))
    );
}

#[test]
fn json_may_write_a_character_as_two_escapes() {
    let json = r#"{"apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy",
        "metadata": {"name": "a", "annotations": {"\ud83d\ude00": "\ud83D\uDE00"}},
        "spec": {"message": "a \ud83d\ude00 b\\ud83d \ud83d\ude00\ud83d\ude00 é", "tags": ["\ud83d\ude00"],
        "process": {"matchPaths": [{"path": "/a"}]}}}"#;
    let policy = one(json);
    let meta = &policy.rules[0].meta;
    assert_eq!(meta.message, "a 😀 b\\ud83d 😀😀 é");
    assert_eq!(meta.tags, ["😀"]);
}

#[test]
fn tabs_are_white_space_behind_a_colon() {
    let spaces = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: a\n\
        spec:\n  severity: 5\n  message: |\n    a:\t5\n  process:\n    matchPaths:\n    - path: /a\n";
    let tabs = spaces.replace(": ", ":\t").replace(":\t|", ": |");
    let (spaces, tabs) = (one(spaces), one(&tabs));
    assert_eq!(spaces, tabs);
    assert_eq!(tabs.rules[0].meta.message, "a:\t5\n");
    let report = read("f", "a:\t\tb\nc:\td\n---\nä:\tä\n---\na:\t- b\n");
    let at = report.diagnostics.iter().map(|d| d.place.span.start);
    assert!(at.max() > Some(20), "all of it was read: {report:#?}");
}
