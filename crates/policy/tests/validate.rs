//! One table: a value, and what is said about it.

use std::collections::BTreeMap;

use karmor_policy::{
    diagnostic::Diagnostic,
    model::{Action, Policy, Target},
    read,
    select::{Workload, WorkloadKind},
};

fn policy(kind: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: security.kubearmor.com/v1, kind: {kind}, metadata: {{name: a}}, spec: {{{spec}}}}}"
    )
}

/// The one problem that a spec has, as message and suggestion.
#[track_caller]
fn problem(kind: &str, spec: &str) -> (String, String) {
    let report = read("f", &policy(kind, spec));
    let told: Vec<_> = report.diagnostics.iter().filter(|d| d.is_error()).collect();
    assert_eq!(told.len(), 1, "{spec}: {told:#?}");
    assert_eq!(report.policies, [], "{spec}");
    (
        told[0].message.clone(),
        told[0].suggestion.clone().unwrap_or_default(),
    )
}

#[track_caller]
fn accepted(spec: &str) -> Policy {
    let report = read("f", &policy("KubeArmorPolicy", spec));
    assert!(!report.has_errors(), "{spec}: {:#?}", report.diagnostics);
    report
        .policies
        .into_iter()
        .next()
        .expect("no errors, so a policy")
}

/// Each value, put in the place of `@@`, has one problem: part of a message, and a suggestion.
#[track_caller]
fn table(kind: &str, spec: &str, rows: &[(&str, &str, &str)]) {
    for (value, message, suggestion) in rows {
        let told = problem(kind, &spec.replace("@@", value));
        assert!(told.0.contains(message), "{value}: {told:?}");
        assert_eq!(told.1, *suggestion, "{value}: {told:?}");
    }
}

#[test]
fn paths() {
    let long = format!("/{}", "x/".repeat(2047) + "yy");
    assert_eq!(long.len(), 4097);
    let name = format!("/{}", "n".repeat(256));
    let deep = "/a".repeat(257);
    table(
        "KubeArmorPolicy",
        "file: {matchPaths: [{path: @@}]}",
        &[
            ("\"\"", "is empty", ""),
            ("/", "is a directory", ""),
            ("etc/passwd", "is not absolute", "/etc/passwd"),
            ("~/x", "is not absolute", ""),
            ("../x", "is not absolute", ""),
            ("/etc/", "ends with a slash", "/etc"),
            ("/etc//x", "`//`", "/etc/x"),
            ("//etc", "`//`", "/etc"),
            ("/etc/./x", "a `.` component", "/etc/x"),
            ("/etc/../x", "a `..` component", "/x"),
            ("/etc/..", "a `..` component", "/"),
            ("\" /etc/x\"", "starts or ends with a space", "/etc/x"),
            ("\"/a\\0b\"", "`\\u{0}` is not allowed", ""),
            ("\"/a\\nb\"", "`\\n` is not allowed", ""),
            (&long, "has 4097 bytes, more than 4095", ""),
            (&name, "can never match", ""),
            (&deep, "257 components", ""),
        ],
    );
    for right in ["/a", "/etc/passwd", "/...", "/.x", "/a b", "/caf\u{e9}"] {
        let policy = accepted(&format!("file: {{matchPaths: [{{path: \"{right}\"}}]}}"));
        assert_eq!(policy.rules[0].target, Target::Path(right.into()));
    }
}

#[test]
fn sources_are_paths_of_executables() {
    table(
        "KubeArmorPolicy",
        "file: {matchPaths: [{path: /a, fromSource: [{path: @@}]}]}",
        &[
            ("bash", "is not absolute", "/bash"),
            ("/bin/", "ends with a slash", "/bin"),
        ],
    );
}

#[test]
fn directories() {
    table(
        "KubeArmorPolicy",
        "process: {matchDirectories: [{dir: @@}]}",
        &[
            ("/etc", "must end with a slash", "/etc/"),
            ("etc/", "is not absolute", "/etc/"),
            ("/etc/../", "a `..` component", "/"),
            ("//", "`//`", "/"),
            ("/etc/x//", "`//`", "/etc/x/"),
            ("\"\"", "is empty", ""),
        ],
    );
    accepted("process: {matchDirectories: [{dir: /}]}");
}

#[test]
fn names_of_executables() {
    table(
        "KubeArmorPolicy",
        "process: {matchPaths: [{execname: @@}]}",
        &[
            ("/bin/apt", "is a path", "apt"),
            ("bin/", "is a path", "bin"),
            ("\"\"", "is empty", ""),
            ("..", "no file is named", ""),
        ],
    );
}

/// The messages of the warnings about a spec that has no errors.
#[track_caller]
fn warnings(kind: &str, spec: &str) -> Vec<String> {
    let report = read("f", &policy(kind, spec));
    assert!(!report.has_errors(), "{spec}: {:#?}", report.diagnostics);
    report.diagnostics.into_iter().map(|d| d.message).collect()
}

