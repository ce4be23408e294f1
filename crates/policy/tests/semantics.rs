//! `docs/policy-semantics.md`, line by line, asked of the reference and of the compiled table.

mod common;

use common::case::{
    deep, file, flat, from, given, glob, name, owner_only, path, process, read_only,
};
use karmor_abi::{
    op::{Object, Op},
    table::Asker,
    verdict::Reason,
};
use karmor_policy::{
    alias::Aliases,
    compile::compile,
    model::{Action, Endpoint, Family, Posture, Rule, Target},
    reference::{Access, AccessObject},
};

use Action::{Allow, Audit, Block};
use Object::{Anonymous, TooLong, Unreachable};
use Op::{Exec, Map, Move, Read, Write};

#[test]
fn targets() {
    let block = |target| given(vec![file(target, Block)]);
    block(path("/a/b")).matches(&["/a/b"], &["/a", "/a/b/c", "/a/bc", "/"]);
    block(name("b")).matches(&["/b", "/a/b", "/x/y/b"], &["/a/b/c", "/ab", "/bb", "/"]);
    block(flat("/a/b/")).matches(&["/a/b", "/a/b/c"], &["/a", "/a/b/c/d", "/a/bc"]);
    block(deep("/a/b/")).matches(&["/a/b", "/a/b/c", "/a/b/c/d"], &["/a", "/a/bc", "/"]);
    block(flat("/")).matches(&["/", "/a"], &["/a/b"]);
    block(deep("/")).matches(&["/", "/a", "/a/b"], &[]);
}

#[test]
fn globs() {
    let block = |text| given(vec![file(glob(text), Block)]);
    block("/a/*").matches(&["/a/b", "/a/bc"], &["/a", "/a/b/c"]);
    block("/a*/c").matches(&["/a/c", "/ab/c"], &["/a/b/c", "/c"]);
    block("/a/**").matches(&["/a/b", "/a/b/c"], &["/a", "/b/a"]);
    block("/a/**/c").matches(&["/a/b/c", "/a/b/b/c"], &["/a/c", "/a/b/cc"]);
    block("/**.key").matches(&["/a.key", "/a/b.key"], &["/a.keys", "/"]);
    block("/a?c").matches(&["/abc", "/a?c"], &["/ac", "/a/c", "/abbc"]);
    block("/[ab]").matches(&["/a", "/b"], &["/c", "/ab"]);
    block("/[a-c]x").matches(&["/ax", "/bx", "/cx"], &["/dx", "/x"]);
    block("/a[^a]a").matches(&["/aba"], &["/aaa", "/a/a", "/aa"]);
    block("/{a,b{c,d}}/x").matches(&["/a/x", "/bc/x", "/bd/x"], &["/b/x", "/x"]);
    block("/a{,b}").matches(&["/a", "/ab"], &["/abb"]);
    block("/\\*").matches(&["/*"], &["/a"]);
    block("/[\\]]").matches(&["/]"], &["/a"]);
    block("/é").matches(&["/é"], &["/e"]);
}

