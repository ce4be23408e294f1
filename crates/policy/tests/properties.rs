//! The compiled table says what the reference says, about every access.
//!
//! `KARMOR_PROPERTY_CASES=1000000 cargo test --release -p karmor-policy --test properties` asks
//! about that many pairs of policy set and access.

mod common;

use std::{fmt::Write as _, sync::Arc};

use karmor_abi::op::{Object, Op};
use karmor_policy::{
    alias::Aliases,
    compile::{CompileError, compile},
    compiled::Compiled,
    model::{Action, Family, Posture, Rule, Target},
    reference::{self, Access, AccessObject},
    select::Effective,
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};

/// Accesses tried on each policy set.
const ACCESSES: u32 = 16;

/// Pairs tried when nothing else is asked for: a few seconds without optimisation.
const PAIRS: u32 = 40_000;

/// Longest search for a smaller failing case, in milliseconds.
const SHRINK_MS: u32 = 60_000;

/// Names that collide, nest, and look alike.
const NAMES: &[&str] = &[
    "a", "b", "ab", "abc", "bin", "usr", "x.key", "y.key", "k1", "k2", "é",
];

const SOURCES: &[&str] = &["/bin/a", "/usr/bin/a", "/usr/bin/b", "/a/ab", "/a"];

fn name() -> impl Strategy<Value = String> {
    select(NAMES).prop_map(str::to_owned)
}

fn components() -> impl Strategy<Value = String> {
    let top = prop_oneof![
        4 => name(),
        2 => select(&["bin", "usr/bin", "sbin", "lib64", "var/run", "run"][..]).prop_map(str::to_owned),
    ];
    (top, vec(name(), 0..4)).prop_map(|(top, rest)| {
        rest.iter()
            .fold(format!("/{top}"), |path, name| format!("{path}/{name}"))
    })
}

fn directory() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just("/".to_owned()), 9 => components().prop_map(|path| path + "/")]
}

fn glob_piece() -> impl Strategy<Value = String> {
    let fixed = &[
        "*",
        "**",
        "?",
        "[ab]",
        "[a-c]",
        "[^a]",
        "[^a-z]",
        "{a,b}",
        "{a,b{b,c},}",
        "{bin,usr/bin}",
        "{*,k}",
        "\\*",
        "a*",
        "*.key",
        "k?",
        "[\\]\\-k]",
        "{**,a}b",
        "?*",
    ];
    prop_oneof![3 => select(&fixed[..]).prop_map(str::to_owned), 2 => name()]
}

fn glob() -> impl Strategy<Value = String> {
    let slashed = |pieces: Vec<(bool, String)>| {
        pieces
            .iter()
            .fold(String::new(), |mut glob, (slash, piece)| {
                let _ = write!(glob, "{}{piece}", if *slash { "/" } else { "" });
                glob
            })
    };
    let rooted = vec((prop::bool::weighted(0.7), glob_piece()), 1..5)
        .prop_map(move |pieces| format!("/{}", slashed(pieces)));
    prop_oneof![
        6 => rooted,
        2 => (components(), glob_piece()).prop_map(|(path, piece)| format!("{path}/{piece}")),
        1 => name().prop_map(|name| format!("**/{name}")),
        2 => name().prop_map(|name| format!("/**/{name}/**")),
        1 => name().prop_map(|name| format!("/**/*{name}*")),
        1 => Just("**".to_owned()),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        4 => components().prop_map(Target::Path),
        1 => name().prop_map(Target::ExecName),
        4 => (directory(), any::<bool>())
            .prop_map(|(path, recursive)| Target::Directory { path, recursive }),
        4 => glob().prop_map(Target::Glob),
        1 => select(&Object::ALL[..]).prop_map(Target::Object),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let sources = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(select(SOURCES).prop_map(str::to_owned), 1..3),
    ];
    (
        select(&[Family::Process, Family::File][..]),
        target(),
        select(&[Action::Allow, Action::Audit, Action::Block][..]),
        sources,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(family, target, action, sources, read_only, owner_only)| Rule {
                sources,
                read_only,
                owner_only,
                ..common::rule(family, target, action)
            },
        )
}

fn any_effective() -> impl Strategy<Value = Effective> {
    let aliases = prop_oneof![
        Just(Aliases::none()),
        Just(Aliases::merged_usr()),
        Just(Aliases::observed([
            ("/bin", "usr/bin"),
            ("/sbin", "usr/sbin"),
            ("/usr/sbin", "bin")
        ])),
    ];
    let posture = select(&[Posture::Audit, Posture::Block, Posture::Allow][..]);
    let policies = vec(vec(any_rule(), 0..5), 1..4);
    (policies, posture, aliases).prop_map(|(policies, posture, aliases)| {
        let policies = policies
            .into_iter()
            .enumerate()
            .map(|(index, rules)| Arc::new(common::policy(&format!("p{index}"), rules)));
        Effective::new(policies, posture, aliases)
    })
}

/// How to make a path: from nothing, or from the text of a rule.
#[derive(Clone, Debug)]
enum PathSeed {
    Free(String),
    Near { rule: Index, edits: Vec<Edit> },
}

#[derive(Clone, Debug)]
enum Edit {
    Append(String),
    Parent,
    Below(String),
    Remove(Index),
    Replace(Index, u8),
    RealName,
}

