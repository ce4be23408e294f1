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
    lint::check(&mut files);
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
    lint::check(&mut [lint::File {
        text: &text,
        report: &mut report,
    }]);
    insta::assert_snapshot!(report.render(&text, Style::Plain));
}

#[test]
fn what_decides_only_where_nothing_can_be_never_decides() {
    for (rules, told) in [
        (
            "matchProtocols: [{protocol: tcp, action: Allow}, {protocol: stream}]",
            "tcp",
        ),
        (
            "matchProtocols: [{protocol: udp, action: Allow}, {protocol: dgram}]",
            "udp",
        ),
        (
            "matchProtocols: [{protocol: sctp, action: Allow}, {protocol: 'stream,seqpacket'}]",
            "sctp",
        ),
        (
            "matchProtocols: [{protocol: icmp, action: Allow}, {protocol: 'raw,dgram'}]",
            "icmp",
        ),
        (
            "matchEndpoints: [{cidr: 10.0.0.0/8, action: Allow}, {cidr: 10.0.0.0/9}, {cidr: 10.128.0.0/9}]",
            "10.0.0.0/8",
        ),
        (
            "matchEndpoints: [{cidr: 'fd00::/64', action: Allow}, {cidr: 'fd00::/65'}, \
             {cidr: 'fd00:0:0:0:8000::/65'}]",
            "fd00::/64",
        ),
    ] {
        let text = policy("a", &format!("  network: {{{rules}}}\n"));
        let message = format!("this rule about `{told}` never decides");
        assert_eq!(warnings(&[&text]), [message], "{rules}");
    }
    for decides in [
        "matchProtocols: [{protocol: icmp, action: Allow}, {protocol: raw}]",
        "matchProtocols: [{protocol: packet, action: Allow}, {protocol: 'raw,dgram'}]",
        "matchEndpoints: [{cidr: 10.0.0.0/8, action: Allow}, {cidr: 10.0.0.0/9}]",
        "matchEndpoints: [{protocol: icmp, action: Allow}, {ports: [1-65535]}]",
    ] {
        let text = policy("a", &format!("  network: {{{decides}}}\n"));
        assert_eq!(warnings(&[&text]), [""; 0], "{decides}");
    }
}

#[test]
fn rules_about_endpoints_contradict_each_other_in_part() {
    for (rules, told) in [
        (
            "{cidr: 10.0.0.0/8, ports: [443]}, {cidr: 10.0.0.0/8, ports: [443, 8443], action: Allow}",
            1,
        ),
        (
            "{ports: [80], protocol: tcp}, {ports: [1-1023], protocol: tcp, action: Allow}",
            1,
        ),
        (
            "{cidr: 10.0.0.0/8, direction: egress}, {cidr: 10.0.0.0/8, action: Allow}",
            1,
        ),
        // Nothing in common, or not equally specific.
        (
            "{cidr: 10.0.0.0/8, ports: [443]}, {cidr: 10.0.0.0/8, ports: [8443], action: Allow}",
            0,
        ),
        (
            "{cidr: 10.0.0.0/8, direction: egress}, \
             {cidr: 10.0.0.0/8, direction: ingress, action: Allow}",
            0,
        ),
        (
            "{cidr: 10.0.0.0/8, ports: [443]}, {cidr: 10.0.0.0/8, action: Allow}",
            0,
        ),
        (
            "{ports: [53], protocol: udp}, {ports: [53], protocol: tcp, action: Allow}",
            0,
        ),
    ] {
        let text = policy("a", &format!("  network: {{matchEndpoints: [{rules}]}}\n"));
        let warnings = warnings(&[&text]);
        assert_eq!(warnings.len(), told, "{rules}: {warnings:?}");
        let contradict = |told: &String| told.ends_with("contradict each other: Allow and Block");
        assert!(warnings.iter().all(contradict), "{warnings:?}");
    }
}

#[test]
fn what_is_told_of_rules_names_the_field() {
    let first = policy("a", "  file: {matchPaths: [{path: /b}, {path: /c}]}\n");
    let second = policy(
        "b",
        "  process:
    matchPaths:
    - path: /a
    - {path: /d, action: Allow}
  file:
    matchPaths:
    - path: /a
    - path: /c
      action: Allow
",
    );
    let shadowed = policy(
        "c",
        "  file:\n    matchPatterns:\n    - pattern: /b\n      action: Audit\n",
    );
    let text = format!("\u{feff}# a comment\n{first}---\n{second}---\n{shadowed}");
    let mut report = read("a.yaml", &text);
    lint::check(&mut [lint::File {
        text: &text,
        report: &mut report,
    }]);
    let told: Vec<_> = report
        .diagnostics
        .iter()
        .map(|told| (told.field.as_str(), told.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "spec.file.matchPaths[1]",
                "two rules about `/c` contradict each other: Allow and Block"
            ),
            (
                "spec.file.matchPatterns[0]",
                "this rule about `/b` never decides"
            ),
        ]
    );
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