#[test]
fn patterns() {
    let name = format!("/{}?*", "n".repeat(255));
    let deep = "/*a".repeat(257);
    table(
        "KubeArmorPolicy",
        "file: {matchPatterns: [{pattern: @@}]}",
        &[
            ("\"/a[\"", "is never closed", ""),
            ("\"/[]\"", "the class matches nothing", ""),
            ("\"/{a\"", "is never closed", ""),
            ("\"/é[z-a]\"", "runs backwards", ""),
            ("\"/a}\"", "closes nothing", ""),
            ("\"*.sh\"", "never matches", "/**.sh"),
            ("a/*", "never matches", "/**/a/*"),
            ("/a//*", "never matches", ""),
            ("/a/../*", "never matches", ""),
            ("/a/*/", "never matches", "/a/*/**"),
            ("\"*\"", "every path starts with `/`", "/**"),
            ("\"{a,b}\"", "every path starts with `/`", "/**/{a,b}"),
            ("\"/a/{..,.}\"", "no path has `.`, `..` or `//`", ""),
            ("\"/a{/,/./b}\"", "no path ends with a slash", ""),
            (&name, "no file name has more than 255 bytes", ""),
            (&deep, "more than 256 components", ""),
            ("\"@anonymos\"", "no objects", "@anonymous"),
            ("\"\"", "is empty", ""),
        ],
    );
    let policy = accepted(
        "file: {matchPatterns: [{pattern: '@unreachable'}, {pattern: '/a/**'}, {pattern: '**/x'}]}",
    );
    let targets: Vec<_> = policy.rules.iter().map(|r| &r.target).collect();
    assert_eq!(
        targets,
        [
            &Target::Object(karmor_abi::op::Object::Unreachable),
            &Target::Glob("/a/**".into()),
            &Target::Glob("**/x".into()),
        ]
    );
}

#[test]
fn alternatives_that_never_match_are_warned_of() {
    let told = |pattern: &str| {
        let spec = format!("file: {{matchPatterns: [{{pattern: '{pattern}'}}]}}");
        warnings("KubeArmorPolicy", &spec).join("; ")
    };
    let slash =
        "1 of the 2 alternatives of `/a{/,}` can never match: `/a/`, for no path ends with a slash";
    assert_eq!(told("/a{/,}"), slash);
    for (pattern, part) in [
        ("/a/{..,b}", "`/a/..`, for no path has"),
        ("/{a/,b}/c", "`/a//c`, for no path has"),
        ("{/x,a,b}", "2 of the 3 alternatives"),
        ("/a/[^x]/{.,?}/b", "`/a/[…]/./b`"),
    ] {
        assert!(told(pattern).contains(part), "{pattern}: {}", told(pattern));
    }
    for right in [
        "/",
        "/*",
        "/.*",
        "/a/..?",
        "/a/...",
        "/[.]a",
        "**/x",
        "**",
        "{/a,/b}/**",
        "/{a,b}{,/**}",
        "/**/a/**",
        "\\/a",
        "/a**/*/?",
    ] {
        assert_eq!(told(right), "", "{right}");
    }
}

