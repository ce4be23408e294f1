//! What people see when a policy is wrong.

use karmor_policy::{
    Report,
    diagnostic::{Severity, Style},
    read, read_bytes,
};

/// Reads a text that is wrong and renders what is told about it.
#[track_caller]
fn told(text: &str) -> String {
    let report = read("policy.yaml", text);
    assert!(report.has_errors(), "nothing wrong was found");
    assert_eq!(report.policies, [], "a policy with errors was accepted");
    report.render(text, Style::Plain)
}

/// A policy with a `spec`, which is given with two spaces of indentation.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: example\nspec:\n{spec}"
    )
}

macro_rules! snapshots {
    ($( $name:ident: $text:expr; )*) => {
        $(
            #[test]
            fn $name() {
                insta::assert_snapshot!(told(&$text));
            }
        )*
    };
}

snapshots! {
    field_deeper_than_its_sibling: policy(
        "  file:\n    matchDirectories:\n    - dir: /run/secrets/kubernetes.io/serviceaccount/\n        recursive: true\n"
    );
    field_not_aligned: policy(
        "  file:\n    matchDirectories:\n    - dir: /run/\n     recursive: true\n"
    );
    tab: policy("  file:\n\tmatchPaths:\n");
    unquoted_pattern: policy("  file:\n    matchPatterns:\n    - pattern: *.sh\n");
    unquoted_object: policy("  file:\n    matchPatterns:\n    - pattern: @anonymous\n");
    open_quote: policy("  message: 'it is\n  action: Block\n");
    wrong_escape: policy("  file:\n    matchPaths:\n    - path: \"/a\\d\"\n");
    half_a_character: policy("  message: \"\\ud83d\"\n");
    curly_quotes: policy("  process:\n    matchPaths:\n    - path: “/a”\n      action: ‘Block’\n");
    no_break_space: policy("  process:\n    matchPaths:\n    - path:\u{a0}/a\n      action: Block\n");
    no_break_indentation: policy("  process:\n    matchPaths:\n    - path: /a\n\u{a0}     action: Block\n");
    colon_in_value: policy("  message: careful: this blocks\n");
    missing_space: policy("  action:Block\n");
    open_bracket: policy("  tags: [a, b\n  action: Block\n");
    alias_of_itself: policy("  tags: &tags [*tags]\n");
    second_merge_key: policy("  file:\n    matchPaths:\n    - &a\n      path: /a\n    - <<: *a\n      <<: {readOnly: true}\n");
    unknown_tag: policy("  message: !secret x\n  process: {matchPaths: [{path: /a}]}\n");
    duplicate_key: policy("  action: Block\n  process: {matchPaths: [{path: /a}]}\n  action: Allow\n");
    key_that_is_a_list: policy("  process: {matchPaths: [{path: /a}]}\n  ? [a]\n  : b\n");
    unknown_field: policy("  process:\n    matchPath:\n    - path: /bin/ls\n");
    unknown_field_of_another_kind: policy("  nodeSelector: {matchLabels: {a: b}}\n  process: {matchPaths: [{path: /a}]}\n");
    wrong_types: policy(
        "  severity: \"3\"\n  tags: one\n  process:\n    matchPaths:\n      path: /bin/ls\n  file:\n    matchPaths:\n    - path: 5\n      readOnly: yes\n    - readOnly: \"true\"\n      path: /a\n    - path: [a]\n  capabilities: none\n"
    );
    many_problems_at_once: policy(
        "  severity: 11\n  action: deny\n  process:\n    matchPaths:\n    - path: usr/bin/apt\n    - pathh: /x\n    - path: /usr/../bin/apt\n      action: block\n    - execname: bin/apt\n    - {}\n"
    );
    control_characters: policy("  process:\n    matchPaths:\n    - path: \"/bin/\\e[31m\\0\"\n    - path: \"/\\u202e\"\n      \"a\\e[2J\": 1\n");
    missing_name: "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {}\nspec:\n  process: {matchPaths: [{path: bin}]}\n";
    missing_envelope: "metadata:\n  name: a\nspec: {}\n";
    wrong_version: "apiVersion: security.kubearmor.com/v2\nkind: KubeArmorPolicy\nmetadata: {name: a}\nspec: {process: {matchPaths: [{path: /a}]}}\n";
    wrong_kind: "apiVersion: v1\nkind: kubearmorpolicy\nmetadata: {name: a}\n";
    other_kind: "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorNetworkPolicy\nmetadata: {name: a}\n";
    not_a_mapping: "- just\n- a list\n";
    host_without_selector: "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {name: a}\nspec: {process: {matchPaths: [{path: /a}]}}\n";
    item_of_a_list: "apiVersion: v1\nkind: List\nitems:\n- apiVersion: security.kubearmor.com/v1\n  kind: KubeArmorPolicy\n  metadata: {name: a}\n  spec:\n    process: {matchPaths: [{path: a}], matchPathz: []}\n- 5\n";
    json: "{\"apiVersion\": \"security.kubearmor.com/v1\", \"kind\": \"KubeArmorPolicy\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"process\": {\"matchPaths\": [{\"path\": \"/bin/\"}]}}}\n";
}

