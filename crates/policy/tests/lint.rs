//! Rules that never decide.

use karmor_policy::{diagnostic::Style, lint, read};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n{spec}"
    )
}

/// What is said about the rules of these files.
fn warnings(texts: &[&str]) -> Vec<String> {
    let mut reports: Vec<_> = (0..)
        .zip(texts)
        .map(|(index, text)| read(&format!("{index}.yaml"), text))
        .collect();
    for report in &reports {
        assert!(!report.has_errors(), "{:?}", report.diagnostics);
    }
    let mut files: Vec<_> = reports
        .iter_mut()
        .zip(texts)
        .map(|(report, text)| lint::File { text, report })
        .collect();
    lint::warn_of_shadowed(&mut files);
    reports
        .iter()
        .flat_map(|report| &report.diagnostics)
        .map(|told| told.message.clone())
        .collect()
}

#[test]
fn a_rule_that_others_beat_everywhere_is_told_with_both_places() {
    let text = policy(
        "a",
        "  file:
    matchDirectories:
    - dir: /etc/ssl/
      recursive: true
      action: Allow
    matchPaths:
    - path: /etc/ssl/key
    matchPatterns:
    - pattern: /etc/ssl/*.pem
      action: Audit
",
    );
    let mut report = read("a.yaml", &text);
    lint::warn_of_shadowed(&mut [lint::File {
        text: &text,
        report: &mut report,
    }]);
    insta::assert_snapshot!(report.render(&text, Style::Plain));
}

#[test]
fn files_with_one_selector_are_looked_at_together() {
    let wide = policy(
        "a",
        "  process: {matchPatterns: [{pattern: /usr/bin/wg*}]}\n",
    );
    let all = policy(
        "b",
        "  process: {matchDirectories: [{dir: /, recursive: true}]}\n",
    );
    assert_eq!(
        warnings(&[&wide, &all]),
        ["this rule about `/usr/bin/wg*` never decides"]
    );
    let other = all.replace("app: web", "app: db");
    assert_eq!(warnings(&[&wide, &other]), [""; 0]);
}

#[test]
fn words_are_looked_at_like_paths() {
    let text = policy(
        "a",
        "  network:
    matchProtocols: [{protocol: all}, {protocol: tcp, action: Allow}]
    matchEndpoints: [{cidr: 10.0.0.0/8}, {cidr: 10.1.0.0/16, action: Allow}]
  capabilities:
    matchCapabilities: [{capability: net_raw}]
",
    );
    let mut report = read("a.yaml", &text);
    lint::warn_of_shadowed(&mut [lint::File {
        text: &text,
        report: &mut report,
    }]);
    insta::assert_snapshot!(report.render(&text, Style::Plain));
}

#[test]
fn a_rule_that_is_not_enforced_is_told_of_once() {
    let text = policy(
        "a",
        "  network: {matchEndpoints: [{protocol: udp, direction: ingress, action: Allow}]}\n",
    );
    assert_eq!(
        warnings(&[&text]),
        ["`direction: ingress` over `udp` is not enforced"]
    );
}

#[test]
fn a_rule_that_decides_for_some_source_or_somebody_is_not_told_of() {
    let text = policy(
        "a",
        "  file:
    matchPaths:
    - {path: /a, action: Allow}
    - {path: /a, fromSource: [{path: /bin/cat}]}
    - {path: /b, ownerOnly: true, action: Allow}
    - {path: /c, readOnly: true}
    matchDirectories:
    - {dir: /, recursive: true, action: Audit}
",
    );
    assert_eq!(warnings(&[&text]), [""; 0]);
}

#[test]
fn what_was_told_of_a_rule_is_not_told_again() {
    let text = policy(
        "a",
        "  file: {matchPaths: [{path: /a}, {path: /a, action: Allow}]}\n",
    );
    assert_eq!(
        warnings(&[&text]),
        ["two rules about `/a` contradict each other: Allow and Block"]
    );
}

#[test]
fn many_are_told_up_to_a_number() {
    let rules: Vec<_> = (0..150).map(|n| format!("{{pattern: '/x{n}*'}}")).collect();
    let text = policy(
        "a",
        &format!(
            "  file: {{matchDirectories: [{{dir: /, recursive: true}}], matchPatterns: [{}]}}\n",
            rules.join(", ")
        ),
    );
    let told = warnings(&[&text]);
    assert_eq!(told.len(), 100, "{told:?}");
}

/// Every two rules of a family, with every two actions: whatever is told of two rules has both
/// places.
#[test]
fn what_one_rule_does_to_another_is_told_with_both_places() {
    let families: [(&str, &[&str]); 6] = [
        (
            "network: {matchProtocols: [@]}",
            &[
                "{protocol: all@}",
                "{protocol: tcp@}",
                "{protocol: icmp@}",
                "{protocol: sctp@}",
                "{protocol: stream@}",
                "{protocol: packet@}",
                "{protocol: all, fromSource: [{path: /a}]@}",
                "{protocol: udp, fromSource: [{path: /a}]@}",
                "{protocol: udp, pts: false@}",
            ],
        ),
        (
            "network: {matchEndpoints: [@]}",
            &[
                "{cidr: 10.0.0.0/8@}",
                "{cidr: 10.0.0.0/8, direction: egress@}",
                "{cidr: 10.0.0.0/8, ports: [80]@}",
                "{cidr: 10.0.0.0/8, ports: [1-65535]@}",
                "{cidr: 0.0.0.0/0@}",
                "{ports: [80], protocol: udp@}",
                "{ports: [80], protocol: tcp, direction: ingress@}",
                "{protocol: udp, direction: ingress@}",
            ],
        ),
        (
            "network: {matchDNSQueries: [@]}",
            &[
                "{domain: example.org@}",
                "{domain: www.example.org@}",
                "{domain: example.org, fromSource: [{path: /a}]@}",
            ],
        ),
        (
            "file: {matchPatterns: [@]}",
            &[
                "{pattern: /**@}",
                "{pattern: '/{a,b}/[0-9]*'@}",
                "{pattern: '/[0-9]/?'@}",
                "{pattern: /a/**, readOnly: true@}",
                "{pattern: /a/**, ownerOnly: true@}",
                "{pattern: '@unreachable'@}",
            ],
        ),
        (
            "process: {matchPaths: [@], matchDirectories: [{dir: /, recursive: true}]}",
            &[
                "{path: /a/b@}",
                "{execname: b@}",
                "{path: /a/b, fromSource: [{path: /a}]@}",
                "{path: /a/b, allowedArgs: [x]@}",
            ],
        ),
        (
            "syscalls: {matchPaths: [@]}",
            &[
                "{syscall: [mkdirat], path: /, recursive: true}",
                "{syscall: [mkdirat], path: /a/}",
                "{syscall: [mkdirat], path: /a/b}",
                "{syscall: [mkdirat], path: /, recursive: true, fromSource: [{path: /a}]}",
            ],
        ),
    ];
    let mut told = 0;
    for (section, rules) in families {
        for (first, second) in rules.iter().flat_map(|a| rules.iter().map(move |b| (a, b))) {
            for (one, other) in ["Allow", "Audit", "Block"]
                .into_iter()
                .flat_map(|a| ["Allow", "Audit", "Block"].map(|b| (a, b)))
            {
                let rule = |text: &str, action: &str| match text.rsplit_once('@') {
                    Some((rule, end)) => format!("{rule}, action: {action}{end}"),
                    None => text.to_owned(),
                };
                let both = format!("\n    {},\n    {}", rule(first, one), rule(second, other));
                let text = policy(
                    "a",
                    &format!("  {}\n", section.replacen("[@]", &format!("[{both}]"), 1)),
                );
                let mut report = read("a.yaml", &text);
                assert!(!report.has_errors(), "{text}{:#?}", report.diagnostics);
                lint::warn_of_shadowed(&mut [lint::File {
                    text: &text,
                    report: &mut report,
                }]);
                for problem in &report.diagnostics {
                    let alone = problem.message.contains("not enforced")
                        || problem.message.contains("recursive");
                    assert!(alone || !problem.related.is_empty(), "{text}{problem:#?}");
                    told += usize::from(!alone);
                }
            }
        }
    }
    assert!(told > 500, "{told}");
}
