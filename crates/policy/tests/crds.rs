//! The custom resource definitions.
#![cfg(feature = "crd")]

use std::{fs, path::Path};

use karmor_policy::{
    manifest::crd::{self, KubeArmorHostPolicy, KubeArmorPolicy},
    model::Source,
    read,
};
use serde_json::Value;

#[test]
fn committed_definitions_are_up_to_date() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let files = crd::files().unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), files.len());
    for (name, text) in files {
        let committed = fs::read_to_string(directory.join(&name)).unwrap();
        assert!(
            committed == text,
            "{name} is out of date: run `cargo xtask generate`"
        );
    }
}

fn definitions() -> Vec<Value> {
    crd::definitions()
        .iter()
        .map(|d| serde_json::to_value(d).expect("a definition is JSON"))
        .collect()
}

#[test]
fn names_are_those_that_clusters_know() {
    let told: Vec<_> = definitions()
        .iter()
        .map(|d| {
            let text = |path: &str| {
                d.pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            [
                text("/spec/names/kind"),
                text("/spec/names/plural"),
                text("/spec/names/shortNames/0"),
                text("/spec/scope"),
                text("/spec/versions/0/additionalPrinterColumns/2/jsonPath"),
            ]
        })
        .collect();
    let expected = [
        [
            "KubeArmorPolicy",
            "kubearmorpolicies",
            "ksp",
            "Namespaced",
            ".spec.selector.matchLabels",
        ],
        [
            "KubeArmorClusterPolicy",
            "kubearmorclusterpolicies",
            "csp",
            "Cluster",
            ".spec.selector.matchExpressions",
        ],
        [
            "KubeArmorHostPolicy",
            "kubearmorhostpolicies",
            "hsp",
            "Cluster",
            ".spec.nodeSelector.matchLabels",
        ],
    ];
    assert_eq!(told, expected);
    for d in definitions() {
        assert!(d.pointer("/spec/versions/0/subresources/status").is_some());
        let status =
            "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/status/type";
        assert_eq!(d.pointer(status).and_then(Value::as_str), Some("string"));
    }
}

/// Every property that the schemas know is known to the reader, and every one that a schema
/// requires is required by it. The other way round: both are made of one list of fields.
#[test]
fn the_reader_knows_every_property() {
    for d in definitions() {
        let kind = d
            .pointer("/spec/names/kind")
            .and_then(Value::as_str)
            .unwrap();
        let schema = d
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .unwrap();
        let mut example = sample(schema);
        let document = serde_json::json!({
            "apiVersion": "security.kubearmor.com/v1", "kind": kind, "metadata": {"name": "a"}, "spec": example.take(),
        });
        let report = read("f", &document.to_string());
        let structural: Vec<_> = report
            .diagnostics
            .iter()
            .filter(|d| {
                ["unknown field", "expected", "missing"]
                    .iter()
                    .any(|w| d.message.contains(w))
            })
            .collect();
        assert!(structural.is_empty(), "{structural:#?}");
    }
}

/// A value with every property of a schema.
fn sample(schema: &Value) -> Value {
    if let Some(first) = schema.pointer("/enum/0") {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => properties
                .iter()
                .map(|(name, schema)| (name.clone(), sample(schema)))
                .collect(),
            None => serde_json::json!({ "a": "b" }),
        },
        Some("array") => Value::Array(vec![sample(&schema["items"])]),
        Some("boolean") => true.into(),
        Some("integer") => 1.into(),
        Some("string") => "x".into(),
        None if schema["x-kubernetes-int-or-string"] == true => 1.into(),
        other => panic!("a type that is not handled: {other:?}"),
    }
}

#[test]
fn resources_go_through_serde_unchanged() {
    let json = serde_json::json!({
        "apiVersion": "security.kubearmor.com/v1",
        "kind": "KubeArmorPolicy",
        "metadata": {"name": "a"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "process": {"matchPaths": [{"path": "/a", "fromSource": [{"path": "/b"}], "ownerOnly": true}]},
            "severity": 3, "tags": ["t"], "action": "Block",
        },
    });
    let policy: KubeArmorPolicy = serde_json::from_value(json).unwrap();
    let rule = policy
        .spec
        .process
        .as_ref()
        .unwrap()
        .match_paths
        .as_ref()
        .unwrap();
    assert_eq!(rule.len(), 1);
    let again = serde_json::to_string(&policy).unwrap();
    let report = read("f", &again);
    assert!(!report.has_errors(), "{:#?}", report.diagnostics);
    assert_eq!(report.policies[0].rules[0].sources, [Source::from("/b")]);
    assert!(serde_json::from_str::<KubeArmorHostPolicy>("{\"metadata\":{},\"spec\":5}").is_err());
}