/// A policy of this kind, as a whole.
fn of_kind(kind: &str, metadata: &str, selector: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec:\n  {selector}\n  {rules}\n"
    )
}

/// Pairs of policies that do, or do not, surely apply together.
#[test]
fn policies_are_held_against_those_for_the_same_workloads_or_more() {
    let pod = |name: &str, namespace: &str, labels: &str| {
        let metadata = format!("name: {name}, namespace: {namespace}");
        let selector = format!("selector: {{matchLabels: {{{labels}}}}}");
        move |rules: &str| of_kind("KubeArmorPolicy", &metadata, &selector, rules)
    };
    let cluster = |expression: &str| {
        let selector = format!("selector: {{matchExpressions: [{expression}]}}");
        move |rules: &str| of_kind("KubeArmorClusterPolicy", "name: c", &selector, rules)
    };
    let host = |name: &str, labels: &str| {
        let metadata = format!("name: {name}");
        let selector = format!("nodeSelector: {{matchLabels: {{{labels}}}}}");
        move |rules: &str| of_kind("KubeArmorHostPolicy", &metadata, &selector, rules)
    };
    let narrow_rule = "file: {matchPatterns: [{pattern: /a/x*, action: Audit}]}";
    let wide_rule = "file: {matchDirectories: [{dir: /a/, recursive: true, action: Allow}]}";
    let told = ["this rule about `/a/x*` never decides"];
    let both = "app: web, tier: front";
    let in_shop = "{key: namespace, operator: In, values: [shop, x]}";
    let labelled = "{key: label, operator: In, values: [tier=front, tier=back]}";
    type Policies = Box<dyn Fn(&str) -> String>;
    let pairs: [(Policies, Policies, bool); 13] = [
        (
            Box::new(pod("a", "shop", both)),
            Box::new(pod("b", "shop", "tier: front, app: web")),
            true,
        ),
        (
            Box::new(pod("a", "shop", both)),
            Box::new(pod("b", "shop", "app: web")),
            true,
        ),
        (
            Box::new(pod("a", "shop", both)),
            Box::new(pod("b", "shop", "")),
            true,
        ),
        (
            Box::new(pod("a", "shop", both)),
            Box::new(pod("b", "x", "app: web")),
            false,
        ),
        (
            Box::new(pod("a", "shop", "app: web")),
            Box::new(pod("b", "shop", both)),
            false,
        ),
        (
            Box::new(pod("a", "shop", "app: web")),
            Box::new(pod("b", "shop", "tier: front")),
            false,
        ),
        (
            Box::new(pod("a", "shop", both)),
            Box::new(cluster(in_shop)),
            true,
        ),
        (
            Box::new(pod("a", "y", both)),
            Box::new(cluster(in_shop)),
            false,
        ),
        (
            Box::new(pod("a", "y", both)),
            Box::new(cluster(labelled)),
            true,
        ),
        (
            Box::new(host("a", "kubearmor.io/hostname: n1")),
            Box::new(host("b", "kubearmor.io/hostname: '*'")),
            true,
        ),
        (
            Box::new(host("a", "kubearmor.io/hostname: n1")),
            Box::new(host("b", "kubernetes.io/hostname: 'n2,n1'")),
            true,
        ),
        (
            Box::new(host("a", "kubearmor.io/hostname: '*'")),
            Box::new(host("b", "kubearmor.io/hostname: n1")),
            false,
        ),
        (
            Box::new(pod("a", "shop", "")),
            Box::new(host("b", "kubearmor.io/hostname: '*'")),
            false,
        ),
    ];
    for (narrow, wide, is_told) in pairs {
        let (narrow, wide) = (narrow(narrow_rule), wide(wide_rule));
        let expected = if is_told { &told[..] } else { &[] };
        assert_eq!(warnings(&[&narrow, &wide]), expected, "{narrow}{wide}");
        assert_eq!(warnings(&[&wide, &narrow]), expected, "{wide}{narrow}");
    }
}

#[test]
fn policies_that_contradict_each_other_are_told_with_both_files() {
    let narrow = policy(
        "a",
        "  process: {matchPaths: [{path: /bin/sh, action: Allow}]}\n",
    );
    let wide = of_kind(
        "KubeArmorPolicy",
        "name: b",
        "selector: {}",
        "process: {matchPaths: [{path: /usr/bin/sh}]}",
    );
    let texts = [narrow, wide];
    let mut reports = [read("a.yaml", &texts[0]), read("b.yaml", &texts[1])];
    let files = texts.iter().zip(&mut reports);
    lint::check(
        &mut files
            .map(|(text, report)| lint::File { text, report })
            .collect::<Vec<_>>(),
    );
    insta::assert_snapshot!(reports[0].render(&texts[0], Style::Plain));
    assert!(reports[1].diagnostics.is_empty(), "{reports:?}");
}