#[test]
fn classes_of_other_languages_are_warned_of() {
    let told = |pattern: &str| {
        let spec = format!("file: {{matchPatterns: [{{pattern: '{pattern}'}}]}}");
        let report = read("f", &policy("KubeArmorPolicy", &spec));
        assert!(!report.has_errors());
        let told = report.diagnostics.into_iter();
        told.map(|d| (d.message, d.suggestion.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let [(message, suggestion)] = &told("/a[!s]/\\[!x")[..] else {
        panic!("one warning")
    };
    assert!(
        message.contains("`!` is one of the characters"),
        "{message}"
    );
    assert_eq!(suggestion, "/a[^s]/\\[!x");
    let [(message, _)] = &told("/a[[:alpha:]]")[..] else {
        panic!("one warning")
    };
    assert!(message.contains("names no class"), "{message}");
    for right in ["/a[!]", "/a[^s]", "/a[s!]", "/\\[!a]", "/a[:x]"] {
        assert_eq!(told(right), [], "{right}");
    }
}

#[test]
fn attributes() {
    table(
        "KubeArmorPolicy",
        "process: {matchPaths: [{path: /a, @@}]}",
        &[
            ("severity: 0", "not between 1 and 10", ""),
            ("severity: 11", "not between 1 and 10", "10"),
            ("severity: -1", "not between 1 and 10", "1"),
            ("severity: 1.5", "expected a whole number", ""),
            ("severity: 99999999999", "expected a whole number", ""),
            ("action: block", "unknown action", "Block"),
            ("action: Deny", "unknown action", "Block"),
            ("action: Adit", "unknown action", "Audit"),
            ("action: \"\"", "unknown action", ""),
            ("ownerOnly: on", "expected `true` or `false`", "true"),
            (
                "ownerOnly: \"false\"",
                "expected `true` or `false`",
                "false",
            ),
        ],
    );
    for action in ["Block", "block"] {
        let policy = accepted(&format!(
            "action: {action}, process: {{matchPaths: [{{path: /a}}]}}"
        ));
        assert_eq!(policy.rules[0].action, Action::Block);
    }
    table(
        "KubeArmorPolicy",
        "action: @@, process: {matchPaths: [{path: /a}]}",
        &[("BLOCK", "unknown action", "Block")],
    );
}

#[test]
fn rules_that_say_nothing() {
    table(
        "KubeArmorPolicy",
        "process: {matchPaths: [@@]}",
        &[
            ("{}", "names no executable", ""),
            ("{path: /a, execname: a}", "both `path` and `execname`", ""),
            ("null", "expected a mapping", ""),
        ],
    );
    assert_eq!(
        problem("KubeArmorPolicy", "action: Block").0,
        "the policy has no rules"
    );
    assert_eq!(
        problem("KubeArmorPolicy", "process: {}").0,
        "the policy has no rules"
    );
    assert_eq!(
        problem(
            "KubeArmorPolicy",
            "file: {matchDirectories: [{recursive: true}]}"
        )
        .0,
        "`dir` is missing"
    );
}

#[test]
fn selectors() {
    table(
        "KubeArmorPolicy",
        "process: {matchPaths: [{path: /a}]}, selector: {@@}",
        &[
            (
                "matchLabels: {kubearmor.io/container.name: \"a(\"}",
                "not a regular expression",
                "",
            ),
            (
                "matchExpressions: [{key: label, operator: in, values: [a=b]}]",
                "unknown operator",
                "In",
            ),
            (
                "matchExpressions: [{key: namespace, operator: In, values: [a]}]",
                "unknown key",
                "",
            ),
            (
                "matchExpressions: [{key: label, operator: In, values: [\"a: b\"]}]",
                "is not a label",
                "a=b",
            ),
            (
                "matchExpressions: [{key: label, operator: In}]",
                "`values` is missing",
                "",
            ),
            (
                "matchExpressions: [{operator: In, values: [a=b]}]",
                "`key` is missing",
                "",
            ),
            ("matchLabels: {\"\": b}", "no name", ""),
        ],
    );
    table(
        "KubeArmorHostPolicy",
        "process: {matchPaths: [{path: /a}]}, @@",
        &[
            ("action: Block", "selects no host", ""),
            ("nodeSelector: {}", "selects no host", ""),
            ("nodeSelector: {matchLabels: {}}", "selects no host", ""),
            (
                "nodeSelector: {matchLabels: {kubearmor.io/hostname: \",\"}}",
                "no name is given",
                "",
            ),
            (
                "nodeSelector: {matchLabels: {kubearmor.io/hostnamereg: \"[\"}}",
                "not a regular expression",
                "",
            ),
        ],
    );
    table(
        "KubeArmorClusterPolicy",
        "process: {matchPaths: [{path: /a}]}, selector: {matchExpressions: [@@]}",
        &[(
            "{key: namespace, operator: In, values: [Kube_System]}",
            "not a valid name",
            "kube-system",
        )],
    );
}

#[test]
fn selectors_that_select_nothing_are_warned_of() {
    let pod = |selector: &str| {
        let spec = format!("process: {{matchPaths: [{{path: /a}}]}}, selector: {{{selector}}}");
        warnings("KubeArmorPolicy", &spec)
    };
    let not_a = "{key: label, operator: NotIn, values: [app=a]}";
    assert_eq!(
        pod(&format!(
            "matchLabels: {{app: a}}, matchExpressions: [{not_a}]"
        )),
        ["the selector selects nothing: `app=a` is wanted and excluded"]
    );
    let only_excluded =
        format!("matchExpressions: [{not_a}, {{key: label, operator: In, values: [app=a]}}]");
    assert_eq!(
        pod(&only_excluded),
        ["the selector selects nothing: every label of `In` is excluded"]
    );
    let other =
        "matchLabels: {app: a}, matchExpressions: [{key: label, operator: In, values: [app=b]}]";
    assert_eq!(pod(other).len(), 1);
    let one_is_left = format!(
        "matchLabels: {{tier: x}}, matchExpressions: [{not_a}, {{key: label, operator: In, values: [app=a, app=b]}}]"
    );
    assert_eq!(pod(&one_is_left), [""; 0]);
    let namespaces = "process: {matchPaths: [{path: /a}]}, selector: {matchExpressions: [{key: namespace, operator: In, values: [x]}, {key: namespace, operator: NotIn, values: [x, y]}]}";
    assert_eq!(
        warnings("KubeArmorClusterPolicy", namespaces),
        ["the selector selects nothing: every namespace of `In` is excluded"]
    );

    let host = |labels: &str| {
        let spec = format!(
            "process: {{matchPaths: [{{path: /a}}]}}, nodeSelector: {{matchLabels: {{{labels}}}}}"
        );
        warnings("KubeArmorHostPolicy", &spec)
    };
    assert_eq!(
        host("foo: bar"),
        ["`foo` is carried by no host: it has no labels but its name"]
    );
    assert_eq!(
        host("kubearmor.io/hostname: a, kubernetes.io/hostnamereg: b"),
        [""; 0]
    );
}

#[test]
fn a_container_name_among_other_labels_is_warned_of() {
    let told = |labels: &str| {
        let spec = format!(
            "process: {{matchPaths: [{{path: /a}}]}}, selector: {{matchLabels: {{{labels}}}}}"
        );
        warnings("KubeArmorPolicy", &spec)
    };
    assert_eq!(
        told("app: a, kubearmor.io/container.name: web"),
        ["`kubearmor.io/container.name` stands beside other labels"]
    );
    // How policies for Kubernetes name a container of a pod.
    assert_eq!(
        told("app: a, kubearmor.io/container.name: \"[web]\""),
        [""; 0]
    );
    assert_eq!(told("kubearmor.io/container.name: web"), [""; 0]);
}

#[test]
fn a_star_in_a_pattern_of_hosts_is_any_text() {
    let selected = |pattern: &str, host: &str| {
        let spec = format!(
            "process: {{matchPaths: [{{path: /a}}]}}, nodeSelector: {{matchLabels: {{kubearmor.io/hostnamereg: '{pattern}'}}}}"
        );
        let report = read("f", &policy("KubeArmorHostPolicy", &spec));
        assert!(!report.has_errors(), "{pattern}: {:#?}", report.diagnostics);
        let host = Workload {
            kind: WorkloadKind::Host,
            host: host.into(),
            namespace: String::new(),
            name: String::new(),
            labels: BTreeMap::new(),
        };
        host.is_selected_by(&report.policies[0])
    };
    for (pattern, host, expected) in [
        ("*", "anything", true),
        ("*-prod", "db-prod", true),
        ("*-prod", "db-test", false),
        ("web-*", "web-1", true),
        ("web-*", "webserver", false),
        ("web-*", "my-web-1", true),
        ("^web-*$", "my-web-1", false),
        ("node-[0-9]", "node-7", true),
    ] {
        assert_eq!(selected(pattern, host), expected, "{pattern}: {host}");
    }
}

#[test]
fn names_that_are_only_recorded_are_checked_all_the_same() {
    table(
        "KubeArmorPolicy",
        "@@",
        &[
            (
                "network: {matchProtocols: [{protocol: \"tcp,upd\"}]}",
                "unknown protocol `upd`",
                "udp",
            ),
            (
                "network: {matchProtocols: [{protocol: \"tcp,\"}]}",
                "empty part",
                "",
            ),
            (
                "network: {matchDNSQueries: [{domain: \"*.a.com\"}]}",
                "not a domain name: it has the character `*`",
                "",
            ),
            (
                "network: {matchDNSQueries: [{domain: müller.de}]}",
                "not a domain name: it has the character `ü`",
                "",
            ),
            (
                "network: {matchDNSQueries: [{domain: \"x.y:53\"}]}",
                "not a domain name: it has the character `:`",
                "",
            ),
            (
                "network: {matchDNSQueries: [{domain: a..b}]}",
                "it has two dots without anything between",
                "",
            ),
            (
                "network: {matchEndpoints: [{cidr: 010.0.0.0/8}]}",
                "`010.0.0.0/8` is not a network",
                "",
            ),
            (
                "network: {matchEndpoints: [{cidr: 10.0.0.0/08}]}",
                "`10.0.0.0/08` is not a network",
                "",
            ),
            (
                "network: {matchEndpoints: [{ports: ['+80']}]}",
                "`+80` is not a port",
                "",
            ),
            (
                "network: {matchEndpoints: [{ports: [080]}]}",
                "`080` is not a port",
                "",
            ),
            (
                "capabilities: {matchCapabilities: [{capability: net_raww}]}",
                "unknown capability",
                "net_raw",
            ),
            (
                "capabilities: {matchCapabilities: [{capability: CAP_NET_RAW}]}",
                "unknown capability",
                "net_raw",
            ),
            (
                "syscalls: {matchSyscalls: [{syscall: [unlnk]}]}",
                "unknown system call",
                "unlink",
            ),
            (
                "syscalls: {matchSyscalls: [{}]}",
                "names no system call",
                "",
            ),
            (
                "syscalls: {matchPaths: [{syscall: [unlink]}]}",
                "`path` is missing",
                "",
            ),
            (
                "syscalls: {matchPaths: [{syscall: [unlink], path: a}]}",
                "not absolute",
                "/a",
            ),
            (
                "presets: [{name: filelesExec}]",
                "unknown preset",
                "filelessExec",
            ),
        ],
    );
    table(
        "KubeArmorHostPolicy",
        "nodeSelector: {matchLabels: {a: b}}, device: {matchDevice: [{@@}]}",
        &[
            (
                "class: MASS_STORAGE",
                "unknown device class",
                "MASS-STORAGE",
            ),
            ("class: \"256\"", "unknown device class", ""),
            ("class: ALL, level: 0", "less than 1", ""),
            ("class: ALL, subClass: 256", "not between 0 and 255", ""),
            ("subClass: 1", "`class` is missing", ""),
        ],
    );
}

#[test]
fn names_of_policies() {
    for (name, suggestion) in [
        ("My_Policy", "my-policy"),
        ("-a", ""),
        ("a..b", ""),
        ("\"\"", ""),
        ("é", ""),
    ] {
        let text = policy("KubeArmorPolicy", "process: {matchPaths: [{path: /a}]}");
        let report = read("f", &text.replace("name: a", &format!("name: {name}")));
        assert_eq!(report.diagnostics.len(), 1, "{name}");
        assert_eq!(
            report.diagnostics[0]
                .suggestion
                .as_deref()
                .unwrap_or_default(),
            suggestion
        );
    }
}

#[test]
fn pts_false_is_a_condition_and_pts_true_is_none() {
    for (pts, condition) in [("false", true), ("true", false)] {
        let rule = format!("process: {{matchPaths: [{{path: /a, pts: {pts}}}]}}");
        assert_eq!(accepted(&rule).rules[0].no_terminal, condition);
    }
}

#[test]
fn contradictions_and_repetitions_are_warned_of() {
    let warnings = |rules: &str| {
        warnings(
            "KubeArmorPolicy",
            &format!("file: {{matchPaths: [{rules}]}}"),
        )
    };
    let same = "two rules about `/a` contradict each other: Allow and Block";
    assert_eq!(warnings("{path: /a}, {path: /a, action: Allow}"), [same]);
    assert_eq!(
        warnings("{path: /a, severity: 1}, {path: /a, severity: 2}"),
        ["this rule repeats an earlier one about `/a`"]
    );
    for (rules, message) in [
        (
            "{path: /a, fromSource: [{path: /x}, {path: /y}]}, {path: /a, action: Allow, fromSource: [{path: /y}, {path: /x}]}",
            same,
        ),
        (
            "{path: /a, fromSource: [{path: /y}]}, {path: /a, action: Allow, fromSource: [{path: /x}, {path: /y}]}",
            same,
        ),
        (
            "{path: /a}, {path: /a, action: Allow, readOnly: true}",
            "two rules about `/a` contradict each other: Allow with `readOnly` and Block",
        ),
        (
            "{path: /bin/a}, {path: /usr/bin/a, action: Allow}",
            "two rules about `/usr/bin/a` contradict each other: Allow and Block",
        ),
        (
            "{path: /a, fromSource: [{path: /bin/x}]}, {path: /a, action: Audit, fromSource: [{path: /usr/bin/x}]}",
            "two rules about `/a` contradict each other: Audit and Block",
        ),
    ] {
        assert_eq!(warnings(rules), [message], "{rules}");
    }
    for different in [
        "{path: /a}, {path: /b, action: Allow}",
        "{path: /a}, {path: /a, action: Allow, fromSource: [{path: /x}]}",
        "{path: /a, fromSource: [{path: /y}]}, {path: /a, action: Allow, fromSource: [{path: /x}]}",
        // Both names are often written, to be sure.
        "{path: /bin/a}, {path: /usr/bin/a}",
        "{path: /a, readOnly: true, action: Allow}, {path: /a, readOnly: true, action: Block}",
    ] {
        assert_eq!(warnings(different), [""; 0], "{different}");
    }
}

#[test]
fn rules_of_one_action_can_contradict_each_other() {
    let warnings = |rules: &str| {
        warnings(
            "KubeArmorPolicy",
            &format!("process: {{matchPaths: [{rules}]}}"),
        )
    };
    for (rules, how) in [
        (
            "{path: /a}, {path: /a, ownerOnly: true}",
            "Block with `ownerOnly` and Block",
        ),
        (
            "{path: /a}, {path: /a, pts: false}",
            "Block with `pts: false` and Block",
        ),
        (
            "{path: /a, action: Allow}, {path: /a, action: Allow, ownerOnly: true}",
            "Allow with `ownerOnly` and Allow",
        ),
        (
            "{path: /a}, {path: /a, allowedArgs: [x]}",
            "Block with `allowedArgs` and Block",
        ),
        (
            "{path: /a, action: Allow, allowedArgs: [x]}, {path: /a, action: Allow, allowedArgs: [y, x]}",
            "their `allowedArgs` differ",
        ),
    ] {
        let message = format!("two rules about `/a` contradict each other: {how}");
        assert_eq!(warnings(rules), [message], "{rules}");
    }
    for alike in [
        "{path: /a, action: Audit}, {path: /a, action: Audit, ownerOnly: true}",
        "{path: /a, action: Audit, allowedArgs: [x]}, {path: /a, action: Audit, allowedArgs: [y]}",
        "{path: /a, allowedArgs: [x]}, {path: /a, action: Allow, allowedArgs: [x]}",
        "{path: /bin/a, allowedArgs: [x]}, {path: /usr/bin/a, allowedArgs: [x]}",
    ] {
        assert_eq!(warnings(alike), [""; 0], "{alike}");
    }
    assert_eq!(
        self::warnings(
            "KubeArmorPolicy",
            "file: {matchPaths: [{path: /a, readOnly: true}, {path: /a}]}"
        ),
        ["two rules about `/a` contradict each other: Block and Block with `readOnly`"]
    );
}

#[test]
fn what_one_field_says_wrong_hides_no_other() {
    let errors = |rules: &str| {
        let report = read("f", &policy("KubeArmorPolicy", rules));
        let errors: Vec<_> = report.diagnostics.iter().map(|d| d.field.clone()).collect();
        assert!(
            report.policies.is_empty() && report.diagnostics.iter().all(Diagnostic::is_error),
            "{rules}: {:?}",
            report.diagnostics
        );
        errors
            .into_iter()
            .map(|field| field.replace("spec.", ""))
            .collect::<Vec<_>>()
    };
    for (rules, fields) in [
        (
            "process: {matchPaths: [{path: [/a], fromSource: [{path: rel}], severity: 11}]}",
            &[
                "process.matchPaths[0].path",
                "process.matchPaths[0].fromSource[0].path",
                "process.matchPaths[0].severity",
            ][..],
        ),
        (
            "file: {matchPaths: [{path: rel, readOnly: maybe}]}",
            &["file.matchPaths[0].path", "file.matchPaths[0].readOnly"],
        ),
        (
            "file: {matchDirectories: [{dri: /a/, action: block}]}",
            &[
                "file.matchDirectories[0].dir",
                "file.matchDirectories[0].dri",
                "file.matchDirectories[0].action",
            ],
        ),
        (
            "network: {matchProtocols: [{protocol: {}, fromSource: [{path: rel}]}]}",
            &[
                "network.matchProtocols[0].protocol",
                "network.matchProtocols[0].fromSource[0].path",
            ],
        ),
        (
            "network: {matchEndpoints: [{cidr: 7, ports: [0]}]}",
            &[
                "network.matchEndpoints[0].cidr",
                "network.matchEndpoints[0].ports[0]",
            ],
        ),
        // Half rules do not contradict others.
        (
            "file: {matchPaths: [{path: /a}, {path: /a, fromSource: 3, action: Allow}]}",
            &["file.matchPaths[1].fromSource"],
        ),
    ] {
        assert_eq!(errors(rules), fields, "{rules}");
    }
}

#[test]
fn misspelt_capabilities_are_suggested() {
    for name in [
        "CAP_NET_RAWW",
        "CAP_NET_RAW",
        "NETRAW",
        "cap_net-raw",
        "net_rwa",
    ] {
        let rules = format!("capabilities: {{matchCapabilities: [{{capability: {name}}}]}}");
        let report = read("f", &policy("KubeArmorPolicy", &rules));
        let [told] = report.diagnostics.as_slice() else {
            panic!("{name}: {:?}", report.diagnostics)
        };
        assert_eq!(told.suggestion.as_deref(), Some("net_raw"), "{name}");
    }
}

#[test]
fn what_can_hardly_match_as_it_is_meant_is_warned_of() {
    for (rules, message) in [
        (
            "process: {matchPaths: [{path: '/a,/b'}]}",
            "`/a,/b` is one name: a comma separates nothing here",
        ),
        (
            "process: {matchPaths: [{execname: 'a, b'}]}",
            "`a, b` is one name: a comma separates nothing here",
        ),
        (
            "file: {matchDirectories: [{dir: '/a/, /b/'}]}",
            "`/a/, /b/` is one name: a comma separates nothing here",
        ),
        (
            "file: {matchPatterns: [{pattern: '/a/*,/b/*'}]}",
            "`/a/*,/b/*` is one name: a comma separates nothing here",
        ),
        (
            "file: {matchPaths: [{path: /proc/self/environ}]}",
            "`/proc/self/environ` can hardly match: `/proc/self` is a link, and the kernel sees where it leads",
        ),
        (
            "file: {matchPaths: [{path: /a, fromSource: [{path: /proc/thread-self/exe}]}]}",
            "`/proc/thread-self/exe` can hardly match: `/proc/thread-self` is a link, and the kernel sees where it leads",
        ),
        (
            "file: {matchDirectories: [{dir: /dev/fd/}]}",
            "`/dev/fd/` can hardly match: `/dev/fd` is a link, and the kernel sees where it leads",
        ),
        (
            "file: {matchPatterns: [{pattern: /proc/self/**}]}",
            "`/proc/self/**` can hardly match: `/proc/self` is a link, and the kernel sees where it leads",
        ),
        (
            "file: {matchPaths: [{path: \"/etc/pass\u{200b}wd\"}]}",
            "`/etc/pass\\u{200b}wd` has a character that nobody sees: `\\u{200b}`",
        ),
        (
            "file: {matchPatterns: [{pattern: \"/etc/\u{202e}*\"}]}",
            "`/etc/\\u{202e}*` has a character that nobody sees: `\\u{202e}`",
        ),
        (
            "selector: {matchLabels: {namespaceName: other}}, file: {matchPaths: [{path: /a}]}",
            "the selector selects nothing: the policy is about containers of `default`",
        ),
        (
            "selector: {matchLabels: {pod-template-hash: '123'}}, file: {matchPaths: [{path: /a}]}",
            "`pod-template-hash` never counts: it changes at each rollout",
        ),
        (
            "selector: {matchExpressions: [{key: label, operator: In, values: [controller-revision-hash=1]}]}, \
             file: {matchPaths: [{path: /a}]}",
            "`controller-revision-hash` never counts: it changes at each rollout",
        ),
        (
            "network: {matchDNSQueries: [{domain: 1.2.3.4}]}",
            "`1.2.3.4` is an address: nobody asks for it as a name",
        ),
        (
            "network: {matchEndpoints: [{cidr: 0.0.0.0}]}",
            "0.0.0.0/32 can never match: the kernel takes it for the host itself",
        ),
        (
            "network: {matchEndpoints: [{cidr: '::/128', direction: egress}]}",
            "::/128 can never match: the kernel takes it for the host itself",
        ),
        (
            "network: {matchEndpoints: [{cidr: '::ffff:0.0.0.0/128'}]}",
            "0.0.0.0/32 can never match: the kernel takes it for the host itself",
        ),
    ] {
        assert_eq!(warnings("KubeArmorPolicy", rules), [message], "{rules}");
    }
    for (rule, open) in [
        ("{cidr: 0.0.0.0/0}", "`0.0.0.0/0` says nothing of IPv6"),
        ("{cidr: '::/0'}", "`::/0` says nothing of IPv4"),
        (
            "{cidr: 0.0.0.0/0, ports: [443]}, {cidr: '::/0', ports: [80], action: Allow}",
            "`0.0.0.0/0` says nothing of IPv6",
        ),
    ] {
        let rules = format!("network: {{matchEndpoints: [{rule}]}}");
        assert_eq!(warnings("KubeArmorPolicy", &rules), [open], "{rule}");
    }
    for right in [
        "network: {matchEndpoints: [{cidr: 0.0.0.0/0, action: Allow}]}",
        "network: {matchEndpoints: [{cidr: 0.0.0.0/0, protocol: icmp}]}",
        "network: {matchEndpoints: [{cidr: 0.0.0.0/0, ports: [443]}, {cidr: '::/0', action: Allow}]}",
        "network: {matchEndpoints: [{cidr: '::/0', ports: [443]}, {protocol: tcp}, {ports: [443]}]}",
        "file: {matchPaths: [{path: /proc/selfish}, {path: /dev/fdx}]}",
        "selector: {matchLabels: {namespaceName: default}}, file: {matchPaths: [{path: /a}]}",
        "selector: {matchLabels: {namespaceName: container_namespace}}, file: {matchPaths: [{path: /a}]}",
        "file: {matchPaths: [{path: '/var/x,v'}], matchPatterns: [{pattern: '{/a,/b}/*'}]}",
        "network: {matchEndpoints: [{cidr: 0.0.0.0/0}, {cidr: '::/0'}, {cidr: 0.0.0.0/8}]}",
    ] {
        assert_eq!(warnings("KubeArmorPolicy", right), [""; 0], "{right}");
    }
}

#[test]
fn containers_outside_kubernetes_have_a_namespace_that_may_be_written() {
    let rules = "file: {matchPaths: [{path: /a}]}";
    let text = policy("KubeArmorPolicy", rules);
    let named = |namespace: &str| {
        let text = text.replace("name: a", &format!("name: a, namespace: {namespace}"));
        read("f", &text)
    };
    let report = named("container_namespace");
    assert_eq!(report.diagnostics, []);
    assert_eq!(report.policies[0].namespace, "container_namespace");
    assert!(named("other_namespace").has_errors());
    for operator in ["In", "NotIn"] {
        let spec = format!(
            "selector: {{matchExpressions: [{{key: namespace, operator: {operator}, \
             values: [container_namespace]}}]}}, {rules}"
        );
        let report = read("f", &policy("KubeArmorClusterPolicy", &spec));
        assert_eq!(report.diagnostics, [], "{operator}");
    }
    let report = named("''");
    let [told] = &report.diagnostics[..] else {
        panic!("{:#?}", report.diagnostics)
    };
    assert_eq!(
        (told.message.as_str(), told.field.as_str()),
        (
            "`namespace` is empty: it is as if it were not there",
            "metadata.namespace"
        )
    );
}

#[test]
fn of_an_empty_action_what_holds_is_told() {
    for (spec, holds) in [
        ("presets: [{name: drift, action: }]", "Block holds"),
        ("action: , file: {matchPaths: [{path: /a}]}", "Block holds"),
        (
            "action: Audit, file: {action: , matchPaths: [{path: /a}]}",
            "that of the level above holds",
        ),
        (
            "action: Audit, file: {matchPaths: [{path: /a, action: }]}",
            "that of the level above holds",
        ),
    ] {
        let told = warnings("KubeArmorPolicy", spec);
        assert_eq!(told, [format!("`action` is empty, so {holds}")], "{spec}");
    }
}

#[test]
fn names_that_are_too_long_are_told_the_limit() {
    let asked = |name: &str| {
        let spec = format!("network: {{matchDNSQueries: [{{domain: {name}}}]}}");
        problem("KubeArmorPolicy", &spec).0
    };
    let label = "l".repeat(64);
    let told = asked(&format!("a.{label}"));
    assert!(
        told.ends_with(&format!("`{label}` has 64 bytes, more than 63")),
        "{told}"
    );
    let name = ["l"; 127].join(".") + "m";
    assert_eq!(name.len(), 254);
    let told = asked(&name);
    assert!(told.ends_with("it has 254 bytes, more than 253"), "{told}");
}

#[test]
fn of_what_is_wrong_in_a_selector_nothing_follows() {
    let text = "apiVersion: security.kubearmor.com/v1
kind: KubeArmorClusterPolicy
metadata: {name: a}
spec:
  selector: {matchExpressions: [{key: namespace, operator: In, values: [Not_One]}]}
  file: {matchPaths: [{path: /a}]}
";
    let report = read("f", text);
    let told: Vec<_> = report
        .diagnostics
        .iter()
        .map(|d| d.message.as_str())
        .collect();
    assert_eq!(told, ["`Not_One` is not a valid name"]);
}

#[test]
fn presets_that_a_host_cannot_have_are_told_of() {
    let spec = "nodeSelector: {matchLabels: {kubernetes.io/hostname: a}}, \
                presets: [{name: filelessExec}, {name: exec}, {name: drift}, {name: bpf}]";
    let told = warnings("KubeArmorHostPolicy", spec);
    assert_eq!(
        told,
        [
            "`exec` is not enforced",
            "`drift` is not enforced",
            "`bpf` is not enforced"
        ]
    );
    let spec = "presets: [{name: exec}, {name: drift}, {name: bpf, action: Audit}]";
    let policy = accepted(spec);
    assert_eq!((policy.rules.len(), policy.not_enforced.len()), (3, 0));
}

#[test]
fn what_comes_in_is_about_tcp_only() {
    let text = |endpoints: &str| {
        format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\n\
             spec:\n  action: Block\n  network:\n    matchEndpoints:\n    {endpoints}\n"
        )
    };
    for protocol in ["udp", "SCTP", "icmp", "icmpv6"] {
        let text = text(&format!(
            "- cidr: 10.0.0.0/8\n    - protocol: {protocol}\n      direction: ingress"
        ));
        let report = read("p.yaml", &text);
        let [told] = &report.diagnostics[..] else {
            panic!("{:#?}", report.diagnostics)
        };
        assert!(!told.is_error());
        assert_eq!(
            told.message,
            format!("`direction: ingress` over `{protocol}` is not enforced")
        );
        assert_eq!(told.place.line, 9);
        assert_eq!(told.field, "spec.network.matchEndpoints[1].protocol");
        assert_eq!(told.allowed, ["tcp"]);
        let [policy] = &report.policies[..] else {
            panic!("{:#?}", report.diagnostics)
        };
        assert_eq!(policy.rules.len(), 1);
        let [part] = &policy.not_enforced[..] else {
            panic!("{:#?}", policy.not_enforced)
        };
        assert_eq!(part.field, told.field);
        assert_eq!(part.location.line, 9);
    }
    for right in [
        "- {protocol: tcp, direction: ingress}",
        "- {direction: ingress}",
        "- {protocol: udp, direction: egress}",
        "- {protocol: udp}",
    ] {
        let report = read("p.yaml", &text(right));
        assert!(report.diagnostics.is_empty(), "{:#?}", report.diagnostics);
        assert_eq!(report.policies[0].not_enforced, []);
    }
    // The whitelist that an Allow rule makes holds all the same.
    let report = read(
        "p.yaml",
        &text("- {protocol: udp, direction: ingress, action: Allow}"),
    );
    let policy = &report.policies[0];
    assert_eq!((policy.rules.len(), policy.not_enforced.len()), (1, 1));
}

#[test]
fn rules_about_what_a_host_policy_spares_are_told_of() {
    let host = |spec: &str| {
        let selector = "nodeSelector: {matchLabels: {kubernetes.io/hostname: a}}";
        format!("{selector}, {spec}")
    };
    let told = |program: &str, what: &str| {
        vec![format!(
            "host policies spare `{program}`: {what} is audited, not blocked"
        )]
    };
    let execute = |program: &str| told(program, "to execute it");
    let does = |program: &str| told(program, "what it does as root");
    for (spec, expected) in [
        (
            "process: {matchPaths: [{path: /usr/bin/login}]}",
            execute("/usr/bin/login"),
        ),
        (
            "process: {matchPaths: [{path: /bin/login}]}",
            execute("/bin/login"),
        ),
        (
            "process: {matchPaths: [{path: /lib/systemd/systemd}]}",
            execute("/lib/systemd/systemd"),
        ),
        (
            "process: {matchPaths: [{execname: runc}]}",
            execute("/usr/bin/runc"),
        ),
        (
            "process: {matchPaths: [{path: /sbin/agetty, ownerOnly: true, action: Allow}]}",
            execute("/sbin/agetty"),
        ),
        (
            "file: {matchPaths: [{path: /usr/bin/login}]}",
            told("/usr/bin/login", "to read it"),
        ),
        (
            "file: {matchPaths: [{path: /etc/x, fromSource: [{path: /usr/bin/a}, {path: /usr/bin/login}]}]}",
            does("/usr/bin/login"),
        ),
        (
            "network: {matchProtocols: [{protocol: 'tcp,udp', fromSource: [{path: /usr/bin/kubelet}]}]}",
            does("/usr/bin/kubelet"),
        ),
    ] {
        let spec = host(spec);
        assert_eq!(warnings("KubeArmorHostPolicy", &spec), expected, "{spec}");
        let meant = format!("includeEssential: true, {spec}");
        assert_eq!(warnings("KubeArmorHostPolicy", &meant), [""; 0], "{meant}");
    }
    for silent in [
        "process: {matchPaths: [{path: /usr/bin/login, action: Audit}]}",
        "process: {matchPaths: [{path: /usr/bin/login, action: Allow}]}",
        "process: {matchPaths: [{path: /opt/login}]}",
        "file: {matchPaths: [{path: /usr/bin/login, readOnly: true}]}",
        "process: {matchDirectories: [{dir: /usr/bin/, recursive: true}]}",
    ] {
        let spec = host(silent);
        assert_eq!(warnings("KubeArmorHostPolicy", &spec), [""; 0], "{spec}");
    }
    let container = "process: {matchPaths: [{path: /usr/bin/login}]}";
    assert_eq!(warnings("KubeArmorPolicy", container), [""; 0]);

    let spec = host("process: {matchPaths: [{path: /a},\n {path: /usr/bin/login}]}");
    let report = read("f", &policy("KubeArmorHostPolicy", &spec));
    let [problem] = &report.diagnostics[..] else {
        panic!("{:#?}", report.diagnostics)
    };
    assert_eq!(problem.place.line, 2);
    assert!(problem.help[0].contains("`includeEssential: true`"));
}
