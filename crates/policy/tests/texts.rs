//! Every policy has a text that stands on its own.

use karmor_policy::{Report, manifest::limits, read};
use proptest::{prelude::*, sample::Index};

#[expect(dead_code, reason = "only part of it is needed here")]
#[path = "../fuzz/bodies/manifest.rs"]
mod target;

const HEAD: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n";

fn policy(name: &str) -> String {
    format!(
        "{HEAD}metadata: {{name: {name}}}\nspec:\n  severity: 5\n  tags: [\"a: b\", '5']\n  \
         process:\n    matchPaths:\n    - path: /bin/{name}\n    - path: \"/bin/x y\"\n      \
         ownerOnly: true\n  action: Block\n"
    )
}

fn list(items: &[String]) -> String {
    let mut text = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
    for item in items {
        let lines = item.lines().map(|line| format!("  {line}\n"));
        text.push_str(&lines.collect::<String>().replacen("  ", "- ", 1));
    }
    text
}

fn json(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"security.kubearmor.com/v1","kind":"KubeArmorPolicy","metadata":{{"name":"{name}","annotations":{{"\ud83d\ude00":"a\tb"}}}},"spec":{{"process":{{"matchPaths":[{{"path":"/bin/\ud83d\ude00"}}]}},"action":"Block"}}}}"#
    )
}

/// Without what is JSON and not YAML.
fn one_line(name: &str) -> String {
    json(name).replace("\\ud83d\\ude00", "x")
}

/// Reads a text and each policy of it alone.
fn names(text: &str) -> (Vec<String>, Report) {
    let report = read("t.yaml", text);
    target::alone(&report, |text| read("alone.yaml", text));
    let names = report.policies.iter().map(|policy| policy.name.clone());
    (names.collect(), report)
}

#[test]
fn each_policy_stands_on_its_own() {
    let (a, b) = (policy("a"), policy("b"));
    let bad = policy("bad").replace("5\n", "50\n");
    let shared = "\
apiVersion: v1
kind: List
items:
- &one
  apiVersion: &version security.kubearmor.com/v1
  kind: KubeArmorPolicy
  metadata: {name: a}
  spec: &spec
    process: &process
      matchPaths:
      - &path {path: /bin/a}
    action: Block
- apiVersion: *version
  kind: KubeArmorPolicy
  metadata: {name: b}
  spec:
    <<: *spec
    file: {matchPaths: [*path]}
- <<: *one
  metadata: {name: c}
";
    let cases: &[(String, &[&str])] = &[
        (a.clone(), &["a"]),
        (format!("\u{feff}{a}"), &["a"]),
        (format!("{a}---\n{b}"), &["a", "b"]),
        (format!("{a}---\n{b}").replace('\n', "\r\n"), &["a", "b"]),
        (format!("{a}---\n{b}").replace('\n', "\r"), &["a", "b"]),
        (
            format!("# x\n---\n# y\n{a}# z\n--- # yes\n\n{b}---\n"),
            &["a", "b"],
        ),
        (format!("--- !!map\n{a}--- &x\n{b}"), &["a", "b"]),
        (format!("{a}...\n{b}"), &["a", "b"]),
        (format!("{a}... # x\n# y\n{b}...\n...\n"), &["a", "b"]),
        (format!("{a}...\n{bad}"), &["a"]),
        (format!("{bad}...\n{b}"), &["b"]),
        (format!("{a}...\nkind: [\n---\n{b}"), &["a", "b"]),
        (format!("{a}}} x\n---\n{b}"), &["b"]),
        (format!("{}\nx: y\n---\n{b}", one_line("a")), &["a", "b"]),
        (format!("{} x\n---\n{b}", one_line("a")), &["a", "b"]),
        (format!("%YAML 1.2\n---\n{a}"), &["a"]),
        (format!("{a}...\n%YAML 1.2\n---\n{b}"), &["a", "b"]),
        (
            format!(
                "%TAG !y! tag:yaml.org,2002:\n# x\n---\n{}---\n{b}",
                a.replace("/bin/a", "!y!str /bin/a")
            ),
            &["a", "b"],
        ),
        (
            format!("{b}...\n%TAG !y! tag:yaml.org,2002:\n--- !y!map\n{a}"),
            &["b", "a"],
        ),
        (list(&[a.clone(), b.clone()]), &["a", "b"]),
        (list(&[a.clone(), bad.clone(), b.clone()]), &["a", "b"]),
        (
            list(&[a.clone(), list(&[policy("c")]), b.clone()]),
            &["a", "b"],
        ),
        (
            format!("{}---\n{}", list(std::slice::from_ref(&a)), policy("c")),
            &["a", "c"],
        ),
        (
            list(&[a.clone(), b.clone()]).replace('\n', "\r\n"),
            &["a", "b"],
        ),
        (
            format!("\u{feff}---\n{}", list(&[a.clone(), b.clone()])),
            &["a", "b"],
        ),
        (shared.to_owned(), &["a", "b", "c"]),
        (
            a.replace(
                "  process:",
                "  file: {matchPaths: &p [{path: /a}]}\n  process:",
            )
            .replace(
                "    matchPaths:\n    - path: /bin/a\n",
                "    matchPaths: *p\n    x",
            )
            .replace("    x    - path: \"/bin/x y\"\n      ownerOnly: true\n", ""),
            &["a"],
        ),
        (json("a"), &["a"]),
        (json("a").replace(',', "\t,\r\n\t"), &["a"]),
        (format!("{}\n---\n{b}", one_line("a")), &["a", "b"]),
        (
            format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"KubeArmorPolicyList\",\"items\":[{},\t{}]}}",
                json("a"),
                json("b")
            ),
            &["a", "b"],
        ),
    ];
    for (text, expected) in cases {
        let (names, report) = names(text);
        assert_eq!(names, *expected, "{text}\n{:?}", report.diagnostics);
        let bytes: usize = report.texts.iter().map(String::len).sum();
        assert!(bytes <= 2 * text.len(), "{bytes} bytes of {}", text.len());
    }
}

