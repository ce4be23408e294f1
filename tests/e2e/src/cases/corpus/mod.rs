//! The corpus, asked of the kernel. The policy crate's tests ask the reference evaluator and the
//! compiled table the same.
//!
//! ```text
//! daemon, container and actors, once ──▶ policy ──▶ attempts ──▶ alerts ──▶ next policy …
//! ```
//!
//! A policy replaces the one before it, and an actor is a process that is there all the time: what a
//! case costs is what it is about. What alerts must come of it is in [`due`].

mod due;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use karmor_cases::{
    ACTORS, Access, Case as Tried, FOREIGN, Kind, Object, Operation, PLACE, Posture, Preset,
    Target, UNREACHABLE, Verdict,
};
use karmor_proto::karmor::v1::{Enforcement, PolicyRef};

use self::due::Past;
use super::{
    Case, case,
    escapes::{manifest, with_tools},
};
use crate::support::{
    Actor, Container, DefaultPostures, ENDS_AT_ONCE, Guest, Output, Watched, Wire, note, until,
};

pub(super) const AUDIT_CASES: &[Case] = &[case("corpus_posture_audit", |guest| {
    corpus(guest, Posture::Audit)
})];

pub(super) const BLOCK_CASES: &[Case] = &[case("corpus_posture_block", |guest| {
    corpus(guest, Posture::Block)
})];

/// Capabilities that containerd does not give, for cases about them, and the files of tables.
const OPTIONS: &[&str] = &[
    "--cap-add=CAP_SYS_ADMIN",
    "--cap-add=CAP_SYS_MODULE",
    "--cap-add=CAP_SYS_NICE",
    "--cap-add=CAP_SYS_RESOURCE",
    "--mount=type=bind,src=/run/corpus,dst=/run/corpus,options=rbind:rw",
];

/// What a shell makes of `SIGKILL`.
const KILLED: i32 = 128 + 9;

/// Whom names are asked of; nobody is there.
const RESOLVER: &str = "127.0.0.1:53";

/// A user that is not root.
const SOMEBODY: u32 = 1000;

/// More components than a path can have.
const TOO_LONG: usize = 257;

/// How long alerts may take. They are milliseconds late, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many problems say that going on is a waste of time.
const ENOUGH: usize = 20;

/// What acts in a container unless a case says by whom.
const SHELL: &str = "/usr/bin/bash";