fn path_seed() -> impl Strategy<Value = PathSeed> {
    let byte = select(b"ab/k.*\xff-]".as_slice());
    let edit = prop_oneof![
        name().prop_map(Edit::Append),
        Just(Edit::Parent),
        name().prop_map(Edit::Below),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), byte).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        Just(Edit::RealName),
    ];
    prop_oneof![
        1 => components().prop_map(PathSeed::Free),
        1 => Just(PathSeed::Free("/".into())),
        6 => (any::<Index>(), vec(edit, 0..4)).prop_map(|(rule, edits)| PathSeed::Near { rule, edits }),
    ]
}

fn path(seed: &PathSeed, effective: &Effective) -> Vec<u8> {
    let (rule, edits) = match seed {
        PathSeed::Free(path) => return path.clone().into_bytes(),
        PathSeed::Near { rule, edits } => (rule, edits),
    };
    let mut text = match effective.rules.len() {
        0 => "/a".to_owned(),
        count => match &effective.rules[rule.index(count)].rule().target {
            Target::Path(text) | Target::Glob(text) => text.clone(),
            Target::Directory { path, .. } => path.trim_end_matches('/').to_owned(),
            Target::ExecName(name) => format!("/a/{name}"),
            Target::Object(_) => "/a/b".to_owned(),
        },
    };
    // Something a glob could mean.
    for (from, to) in [
        ("**", "a/b"),
        ("*", "ab"),
        ("?", "a"),
        ("[ab]", "a"),
        ("{a,b}", "b"),
    ] {
        text = text.replace(from, to);
    }
    let mut path = text.into_bytes();
    for edit in edits {
        match edit {
            Edit::Append(name) => path.extend(name.bytes()),
            Edit::Below(name) => path.extend(format!("/{name}").bytes()),
            Edit::Parent => {
                path.truncate(path.iter().rposition(|&b| b == b'/').unwrap_or(0));
            }
            Edit::Remove(at) if !path.is_empty() => {
                path.remove(at.index(path.len()));
            }
            Edit::Replace(at, byte) if !path.is_empty() => {
                let at = at.index(path.len());
                path[at] = *byte;
            }
            Edit::RealName => {
                if let Ok(text) = std::str::from_utf8(&path) {
                    path = effective.aliases.resolve(text).into_bytes();
                }
            }
            Edit::Remove(_) | Edit::Replace(..) => {}
        }
    }
    // What the kernel half produces: absolute, no empty component.
    let parts: Vec<&[u8]> = path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty())
        .collect();
    let absolute: Vec<u8> = parts
        .iter()
        .flat_map(|part| [b"/", *part].concat())
        .collect();
    if absolute.is_empty() {
        b"/".to_vec()
    } else {
        absolute
    }
}

#[derive(Clone, Debug)]
struct AccessSeed {
    op: Op,
    object: Result<PathSeed, Object>,
    source: Option<&'static str>,
    parent: Option<&'static str>,
    owner: bool,
}

fn access_seed() -> impl Strategy<Value = AccessSeed> {
    let object = prop_oneof![
        9 => path_seed().prop_map(Ok),
        1 => select(&Object::ALL[..]).prop_map(Err),
    ];
    let image = || option::weighted(0.8, prop_oneof![4 => select(SOURCES), 1 => Just("/other")]);
    (
        select(&Op::ALL[..]),
        object,
        image(),
        image(),
        any::<bool>(),
    )
        .prop_map(|(op, object, source, parent, owner)| AccessSeed {
            op,
            object,
            source,
            parent,
            owner,
        })
}

/// Compiles; globs that together need more than a table holds are another test's matter.
fn compiled(effective: &Effective) -> Result<Compiled, TestCaseError> {
    compile(effective).map_err(|error| match error {
        CompileError::TooComplex { .. } => TestCaseError::reject("too complex"),
        CompileError::TooLarge { .. } => TestCaseError::reject("too large"),
        other => TestCaseError::fail(other.to_string()),
    })
}

#[test]
fn matcher_equals_reference() {
    let pairs = std::env::var("KARMOR_PROPERTY_CASES").map_or(PAIRS, |cases| {
        cases.parse().expect("KARMOR_PROPERTY_CASES is a number")
    });
    let cases = pairs.div_ceil(ACCESSES);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    });
    let strategy = (any_effective(), vec(access_seed(), ACCESSES as usize));
    let result = runner.run(&strategy, |(effective, seeds)| {
        let compiled = compiled(&effective)?;
        for seed in &seeds {
            let path = seed.object.as_ref().map(|seed| path(seed, &effective));
            let access = Access {
                op: seed.op,
                object: match &path {
                    Ok(path) => AccessObject::Path(path),
                    Err(class) => AccessObject::Class(**class),
                },
                source: seed.source.map(str::as_bytes),
                parent: seed.parent.map(str::as_bytes),
                owner: seed.owner,
            };
            let text = path.as_deref().map(String::from_utf8_lossy);
            prop_assert_eq!(
                common::matcher(&compiled, &access),
                reference::decide(&effective, &access),
                "{:?} {:?}",
                access,
                text
            );
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn arrival_order_changes_nothing() {
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    });
    let strategy = vec(vec(any_rule(), 0..4), 2..4);
    let result = runner.run(&strategy, |policies| {
        let mut policies: Vec<_> = policies
            .into_iter()
            .enumerate()
            .map(|(index, rules)| Arc::new(common::policy(&format!("p{index}"), rules)))
            .collect();
        let table = |policies: &[Arc<_>]| {
            let policies = policies.iter().map(Arc::clone);
            compiled(&Effective::new(policies, Posture::Block, Aliases::none()))
        };
        let first = table(&policies)?.words;
        policies.reverse();
        prop_assert_eq!(first, table(&policies)?.words);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