#[test]
fn file_effects() {
    // (rule, stranger reads, stranger writes, owner reads, owner writes); None: no say.
    let plain = |action| file(path("/f"), action);
    let none = None;
    let table = [
        (
            plain(Allow),
            Some(Allow),
            Some(Allow),
            Some(Allow),
            Some(Allow),
        ),
        (
            read_only(plain(Allow)),
            Some(Allow),
            Some(Block),
            Some(Allow),
            Some(Block),
        ),
        (
            plain(Block),
            Some(Block),
            Some(Block),
            Some(Block),
            Some(Block),
        ),
        (
            read_only(plain(Block)),
            Some(Allow),
            Some(Block),
            Some(Allow),
            Some(Block),
        ),
        (
            plain(Audit),
            Some(Audit),
            Some(Audit),
            Some(Audit),
            Some(Audit),
        ),
        (
            read_only(plain(Audit)),
            none,
            Some(Audit),
            none,
            Some(Audit),
        ),
        (
            owner_only(plain(Allow)),
            Some(Block),
            Some(Block),
            Some(Allow),
            Some(Allow),
        ),
        (
            owner_only(plain(Block)),
            Some(Block),
            Some(Block),
            Some(Allow),
            Some(Allow),
        ),
        (
            owner_only(plain(Audit)),
            Some(Audit),
            Some(Audit),
            none,
            none,
        ),
        (
            owner_only(read_only(plain(Allow))),
            Some(Block),
            Some(Block),
            Some(Allow),
            Some(Block),
        ),
        (
            owner_only(read_only(plain(Block))),
            Some(Block),
            Some(Block),
            Some(Allow),
            Some(Block),
        ),
        (
            owner_only(read_only(plain(Audit))),
            Some(Audit),
            Some(Audit),
            none,
            Some(Audit),
        ),
    ];
    for (rule, reads, writes, owner_reads, owner_writes) in table {
        let mut case = given(vec![rule]).posture(Posture::Allow);
        for (owner, op, effect) in [
            (false, Read, reads),
            (false, Write, writes),
            (true, Read, owner_reads),
            (true, Write, owner_writes),
        ] {
            let reason = if effect.is_some() {
                Reason::Rule
            } else {
                Reason::None
            };
            case = case.by(None, owner, op, "/f", effect.unwrap_or(Allow), reason);
        }
        // A file rule says nothing about execution.
        case.is(Exec, "/f", Allow, Reason::None);
    }
}

#[test]
fn process_effects() {
    let plain = |action| process(path("/f"), action);
    let table = [
        (plain(Allow), Some(Allow), Some(Allow)),
        (plain(Block), Some(Block), Some(Block)),
        (plain(Audit), Some(Audit), Some(Audit)),
        (owner_only(plain(Allow)), Some(Block), Some(Allow)),
        (owner_only(plain(Block)), Some(Block), Some(Allow)),
        (owner_only(plain(Audit)), Some(Audit), None),
    ];
    for (rule, stranger, owner) in table {
        let mut case = given(vec![rule]).posture(Posture::Allow);
        for (is_owner, effect) in [(false, stranger), (true, owner)] {
            let reason = |effect: Option<Action>| effect.map_or(Reason::None, |_| Reason::Rule);
            let mapped = effect.filter(|&action| action != Allow);
            case = case
                .by(
                    None,
                    is_owner,
                    Exec,
                    "/f",
                    effect.unwrap_or(Allow),
                    reason(effect),
                )
                .by(
                    None,
                    is_owner,
                    Map,
                    "/f",
                    mapped.unwrap_or(Allow),
                    reason(mapped),
                );
        }
        case.is(Read, "/f", Allow, Reason::None)
            .is(Write, "/f", Allow, Reason::None);
    }
}

#[test]
fn the_more_specific_rule_wins() {
    // From the least specific; each beats all before it, whatever the actions.
    let source = &["/s"];
    let ladder = [
        file(glob("/a/b/*"), Block),
        file(deep("/"), Allow),
        file(deep("/a/"), Block),
        file(flat("/a/b/"), Allow),
        file(name("c"), Block),
        file(path("/a/b/c"), Allow),
        from(file(glob("/a/b/?"), Block), source),
        from(file(deep("/a/"), Allow), source),
        from(file(deep("/a/b/"), Block), source),
        from(file(name("c"), Allow), source),
        from(file(path("/a/b/c"), Block), source),
    ];
    for count in 1..=ladder.len() {
        let last = u32::try_from(count - 1).expect("small");
        given(ladder[..count].to_vec()).rule(Read, "/a/b/c", last);
        // The order in the text does not matter.
        let reversed: Vec<Rule> = ladder[..count].iter().rev().cloned().collect();
        given(reversed).rule(Read, "/a/b/c", 0);
    }
}

