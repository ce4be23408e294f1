//! `allowedArgs`: what it means, what it may say, and how it is explained.

mod common;

use std::sync::Arc;

use common::case::{Case, deep, from, given, owner_only, path, process};
use karmor_abi::{
    limits,
    op::{Object, Op},
    table::Asker,
    verdict::{NO_RULE, Reason},
};
use karmor_policy::{
    alias::Aliases,
    compile::{CompileError, compile},
    explain::{Query, explain},
    model::{
        Action::{self, Allow, Audit, Block},
        Posture, Postures, Rule,
    },
    read,
    reference::{Access, AccessObject},
    select::WorkloadKind,
};

fn listing(rule: Rule, arguments: &[&str]) -> Rule {
    Rule {
        arguments: Some(arguments.iter().map(|&text| text.to_owned()).collect()),
        ..rule
    }
}

/// What comes of executing `/d/x`, by which rule.
fn exec(
    case: &Case,
    arguments: &[&str],
    source: &'static str,
    parent: &'static str,
) -> (Action, u32) {
    let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
    let verdict = case.decide(&Access {
        op: Op::Exec,
        object: AccessObject::Path(b"/d/x"),
        source: Some(source.as_bytes()),
        parent: Some(parent.as_bytes()),
        asker: Asker::default(),
        trusted: true,
        arguments: Some(&arguments),
    });
    (verdict.action(), verdict.rule())
}

#[track_caller]
fn comes_to(rules: &[Rule], arguments: &[&str], action: Action, rule: u32) {
    let case = given(rules.to_vec());
    assert_eq!(exec(&case, arguments, "/s", "/p"), (action, rule));
}

#[test]
fn every_argument_must_be_listed() {
    for action in [Allow, Block] {
        let rules = [listing(process(path("/d/x"), action), &["-l", "-a", ""])];
        for good in [
            &[][..],
            &["-l"],
            &["-a", "-l", "-l"],
            &[""],
            &["-l"; limits::ARGUMENTS as usize],
        ] {
            comes_to(&rules, good, Allow, 0);
        }
        for bad in [
            &["-r"][..],
            &["-l", "-r"],
            &["-la"],
            &["-"],
            &["/d/x"],
            &["-l"; limits::ARGUMENTS as usize + 1],
        ] {
            comes_to(&rules, bad, Block, 0);
        }
    }
    let audit = [listing(process(path("/d/x"), Audit), &["-l"])];
    comes_to(&audit, &["-l"], Allow, NO_RULE);
    comes_to(&audit, &["-l", "-r"], Audit, 0);
}

#[test]
fn arguments_come_last_and_only_make_a_decision_stricter() {
    let lists = |action| listing(process(path("/d/x"), action), &["-l"]);
    // A less specific list has no say, a more specific one has.
    let path_allows = [
        process(path("/d/x"), Allow),
        listing(process(deep("/d/"), Block), &["-l"]),
    ];
    comes_to(&path_allows, &["-r"], Allow, 0);
    let directory_allows = [process(deep("/d/"), Allow), lists(Block)];
    comes_to(&directory_allows, &["-l"], Allow, 1);
    comes_to(&directory_allows, &["-r"], Block, 1);
    // At one level, all lists count.
    let two = [lists(Allow), listing(process(path("/d/x"), Allow), &["-r"])];
    comes_to(&two, &[], Allow, 0);
    comes_to(&two, &["-l"], Block, 1);
    comes_to(&two, &["-r"], Block, 0);
    // An audit does not take a refusal back.
    let audit = [process(deep("/d/"), Block), lists(Audit)];
    comes_to(&audit, &["-l"], Block, 0);
    comes_to(&audit, &["-r"], Block, 0);
    let audit = [process(deep("/d/"), Allow), lists(Audit)];
    comes_to(&audit, &["-l"], Allow, 0);
    comes_to(&audit, &["-r"], Audit, 1);
    // The other conditions hold as well.
    let owner = [owner_only(lists(Block))];
    comes_to(&owner, &["-l"], Block, 0);
}

