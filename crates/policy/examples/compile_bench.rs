//! Measures the compiler: time and table size by number of rules, as one JSON array of rows
//! `{name, unit, value}`.
//!
//! 60 % paths, 38 % directories (half of them recursive), 2 % globs of which there are at most 50,
//! laid out like an image's file system. Build with `--release`.
#![expect(clippy::print_stdout, reason = "the rows are this program's output")]

use std::{error::Error, sync::Arc, time::Instant};

use karmor_policy::{
    alias::Aliases,
    compile::compile,
    compiled::Compiled,
    model::{Action, Family, Kind, Location, Meta, Policy, Postures, Rule, Selector, Target},
    select::Effective,
};
use serde_json::json;

/// Times each compilation is repeated; the fastest counts.
const REPEATS: usize = 5;

/// Most globs in a mix.
const GLOBS_MAX: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    for count in [10, 100, 1_000, 10_000] {
        let effective = effective(count, mixed);
        push(&mut rows, &format!("rules={count}"), &effective)?;
    }
    // Globs that reach into a tree of other rules, which multiplies states.
    let crossing = effective(1_200, |index| match index % 6 {
        0 => Target::Glob(format!("/opt/**/secret{}/*.key", index / 6)),
        _ => Target::Path(path(index)),
    });
    push(&mut rows, "paths=1000,globs=200", &crossing)?;
    let crossing = effective(1_000, |index| match index % 50 {
        0 => Target::Glob(format!("/opt/**/secret{}/*.key", index / 50)),
        at => Target::Directory {
            path: path(index) + "/",
            recursive: at % 2 == 0,
        },
    });
    push(&mut rows, "directories=980,globs=20", &crossing)?;
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}

fn push(
    rows: &mut Vec<serde_json::Value>,
    name: &str,
    effective: &Effective,
) -> Result<(), Box<dyn Error>> {
    let (milliseconds, compiled) = timed(effective)?;
    let bytes = compiled.words.len() * size_of::<u64>();
    rows.push(json!({"name": format!("compile/{name}"), "unit": "ms", "value": milliseconds}));
    rows.push(json!({"name": format!("table/{name}"), "unit": "bytes", "value": bytes}));
    Ok(())
}

fn timed(effective: &Effective) -> Result<(f64, Compiled), Box<dyn Error>> {
    let mut best = f64::INFINITY;
    let mut compiled = compile(effective)?;
    for _ in 0..REPEATS {
        let start = Instant::now();
        compiled = compile(effective)?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(((best * 1e3).round() / 1e3, compiled))
}

fn effective(count: usize, target: impl Fn(usize) -> Target) -> Effective {
    let rules = (0..count).map(|index| Rule {
        family: if index % 3 == 0 {
            Family::Process
        } else {
            Family::File
        },
        target: target(index),
        sources: Vec::new(),
        read_only: index % 11 == 0,
        owner_only: false,
        no_terminal: false,
        spares: false,
        arguments: None,
        action: if index % 7 == 0 {
            Action::Audit
        } else {
            Action::Block
        },
        meta: Arc::new(Meta::default()),
        location: Location {
            file: "bench.yaml".into(),
            line: 1,
            column: 1,
        },
    });
    let policy = Policy {
        kind: Kind::Container,
        name: "bench".into(),
        namespace: "default".into(),
        selector: Selector::default(),
        rules: rules.collect(),
        not_enforced: Vec::new(),
        location: Location {
            file: "bench.yaml".into(),
            line: 1,
            column: 1,
        },
    };
    Effective::new(
        [Arc::new(policy)],
        Postures::default(),
        Aliases::merged_usr(),
    )
}

fn mixed(index: usize) -> Target {
    match index % 50 {
        49 if index / 50 < GLOBS_MAX => Target::Glob(format!("/data/**/secret{index}/*.key")),
        0..30 => Target::Path(path(index)),
        _ => Target::Directory {
            path: path(index) + "/",
            recursive: (index / 50).is_multiple_of(2),
        },
    }
}

fn path(index: usize) -> String {
    const TOPS: [&str; 8] = [
        "/usr/bin",
        "/etc",
        "/usr/lib/x86_64-linux-gnu",
        "/opt/app",
        "/var/lib",
        "/srv/data",
        "/home",
        "/bin",
    ];
    const WORDS: [&str; 7] = [
        "config", "server", "agent", "cache", "module", "tool", "key",
    ];
    let top = TOPS[index % TOPS.len()];
    let word = WORDS[index % WORDS.len()];
    format!(
        "{top}/{word}{}/{}-{index}",
        index % 97,
        WORDS[(index / 7) % WORDS.len()]
    )
}