fn corpus(guest: &Guest, posture: Posture) -> Result<()> {
    let mut all = karmor_cases::all()?;
    all.push(last(posture));
    let cases: Vec<&Tried> = all.iter().filter(|case| case.posture == posture).collect();
    make_files(&all)?;
    let postures = match posture {
        Posture::Audit => DefaultPostures::AUDIT,
        Posture::Block => DefaultPostures::BLOCK,
    };
    guest.watched(&postures, |watched| {
        let container = with_tools(guest, OPTIONS, "corpus")?;
        watched.enforcer.knows(container.name())?;
        let actors = actors(&cases, &container)?;
        let mut stage = Stage::new(watched, container, actors)?;
        let began = Instant::now();
        let wrong = stage.hold_all(&cases)?;
        let accesses: usize = cases.iter().map(|case| case.accesses.len()).sum();
        note(&format!(
            "corpus: {} cases with {accesses} accesses in {:.1} s; policies, attempts, alerts: {:.1?}",
            cases.len(),
            began.elapsed().as_secs_f64(),
            stage.took
        ));
        // Each came to its end, whatever that was.
        ensure!(
            stage.tried.len() == cases.len(),
            "only {} cases were tried",
            stage.tried.len()
        );
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

/// A case after all others: what it leaves in the ring of refusals and in that of audits comes behind
/// whatever else was to come.
fn last(posture: Posture) -> Tried {
    let read = |name: &str, expect| Access {
        operation: Operation::Read,
        target: Target::Path(format!("{PLACE}/{name}")),
        by: SHELL.to_owned(),
        from: SHELL.to_owned(),
        args: Vec::new(),
        terminal: false,
        expect,
        by_posture: false,
        alert: None,
    };
    let spec = format!(
        "\n  file:\n    matchPaths:\n    - path: {PLACE}/last-refused\n      action: Block\n    \
         - path: {PLACE}/last-audited\n      action: Audit\n"
    );
    Tried {
        name: "last".to_owned(),
        policy: manifest("corpus-last", &spec),
        kind: Kind::Container,
        posture,
        accesses: vec![
            read("last-refused", Verdict::Block),
            read("last-audited", Verdict::Audit),
        ],
    }
}

/// Every file that a table is about: a program that ends at once, for everybody to read, write and
/// execute.
fn make_files(cases: &[Tried]) -> Result<()> {
    let accesses = cases.iter().flat_map(|case| &case.accesses);
    let paths = accesses.filter_map(|access| match &access.target {
        Target::Path(path) | Target::Syscall(_, Some(path)) => Some(path.as_str()),
        _ => None,
    });
    let deep = too_long();
    let others = [deep.as_str(), UNREACHABLE];
    let mut paths: BTreeSet<&str> = paths
        .filter(|path| path.starts_with(PLACE) && !path.starts_with(ACTORS))
        .collect();
    paths.extend(others);
    // What is in a directory comes first, and makes it one.
    for path in paths.into_iter().rev() {
        if Path::new(path).is_dir() {
            continue;
        }
        let file = Path::new(path);
        let directory = file.parent().context("a file is in a directory")?;
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(file, ENDS_AT_ONCE))
            .and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(0o777)))
            .with_context(|| format!("cannot make {path}"))?;
        if path.ends_with(FOREIGN) {
            chown(file, Some(SOMEBODY), Some(SOMEBODY))
                .with_context(|| format!("cannot give {path} away"))?;
        }
    }
    make_actors(cases)
}

/// Every image that acts in tables.
fn make_actors(cases: &[Tried]) -> Result<()> {
    let tries = "/usr/local/bin/karmor-tries";
    fs::create_dir_all(ACTORS).with_context(|| format!("cannot create {ACTORS}"))?;
    let accesses = cases.iter().flat_map(|case| &case.accesses);
    for (image, _) in accesses.flat_map(images) {
        if !fs::exists(image).with_context(|| format!("cannot look at {image}"))? {
            fs::copy(tries, image).with_context(|| format!("cannot make {image}"))?;
        }
    }
    Ok(())
}

/// The images of ours that take part in an access, and whether with a terminal.
fn images(access: &Access) -> impl Iterator<Item = (&str, bool)> {
    [&access.from, &access.by]
        .into_iter()
        .filter(|image| image.starts_with(ACTORS))
        .map(|image| (image.as_str(), access.terminal))
}

fn too_long() -> String {
    format!("{PLACE}/long{}/a", "/d".repeat(TOO_LONG))
}

/// Who acts: where, which image, with a terminal or without.
type Role = (Kind, String, bool);

/// Everybody whom the cases want to act. They are started before there is a policy that would not
/// let them.
fn actors(cases: &[&Tried], container: &Container<'_>) -> Result<BTreeMap<Role, Actor>> {
    let roles: BTreeSet<Role> = cases
        .iter()
        .flat_map(|case| case.accesses.iter().map(|access| (case.kind, access)))
        .flat_map(|(kind, access)| {
            images(access).map(move |(image, terminal)| (kind, image.to_owned(), terminal))
        })
        .collect();
    let start = |role: Role| {
        let (kind, image, terminal) = &role;
        let command: &[&str] = if *terminal {
            &[image, "terminal", image, "obey"]
        } else {
            &[image, "obey"]
        };
        let actor = match kind {
            Kind::Container => container.actor(command),
            Kind::Host => {
                let mut host = Command::new(image);
                host.args(&command[1..]);
                Actor::start(host)
            }
        };
        let actor = actor.with_context(|| format!("{role:?}"))?;
        Ok((role, actor))
    };
    roles.into_iter().map(start).collect()
}

