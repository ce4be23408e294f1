//! Whether the corpus has a case for everything that can be written: every field of the language,
//! with every action, under every posture, in both kinds of policies.
//!
//! The fields are those of the custom resources' schemas, so that one that is added to the language
//! is missed here until there are cases for it.

use std::collections::BTreeSet;

use karmor_abi::op::Op;
use karmor_cases::{Case, Kind, Posture};
use karmor_policy::names;
use serde_json::{Value, json};

/// The parts of a spec that are enforced, and the lists of their rules.
const SECTIONS: [(&str, &[&str]); 4] = [
    (
        "process",
        &["matchPaths", "matchDirectories", "matchPatterns"],
    ),
    ("file", &["matchPaths", "matchDirectories", "matchPatterns"]),
    (
        "network",
        &["matchProtocols", "matchEndpoints", "matchDNSQueries"],
    ),
    ("capabilities", &["matchCapabilities"]),
];

/// What every part of a policy can say; the rest of a spec and of a section is its parts.
const ATTRIBUTES: [&str; 4] = ["action", "message", "severity", "tags"];

const ACTIONS: [&str; 3] = ["Allow", "Audit", "Block"];

/// What is reported, whatever action is written, and the lists of its rules.
const REPORTED: (&str, &[&str]) = ("syscalls", &["matchSyscalls", "matchPaths"]);

/// The custom resources that cases are written as. What one for the cluster has besides is whom it is
/// for.
const SCHEMAS: [(Kind, &str); 2] = [
    (
        Kind::Container,
        include_str!("../../../../deploy/crds/kubearmorpolicies.yaml"),
    ),
    (
        Kind::Host,
        include_str!("../../../../deploy/crds/kubearmorhostpolicies.yaml"),
    ),
];

/// A field, an action, a posture and a kind.
type Combination = (String, &'static str, Posture, Kind);

/// What narrows a rule, of whatever list.
const MODIFIERS: [&str; 4] = ["ownerOnly", "readOnly", "pts", "fromSource"];

/// Modifiers that a list does not have, so that there can be no case for them, and why.
const IMPOSSIBLE: [(&str, &[&str], &str); 10] = [
    ("process.matchPaths", &["readOnly"], EXECUTED),
    ("process.matchDirectories", &["readOnly"], EXECUTED),
    (
        "process.matchPatterns",
        &["readOnly", "pts", "fromSource"],
        PATTERNS,
    ),
    ("file.matchPatterns", &["pts", "fromSource"], PATTERNS),
    (
        "network.matchProtocols",
        &["ownerOnly", "readOnly"],
        NO_FILES,
    ),
    (
        "network.matchEndpoints",
        &["ownerOnly", "readOnly"],
        NO_FILES,
    ),
    (
        "network.matchDNSQueries",
        &["ownerOnly", "readOnly"],
        NO_FILES,
    ),
    ("network.matchDNSQueries", &["pts"], TERMINALS),
    (
        "capabilities.matchCapabilities",
        &["ownerOnly", "readOnly"],
        NO_FILES,
    ),
    ("capabilities.matchCapabilities", &["pts"], TERMINALS),
];

/// Presets that are not enforced on hosts; `karmor policy check` says so, and why.
const NOT_ON_HOSTS: [Op; 3] = [Op::ExecSession, Op::Drift, Op::Bpf];

const EXECUTED: &str = "programs are executed, not written";
const PATTERNS: &str = "patterns have no condition but the owner";
const TERMINALS: &str = "the language has it for sockets, addresses and files only";
const NO_FILES: &str = "nothing that has an owner or is written";

/// Parts of a spec that no case can be about, and why.
const APART: [(&str, &str); 4] = [
    ("selector", CHOSEN),
    ("nodeSelector", CHOSEN),
    ("device", NOT_ENFORCED),
    ("apparmor", NOT_ENFORCED),
];

const CHOSEN: &str = "whom a policy is for is the same in every case; `select` has its own tests";
const NOT_ENFORCED: &str = "recorded, not enforced";

/// Whatever else the language has: each field that can be written is in some case of its kind.
#[test]
fn every_field_has_a_case() {
    let cases = karmor_cases::all().unwrap();
    let mut missing = Vec::new();
    for (kind, schema) in SCHEMAS {
        let mut written = BTreeSet::new();
        for case in cases.iter().filter(|case| case.kind == kind) {
            let policy: Value = serde_saphyr::from_str(&case.policy).expect("a policy");
            collect_written(&policy["spec"], "", &mut written);
        }
        let mut language = BTreeSet::new();
        collect_fields(&spec(schema), "", &mut language);
        assert!(language.len() > 100, "{kind:?}: {language:?}");
        let is_apart = |field: &String| {
            APART.iter().any(|(part, _)| {
                field
                    .strip_prefix(part)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let of_kind = language.into_iter().filter(|field| !is_apart(field));
        missing.extend(
            of_kind
                .filter(|field| !written.contains(field))
                .map(|field| (kind, field)),
        );
    }
    assert!(missing.is_empty(), "no case for {missing:#?}");
}

/// Every field below a schema, such as `process.matchPaths.fromSource.path`.
fn collect_fields(schema: &Value, above: &str, found: &mut BTreeSet<String>) {
    let schema = schema.get("items").unwrap_or(schema);
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    for (name, field) in fields {
        let path = below(above, name);
        collect_fields(field, &path, found);
        found.insert(path);
    }
}

/// Every field that a value has, named alike.
fn collect_written(value: &Value, above: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_written(item, above, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = below(above, name);
                collect_written(field, &path, found);
                found.insert(path);
            }
        }
        _ => {}
    }
}

fn below(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}.{name}")
    }
}