#[test]
fn warnings_that_keep_the_policy() {
    let text = policy(
        "  selector:\n    matchLabels:\n      kubearmor.io/hostname: a\n  process:\n    matchPaths:\n    - path: /bin/a\n      action: Allow\n    - path: /bin/a\n      action: Block\n    - path: /bin/a\n      action: Audit\n    - path: /bin/*\n    - path: /bin/b\n      fromSource: []\n    - path: /bin/c\n      pts: false\n    - path: /bin/d\n      allowedArgs: [-l]\n      action: Allow\n    - path: /bin/e\n      pts: false\n      action: Audit\n  file: {}\n  network:\n    matchProtocols:\n    - protocol: tcp, UDP\n",
    );
    let report = read("policy.yaml", &text);
    assert!(!report.has_errors());
    assert_eq!(report.policies.len(), 1);
    insta::assert_snapshot!(report.render(&text, Style::Plain));
}

#[test]
fn an_alias_is_not_for_the_next_document() {
    let rule = "  process: {matchPaths: [{path: /a}]}\n";
    let first = policy(&format!("  message: &n x\n{rule}"));
    let second = policy(&format!("  message: *n\n{rule}")).replace("example", "other");
    let text = format!("{first}---\n{second}");
    let report = read("policy.yaml", &text);
    assert_eq!(report.policies.len(), 1);
    let [problem] = &report.diagnostics[..] else {
        panic!("{:#?}", report.diagnostics)
    };
    assert_eq!(problem.message, "no anchor of this document is named `n`");
    assert_eq!((problem.place.line, problem.place.column), (14, 12));
}

#[test]
fn a_rule_written_as_an_alias_stands_where_the_alias_does() {
    let text = policy("  file:\n    matchPaths:\n    - &x\n      path: /a\n    - *x\n");
    let report = read("policy.yaml", &text);
    let lines: Vec<u32> = report.policies[0]
        .rules
        .iter()
        .map(|rule| rule.location.line)
        .collect();
    assert_eq!(lines, [8, 10]);
    let [problem] = &report.diagnostics[..] else {
        panic!("{:#?}", report.diagnostics)
    };
    assert_eq!((problem.place.line, problem.related[0].place.line), (10, 8));
}