#[test]
fn ties_go_to_the_stricter_then_the_first() {
    let of = |actions: &[Action]| given(actions.iter().map(|&a| file(path("/f"), a)).collect());
    of(&[Allow, Audit, Block, Block]).rule(Read, "/f", 2);
    of(&[Allow, Audit, Allow, Audit]).rule(Read, "/f", 1);
    of(&[Allow, Allow]).rule(Read, "/f", 0);
}

#[test]
fn posture_decides_only_in_a_whitelisted_family() {
    let allow_file = || vec![file(path("/f"), Allow)];
    for (posture, action) in [(Posture::Block, Block), (Posture::Audit, Audit)] {
        given(allow_file())
            .posture(posture)
            .is(Read, "/f", Allow, Reason::Rule)
            .is(Read, "/g", action, Reason::Posture)
            .is(Write, "/g", action, Reason::Posture)
            .is(Exec, "/g", Allow, Reason::None)
            .is(Map, "/g", Allow, Reason::None);
        given(vec![process(path("/f"), Allow)])
            .posture(posture)
            .is(Exec, "/g", action, Reason::Posture)
            .is(Map, "/g", Allow, Reason::None)
            .is(Read, "/g", Allow, Reason::None);
    }
    given(allow_file())
        .posture(Posture::Allow)
        .is(Read, "/g", Allow, Reason::None);
    given(vec![file(path("/f"), Block)]).is(Read, "/g", Allow, Reason::None);
    // An Allow rule of one source makes a whitelist for all.
    given(vec![from(file(path("/f"), Allow), &["/s"])]).is(Read, "/g", Block, Reason::Posture);
    // A rule without a say on the operation leaves it to the posture.
    given(vec![
        file(path("/f"), Allow),
        read_only(file(path("/g"), Audit)),
    ])
    .is(Read, "/g", Block, Reason::Posture)
    .is(Write, "/g", Audit, Reason::Rule);
}

#[test]
fn sources() {
    let rules = vec![
        file(deep("/d/"), Block),
        from(file(deep("/d/"), Allow), &["/cat", "/tac"]),
    ];
    given(rules)
        .by(Some("/cat"), false, Read, "/d/x", Allow, Reason::Rule)
        .by(Some("/tac"), false, Read, "/d/x", Allow, Reason::Rule)
        .by(Some("/dog"), false, Read, "/d/x", Block, Reason::Rule)
        .by(None, false, Read, "/d/x", Block, Reason::Rule);
}

#[test]
fn a_process_rule_sees_the_image_and_its_parent() {
    let decide = |rules: &[Rule], op, source: &'static str, parent: &'static str| {
        let access = Access {
            op,
            object: AccessObject::Path(b"/d/x"),
            source: Some(source.as_bytes()),
            parent: Some(parent.as_bytes()),
            asker: Asker::default(),
            trusted: true,
            arguments: None,
        };
        given(rules.to_vec()).decide(&access).action()
    };
    let by_bash = [from(process(path("/d/x"), Block), &["/bash"])];
    for op in [Exec, Map] {
        assert_eq!(decide(&by_bash, op, "/bash", "/init"), Block);
        assert_eq!(decide(&by_bash, op, "/sh", "/bash"), Block);
        assert_eq!(decide(&by_bash, op, "/sh", "/init"), Allow);
    }
    // The more specific of the two counts, and on a tie the stricter.
    let levels = [
        from(process(deep("/d/"), Block), &["/bash"]),
        from(process(path("/d/x"), Allow), &["/init"]),
    ];
    assert_eq!(decide(&levels, Exec, "/bash", "/init"), Allow);
    assert_eq!(decide(&levels, Exec, "/init", "/bash"), Allow);
    let tie = [
        from(process(path("/d/x"), Block), &["/bash"]),
        from(process(path("/d/x"), Allow), &["/init"]),
    ];
    assert_eq!(decide(&tie, Exec, "/bash", "/init"), Block);
    assert_eq!(decide(&tie, Exec, "/init", "/bash"), Block);
    // File rules look at the image alone.
    let reads = [from(file(path("/d/x"), Block), &["/bash"])];
    assert_eq!(decide(&reads, Read, "/sh", "/bash"), Allow);
    assert_eq!(decide(&reads, Read, "/bash", "/sh"), Block);
}

