//! The corpus, asked of the reference and of the compiled table. The end-to-end tests ask the
//! kernel.

use karmor_abi::{
    op::Op,
    table::{self, View},
    verdict::{Action, Verdict},
};
use karmor_cases::{Case, Operation, Posture};
use karmor_policy::{
    alias::Aliases,
    compile::compile,
    model,
    reference::{self, Access, AccessObject},
    select::Effective,
};

#[test]
fn reference_and_table_do_what_the_corpus_says() {
    let cases = karmor_cases::all().unwrap();
    assert!(
        cases.len() >= 20,
        "the corpus has been lost: {} cases",
        cases.len()
    );
    for case in cases {
        check(&case);
    }
}

fn check(case: &Case) {
    let report = karmor_policy::read(case.name, case.policy);
    assert!(
        !report.has_errors(),
        "{}: {:?}",
        case.name,
        report.diagnostics
    );
    let posture = match case.posture {
        Posture::Audit => model::Posture::Audit,
        Posture::Block => model::Posture::Block,
    };
    let policies = report.policies.into_iter().map(std::sync::Arc::new);
    let effective = Effective::new(policies, posture, Aliases::merged_usr());
    let compiled = compile(&effective).expect("a policy of the corpus compiles");
    let view = View::parse(&compiled.words).expect("a compiled table parses");
    for access in &case.accesses {
        let op = match access.operation {
            Operation::Exec => Op::Exec,
            Operation::Read => Op::Read,
            Operation::Write => Op::Write,
        };
        // What the kernel sees: the image of bash is where the links of the root lead.
        let path = effective.aliases.resolve(&access.path);
        let by = effective.aliases.resolve(&access.by);
        let wanted = match access.expect {
            karmor_cases::Verdict::Allow => Action::Allow,
            karmor_cases::Verdict::Audit => Action::Audit,
            karmor_cases::Verdict::Block => Action::Block,
        };
        let asked = Access {
            op,
            object: AccessObject::Path(path.as_bytes()),
            source: Some(by.as_bytes()),
            parent: None,
            owner: true,
        };
        let told = [
            ("reference", reference::decide(&effective, &asked)),
            ("table", in_table(&view, op, &path, &by)),
        ];
        for (who, verdict) in told {
            assert_eq!(verdict.action(), wanted, "{}: {access:?}: {who}", case.name);
        }
    }
}

fn in_table(view: &View<'_>, op: Op, path: &str, by: &str) -> Verdict {
    let set = |path: &str| table::set(view, table::walk(view, path.as_bytes()));
    table::verdict_with_parent(view, set(path), op, set(by).source(), 0, true)
}
