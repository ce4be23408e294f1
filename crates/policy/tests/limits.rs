//! What the compiler refuses, and what it must not.

mod common;

use common::case::{file, from, glob, path};
use karmor_policy::{
    alias::Aliases,
    compile::{CompileError, compile},
    model::{Action::Block, Posture, Rule},
    read,
};

#[test]
fn patterns_that_multiply_are_refused_by_name() {
    let mut rules: Vec<Rule> = (0..40)
        .map(|i| file(glob(&format!("/data/**/a{i}*b/**/c{i}*/**/d{i}")), Block))
        .collect();
    rules.push(file(glob("/etc/*.conf"), Block));
    let effective = common::effective(rules, Posture::Block, Aliases::none());
    let error = compile(&effective).expect_err("too complex");
    let text = error.to_string();
    let CompileError::TooComplex { culprits, .. } = error else {
        panic!("{text}")
    };
    assert_eq!(culprits.len(), 5);
    assert!(
        culprits
            .iter()
            .all(|(_, pattern)| pattern.starts_with("/data/**/")),
        "{text}"
    );
    assert!(text.contains("test.yaml:"), "{text}");
}

/// A document with so many patterns that multiply; 60 are too many.
fn policy(name: &str, patterns: u32) -> String {
    let pattern = |i| format!("    - pattern: /**/a{i}*/**/b{i}*/**/c{i}\n");
    let patterns: String = (0..patterns).map(pattern).collect();
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: {name}\nspec:\n  file:\n    matchPatterns:\n{patterns}---\n"
    )
}

#[test]
fn a_policy_that_cannot_be_compiled_is_a_problem_of_its_text() {
    let text = policy("simple", 1) + &policy("complex", 60);
    let mut report = read("p.yaml", &text);
    assert_eq!((report.policies.len(), report.diagnostics.len()), (2, 0));
    report.refuse_uncompilable();
    assert_eq!((report.policies.len(), report.names.len()), (1, 1));
    assert_eq!(report.policies[0].name, "simple");
    let [problem] = &report.diagnostics[..] else {
        panic!("{:#?}", report.diagnostics)
    };
    assert!(problem.is_error());
    assert_eq!(problem.place.line, 13);
    assert!(problem.message.contains("too complex"), "{problem:#?}");
    assert!(problem.message.contains("p.yaml:"), "{problem:#?}");
    assert!(problem.help[0].contains("524288 states"), "{problem:#?}");
}

#[test]
fn after_ten_that_cannot_be_compiled_the_rest_of_a_text_is_not_tried() {
    let text: String = (0..12).map(|i| policy(&format!("p{i}"), 60)).collect();
    let mut report = read("p.yaml", &text);
    report.refuse_uncompilable();
    assert_eq!((report.policies.len(), report.diagnostics.len()), (0, 12));
    let problems = report.diagnostics.iter();
    let untried = problems.filter(|problem| problem.message.starts_with("not tried"));
    assert_eq!(untried.count(), 2);
}

#[test]
fn patterns_that_go_on_matching_do_not_multiply() {
    for form in ["/**/name{}/**", "/**/*name{}*", "/home/*/.name{}/**"] {
        let rules = (0..200)
            .map(|i| file(glob(&form.replace("{}", &i.to_string())), Block))
            .collect();
        let effective = common::effective(rules, Posture::Block, Aliases::none());
        let compiled = compile(&effective).expect("compiles");
        assert!(
            compiled.words.len() < 1 << 17,
            "{form}: {} words",
            compiled.words.len()
        );
    }
}

/// Behind every alternative the pattern goes on alike: what has been met of it is one place, not
/// one of the many sets of alternatives.
#[test]
fn alternatives_do_not_multiply() {
    for form in [
        "/**/{a,b{b,c},}{a,b{b,c},}{a,b{b,c},}/{**,a}b",
        "/**/{a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t}/**/x",
        "/**/{a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t}/**",
        "/{bin,sbin,lib}/**/{a,b,c,d,e,f,g,h}*{x,y,z}*{1,2,3}",
    ] {
        let rules = vec![file(glob(form), Block)];
        let effective = common::effective(rules, Posture::Block, Aliases::merged_usr());
        let compiled = compile(&effective).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert!(
            compiled.words.len() < 1 << 13,
            "{form}: {} words",
            compiled.words.len()
        );
    }
}

#[test]
fn many_sources_are_refused_when_they_do_not_fit() {
    let rules = (0..2_000)
        .map(|i| {
            from(
                file(path(&format!("/f{i}")), Block),
                &[format!("/s{i}").as_str()],
            )
        })
        .collect();
    let effective = common::effective(rules, Posture::Block, Aliases::none());
    assert!(matches!(
        compile(&effective),
        Err(CompileError::TooLarge { .. })
    ));
}

#[test]
fn bad_texts_are_refused_with_their_place() {
    let error = |target| {
        let effective =
            common::effective(vec![file(target, Block)], Posture::Block, Aliases::none());
        compile(&effective).expect_err("invalid")
    };
    assert!(matches!(error(glob("/a[")), CompileError::Glob { .. }));
    assert!(matches!(error(path("/a\0b")), CompileError::Nul { .. }));
    assert!(
        error(glob("/a["))
            .to_string()
            .starts_with("test.yaml:1:1: ")
    );
}
