//! The corpus, asked of the reference and of the compiled table. The end-to-end tests ask the
//! kernel.

#[path = "corpus/coverage.rs"]
mod coverage;

use karmor_abi::{
    op::{Object, Op},
    table::Asker,
    verdict::{Action, Verdict},
    word::Protocol,
};
use karmor_cases::{Access, Case, Kind, MOVED, Operation, Posture, Target};
use karmor_policy::{
    alias::Aliases,
    compile::compile,
    compiled::Compiled,
    model, names,
    reference::{self, AccessObject},
    select::Effective,
    syscall::Syscall,
};
use serde_json::{Value, json};

/// Fewer would mean that files are not read.
const CASES: usize = 250;

#[test]
fn reference_and_table_do_what_the_corpus_says() {
    let cases = karmor_cases::all().unwrap();
    assert!(cases.len() >= CASES, "{} cases", cases.len());
    let wrong: Vec<String> = cases.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cluster_policies_mean_the_same() {
    let cases = karmor_cases::all().unwrap();
    let containers = cases
        .into_iter()
        .filter(|case| case.kind == Kind::Container);
    let wrong: Vec<String> = containers
        .map(|case| Case {
            policy: of_the_cluster(&case.policy),
            ..case
        })
        .flat_map(|case| check_as(&case, model::Kind::Cluster))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A policy for containers, as one for those of the whole cluster.
fn of_the_cluster(policy: &str) -> String {
    let mut policy: Value = serde_saphyr::from_str(policy).expect("a policy");
    policy["kind"] = "KubeArmorClusterPolicy".into();
    policy["spec"]["selector"] = json!({
        "matchExpressions": [{"key": "label", "operator": "In", "values": ["app=nginx"]}],
    });
    policy.to_string()
}

/// What does not come out as it must.
fn check(case: &Case) -> Vec<String> {
    let kind = match case.kind {
        Kind::Container => model::Kind::Container,
        Kind::Host => model::Kind::Host,
    };
    check_as(case, kind)
}

/// What does not come out as it must, of a policy of this kind.
fn check_as(case: &Case, kind: model::Kind) -> Vec<String> {
    let report = karmor_policy::read(&case.name, &case.policy);
    if report.has_errors() {
        return vec![format!("{}: {:?}", case.name, report.diagnostics)];
    }
    for policy in &report.policies {
        assert_eq!(policy.kind, kind, "{}", case.name);
        assert!(policy.not_enforced.is_empty(), "{}", case.name);
    }
    let posture = match case.posture {
        Posture::Audit => model::Posture::Audit,
        Posture::Block => model::Posture::Block,
    };
    let policies = report.policies.into_iter().map(std::sync::Arc::new);
    let effective = Effective::new(
        policies,
        model::Postures::all(posture),
        Aliases::merged_usr(),
    );
    let compiled = compile(&effective).expect("a policy of the corpus compiles");
    let asked = case.accesses.iter();
    asked
        .flat_map(|access| ask(access, &effective, &compiled))
        .map(|wrong| format!("{}: {wrong}", case.name))
        .collect()
}

/// Makes an access; what does not come out as it must.
fn ask(access: &Access, effective: &Effective, compiled: &Compiled) -> Vec<String> {
    // What the kernel sees: the image of bash is where the links of the root lead, and a name is
    // in lower case.
    let texts = match &access.target {
        Target::Path(path) => {
            let path = effective.aliases.resolve(path);
            [format!("{path}{MOVED}"), path]
        }
        Target::Syscall(_, Some(path)) => [String::new(), path.clone()],
        Target::Domain(name) => [String::new(), name.to_lowercase()],
        _ => [String::new(), String::new()],
    };
    let by = effective.aliases.resolve(&access.by);
    let from = effective.aliases.resolve(&access.from);
    let arguments: Vec<&[u8]> = access.args.iter().map(String::as_bytes).collect();
    let [moved, text] = texts.each_ref().map(String::as_bytes);
    let questions = questions(access, text, moved).map(|(op, object)| reference::Access {
        op,
        object,
        source: Some(by.as_bytes()),
        parent: Some(from.as_bytes()),
        asker: Asker {
            owner: access.is_owner(),
            terminal: access.terminal,
        },
        trusted: true,
        arguments: Some(&arguments),
    });
    let questions: Vec<_> = questions.collect();
    let strictest = |decide: &dyn Fn(&reference::Access<'_>) -> Verdict| {
        let verdicts = questions.iter().map(decide);
        verdicts
            .max_by_key(|verdict| verdict.action())
            .expect("an operation")
    };
    let told = [
        (
            "reference",
            strictest(&|access| reference::decide(effective, access)),
        ),
        ("table", strictest(&|access| compiled.decide(access))),
    ];
    told.into_iter()
        .filter_map(|(who, verdict)| {
            let wrong = mismatch(access, effective, verdict)?;
            Some(format!("{access:?}: {who}: {wrong}"))
        })
        .collect()
}

/// What is asked about an access: operations, each of an object. `text` is its path or name, and
/// `moved` what a path becomes.
fn questions<'a>(
    access: &Access,
    text: &'a [u8],
    moved: &'a [u8],
) -> impl Iterator<Item = (Op, AccessObject<'a>)> {
    let path = AccessObject::Path(text);
    let (ops, object): (&[Op], _) = match &access.target {
        Target::Path(_) => (path_ops(access), path),
        Target::Object(object) => {
            let class = match object {
                karmor_cases::Object::Anonymous => Object::Anonymous,
                karmor_cases::Object::Unreachable => Object::Unreachable,
                karmor_cases::Object::TooLong => Object::TooLong,
            };
            (path_ops(access), AccessObject::Class(class))
        }
        Target::Socket(socket) => {
            let (family, kind, protocol) = socket.numbers();
            let protocol = Protocol::of(family, kind, protocol);
            (&[Op::Socket], AccessObject::Socket(kind, protocol))
        }
        Target::Endpoint(address, protocol) => (
            match access.operation {
                Operation::Accept => &[Op::Ingress],
                _ => &[Op::Egress],
            },
            AccessObject::Endpoint {
                // An IPv4 address mapped into IPv6 is IPv4.
                address: address.ip().to_canonical(),
                protocol: protocol.number(),
                port: address.port(),
            },
        ),
        Target::Domain(_) => (&[Op::Query], AccessObject::Domain(text)),
        Target::Capability(name) => {
            let number = names::capability_named(name).expect("a capability");
            (&[Op::Capable], AccessObject::Capability(number))
        }
        Target::Preset(preset) => {
            let op = names::preset_named(preset.name()).expect("a preset");
            let op = Op::PRESETS.iter().find(|&&found| found == op);
            (op.map_or(&[], std::slice::from_ref), AccessObject::Preset)
        }
        Target::Syscall(name, at) => {
            let syscall = Syscall::named(name).expect("a system call");
            match at {
                Some(_) => (&[Op::SyscallAt], AccessObject::SyscallAt(syscall, text)),
                None => (&[Op::Syscall], AccessObject::Syscall(syscall)),
            }
        }
    };
    // The new name is written to as well.
    let new =
        (access.operation == Operation::Move).then_some((Op::Write, AccessObject::Path(moved)));
    ops.iter().map(move |&op| (op, object)).chain(new)
}

/// What is asked of a file. Executing one begins with reading it, and so does mapping it.
fn path_ops(access: &Access) -> &'static [Op] {
    match access.operation {
        Operation::Exec => &[Op::Read, Op::Exec],
        Operation::Map => &[Op::Read, Op::Map],
        Operation::Read => &[Op::Read],
        Operation::Move => &[Op::Write, Op::Move],
        _ => &[Op::Write],
    }
}

fn mismatch(access: &Access, effective: &Effective, verdict: Verdict) -> Option<String> {
    let wanted = match access.expect {
        karmor_cases::Verdict::Allow => Action::Allow,
        karmor_cases::Verdict::Audit => Action::Audit,
        karmor_cases::Verdict::Block => Action::Block,
    };
    if verdict.action() != wanted {
        return Some(format!("{:?}", verdict.action()));
    }
    // What is allowed has no alert.
    let wanted = access.alert.as_ref().filter(|_| wanted != Action::Allow)?;
    let rule = effective.rules().nth(verdict.rule() as usize);
    let Some(meta) = rule.map(|rule| &rule.meta) else {
        return Some("no rule".to_owned());
    };
    let carried = karmor_cases::Carried {
        severity: meta.severity,
        tags: meta.tags.clone(),
        message: meta.message.clone(),
    };
    (carried != *wanted).then(|| format!("{carried:?}"))
}