#[test]
fn what_stands_on_its_own_is_kept_as_written() {
    let (a, b) = (format!("# about a\n{}", policy("a")), policy("b"));
    for text in [
        format!("{a}---\n{b}"),
        format!("{a}...\n---\n{b}...\n"),
        format!("# x\n---\n{a}---\n{b}"),
        format!("{a}---  \n{b}"),
    ] {
        assert_eq!(names(&text).1.texts, [a.clone(), b.clone()], "{text}");
    }
    let listed = names(&list(&[a, b.clone()])).1.texts;
    assert!(listed[0].starts_with(HEAD), "{}", listed[0]);
    assert!(!listed[0].contains("about"), "{}", listed[0]);
}

#[test]
fn a_long_list_is_not_kept_once_a_policy() {
    let items: Vec<String> = (0..300).map(|i| policy(&format!("p{i}"))).collect();
    let text = list(&items);
    let (names, report) = names(&text);
    assert_eq!(names.len(), 300);
    let bytes: usize = report.texts.iter().map(String::len).sum();
    assert!(bytes <= 2 * text.len(), "{bytes} bytes of {}", text.len());
}

#[test]
fn aliases_do_not_multiply_without_end() {
    let mut text = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
    let paths = (0..50).map(|i| {
        format!(
            "      - path: /{}{i}\n",
            format!("{}/", "a".repeat(200)).repeat(9)
        )
    });
    for i in 0..200 {
        let head = HEAD.replace('\n', "\n  ");
        text.push_str(&format!("- {head}metadata: {{name: p{i}}}\n  spec:\n"));
        if i == 0 {
            let paths: String = paths.clone().collect();
            text.push_str(&format!(
                "    action: Block\n    process: &p\n      matchPaths:\n{paths}"
            ));
        } else {
            text.push_str("    action: Block\n    process: *p\n");
        }
    }
    let report = read("t.yaml", &text);
    let bytes: usize = report.texts.iter().map(String::len).sum();
    assert!(
        bytes <= limits::WRITTEN_BYTES && bytes > limits::WRITTEN_BYTES / 2,
        "{bytes}"
    );
    assert!(report.has_errors() && report.policies.len() == report.texts.len());
    let error = &report.diagnostics[0];
    assert!(error.message.contains("aliases written out"), "{error:?}");
    assert!(error.field.starts_with("items["), "{error:?}");
}

proptest! {
    #[test]
    fn each_policy_stands_on_its_own_whatever_is_around_it(
        pieces in proptest::collection::vec((0usize..10, 0usize..10), 1..6),
        cuts in proptest::collection::vec((any::<Index>(), 0usize..12, "[-:.%&*!|>{}\\[\\],#'\" \t\r\na/@0\u{e4}\u{feff}]{0,4}"), 0..3),
    ) {
        let separators = [
            "---\n", "...\n", "...\n---\n", "--- ", "---\r", "...\n%YAML 1.2\n---\n", "\n",
            "...\n%TAG !y! tag:yaml.org,2002:\n---\n", "# x\n--- # y\n", "... # x\n# y\n",
        ];
        let mut text = String::new();
        for (index, (kind, separator)) in pieces.into_iter().enumerate() {
            let name = format!("p{index}");
            text.push_str(&match kind {
                0..3 => policy(&name),
                3 => list(&[policy(&name), policy(&format!("{name}.x"))]),
                4 => policy(&name).replace("/bin/x y", "&a x").replace("5\n", "50\n"),
                5 => policy(&name).replace(" /bin/p", " !y!str /bin/p"),
                6 => policy(&name).replace('\n', "\r\n"),
                7 => format!("{}\n", one_line(&name)),
                8 => "kind: [\n".to_owned(),
                _ => String::new(),
            });
            text.push_str(separators[separator]);
        }
        let mut chars: Vec<char> = text.chars().collect();
        for (at, length, new) in cuts {
            let at = at.index(chars.len() + 1);
            let end = (at + length).min(chars.len());
            chars.splice(at..end, new.chars());
        }
        names(&chars.into_iter().collect::<String>());
    }
}