#[test]
fn every_combination_has_a_case() {
    let cases = karmor_cases::all().unwrap();
    let covered: BTreeSet<Combination> = cases.iter().flat_map(combinations).collect();
    let wanted = wanted();
    let missing: Vec<&Combination> = wanted.difference(&covered).collect();
    println!("{} cases, {} combinations", cases.len(), wanted.len());
    assert!(missing.is_empty(), "no case for {missing:#?}");
}

#[test]
fn presets_without_a_case_are_not_enforced() {
    for op in NOT_ON_HOSTS {
        let name = names::preset(op).expect("a preset");
        let policy = json!({
            "apiVersion": "security.kubearmor.com/v1",
            "kind": "KubeArmorHostPolicy",
            "metadata": {"name": "preset"},
            "spec": {
                "nodeSelector": {"matchLabels": {"kubearmor.io/hostname": "*"}},
                "presets": [{"name": name}],
            },
        });
        let report = karmor_policy::read(name, &policy.to_string());
        let [policy] = &report.policies[..] else {
            panic!("{name}: {:?}", report.diagnostics)
        };
        assert_eq!(policy.not_enforced.len(), 1, "{name}");
        println!("presets.{name} on hosts: {:?}", policy.not_enforced);
    }
}

#[test]
fn what_has_no_case_is_not_in_the_language() {
    let fields: BTreeSet<String> = wanted().into_iter().map(|(field, ..)| field).collect();
    let mut impossible = BTreeSet::new();
    for (list, modifiers, why) in IMPOSSIBLE {
        for modifier in modifiers {
            println!("{list}.{modifier}: {why}");
            impossible.insert(format!("{list}.{modifier}"));
        }
    }
    for (section, lists) in SECTIONS {
        for (list, modifier) in lists.iter().flat_map(|l| MODIFIERS.map(|m| (l, m))) {
            let field = format!("{section}.{list}.{modifier}");
            let is_written = fields.contains(&field);
            assert_ne!(is_written, impossible.contains(&field), "{field}");
        }
    }
}

/// What has to have a case.
fn wanted() -> BTreeSet<Combination> {
    let mut all = BTreeSet::new();
    for (kind, schema) in SCHEMAS {
        for field in fields(schema) {
            for action in ACTIONS {
                for posture in [Posture::Audit, Posture::Block] {
                    all.insert((field.clone(), action, posture, kind));
                }
            }
        }
        for preset in presets(kind) {
            for action in ACTIONS {
                for posture in [Posture::Audit, Posture::Block] {
                    all.insert((preset.clone(), action, posture, kind));
                }
            }
        }
        for field in reported(schema) {
            for posture in [Posture::Audit, Posture::Block] {
                all.insert((field.clone(), "Audit", posture, kind));
            }
        }
    }
    all
}

