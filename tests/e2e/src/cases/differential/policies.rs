//! Random policies about a few files, addresses, names and capabilities.

use std::fmt::Write as _;

use fastrand::Rng;

use super::{IMAGES, ROOT, calls, others};

/// What a container needs to run at all, whatever is a whitelist.
const SYSTEM: [&str; 12] = [
    "/usr/",
    "/bin/",
    "/lib/",
    "/lib64/",
    "/sbin/",
    "/etc/",
    "/dev/",
    "/proc/",
    "/sys/",
    "/opt/",
    "/run/",
    "/srv/bin/",
];

const PATTERNS: [&str; 9] = [
    "/**/f1",
    "/*/f?",
    "/**.key",
    "/{a,c}/*",
    "/a/**",
    "/[ab]/*.key",
    "/**/b/**",
    "/*",
    "/a/*/f{1,2}",
];

/// A policy in YAML.
pub(super) fn random(name: &str, rng: &mut Rng) -> String {
    let mut text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  \
         name: {name}\nspec:\n  selector:\n    matchLabels:\n      app: nginx\n"
    );
    for (section, paths) in [("process", "matchPaths"), ("file", "matchPaths")] {
        let _ = writeln!(text, "  {section}:");
        let mut lists = [String::new(), String::new(), String::new()];
        for _ in 0..rng.usize(1..6) {
            let (list, rule) = rule(section, rng);
            let _ = writeln!(lists[list], "    - {{{rule}}}");
        }
        for directory in SYSTEM {
            let _ = writeln!(
                lists[1],
                "    - {{dir: {directory}, recursive: true, action: Allow}}"
            );
        }
        // The image that acts is executed, and opened for that.
        for image in IMAGES {
            let _ = writeln!(lists[0], "    - {{path: {image}, action: Allow}}");
        }
        // Without an Allow rule a family is no whitelist: half of the time.
        if rng.bool() {
            for list in &mut lists {
                let blocks = list.lines().filter(|line| !line.contains("Allow"));
                *list = blocks.map(|line| format!("{line}\n")).collect();
            }
        }
        for (name, list) in [paths, "matchDirectories", "matchPatterns"]
            .iter()
            .zip(&lists)
        {
            if !list.is_empty() {
                let _ = write!(text, "    {name}:\n{list}");
            }
        }
        if lists.iter().all(String::is_empty) {
            let _ = writeln!(text, "    matchPaths: [{{path: {ROOT}/none}}]");
        }
    }
    text + &network(rng) + &capabilities(rng) + &presets(rng)
}

const ACTIONS: [&str; 3] = ["Allow", "Audit", "Block"];

/// The part about sockets, addresses and names.
fn network(rng: &mut Rng) -> String {
    let protocols = rules(rng, |rng| {
        let all = ["tcp", "udp", "icmp", "raw", "stream", "dgram", "seqpacket"];
        format!("protocol: {}", rng.choice(all).unwrap_or("all"))
    });
    let endpoints = rules(rng, |rng| {
        let mut rule = String::new();
        if rng.u8(0..4) != 0 {
            let _ = write!(rule, "cidr: {}", others::network(rng));
        }
        if rule.is_empty() || rng.bool() {
            let comma = if rule.is_empty() { "" } else { ", " };
            let port = rng.choice(others::PORTS).unwrap_or(80);
            let ports = match rng.bool() {
                true => format!("{port}"),
                false => format!("{port}-{}", port + 400),
            };
            let _ = write!(rule, "{comma}ports: [{ports}]");
        }
        if rng.u8(0..3) == 0 {
            let protocol = rng.choice(["tcp", "udp"]).unwrap_or("tcp");
            let _ = write!(rule, ", protocol: {protocol}");
        }
        rule
    });
    let names = rules(rng, |rng| {
        format!("domain: {}", rng.choice(others::DOMAINS).unwrap_or("test"))
    });
    section(
        "network",
        [
            ("matchProtocols", protocols),
            ("matchEndpoints", endpoints),
            ("matchDNSQueries", names),
        ],
    )
}

fn capabilities(rng: &mut Rng) -> String {
    let mut list = rules(rng, |rng| {
        let name = rng.choice(others::CAPABILITIES).unwrap_or("mknod");
        format!("capability: {name}")
    });
    // What calls about files take, were this a whitelist.
    if list.contains("Allow") {
        list.push_str(
            "    - {capability: \"chown,dac_override,dac_read_search,fowner,fsetid\", action: Allow}\n",
        );
    }
    section("capabilities", [("matchCapabilities", list)])
}

fn presets(rng: &mut Rng) -> String {
    let mut text = String::new();
    for (preset, _) in others::PRESETS {
        if rng.u8(0..4) == 0 {
            let action = rng.choice(["Audit", "Block"]).unwrap_or("Block");
            let _ = writeln!(text, "  - {{name: {preset}, action: {action}}}");
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("  presets:\n{text}")
}

/// A few rules of one kind, or none; some of them of one of the images only.
fn rules(rng: &mut Rng, mut rule: impl FnMut(&mut Rng) -> String) -> String {
    let mut list = String::new();
    if rng.bool() {
        return list;
    }
    for _ in 0..rng.usize(1..4) {
        let rule = rule(rng);
        let action = rng.choice(ACTIONS).unwrap_or("Block");
        let _ = write!(list, "    - {{{rule}, action: {action}");
        if rng.u8(0..3) == 0 {
            let source = rng.choice(IMAGES).unwrap_or(IMAGES[0]);
            let _ = write!(list, ", fromSource: [{{path: {source}}}]");
        }
        list.push_str("}\n");
    }
    list
}

/// A part of a policy, unless there is nothing in it.
fn section<const N: usize>(name: &str, lists: [(&str, String); N]) -> String {
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let text: String = lists
        .map(|(kind, list)| format!("    {kind}:\n{list}"))
        .collect();
    match text.as_str() {
        "" => text,
        _ => format!("  {name}:\n{text}"),
    }
}

/// A rule, and which list it goes to.
fn rule(section: &str, rng: &mut Rng) -> (usize, String) {
    let directory = rng.choice(calls::DIRECTORIES).unwrap_or(ROOT);
    let file = rng.choice(calls::NAMES).unwrap_or(calls::PROGRAM);
    let (list, mut rule) = match rng.u8(0..10) {
        0..4 => (0, format!("path: {directory}/{file}")),
        4 if section == "process" => (0, format!("execname: \"{file}\"")),
        4..8 => (1, format!("dir: {directory}/, recursive: {}", rng.bool())),
        _ => {
            let pattern = rng.choice(PATTERNS).unwrap_or("/*");
            (2, format!("pattern: \"{ROOT}{pattern}\""))
        }
    };
    let action = rng.choice(ACTIONS).unwrap_or("Block");
    let _ = write!(rule, ", action: {action}");
    if section == "file" && rng.u8(0..4) == 0 {
        rule.push_str(", readOnly: true");
    }
    if rng.u8(0..5) == 0 {
        rule.push_str(", ownerOnly: true");
    }
    if list != 2 && rng.u8(0..3) == 0 {
        let source = rng.choice(IMAGES).unwrap_or(IMAGES[0]);
        let _ = write!(rule, ", fromSource: [{{path: {source}}}]");
    }
    if list != 2 && rng.u8(0..6) == 0 {
        rule.push_str(", pts: false");
    }
    (list, rule)
}