/// The API server drops what is null, so what was a condition holds for everybody.
#[test]
fn fields_without_a_value_are_told_of() {
    let rule = |rule: &str| format!("  process:\n    matchPaths:\n    - path: /a\n      {rule}\n");
    let paths = "spec.process.matchPaths";
    for (spec, field, message) in [
        (
            rule("fromSource:"),
            format!("{paths}[0].fromSource"),
            "`fromSource` is empty, so the rule is for every executable",
        ),
        (
            rule("allowedArgs: ~"),
            format!("{paths}[0].allowedArgs"),
            "`allowedArgs` is empty, so the rule allows any arguments",
        ),
        (
            rule("ownerOnly: null"),
            format!("{paths}[0].ownerOnly"),
            "`ownerOnly` is empty: it is as if it were not there",
        ),
        (
            rule("action:"),
            format!("{paths}[0].action"),
            "`action` is empty, so that of the level above holds",
        ),
        (
            rule("severity: 1") + "    matchPatterns:\n",
            "spec.process.matchPatterns".to_owned(),
            "`matchPatterns` is empty: it is as if it were not there",
        ),
        (
            rule("severity: 1") + "  file:\n",
            "spec.file".to_owned(),
            "`file` is empty: it is as if it were not there",
        ),
    ] {
        let text = policy(&spec);
        let report = read("f", &text);
        let [told] = report.diagnostics.as_slice() else {
            panic!("{text}{:?}", report.diagnostics)
        };
        assert_eq!((&told.field, told.message.as_str()), (&field, message));
        assert!(!told.is_error() && told.place.line > 1, "{told:?}");
    }
    let labels = policy(&rule("severity: 1")).replace("name: ", "labels: {app: }\n  name: ");
    let report = read("f", &labels);
    let told: Vec<_> = report.diagnostics.iter().map(|d| &d.message).collect();
    assert_eq!(
        told,
        ["`app` has no value: the empty text is taken"],
        "{labels}"
    );
    let printed =
        policy(&rule("severity: 1")).replace("name: ", "creationTimestamp: null\n  name: ");
    assert_eq!(read("f", &printed).diagnostics, [], "{printed}");
}

#[test]
fn of_two_with_one_name_the_first_is_kept() {
    let text = ["/a", "/b", "c"]
        .map(|path| policy(&format!("  process: {{matchPaths: [{{path: {path}}}]}}\n")))
        .join("---\n");
    let report = read("policy.yaml", &text);
    assert_eq!(report.policies.len(), 1);
    assert_eq!(report.policies[0].location.line, 1);
    insta::assert_snapshot!(report.render(&text, Style::Plain));
}

#[test]
fn windows_line_ends_make_no_difference() {
    let text =
        policy("  severty: 3\n  process:\n    matchPaths:\n    - path: bin\n      execname: a\n");
    let windows = text.replace('\n', "\r\n");
    // The excerpt of a line in the middle keeps a space for the carriage return.
    assert_eq!(told(&text), told(&windows).replace(" \n", "\n"));
}

#[test]
fn colours_only_add_colours() {
    let text = policy("  severty: 3\n");
    let report = read("policy.yaml", &text);
    let coloured = report.render(&text, Style::Coloured);
    assert!(coloured.contains("\u{1b}["));
    let escape = regex_lite::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert_eq!(
        escape.replace_all(&coloured, ""),
        report.render(&text, Style::Plain)
    );
}

#[test]
fn nothing_that_is_told_controls_a_terminal() {
    let text = policy("  \"a\\e[2J\\u009b\\u202e\": 1\n  action: \"\\e]0;x\\a\"\n# \u{9b}2J\n");
    let report = read("po\u{1b}licy.yaml", &text);
    let rendered = report.render(&text, Style::Plain);
    let unsafe_chars: Vec<char> = rendered
        .chars()
        .filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}')
        .collect();
    assert_eq!(unsafe_chars, [], "{rendered}");
    let json = serde_json::to_string(&report.diagnostics).unwrap();
    assert!(
        !json.chars().any(|c| c.is_control() || c == '\u{202e}'),
        "{json}"
    );
}

#[test]
fn json_of_a_diagnostic() {
    let text = policy("  severty: 3\n  process: {matchPaths: [{path: /a, path: /b}]}\n");
    let report = read("policy.yaml", &text);
    let json = serde_json::to_string_pretty(&report.diagnostics).unwrap();
    insta::assert_snapshot!(json);
}