#[test]
fn a_list_for_a_source_is_for_that_source() {
    let rules = [from(
        listing(process(path("/d/x"), Block), &["-l"]),
        &["/s"],
    )];
    let by = |rules: &[Rule], source, parent| exec(&given(rules.to_vec()), &["-r"], source, parent);
    assert_eq!(by(&rules, "/s", "/p"), (Block, 0));
    assert_eq!(by(&rules, "/p", "/s"), (Block, 0));
    assert_eq!(by(&rules, "/p", "/p").0, Allow);
    // Of equally specific rules for image and parent, both count.
    let tie = [
        from(listing(process(path("/d/x"), Allow), &["-l"]), &["/s"]),
        from(process(path("/d/x"), Allow), &["/p"]),
    ];
    assert_eq!(by(&tie, "/s", "/p"), (Block, 0));
    assert_eq!(by(&tie, "/p", "/s"), (Block, 0));
    assert_eq!(by(&tie, "/p", "/p"), (Allow, 1));
}

#[test]
fn what_has_no_arguments_to_tell_is_refused() {
    let rules = || vec![listing(process(path("/d/x"), Block), &["-l"])];
    given(rules())
        .is(Op::Map, "/d/x", Block, Reason::Rule)
        .is(Op::Map, "/d/y", Allow, Reason::None)
        // Under another name it would be executed with anything.
        .is(Op::Move, "/d/x", Block, Reason::Move)
        .is(Op::Move, "/d", Block, Reason::Move)
        .object(Op::Exec, Object::Unreachable, Block, Reason::Object);
    let audit = vec![listing(process(path("/d/x"), Audit), &["-l"])];
    given(audit)
        .is(Op::Map, "/d/x", Audit, Reason::Rule)
        .is(Op::Move, "/d/x", Allow, Reason::None);
}

#[test]
fn a_row_has_room_for_so_many_lists() {
    let lists = |count: usize| {
        let rules = (0..count).map(|n| listing(process(path(&format!("/{n}")), Block), &["-l"]));
        common::effective(rules.collect(), Posture::Block, Aliases::none())
    };
    compile(&lists(limits::ARGUMENT_RULES)).expect("compiles");
    let error = compile(&lists(limits::ARGUMENT_RULES + 1)).expect_err("one too many");
    assert!(matches!(
        error,
        CompileError::TooManyLists { rules: 65, .. }
    ));
    assert_eq!(
        error.to_string(),
        "test.yaml:65:1: 65 rules with allowedArgs apply to one workload, more than the 64 that can"
    );
}

fn text(list: &str) -> String {
    format!(
        "{{apiVersion: security.kubearmor.com/v1, kind: KubeArmorPolicy, metadata: {{name: p}}, spec: {{process: \
         {{matchPaths: [{{path: /a, allowedArgs: {list}}}]}}}}}}"
    )
}

/// Severity and message of what is wrong with a list.
fn told(list: &str) -> Vec<(bool, String)> {
    let report = read("p.yaml", &text(list));
    let told = report.diagnostics.iter();
    told.map(|d| (d.is_error(), d.message.clone())).collect()
}

#[test]
fn lists_are_checked() {
    assert_eq!(told("[-l, '', 'é and more']"), []);
    let many = |count: usize| format!("[{}]", vec!["-l"; count].join(", "));
    assert_eq!(told(&many(64)), []);
    assert_eq!(
        told(&many(65)),
        [(true, "65 arguments are more than 64".to_owned())]
    );
    let long = |bytes: usize| format!("[{}]", "a".repeat(bytes));
    assert_eq!(told(&long(4096)), []);
    assert_eq!(
        told(&long(4097)),
        [(
            true,
            "the argument has 4097 bytes, more than the 4096 that are compared".to_owned()
        )]
    );
    assert_eq!(
        told("[\"a\\0b\"]"),
        [(true, "an argument cannot contain a NUL byte".to_owned())]
    );
    assert_eq!(
        told("[]"),
        [(
            false,
            "`allowedArgs` is empty, so the rule allows any arguments".to_owned()
        )]
    );
    let rule = |list| read("p.yaml", &text(list)).policies[0].rules[0].clone();
    assert_eq!(rule("[]").arguments, None);
    assert_eq!(
        rule("[b, a, b]").arguments,
        Some(Arc::from(["a".to_owned(), "b".to_owned()]))
    );
}