/// Where the cases are tried.
struct Stage<'a> {
    watched: &'a Watched,
    container: Container<'a>,
    actors: BTreeMap<Role, Actor>,
    wire: Wire,
    /// The one in force.
    policy: Option<PolicyRef>,
    /// The cases so far, in their order; some of their alerts may still be on their way.
    tried: Vec<Past>,
    /// Alerts that have been read.
    read: usize,
    /// Time for policies, for attempts, and for their alerts.
    took: [Duration; 3],
}

impl<'a> Stage<'a> {
    fn new(
        watched: &'a Watched,
        container: Container<'a>,
        actors: BTreeMap<Role, Actor>,
    ) -> Result<Self> {
        Ok(Self {
            watched,
            container,
            actors,
            wire: Wire::connect()?,
            policy: None,
            tried: Vec::new(),
            read: watched.alerts.count(),
            took: [Duration::ZERO; 3],
        })
    }

    /// Tries one case after the other, and says what did not come out as it must.
    fn hold_all(&mut self, cases: &[&Tried]) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for case in cases {
            let problems = self.hold(case).with_context(|| case.name.clone())?;
            let named = problems
                .into_iter()
                .map(|problem| format!("{}: {problem}", case.name));
            wrong.extend(named);
            ensure!(
                wrong.len() < ENOUGH,
                "too much is wrong:\n{}",
                wrong.join("\n")
            );
        }
        self.clear()?;
        // What is not due is told of as well, mostly by the time of a later case.
        wrong.extend(self.tried.iter().flat_map(Past::surplus));
        Ok(wrong)
    }

    /// Tries a case, and says what did not come out as it must.
    fn hold(&mut self, case: &Tried) -> Result<Vec<String>> {
        let clock = Instant::now();
        self.apply(&case.policy)?;
        self.took[0] += clock.elapsed();
        let (clock, began) = (Instant::now(), Timestamp::now());
        let outputs = self.attempt(case)?;
        self.took[1] += clock.elapsed();
        ensure!(
            outputs.len() == case.accesses.len(),
            "{} accesses were made of {}",
            outputs.len(),
            case.accesses.len()
        );
        let (mut problems, mut due) = (Vec::new(), Vec::new());
        for (access, output) in case.accesses.iter().zip(outputs) {
            match access.expect {
                Verdict::Allow if output.code == 0 => {}
                Verdict::Audit if output.code == 0 => due.push(access.clone()),
                Verdict::Block if is_refused(access, &output) => due.push(access.clone()),
                _ => problems.push(format!("{access:?}: {output}")),
            }
        }
        self.tried.push(Past::new(case, began, due));
        let clock = Instant::now();
        problems.extend(self.told()?);
        self.took[2] += clock.elapsed();
        Ok(problems)
    }

    /// Waits for the alerts of the case that was tried last; says which did not come.
    fn told(&mut self) -> Result<Option<String>> {
        let waited = until("alerts", PATIENCE, || {
            self.read()?;
            let is_told = self.tried.last().is_none_or(Past::is_told);
            Ok(is_told.then_some(()))
        });
        Ok(match (waited, self.tried.last()) {
            (Err(error), Some(past)) => Some(format!("{error:#}\n{}", past.missing())),
            _ => None,
        })
    }

    /// Gives each alert that has come to the case that was going on at its time.
    fn read(&mut self) -> Result<()> {
        for line in self.watched.alerts.lines_after(self.read) {
            self.read += 1;
            let alert: serde_json::Value = serde_json::from_str(&line)
                .with_context(|| format!("karmor logs printed no JSON: {line}"))?;
            let time = alert["UpdatedTime"]
                .as_str()
                .context("an alert has a time")?;
            let time: Timestamp = time.parse().context("the time of an alert")?;
            // Nobody acts for cases before the first of them.
            if let Some(of) = self.tried.iter_mut().rev().find(|past| past.began <= time) {
                of.take(alert);
            }
        }
        Ok(())
    }

    /// Puts a policy in force instead of the one before.
    fn apply(&mut self, text: &str) -> Result<()> {
        let answer = self.wire.apply(text)?;
        let result = answer.results.into_iter().next();
        let result = result.context("no answer about the policy")?;
        ensure!(
            result.enforcement() == Enforcement::Full && result.workloads > 0,
            "the policy is not in force: {result:?}"
        );
        // One of the same name is replaced.
        if self.policy != result.policy {
            self.clear()?;
            self.policy = result.policy;
        }
        Ok(())
    }

    /// Takes the policy away.
    fn clear(&mut self) -> Result<()> {
        if let Some(policy) = self.policy.take() {
            self.wire.delete_policy(policy)?;
        }
        Ok(())
    }

    /// Makes a case's accesses.
    fn attempt(&mut self, case: &Tried) -> Result<Vec<Output>> {
        let mut told: BTreeMap<Role, Vec<usize>> = BTreeMap::new();
        let mut shell = Vec::new();
        for (index, access) in case.accesses.iter().enumerate() {
            match images(access).next() {
                Some((image, terminal)) => told
                    .entry((case.kind, image.to_owned(), terminal))
                    .or_default()
                    .push(index),
                None => shell.push(index),
            }
        }
        let mut outputs = BTreeMap::new();
        for (role, indices) in told {
            let attempts: Vec<Vec<String>> = indices
                .iter()
                .map(|&index| attempt(&case.accesses[index]))
                .collect();
            let actor = self.actors.get_mut(&role);
            let actor = actor.with_context(|| format!("nobody is {role:?}"))?;
            outputs.extend(indices.into_iter().zip(actor.attempts(&attempts)?));
        }
        if !shell.is_empty() {
            let lines: Vec<String> = shell.iter().map(|&i| line(&case.accesses[i])).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            outputs.extend(shell.into_iter().zip(self.container.lines(&lines)?));
        }
        Ok(outputs.into_values().collect())
    }
}

