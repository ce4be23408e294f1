//! The compiled table says what the reference says, about every access.
//!
//! `KARMOR_PROPERTY_CASES=1000000 cargo test --release -p karmor-policy --test properties` asks
//! about that many pairs of policy set and access.

mod common;

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use karmor_abi::{
    limits::ARGUMENT_BYTES,
    op::{Object, Op},
    table::{self, Asker, Set, View},
    verdict::Action as Decided,
    word::Protocol,
};
use karmor_policy::{
    alias::Aliases,
    compile::{CompileError, compile},
    compiled::Compiled,
    model::{
        Action, Direction, Endpoint, Family, Posture, Postures, Rule, SocketKind, Source, Target,
    },
    reference::{self, Access, AccessObject},
    select::Effective,
    syscall::Syscall,
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

const SOURCES: &[&str] = &[
    "/bin/a",
    "/usr/bin/a",
    "/usr/bin/b",
    "/a/ab",
    "/a",
    "/usr/bin/runc",
    "/bin/login",
];

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

/// Types of sockets, and one that no rule names.
const TYPES: &[u32] = &[1, 2, 3, 5, 10, 9];

/// Addresses around the edges of the networks below.
const ADDRESSES: &[&str] = &[
    "10.0.0.0",
    "10.0.0.1",
    "10.15.255.255",
    "10.16.0.0",
    "10.255.0.7",
    "11.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "2001:db8::",
    "2001:db8:7fff::1",
    "2001:db8:8000::1",
    "fe80::1",
];

const NETWORKS: &[&str] = &[
    "10.0.0.0/8",
    "10.0.0.0/12",
    "10.0.0.0/13",
    "10.0.0.1/32",
    "0.0.0.0/0",
    "0.0.0.0/1",
    "2001:db8::/32",
    "2001:db8::/33",
    "::1/128",
    "::/0",
];

const PORTS: &[u16] = &[1, 22, 80, 443, 4095, 4096, 8079, 8080, 8999, 9000, 65535];

const DOMAINS: &[&str] = &["com", "example.com", "a.example.com", "ample.com", "b"];

fn socket_kind() -> impl Strategy<Value = SocketKind> {
    prop_oneof![
        1 => Just(SocketKind::All),
        1 => Just(SocketKind::Packet),
        3 => select(TYPES).prop_map(SocketKind::Type),
        3 => select(&Protocol::ALL[1..6]).prop_map(SocketKind::Protocol),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let ports = (select(PORTS), select(PORTS)).prop_map(|(a, b)| a.min(b)..=a.max(b));
    (
        option::weighted(0.8, select(NETWORKS)),
        vec(ports, 0..3),
        option::weighted(0.3, select(&[6u8, 17][..])),
        option::weighted(0.3, select(&[Direction::Egress, Direction::Ingress][..])),
    )
        .prop_map(|(network, ports, protocol, direction)| Endpoint {
            network: network.map(|net| net.parse().expect("a network")),
            ports,
            protocol,
            direction,
        })
}

/// Calls that every architecture has.
const SYSCALLS: &[&str] = &["openat", "unlinkat", "getppid"];

const CALLED_AT: &[&str] = &[
    "/",
    "/a",
    "/ab",
    "/a/b",
    "/a/b/ab",
    "/bin/a",
    "/usr/bin/a",
    "/usr/bin/a/b",
    "/usr",
    "/run/x.key",
];

fn syscall() -> impl Strategy<Value = Syscall> {
    select(SYSCALLS).prop_map(|name| Syscall::named(name).expect("a system call"))
}

fn syscall_target() -> impl Strategy<Value = Target> {
    let place = prop_oneof![
        1 => select(&CALLED_AT[1..]).prop_map(|path| Target::Path(path.to_owned())),
        1 => components().prop_map(Target::Path),
        2 => (directory(), any::<bool>())
            .prop_map(|(path, recursive)| Target::Directory { path, recursive }),
    ];
    prop_oneof![
        1 => syscall().prop_map(Target::Syscall),
        3 => (syscall(), place).prop_map(|(syscall, place)| {
            let place = Box::new(place);
            Target::SyscallAt { syscall, place }
        }),
    ]
}

fn family_and_target() -> impl Strategy<Value = (Family, Target)> {
    let paths = (select(&[Family::Process, Family::File][..]), target());
    prop_oneof![
        12 => paths,
        2 => socket_kind().prop_map(|kind| (Family::Network, Target::Socket(kind))),
        4 => endpoint().prop_map(|to| (Family::Endpoints, Target::Endpoint(to))),
        2 => select(DOMAINS).prop_map(|name| (Family::Dns, Target::Domain(name.into()))),
        1 => select(&[0u8, 13, 40][..]).prop_map(|n| (Family::Capabilities, Target::Capability(n))),
        1 => select(&Op::PRESETS[..4]).prop_map(|op| (Family::Presets, Target::Preset(op))),
        4 => syscall_target().prop_map(|target| (Family::Syscalls, target)),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        4 => select(SOURCES).prop_map(Source::from),
        1 => (select(&["/usr/bin/", "/bin/", "/a/", "/"][..]), any::<bool>())
            .prop_map(|(path, recursive)| Source::Directory { path: path.into(), recursive }),
    ]
}

/// Arguments that collide, nest, and look like other words.
const ARGUMENTS: &[&str] = &["", "a", "ab", "-a", "/bin/a", "é", "\u{1}", "a b"];

fn arguments() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(ARGUMENTS), 0..4)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let sources = prop_oneof![2 => Just(Vec::new()), 1 => vec(source(), 1..3)];
    (
        family_and_target(),
        select(&[Action::Allow, Action::Audit, Action::Block][..]),
        sources,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        option::weighted(0.4, arguments()),
    )
        .prop_map(
            |((family, target), action, sources, read_only, owner_only, no_terminal, arguments)| {
                Rule {
                    sources: match family {
                        Family::Presets => Vec::new(),
                        _ => sources,
                    },
                    read_only: read_only && family == Family::File,
                    owner_only: owner_only && family.is_about_paths(),
                    no_terminal,
                    arguments: arguments
                        .filter(|_| family == Family::Process)
                        .map(|list| list.into_iter().map(str::to_owned).collect()),
                    ..common::rule(family, target, action)
                }
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
    let posture = || select(&[Posture::Audit, Posture::Block, Posture::Allow][..]);
    let postures =
        (posture(), posture(), posture()).prop_map(|(file, network, capabilities)| Postures {
            file,
            network,
            capabilities,
        });
    // Policies of a host spare essential programs, or do not.
    let policy = (vec(any_rule(), 0..5), prop::bool::weighted(0.7));
    let policies = (vec(policy, 1..4), prop::bool::weighted(0.3));
    (policies, postures, aliases).prop_map(|((policies, is_host), postures, aliases)| {
        let policies = policies
            .into_iter()
            .enumerate()
            .map(|(index, (mut rules, spares))| {
                rules
                    .iter_mut()
                    .for_each(|rule| rule.spares = is_host && spares);
                Arc::new(common::policy(&format!("p{index}"), rules))
            });
        Effective::new(policies, postures, aliases)
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
        1 => Just(PathSeed::Free("/usr/bin/runc".into())),
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
            _ => "/a/b".to_owned(),
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

/// What an access is about.
#[derive(Clone, Debug)]
enum ObjectSeed {
    Path(PathSeed),
    Other(AccessObject<'static>),
}

#[derive(Clone, Debug)]
struct AccessSeed {
    op: Op,
    object: ObjectSeed,
    source: Option<&'static str>,
    parent: Option<&'static str>,
    asker: Asker,
    trusted: bool,
    arguments: Option<Vec<&'static str>>,
}

/// Those of an exec; sometimes too many, or one too long.
fn asked_arguments() -> impl Strategy<Value = Option<Vec<&'static str>>> {
    const LONG: [u8; ARGUMENT_BYTES + 1] = [b'a'; ARGUMENT_BYTES + 1];
    let long = std::str::from_utf8(&LONG).expect("text");
    prop_oneof![
        1 => Just(None),
        12 => arguments().prop_map(Some),
        1 => (select(ARGUMENTS), 62..67usize).prop_map(|(one, count)| Some(vec![one; count])),
        1 => Just(Some(vec![long])),
    ]
}

fn asked() -> impl Strategy<Value = (Op, ObjectSeed)> {
    let path_op = || select(&Op::PATHS[..]);
    let other = |(op, object)| (op, ObjectSeed::Other(object));
    let socket = (select(TYPES), select(&Protocol::ALL[..]));
    let end = (
        select(ADDRESSES),
        select(&[6u8, 17, 132, 47][..]),
        select(PORTS),
        any::<bool>(),
    );
    let name = select(
        &[
            "com",
            "example.com",
            "www.example.com",
            "badexample.com",
            "b.",
            "x.b",
        ][..],
    );
    prop_oneof![
        12 => (path_op(), path_seed()).prop_map(|(op, path)| (op, ObjectSeed::Path(path))),
        2 => (path_op(), select(&Object::ALL[..]))
            .prop_map(move |(op, class)| other((op, AccessObject::Class(class)))),
        2 => socket.prop_map(move |(kind, protocol)| {
            other((Op::Socket, AccessObject::Socket(kind, protocol)))
        }),
        4 => end.prop_map(move |(address, protocol, port, out)| {
            let address: IpAddr = address.parse().expect("an address");
            let op = if out { Op::Egress } else { Op::Ingress };
            other((op, AccessObject::Endpoint { address, protocol, port }))
        }),
        2 => name.prop_map(move |name| other((Op::Query, AccessObject::Domain(name.as_bytes())))),
        1 => select(&[0u8, 1, 13, 40][..])
            .prop_map(move |number| other((Op::Capable, AccessObject::Capability(number)))),
        1 => Just(other((Op::Query, AccessObject::UnreadableQuery))),
        1 => select(&Op::PRESETS[..5]).prop_map(move |op| other((op, AccessObject::Preset))),
        1 => syscall().prop_map(move |call| other((Op::Syscall, AccessObject::Syscall(call)))),
        3 => (syscall(), select(CALLED_AT)).prop_map(move |(call, path)| {
            other((Op::SyscallAt, AccessObject::SyscallAt(call, path.as_bytes())))
        }),
    ]
}

fn access_seed() -> impl Strategy<Value = AccessSeed> {
    let image = || option::weighted(0.8, prop_oneof![4 => select(SOURCES), 1 => Just("/other")]);
    (
        asked(),
        image(),
        image(),
        any::<[bool; 3]>(),
        asked_arguments(),
    )
        .prop_map(
            |((op, object), source, parent, [owner, terminal, trusted], arguments)| AccessSeed {
                op,
                object,
                source,
                parent,
                asker: Asker { owner, terminal },
                trusted,
                arguments,
            },
        )
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
            let path = match &seed.object {
                ObjectSeed::Path(seed) => path(seed, &effective),
                ObjectSeed::Other(_) => Vec::new(),
            };
            let arguments: Option<Vec<&[u8]>> = seed
                .arguments
                .as_ref()
                .map(|arguments| arguments.iter().map(|text| text.as_bytes()).collect());
            let access = Access {
                op: seed.op,
                object: match &seed.object {
                    ObjectSeed::Path(_) => AccessObject::Path(&path),
                    ObjectSeed::Other(object) => *object,
                },
                source: seed.source.map(str::as_bytes),
                parent: seed.parent.map(str::as_bytes),
                asker: seed.asker,
                trusted: seed.trusted,
                arguments: arguments.as_deref(),
            };
            let text = String::from_utf8_lossy(&path);
            prop_assert_eq!(
                common::matcher(&compiled, &access),
                reference::decide(&effective, &access),
                "{:?} {:?}",
                access,
                text
            );
            if let Some(set) = set_of_file(&compiled, &access)
                && reference::decide(&effective, &access).action() == Decided::Block
            {
                prop_assert!(
                    table::refuses_anybody(set, access.op.bit()),
                    "{access:?} {text:?}"
                );
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// The set of what is read or written.
fn set_of_file(compiled: &Compiled, access: &Access<'_>) -> Option<Set> {
    if !matches!(access.op, Op::Read | Op::Write) {
        return None;
    }
    let view = View::parse(&compiled.words).expect("what was compiled is a table");
    let number = match access.object {
        AccessObject::Path(path) => table::walk(&view, path),
        AccessObject::Class(object) => table::object_set(&view, object),
        _ => return None,
    };
    Some(table::set(&view, number))
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
            compiled(&Effective::new(
                policies,
                Postures::all(Posture::Block),
                Aliases::none(),
            ))
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