#[test]
fn an_essential_program_is_spared_while_root_runs_it() {
    let decide = |rules: &[Rule], trusted, source: &'static str| {
        let access = Access {
            op: Read,
            object: AccessObject::Path(b"/d/x"),
            source: Some(source.as_bytes()),
            parent: None,
            asker: Asker::default(),
            trusted,
            arguments: None,
        };
        given(rules.to_vec())
            .posture(Posture::Block)
            .decide(&access)
            .action()
    };
    let sparing = |rule: Rule| Rule {
        spares: true,
        ..rule
    };
    const KARMOR: &str = "/usr/bin/karmor";
    const LOGIN: &str = "/usr/bin/login";
    let plain = [sparing(file(path("/d/x"), Block))];
    assert_eq!(decide(&plain, true, KARMOR), Audit);
    assert_eq!(decide(&plain, false, KARMOR), Block);
    assert_eq!(decide(&plain, true, "/usr/bin/cat"), Block);
    // What rules say of it by its name holds either way.
    let named = [
        sparing(from(file(path("/d/x"), Block), &[KARMOR, "/usr/bin/cat"])),
        sparing(from(file(deep("/d/"), Allow), &[LOGIN])),
    ];
    assert_eq!(decide(&named, true, KARMOR), Audit);
    assert_eq!(decide(&named, false, KARMOR), Block);
    assert_eq!(decide(&named, false, "/usr/bin/cat"), Block);
    assert_eq!(decide(&named, true, LOGIN), Allow);
    assert_eq!(decide(&named, false, LOGIN), Allow);
    // What no rule says is up to the posture.
    assert_eq!(decide(&named, false, "/usr/bin/dog"), Block);
    assert_eq!(decide(&named, true, "/sbin/agetty"), Audit);
    assert_eq!(decide(&named, false, "/sbin/agetty"), Block);
}

#[test]
fn objects_without_a_path() {
    let nothing = given(vec![]);
    let nothing = Op::ALL
        .into_iter()
        .flat_map(|op| Object::ALL.map(|object| (op, object)))
        .fold(nothing, |case, (op, object)| {
            case.object(op, object, Allow, Reason::None)
        });
    drop(nothing);

    for object in [Unreachable, TooLong] {
        given(vec![process(path("/f"), Block)])
            .object(Exec, object, Block, Reason::Object)
            .object(Map, object, Block, Reason::Object)
            .object(Move, object, Block, Reason::Object)
            .object(Read, object, Allow, Reason::None);
        given(vec![read_only(file(path("/f"), Block))])
            .object(Read, object, Allow, Reason::None)
            .object(Write, object, Block, Reason::Object)
            .object(Move, object, Block, Reason::Object);
        given(vec![owner_only(file(path("/f"), Allow))]).object(
            Read,
            object,
            Block,
            Reason::Object,
        );
        given(vec![file(path("/f"), Audit)])
            .object(Read, object, Audit, Reason::Object)
            .object(Move, object, Allow, Reason::None);
        given(vec![file(path("/f"), Allow)]).object(Read, object, Block, Reason::Posture);
        given(vec![file(path("/f"), Allow), file(path("/g"), Audit)])
            .posture(Posture::Allow)
            .object(Read, object, Audit, Reason::Object);
        // A rule that names the class comes first.
        given(vec![
            file(path("/f"), Block),
            file(Target::Object(object), Allow),
        ])
        .object(Read, object, Allow, Reason::Rule);
        // A rule that names one class says nothing about another.
        given(vec![file(Target::Object(Anonymous), Block)]).object(
            Read,
            object,
            Allow,
            Reason::None,
        );
    }

    given(vec![process(path("/f"), Block), file(path("/f"), Block)])
        .object(Exec, Anonymous, Block, Reason::Object)
        .object(Map, Anonymous, Allow, Reason::None)
        .object(Read, Anonymous, Allow, Reason::None)
        .object(Move, Anonymous, Allow, Reason::None);
    given(vec![file(path("/f"), Allow), process(path("/f"), Allow)])
        .object(Exec, Anonymous, Block, Reason::Posture)
        .object(Write, Anonymous, Block, Reason::Posture)
        .object(Map, Anonymous, Allow, Reason::None);
    given(vec![process(Target::Object(Anonymous), Block)])
        .object(Exec, Anonymous, Block, Reason::Rule)
        .object(Map, Anonymous, Block, Reason::Rule)
        .object(Move, Anonymous, Block, Reason::Move);
}

