//! Whether the corpus has a case for everything that can be written: every field of the language, every
//! preset and every protocol of sockets, with every action, under every posture, in both kinds of
//! policies. What takes a capability can be tried of a few; the others are asked about here.
//!
//! Fields and names are those of the custom resources' schemas, so that one that is added to the
//! language is missed here until there are cases for it.

use std::collections::BTreeSet;

use karmor_abi::{op::Op, word::Protocol};
use karmor_cases::{Access, Case, Kind, Operation, Posture, Target, Verdict};
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

/// A protocol counts as covered where something is done with a socket that it names.
#[test]
fn every_protocol_has_a_case() {
    let cases = karmor_cases::all().unwrap();
    let covered: BTreeSet<Combination> = cases.iter().flat_map(protocols).collect();
    let mut wanted = BTreeSet::new();
    for (kind, schema) in SCHEMAS {
        let names = words(schema, "network", "matchProtocols", "protocol");
        assert!(names.len() > 10, "{names:?}");
        wanted.extend(names.iter().flat_map(|name| everywhere(name, kind)));
    }
    let missing: Vec<&Combination> = wanted.difference(&covered).collect();
    assert!(missing.is_empty(), "no case for {missing:#?}");
}

/// Under the other posture, what that is said to decide comes out the other way, and nothing else does:
/// alerts name the posture there, and the policy elsewhere.
#[test]
fn the_posture_decides_where_that_is_written() {
    let cases = karmor_cases::all().unwrap();
    let others = cases.iter().map(under_the_other_posture);
    let wrong: Vec<String> = others.flat_map(|case| super::check(&case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn under_the_other_posture(case: &Case) -> Case {
    let (posture, verdict) = match case.posture {
        Posture::Audit => (Posture::Block, Verdict::Block),
        Posture::Block => (Posture::Audit, Verdict::Audit),
    };
    let accesses = case.accesses.iter().cloned().map(|access| Access {
        expect: if access.by_posture {
            verdict
        } else {
            access.expect
        },
        ..access
    });
    Case {
        name: format!("{} under posture {}", case.name, posture.name()),
        posture,
        accesses: accesses.collect(),
        ..case.clone()
    }
}

/// Some is tried in containers alone, such as what would refuse a host's own programs their sockets.
#[test]
fn host_policies_mean_the_same() {
    let cases = karmor_cases::all().unwrap();
    let containers = cases
        .into_iter()
        .filter(|case| case.kind == Kind::Container);
    let wrong: Vec<String> = containers
        .filter_map(|case| of_the_host(&case))
        .flat_map(|case| super::check(&case))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A case of containers as one of the host; nothing where that would not be enforced.
fn of_the_host(case: &Case) -> Option<Case> {
    let mut policy: Value = serde_saphyr::from_str(&case.policy).expect("a policy");
    policy["kind"] = "KubeArmorHostPolicy".into();
    let spec = policy["spec"].as_object_mut()?;
    spec.remove("selector")?;
    spec.insert(
        "nodeSelector".to_owned(),
        json!({"matchLabels": {"kubearmor.io/hostname": "*"}}),
    );
    let mut presets = spec
        .get("presets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let is_enforced = presets.all(|preset| {
        let mut not = NOT_ON_HOSTS.into_iter().filter_map(names::preset);
        not.all(|name| preset["name"] != name)
    });
    is_enforced.then(|| Case {
        policy: policy.to_string(),
        kind: Kind::Host,
        ..case.clone()
    })
}

/// Each capability by itself, with one that is not named.
#[test]
fn every_capability_is_decided() {
    let mut wrong = Vec::new();
    for (kind, schema) in SCHEMAS {
        let names = words(schema, "capabilities", "matchCapabilities", "capability");
        assert!(names.len() > 40, "{names:?}");
        for (index, name) in names.iter().enumerate() {
            let number = names::capability_named(name).map(names::capability);
            assert_eq!(number, Some(Some(name.as_str())));
            let other = &names[(index + 1) % names.len()];
            for (name_of, action, posture, kind) in everywhere(name, kind) {
                let case = capability_case(&name_of, other, action, posture, kind);
                wrong.extend(super::check(&case));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
        let names = fields(schema).into_iter().chain(presets(kind));
        all.extend(names.flat_map(|name| everywhere(&name, kind)));
        for field in reported(schema) {
            for posture in [Posture::Audit, Posture::Block] {
                all.insert((field.clone(), "Audit", posture, kind));
            }
        }
    }
    all
}

/// Something with each action and under each posture.
fn everywhere(name: &str, kind: Kind) -> Vec<Combination> {
    let mut all = Vec::new();
    for action in ACTIONS {
        for posture in [Posture::Audit, Posture::Block] {
            all.push((name.to_owned(), action, posture, kind));
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

/// The words that a field of a rule takes, of which the schema has a pattern: `(tcp|TCP|udp|UDP)$`.
fn words(schema: &str, section: &str, list: &str, field: &str) -> Vec<String> {
    let spec = spec(schema);
    let rule = &spec["properties"][section]["properties"][list]["items"]["properties"];
    let pattern = rule[field]["pattern"].as_str().expect("a pattern");
    let words = pattern.trim_start_matches('(').trim_end_matches(")$");
    let words: BTreeSet<String> = words.split('|').map(str::to_lowercase).collect();
    words.into_iter().collect()
}

/// The protocols that a case covers, each with the action that is in force for it.
fn protocols(case: &Case) -> Vec<Combination> {
    let policy: Value = serde_saphyr::from_str(&case.policy).expect("a policy");
    let section = &policy["spec"]["network"];
    let of_section = action(section)
        .or(action(&policy["spec"]))
        .unwrap_or("Block");
    let mut found = Vec::new();
    for rule in section["matchProtocols"].as_array().into_iter().flatten() {
        let of_rule = action(rule).unwrap_or(of_section);
        let names = rule["protocol"].as_str().expect("a protocol").split(',');
        let names = names.map(|name| name.trim().to_lowercase());
        found.extend(
            names
                .filter(|name| case.accesses.iter().any(|access| uses(access, name)))
                .map(|name| (name, of_rule, case.posture, case.kind)),
        );
    }
    found
}

/// Whether an access is about a socket that the protocol of this name includes.
fn uses(access: &Access, name: &str) -> bool {
    let Target::Socket(socket) = &access.target else {
        return false;
    };
    let (family, kind, protocol) = socket.numbers();
    let named = names::socket_kind_named(name).expect("a protocol");
    named.includes(kind, Protocol::of(family, kind, protocol))
}

/// A case about a capability, and another one that is not named.
fn capability_case(
    name: &str,
    other: &str,
    action: &'static str,
    posture: Posture,
    kind: Kind,
) -> Case {
    let (resource, selector, label) = match kind {
        Kind::Container => ("KubeArmorPolicy", "selector", "app"),
        Kind::Host => (
            "KubeArmorHostPolicy",
            "nodeSelector",
            "kubearmor.io/hostname",
        ),
    };
    let policy = json!({
        "apiVersion": "security.kubearmor.com/v1",
        "kind": resource,
        "metadata": {"name": "capability"},
        "spec": {
            (selector): {"matchLabels": {(label): "*"}},
            "capabilities": {"matchCapabilities": [{"capability": name}]},
            "action": action,
        },
    });
    let (of_it, of_others) = match (action, posture) {
        ("Allow", Posture::Audit) => (Verdict::Allow, Verdict::Audit),
        ("Allow", Posture::Block) => (Verdict::Allow, Verdict::Block),
        ("Audit", _) => (Verdict::Audit, Verdict::Allow),
        _ => (Verdict::Block, Verdict::Allow),
    };
    Case {
        name: format!("{name}/{action}"),
        policy: policy.to_string(),
        kind,
        posture,
        accesses: vec![capable(name, of_it), capable(other, of_others)],
    }
}

/// Using a capability.
fn capable(name: &str, expect: Verdict) -> Access {
    Access {
        operation: Operation::Use,
        target: Target::Capability(name.to_owned()),
        by: "/one".to_owned(),
        from: "/one".to_owned(),
        args: Vec::new(),
        terminal: false,
        expect,
        by_posture: false,
        alert: None,
    }
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