/// What is told of a list of rules.
fn told_of_rules(rules: &str) -> Report {
    read(
        "f",
        &policy(&format!("  process:\n    matchPaths:\n{rules}")),
    )
}

#[test]
fn at_most_a_hundred_problems_are_told_and_the_rest_counted() {
    let report = told_of_rules(&"    - path: bin\n".repeat(500));
    assert_eq!(report.diagnostics.len(), 101);
    let last = &report.diagnostics[100];
    assert_eq!(last.message, "400 more errors are not shown");
    // The spec's first rule is on line 8.
    assert_eq!(last.place.line, 8 + 100, "the first that is not shown");
    assert_eq!(report.count(Severity::Error), 500);
}

#[test]
fn warnings_do_not_crowd_out_the_error() {
    let rules = "    - path: /a\n".repeat(150) + "    - path: rel\n";
    let report = told_of_rules(&rules);
    let errors: Vec<_> = report.diagnostics.iter().filter(|d| d.is_error()).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].suggestion.as_deref(), Some("/rel"));
    assert_eq!(errors[0].place.line, 8 + 150);
    let last = report.diagnostics.last().expect("some");
    assert_eq!(last.message, "49 more warnings are not shown");
    assert_eq!(
        (
            report.count(Severity::Error),
            report.count(Severity::Warning)
        ),
        (1, 149)
    );
}

#[test]
fn places_are_those_of_the_text() {
    let text =
        policy("  # ä ö\n  message: ä\n  process:\n    matchPaths: [{path: /ä}, {path: ä}]\n");
    let report = read("f", &text);
    let place = &report.diagnostics[0].place;
    assert_eq!((place.line, place.column), (9, 37));
    assert_eq!(&text[place.span.clone()], "ä");
    assert_eq!(
        report.diagnostics[0].field,
        "spec.process.matchPaths[1].path"
    );

    let with_mark = format!("\u{feff}{text}");
    assert_eq!(read("f", &with_mark).diagnostics, report.diagnostics);
    assert_eq!(
        read("f", &with_mark).render(&with_mark, Style::Plain),
        report.render(&text, Style::Plain)
    );
}

#[test]
fn bytes_that_are_not_utf8_have_a_place() {
    let told = |bytes: &[u8]| {
        let (text, report) = read_bytes("policy.yaml", bytes);
        assert_eq!(report.policies, []);
        report.render(&text, Style::Plain)
    };
    let latin = policy("  message: caf\u{e9}\n").replace('\u{e9}', "?");
    let latin: Vec<u8> = latin
        .bytes()
        .map(|b| if b == b'?' { 0xe9 } else { b })
        .collect();
    insta::assert_snapshot!(told(&latin));
    let with_mark = [b"\xef\xbb\xbf", latin.as_slice()].concat();
    let line = |text: &str| text.lines().nth(1).map(str::to_owned);
    assert_eq!(line(&told(&with_mark)), line(&told(&latin)));
    assert_eq!(
        told(b"\xef\xbb\xbf\xff").lines().nth(1),
        Some(" --> policy.yaml:1:1")
    );

    let wide = policy("")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect::<Vec<u8>>();
    let wide = [b"\xff\xfe", wide.as_slice()].concat();
    insta::assert_snapshot!(told(&wide));
}

#[test]
fn typographic_letters_are_explained_only_where_they_are_no_text() {
    let text = policy("  message: don’t # “c”\n  severity: x\n");
    let told = told(&text);
    assert!(!told.contains("curly"), "{told}");
}

#[test]
fn a_text_that_is_no_yaml_is_told_from_a_policy_that_is_not_valid() {
    let damaged = |text: &str| read("policy.yaml", text).damaged;
    assert!(damaged("kind: ["));
    assert!(read_bytes("policy.yaml", b"\xff").1.damaged);
    for refused in ["kind: Pod\n", "a list\n", "", &policy("  message: [1]\n")] {
        assert!(!damaged(refused), "{refused}");
    }
}