/// The presets that are enforced, such as `presets.ptrace`.
fn presets(kind: Kind) -> impl Iterator<Item = String> {
    let enforced = Op::PRESETS
        .into_iter()
        .filter(move |op| kind == Kind::Container || !NOT_ON_HOSTS.contains(op));
    enforced.map(|op| format!("presets.{}", names::preset(op).expect("a preset")))
}

/// The schema of a custom resource's spec.
fn spec(schema: &str) -> Value {
    let schema: Value = serde_saphyr::from_str(schema).expect("a schema");
    schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The fields of a custom resource, such as `process.matchPaths.path`.
fn fields(schema: &str) -> Vec<String> {
    let spec = spec(schema);
    let has = |value: &Value, name: &str| !value["properties"][name].is_null();
    let mut found: Vec<String> = ATTRIBUTES.iter().map(|&name| name.to_owned()).collect();
    for (section, lists) in SECTIONS {
        let of_section = &spec["properties"][section];
        assert!(has(&spec, section), "{section}");
        found.extend(ATTRIBUTES.iter().map(|name| format!("{section}.{name}")));
        for list in lists {
            assert!(has(of_section, list), "{section}.{list}");
            let rule = &of_section["properties"][list]["items"]["properties"];
            let names = rule.as_object().expect("a rule").keys();
            found.extend(names.map(|name| format!("{section}.{list}.{name}")));
        }
    }
    found
}

/// The fields of what is reported.
fn reported(schema: &str) -> Vec<String> {
    let (section, lists) = REPORTED;
    let spec = spec(schema);
    let of_section = &spec["properties"][section]["properties"];
    let of_section = of_section.as_object().expect("a section");
    let mut found = Vec::new();
    for (name, value) in of_section {
        match lists.contains(&name.as_str()) {
            true => {
                let rule = value["items"]["properties"].as_object().expect("a rule");
                found.extend(rule.keys().map(|field| format!("{section}.{name}.{field}")));
            }
            false => found.push(format!("{section}.{name}")),
        }
    }
    found
}

/// What a case covers: each field that its policy has, with the action that is in force there.
fn combinations(case: &Case) -> Vec<Combination> {
    let policy: Value = serde_saphyr::from_str(&case.policy).expect("a policy");
    let spec = &policy["spec"];
    let mut found = Vec::new();
    let mut add = |value: &Value, prefix: &str, names: &[&str], action: &'static str| {
        for name in names.iter().filter(|&&name| !value[name].is_null()) {
            let field = format!("{prefix}{name}");
            found.push((field, action, case.posture, case.kind));
        }
    };
    let of_spec = action(spec).unwrap_or("Block");
    add(spec, "", &ATTRIBUTES, of_spec);
    let (section, lists) = REPORTED;
    let inner = &spec[section];
    add(inner, &format!("{section}."), &ATTRIBUTES, "Audit");
    for list in lists {
        for rule in inner[list].as_array().into_iter().flatten() {
            let names = rule.as_object().expect("a rule").keys();
            let names: Vec<&str> = names.map(String::as_str).collect();
            add(rule, &format!("{section}.{list}."), &names, "Audit");
        }
    }
    for (section, lists) in SECTIONS {
        let inner = &spec[section];
        let of_section = action(inner).unwrap_or(of_spec);
        add(inner, &format!("{section}."), &ATTRIBUTES, of_section);
        for list in lists {
            for rule in inner[list].as_array().into_iter().flatten() {
                let names = rule.as_object().expect("a rule").keys();
                let names: Vec<&str> = names.map(String::as_str).collect();
                let of_rule = action(rule).unwrap_or(of_section);
                add(rule, &format!("{section}.{list}."), &names, of_rule);
            }
        }
    }
    for preset in spec["presets"].as_array().into_iter().flatten() {
        let name = preset["name"].as_str().expect("a name");
        let field = format!("presets.{name}");
        let action = action(preset).unwrap_or("Block");
        found.push((field, action, case.posture, case.kind));
    }
    found
}

/// The action that is written here.
fn action(value: &Value) -> Option<&'static str> {
    let text = value["action"].as_str()?;
    let action = ACTIONS.iter().find(|name| name.eq_ignore_ascii_case(text));
    Some(action.expect("an action"))
}