/// Which paths must keep their name under a rule.
#[track_caller]
fn pins(rule: Rule, pinned: &[&str], free: &[&str]) {
    let case = given(vec![rule]);
    let case = pinned
        .iter()
        .fold(case, |case, path| case.is(Move, path, Block, Reason::Move));
    drop(
        free.iter()
            .fold(case, |case, path| case.is(Move, path, Allow, Reason::None)),
    );
}

#[test]
fn names_that_must_stay() {
    pins(
        process(path("/a/b/c"), Block),
        &["/a", "/a/b", "/a/b/c"],
        &["/", "/a/c", "/a/b/c/d", "/ab"],
    );
    pins(file(path("/a/b"), Block), &["/a", "/a/b"], &["/a/b/c"]);
    pins(read_only(file(path("/a/b"), Allow)), &["/a"], &["/a/b"]);
    pins(owner_only(file(path("/a/b"), Allow)), &["/a", "/a/b"], &[]);
    pins(
        from(file(path("/a/b"), Block), &["/s"]),
        &["/a", "/a/b"],
        &[],
    );
    pins(
        process(deep("/a/b/"), Block),
        &["/a", "/a/b", "/a/b/c", "/a/b/c/d"],
        &["/", "/a/c"],
    );
    pins(
        process(flat("/a/b/"), Block),
        &["/a", "/a/b", "/a/b/c"],
        &["/a/b/c/d"],
    );
    pins(
        read_only(file(deep("/a/b/"), Block)),
        &["/a", "/a/b"],
        &["/a/b/c"],
    );
    pins(process(deep("/"), Block), &["/", "/a", "/a/b"], &[]);
    pins(read_only(file(deep("/"), Block)), &[], &["/", "/a"]);
    pins(
        process(name("apt"), Block),
        &["/usr/bin/apt", "/apt"],
        &["/usr/bin", "/usr"],
    );
    pins(
        process(glob("/a/*/c"), Block),
        &["/a", "/a/b", "/a/b/c"],
        &["/b", "/a/b/d"],
    );
    pins(
        read_only(file(glob("/a/**.key"), Block)),
        &["/a", "/a/b", "/a/x.key"],
        &["/b", "/"],
    );
    pins(process(path("/a/b"), Audit), &[], &["/a", "/a/b"]);
    pins(process(path("/a/b"), Allow), &[], &["/a", "/a/b"]);
}

#[test]
fn the_most_specific_rule_names_a_refused_move() {
    given(vec![
        file(glob("/a/*/c"), Block),
        file(path("/x"), Block),
        file(path("/a/b/c"), Block),
        process(path("/a/b"), Block),
    ])
    .rule(Move, "/a", 2)
    .rule(Move, "/a/b", 2)
    .rule(Move, "/a/b/c", 2)
    .rule(Move, "/a/z/c", 0);
}