#[test]
fn what_policies_say_alike_is_no_contradiction() {
    let one = policy(
        "a",
        "  process: {matchPaths: [{path: /a}, {path: /b, action: Audit}]}\n",
    );
    let other = policy("b", "  process: {matchPaths: [{path: /a}]}\n");
    assert_eq!(
        warnings(&[&one, &other]),
        ["this rule about `/a` never decides"]
    );
}

/// Thousands of policies, each narrower than one, are held against it as far as there is time.
#[test]
fn too_many_to_compare_are_told_of() {
    let rules: Vec<_> = (0..3000).map(|n| format!("{{path: /data/{n}}}")).collect();
    let rules = rules.join(", ");
    let wide = of_kind(
        "KubeArmorPolicy",
        "name: all",
        "selector: {}",
        &format!("file: {{matchPaths: [{rules}]}}"),
    );
    let narrow: Vec<_> = (0..900)
        .map(|n| {
            of_kind(
                "KubeArmorPolicy",
                &format!("name: p{n}"),
                &format!("selector: {{matchLabels: {{app: a{n}}}}}"),
                "file: {matchPaths: [{path: /x}]}",
            )
        })
        .collect();
    let told = warnings(&[&wide, &narrow.join("---\n")]);
    let [told] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!(told.starts_with("there are too many policies: 8"), "{told}");
}

#[test]
fn who_decides_is_told_for_the_rules_own_source() {
    let text = policy(
        "a",
        "  file:
    matchPaths:
    - {path: /a/b, fromSource: [{path: /x}, {path: /y}], readOnly: true}
    matchDirectories:
    - {dir: /a/, action: Allow}
    - {dir: /a/, fromSource: [{path: /x}]}
    - {dir: /a/, fromSource: [{path: /x}], action: Audit}
",
    );
    let mut report = read("a.yaml", &text);
    report.diagnostics.clear();
    lint::check(&mut [lint::File {
        text: &text,
        report: &mut report,
    }]);
    let [told] = report.diagnostics.as_slice() else {
        panic!("{:?}", report.diagnostics)
    };
    assert_eq!(told.related[0].message, "Block `/a/` decides instead");
}

#[test]
fn the_same_is_what_says_the_same_to_everybody() {
    let help = |rule: &str| {
        let text = policy(
            "a",
            &format!(
                "  file: {{matchDirectories: [{{dir: /a/, recursive: true}}], matchPatterns: [{rule}]}}\n"
            ),
        );
        let mut report = read("a.yaml", &text);
        lint::check(&mut [lint::File {
            text: &text,
            report: &mut report,
        }]);
        let [told] = report.diagnostics.as_slice() else {
            panic!("{:?}", report.diagnostics)
        };
        told.help[0].clone()
    };
    assert_eq!(
        help("{pattern: /a/x*}"),
        "another rule says the same and wins; remove one of them"
    );
    assert_eq!(
        help("{pattern: /a/x*, ownerOnly: true}"),
        "Block wins wherever Block with `ownerOnly` could: see `karmor policy explain`"
    );
}

#[test]
fn lists_of_arguments_that_decide_nothing_are_told_of() {
    let rules = |rules: &str| policy("a", &format!("  process: {{matchPaths: [{rules}]}}\n"));
    let audited = "{path: /a, action: Audit}, {path: /a, allowedArgs: [x], action: Audit}";
    assert_eq!(
        warnings(&[&rules(audited)]),
        ["this rule about `/a` never decides"]
    );
    let decides = "{execname: a, action: Audit}, {path: /a, allowedArgs: [x], action: Audit}";
    assert_eq!(warnings(&[&rules(decides)]), [""; 0]);
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
    lint::check(&mut [lint::File {
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
    let told = |rules: &str| {
        warnings(&[&policy(
            "a",
            &format!("  file: {{matchPaths: [{rules}]}}\n"),
        )])
    };
    assert_eq!(
        told("{path: /a}, {path: /a, action: Allow}"),
        ["two rules about `/a` contradict each other: Allow and Block"]
    );
    assert_eq!(
        told("{path: /a, action: Allow}, {path: /a}"),
        ["two rules about `/a` contradict each other: Block and Allow"]
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
                lint::check(&mut [lint::File {
                    text: &text,
                    report: &mut report,
                }]);
                for problem in &report.diagnostics {
                    let alone = ["not enforced", "recursive", "says nothing of IPv6"]
                        .iter()
                        .any(|text| problem.message.contains(text));
                    assert!(alone || !problem.related.is_empty(), "{text}{problem:#?}");
                    told += usize::from(!alone);
                }
            }
        }
    }
    assert!(told > 400, "{told}");
}
