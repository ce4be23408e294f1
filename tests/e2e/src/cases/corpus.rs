//! The corpus, asked of the kernel. The policy crate's tests ask the reference evaluator and the
//! compiled table the same.
//!
//! ```text
//! daemon, container and actors, once ──▶ policy ──▶ attempts ──▶ alerts ──▶ next policy …
//! ```
//!
//! A policy replaces the one before it, and an actor is a process that is there all the time: what a
//! case costs is what it is about.

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
    ACTORS, Access, Case as Tried, FOREIGN, Kind, MOVED, Object, Operation, PLACE, Posture, Preset,
    Target, UNREACHABLE, Verdict,
};
use karmor_proto::karmor::v1::{Enforcement, PolicyRef};
use serde_json::Value;

use super::{Case, case, escapes::with_tools};
use crate::support::{
    Actor, Container, DefaultPostures, ENDS_AT_ONCE, Guest, Output, Watched, Wire, note, until,
};

pub(super) const AUDIT_CASES: &[Case] = &[case("corpus_posture_audit", |guest| {
    corpus(guest, Posture::Audit, &DefaultPostures::AUDIT)
})];

pub(super) const BLOCK_CASES: &[Case] = &[case("corpus_posture_block", |guest| {
    corpus(guest, Posture::Block, &DefaultPostures::BLOCK)
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

fn corpus(guest: &Guest, posture: Posture, postures: &DefaultPostures) -> Result<()> {
    let all = karmor_cases::all()?;
    let cases: Vec<&Tried> = all.iter().filter(|case| case.posture == posture).collect();
    make_files(&all)?;
    guest.watched(postures, |watched| {
        let container = with_tools(guest, OPTIONS, "corpus")?;
        watched.enforcer.knows(container.name())?;
        let mut stage = Stage {
            watched,
            actors: actors(&cases, &container)?,
            container,
            wire: Wire::connect()?,
            policy: None,
            tried: Vec::new(),
            took: [Duration::ZERO; 3],
        };
        let mut wrong = Vec::new();
        let began = Instant::now();
        for case in &cases {
            let problems = stage.hold(case).with_context(|| case.name.clone())?;
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
        stage.clear()?;
        note(&format!(
            "corpus: {} cases with {} accesses in {:.1} s; policies, attempts, alerts: {:.1?}",
            cases.len(),
            cases.iter().map(|case| case.accesses.len()).sum::<usize>(),
            began.elapsed().as_secs_f64(),
            stage.took
        ));
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
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
    let tries = "/usr/local/bin/karmor-tries";
    fs::create_dir_all(ACTORS).with_context(|| format!("cannot create {ACTORS}"))?;
    for (image, _) in cases
        .iter()
        .flat_map(|case| &case.accesses)
        .flat_map(images)
    {
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

impl Past {
    /// Whether the alert is due, or is not about who acts in cases.
    fn explains(&self, alert: &Value) -> bool {
        let mut due = self.due.iter();
        !is_ours(alert, self.kind) || due.any(|access| is_due(alert, access, self.kind))
    }
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
    /// Time for policies, for attempts, and for their alerts.
    took: [Duration; 3],
}

/// A case that has been tried.
struct Past {
    name: String,
    /// When its attempts began.
    began: Timestamp,
    kind: Kind,
    due: Vec<Access>,
}

impl Stage<'_> {
    /// Tries a case, and says what did not come out as it must.
    fn hold(&mut self, case: &Tried) -> Result<Vec<String>> {
        let seen = self.watched.alerts.count();
        let mut clock = Instant::now();
        self.apply(&case.policy)?;
        self.took[0] += clock.elapsed();
        let began = Timestamp::now();
        clock = Instant::now();
        let outputs = self.attempt(case)?;
        self.took[1] += clock.elapsed();
        clock = Instant::now();
        let mut problems = Vec::new();
        let mut due = Vec::new();
        for (access, output) in case.accesses.iter().zip(outputs) {
            match access.expect {
                Verdict::Allow if output.code == 0 => {}
                Verdict::Audit if output.code == 0 => due.push(access),
                Verdict::Block if is_refused(access, &output) => due.push(access),
                _ => problems.push(format!("{access:?}: {output}")),
            }
        }
        let mut alerts = Vec::new();
        let missing = |alerts: &[Value]| {
            let missing = due
                .iter()
                .filter(|access| !alerts.iter().any(|alert| is_due(alert, access, case.kind)));
            missing
                .map(|access| format!("{access:?}"))
                .collect::<Vec<_>>()
        };
        let waited = until("alerts", PATIENCE, || {
            for line in self.watched.alerts.lines_after(seen + alerts.len()) {
                let alert = serde_json::from_str(&line);
                alerts.push(alert.with_context(|| format!("karmor logs printed no JSON: {line}"))?);
            }
            Ok(missing(&alerts).is_empty().then_some(()))
        });
        self.took[2] += clock.elapsed();
        if waited.is_err() {
            let missing = missing(&alerts).join("\n");
            problems.push(format!("no alerts about\n{missing}\nbut\n{alerts:?}"));
        }
        // What is not due has to be told of as well: here, or by a case after this one.
        self.tried.push(Past {
            name: case.name.clone(),
            began,
            kind: case.kind,
            due: due.into_iter().cloned().collect(),
        });
        for alert in &alerts {
            let time = alert["UpdatedTime"]
                .as_str()
                .context("an alert has a time")?;
            let time: Timestamp = time.parse().context("the time of an alert")?;
            // Nobody acts for cases before the first of them.
            let of = self.tried.iter().rev().find(|past| past.began <= time);
            if let Some(of) = of.filter(|of| !of.explains(alert)) {
                problems.push(format!("an alert that is not due in {}: {alert}", of.name));
            }
        }
        Ok(problems)
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

/// What alerts about a preset name as the enforcer.
const fn enforcer(preset: Preset) -> &'static str {
    match preset {
        Preset::AnonymousMapExec => "PRESET-AnonMapExecutionPreset",
        Preset::FilelessExec => "PRESET-FilelessExecutionPreset",
        Preset::ProtectEnv => "PRESET-ProtectEnvPreset",
        Preset::ProtectProc => "PRESET-ProtectProcPreset",
        Preset::Exec => "PRESET-ExecPreset",
        Preset::Drift => "PRESET-DriftPreset",
        Preset::Ptrace => "PRESET-PtracePreset",
        Preset::Mount => "PRESET-MountPreset",
        Preset::Namespace => "PRESET-NamespacePreset",
        Preset::KernelModule => "PRESET-KernelModulePreset",
        Preset::Bpf => "PRESET-BpfPreset",
        Preset::IoUring => "PRESET-IoUringPreset",
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

/// Whether an alert is about who acts in a case. Nobody else in the container does anything; the
/// host has its own life.
fn is_ours(alert: &Value, kind: Kind) -> bool {
    let source = alert["Source"].as_str().unwrap_or_default();
    match kind {
        Kind::Container => alert["Type"] == "MatchedPolicy",
        Kind::Host => alert["Type"] == "MatchedHostPolicy" && source.starts_with(ACTORS),
    }
}

/// Whether an alert says what must have come of an access.
fn is_due(alert: &Value, access: &Access, kind: Kind) -> bool {
    let action = match access.expect {
        Verdict::Allow => return false,
        Verdict::Audit => "Audit",
        Verdict::Block => "Block",
    };
    let carries = access.alert.as_ref().is_none_or(|carried| {
        alert["Severity"].as_str() == Some(&carried.severity.to_string())
            && alert["Tags"].as_str().unwrap_or_default() == carried.tags.join(",")
            && alert["Message"] == carried.message
    });
    is_ours(alert, kind) && carries && is_about(alert, access, action)
}

fn is_about(alert: &Value, access: &Access, action: &str) -> bool {
    let text = |key: &str| alert[key].as_str().unwrap_or_default();
    let resource = text("Resource");
    let hooked = |hook: &str| text("Data") == format!("lsm={hook} {resource}");
    let operation = |name: &str| alert["Operation"] == name;
    alert["Action"] == action
        && match &access.target {
            Target::Object(object) => {
                let told = resource.split(' ').next().unwrap_or_default();
                // As much as is known of its name; of what has one at home, that or the other.
                match object {
                    Object::Anonymous => told.starts_with("/memfd:"),
                    Object::Unreachable => UNREACHABLE.ends_with(told),
                    Object::TooLong => told.starts_with("/d/d/"),
                }
            }
            // A written /bin/x is /usr/bin/x where the alert comes from.
            Target::Path(path) => {
                let found = resource.split(' ').next().unwrap_or_default();
                // What moves has two names.
                let first = match access.operation {
                    Operation::Move => found.strip_suffix(MOVED).unwrap_or(found),
                    _ => found,
                };
                found.ends_with(path) || first.ends_with(path)
            }
            Target::Socket(socket) => {
                let (_, kind, _) = socket.numbers();
                let name = ["", "STREAM", "DGRAM", "RAW", "RDM", "SEQPACKET", "DCCP"]
                    .get(kind as usize)
                    .unwrap_or(&"");
                operation("Network")
                    && hooked(hook_of(access.operation))
                    && resource.ends_with(&format!("type=SOCK_{name}"))
            }
            Target::Endpoint(address, protocol) => {
                let said = format!(
                    "remoteip={} port={} protocol={}",
                    address.ip().to_canonical(),
                    address.port(),
                    protocol.name().to_uppercase()
                );
                operation("Network") && hooked(hook_of(access.operation)) && resource == said
            }
            Target::Domain(name) => {
                let name = name.to_lowercase();
                operation("Network")
                    && resource == name
                    && text("Data") == format!("lsm=SOCKET_SENDMSG domain={name}")
            }
            Target::Preset(preset) => text("Enforcer") == enforcer(*preset),
            Target::Capability(name) => {
                operation("Capabilities")
                    && hooked("CAPABLE")
                    && resource == format!("CAP_{}", name.to_uppercase())
            }
            Target::Syscall(name, path) => {
                let name = format!("SYS_{}", name.to_uppercase());
                operation("Syscall")
                    && text("Data") == format!("syscall={name}")
                    && resource == path.as_ref().unwrap_or(&name)
            }
        }
}

/// The hook that sees an operation on a socket, as alerts name it.
const fn hook_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Bind => "SOCKET_BIND",
        Operation::Listen => "SOCKET_LISTEN",
        Operation::Connect => "SOCKET_CONNECT",
        Operation::Accept => "SOCKET_ACCEPT",
        Operation::Send => "SOCKET_SENDMSG",
        _ => "SOCKET_CREATE",
    }
}