/// An access to a path by a program of the image, as a line of bash. A subshell is the same image as
/// its shell.
fn line(access: &Access) -> String {
    let by = &access.by;
    let Target::Path(path) = &access.target else {
        return format!("echo {by} can only access paths; false");
    };
    match access.operation {
        _ if !by.ends_with("/bash") => format!("{by} {path} >/dev/null"),
        Operation::Exec => {
            let args = access.args.iter().map(|arg| format!(" '{arg}'"));
            format!("exec {path}{} >/dev/null", args.collect::<String>())
        }
        Operation::Read => format!("exec 3< {path}"),
        _ => format!(": >> {path}"),
    }
}

/// An access, as arguments of `karmor-tries`; where somebody else starts who acts, of that one.
fn attempt(access: &Access) -> Vec<String> {
    let how = format!("{:?}", access.operation).to_lowercase();
    let mut words = match &access.target {
        Target::Path(path) => vec!["act".to_owned(), how, path.clone()],
        Target::Object(Object::TooLong) => vec!["act".to_owned(), how, too_long()],
        Target::Object(object) => {
            let object = object.name().trim_start_matches('@').to_owned();
            let file = UNREACHABLE
                .trim_start_matches(PLACE)
                .trim_start_matches('/');
            let (tree, file) = (PLACE.to_owned(), file.to_owned());
            vec!["act-on".to_owned(), object, how, tree, file]
        }
        Target::Socket(socket) => {
            let (family, kind, protocol) = socket.numbers();
            let numbers = [family, kind, protocol].map(|number| number.to_string());
            [vec!["socket".to_owned(), how], numbers.to_vec()].concat()
        }
        Target::Endpoint(address, protocol) => {
            let (address, protocol) = (address.to_string(), protocol.number().to_string());
            vec!["speak".to_owned(), how, address, protocol]
        }
        Target::Capability(name) => vec!["capability".to_owned(), name.clone()],
        Target::Domain(name) => ["ask", "unanswered", RESOLVER, name]
            .map(str::to_owned)
            .to_vec(),
        Target::Preset(preset) => feat(*preset).iter().map(|&word| word.to_owned()).collect(),
        Target::Syscall(name, path) => {
            let words = ["call".to_owned(), name.clone()];
            words.into_iter().chain(path.clone()).collect()
        }
    };
    if let (Target::Path(_), Operation::Exec) = (&access.target, access.operation) {
        words.push("--".to_owned());
        words.extend(access.args.iter().cloned());
    }
    if access.from != access.by {
        let start = ["act", "exec", &access.by, "--"].map(str::to_owned);
        words.splice(..0, start);
    }
    words
}