#[test]
fn links_that_every_system_has() {
    let rules = || {
        vec![
            file(path("/bin/x"), Block),
            file(deep("/lib/"), Block),
            file(glob("/var/run/*.sock"), Block),
        ]
    };
    given(rules())
        .is(Read, "/usr/bin/x", Allow, Reason::None)
        .is(Read, "/usr/lib/x", Allow, Reason::None);
    given(rules())
        .aliases(Aliases::merged_usr())
        .is(Read, "/bin/x", Block, Reason::Rule)
        .is(Read, "/usr/bin/x", Block, Reason::Rule)
        .is(Read, "/usr/lib/a/b", Block, Reason::Rule)
        .is(Read, "/run/a.sock", Block, Reason::Rule)
        .is(Move, "/usr", Block, Reason::Move);
    // Not the other way round.
    given(vec![file(path("/usr/bin/x"), Block)])
        .aliases(Aliases::merged_usr())
        .is(Read, "/bin/x", Allow, Reason::None);
    // A directory weighs what its real name weighs.
    given(vec![
        file(deep("/bin/"), Allow),
        file(deep("/usr/bin/"), Block),
    ])
    .aliases(Aliases::merged_usr())
    .rule(Read, "/usr/bin/x", 1);
    given(vec![
        file(path("/f"), Block),
        from(file(path("/f"), Allow), &["/bin/cat"]),
    ])
    .aliases(Aliases::merged_usr())
    .by(Some("/usr/bin/cat"), false, Read, "/f", Allow, Reason::Rule)
    .by(Some("/usr/bin/tac"), false, Read, "/f", Block, Reason::Rule);
}

#[test]
fn the_service_account_example() {
    let token = "/run/secrets/kubernetes.io/serviceaccount/";
    given(vec![
        process(deep("/"), Allow),
        file(deep(token), Block),
        file(deep("/"), Allow),
        from(file(deep(token), Allow), &["/bin/cat"]),
    ])
    .by(
        Some("/bin/cat"),
        false,
        Read,
        &format!("{token}token"),
        Allow,
        Reason::Rule,
    )
    .by(
        Some("/bin/bash"),
        false,
        Read,
        &format!("{token}token"),
        Block,
        Reason::Rule,
    )
    .is(Read, "/etc/hostname", Allow, Reason::Rule)
    .is(Exec, "/bin/bash", Allow, Reason::Rule);
}

#[test]
fn what_comes_in_is_decided_for_tcp() {
    let rule = |protocol| {
        let endpoint = Target::Endpoint(Endpoint {
            network: None,
            ports: Vec::new(),
            protocol,
            direction: None,
        });
        common::rule(Family::Endpoints, endpoint, Block)
    };
    let verdict = |rule: Rule, op, protocol| {
        let object = AccessObject::Endpoint {
            address: [10, 0, 0, 1].into(),
            protocol,
            port: 80,
        };
        let access = Access {
            op,
            object,
            source: None,
            parent: None,
            asker: Asker::default(),
            trusted: true,
            arguments: None,
        };
        given(vec![rule]).decide(&access).action()
    };
    for (protocol, incoming) in [(None, Block), (Some(6), Block), (Some(17), Allow)] {
        let asked = protocol.unwrap_or(6);
        assert_eq!(verdict(rule(protocol), Op::Egress, asked), Block);
        assert_eq!(verdict(rule(protocol), Op::Ingress, asked), incoming);
    }
}

#[test]
fn operations_that_are_all_allowed_are_not_looked_up() {
    let ops = |rules| {
        let effective = common::effective(rules, Posture::Block, Aliases::none());
        let words = compile(&effective).expect("compiles").words;
        karmor_abi::table::View::parse(&words)
            .expect("valid")
            .header()
            .ops
    };
    assert_eq!(ops(vec![]), 0);
    assert_eq!(ops(vec![file(path("/f"), Audit)]), Read.bit() | Write.bit());
    assert_eq!(
        ops(vec![process(path("/f"), Block)]),
        Exec.bit() | Map.bit() | Move.bit()
    );
    // All paths are allowed; objects without one are not.
    assert_eq!(ops(vec![file(deep("/"), Allow)]), Read.bit() | Write.bit());
    let objects = Object::ALL.map(|object| file(Target::Object(object), Allow));
    assert_eq!(
        ops([vec![file(deep("/"), Allow)], objects.to_vec()].concat()),
        0
    );
}