#[test]
fn the_argument_is_named() {
    let policies = read(
        "p.yaml",
        "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: p}
spec:
  process:
    matchPaths:
    - path: /opt/tool
      allowedArgs: [-l, two words]
      action: Allow
    - path: /opt/audited
      allowedArgs: [-l]
      action: Audit
",
    )
    .policies;
    let asked = |object: &str, arguments: Option<&[&str]>| {
        let query = Query {
            op: Op::Exec,
            object: object.into(),
            source: None,
            parent: None,
            arguments: arguments.map(|list| list.iter().map(|&text| text.to_owned()).collect()),
            uid: 0,
            owner: 0,
            terminal: false,
            workload: WorkloadKind::Container,
            postures: Postures::all(Posture::Block),
            aliases: Aliases::merged_usr(),
            has_links: true,
        };
        explain(&policies, &query)
    };
    insta::assert_snapshot!(asked("/opt/tool", Some(&["-l", "\u{1b}[2J"])), @r"
    Block: exec /opt/tool with `-l` `\u{1b}[2J`, as its owner
    decided by:
      p.yaml:7:7: Allow process path /opt/tool, allowedArgs `-l` `two words` [p]
        argument 2 is not allowed: `\u{1b}[2J`
    ");
    insta::assert_snapshot!(asked("/opt/tool", Some(&["two words"])), @r"
    Allow: exec /opt/tool with `two words`, as its owner
    decided by:
      p.yaml:7:7: Allow process path /opt/tool, allowedArgs `-l` `two words` [p]
    ");
    let many = asked("/opt/tool", Some(&["-l"; 65])).to_string();
    assert!(many.ends_with("    more than 64 arguments are not allowed\n"));
    insta::assert_snapshot!(asked("/opt/tool", None), @r"
    Allow: exec /opt/tool, as its owner
    decided by:
      p.yaml:7:7: Allow process path /opt/tool, allowedArgs `-l` `two words` [p]
        if every argument is in its list; none were given
    ");
    insta::assert_snapshot!(asked("/opt/audited", Some(&["-r"])), @r"
    Block: exec /opt/audited with `-r`, as its owner
    no rule decides; the default posture does, because of:
      p.yaml:7:7: Allow process path /opt/tool, allowedArgs `-l` `two words` [p]
    beaten:
      p.yaml:10:7: Audit process path /opt/audited, allowedArgs `-l` [p]
        arguments only make a decision stricter, and it is already
    ");
    insta::assert_snapshot!(asked("/opt/audited", Some(&["-l"])), @r"
    Block: exec /opt/audited with `-l`, as its owner
    no rule decides; the default posture does, because of:
      p.yaml:7:7: Allow process path /opt/tool, allowedArgs `-l` `two words` [p]
    did not apply:
      p.yaml:10:7: Audit process path /opt/audited, allowedArgs `-l` [p]
        allowedArgs with Audit reports other arguments only
    ");
    let json = serde_json::to_value(asked("/opt/tool", Some(&["-l", "-r"]))).expect("serialises");
    assert_eq!(
        json["unlisted"],
        serde_json::json!({"position": 2, "text": "-r"})
    );
    assert_eq!(
        json["rule"]["allowedArgs"],
        serde_json::json!(["-l", "two words"])
    );
}