/// What a preset is about, as arguments of `karmor-tries`.
const fn feat(preset: Preset) -> &'static [&'static str] {
    match preset {
        Preset::AnonymousMapExec => &["preset", "anonymous"],
        // A tree and a file that what is in memory does without.
        Preset::FilelessExec => &["act-on", "anonymous", "exec", "/", "none"],
        Preset::ProtectEnv => &["act", "read", "/proc/1/environ"],
        Preset::ProtectProc => &["act", "read", "/proc/1/status"],
        // Who acts comes from outside, and the file is not the image's.
        Preset::Exec | Preset::Drift => &["act", "exec", UNREACHABLE],
        Preset::Ptrace => &["preset", "attach"],
        Preset::Mount => &["preset", "mount"],
        Preset::Namespace => &["preset", "setns"],
        Preset::KernelModule => &["preset", "module-file"],
        Preset::Bpf => &["preset", "bpf"],
        Preset::IoUring => &["preset", "io-uring"],
    }
}

/// Whether what was tried has failed the way in which the kernel refuses such things.
fn is_refused(access: &Access, output: &Output) -> bool {
    let says = |text| format!("{}{}", output.stdout, output.stderr).contains(text);
    output.code != 0
        && match (&access.target, access.operation) {
            // Who wants to connect is not answered.
            (Target::Endpoint(..), Operation::Accept) => says("the connection was dropped"),
            // Most system calls have an answer of their own for a missing capability.
            (Target::Capability(_) | Target::Preset(_), _) => {
                says("not permitted") || output.denied()
            }
            // The packet is refused, not the call.
            (Target::Domain(_), _) => says("not permitted"),
            // An argument in memory that is not there yet, as the texts of a shell may be, is only
            // seen by the new image, which dies.
            (Target::Path(_), Operation::Exec) if images(access).next().is_none() => {
                output.code == KILLED || output.denied()
            }
            _ => output.denied(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_asked_for_nothing_that_it_cannot_do() {
        for case in karmor_cases::all().expect("the corpus can be read") {
            for access in &case.accesses {
                if images(access).next().is_some() {
                    continue;
                }
                let can = match access.operation {
                    Operation::Read => true,
                    Operation::Exec | Operation::Write => access.by == SHELL,
                    _ => false,
                };
                let is_own = access.from == access.by && !access.terminal;
                let is_file = matches!(access.target, Target::Path(_));
                assert!(can && is_own && is_file, "{}: {access:?}", case.name);
            }
        }
    }

    #[test]
    fn the_last_case_is_sound() {
        crate::cases::assert_sound(&last(Posture::Audit).policy);
    }

    #[test]
    fn every_case_is_tried_under_one_of_the_postures() {
        let all = karmor_cases::all().expect("the corpus can be read");
        assert!(all.iter().any(|case| case.posture == Posture::Audit));
        assert!(all.iter().any(|case| case.posture == Posture::Block));
        assert!(all.iter().all(|case| !case.accesses.is_empty()));
    }
}
