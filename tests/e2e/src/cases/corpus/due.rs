//! Which alerts must come of a case, and which came.
//!
//! Each access that is refused or audited has an alert of its own: nothing merges alerts, so no two
//! accesses share one. What comes before an access may leave alerts as well, each once ([`beside`]); any
//! other is one too many. How many there are of a few is not known ([`is_told_of_at_will`]).

use jiff::Timestamp;
use karmor_cases::{
    ACTORS, Access, Case as Tried, Kind, MOVED, Object, Operation, PLACE, Posture, Preset, Target,
    UNREACHABLE, Verdict,
};
use serde_json::Value;

/// `PolicyName` where no rule decides.
const DEFAULT_POSTURE: &str = "DefaultPosture";

/// `SOCK_STREAM`
const STREAM: u32 = 1;

/// A case that has been tried.
pub(super) struct Past {
    name: String,
    /// When its attempts began.
    pub(super) began: Timestamp,
    kind: Kind,
    due: Vec<Due>,
    /// What was told of who acts in it.
    alerts: Vec<Value>,
}

/// What has to be told of.
#[derive(Clone)]
struct Due {
    access: Access,
    /// `PolicyName`, one of these.
    policies: Vec<String>,
}

impl Past {
    pub(super) fn new(case: &Tried, began: Timestamp, due: Vec<Access>) -> Self {
        let policy = name_of(case);
        let due = due.into_iter().map(|access| Due {
            policies: policies(case, &policy, &access),
            access,
        });
        Self {
            name: case.name.clone(),
            began,
            kind: case.kind,
            due: due.collect(),
            alerts: Vec::new(),
        }
    }

    /// Takes an alert of its time, if it is about who acts in it.
    pub(super) fn take(&mut self, alert: Value) {
        if is_ours(&alert, self.kind) {
            self.alerts.push(alert);
        }
    }

    /// Whether each access that is due has an alert of its own.
    pub(super) fn is_told(&self) -> bool {
        self.pairs(&self.due).iter().all(Option::is_some)
    }

    /// Says which accesses have none.
    pub(super) fn missing(&self) -> String {
        let pairs = self.pairs(&self.due);
        let missing: Vec<String> = pairs
            .iter()
            .zip(&self.due)
            .filter(|(alert, _)| alert.is_none())
            .map(|(_, due)| format!("{:?} by {:?}", due.access, due.policies))
            .collect();
        format!(
            "no alerts about\n{}\namong\n{:?}",
            missing.join("\n"),
            self.alerts
        )
    }

    /// Says which alerts are too many.
    pub(super) fn surplus(&self) -> Vec<String> {
        let taken = self.pairs(&self.allowed());
        let at_will = |alert: &Value| {
            let mut due = self.due.iter();
            due.any(|due| is_told_of_at_will(&due.access) && is_due(alert, due))
        };
        self.alerts
            .iter()
            .enumerate()
            .filter(|(index, alert)| !taken.contains(&Some(*index)) && !at_will(alert))
            .map(|(_, alert)| format!("{}: an alert too many: {alert}", self.name))
            .collect()
    }

    /// What may be told of: what has to be, and what comes before that.
    fn allowed(&self) -> Vec<Due> {
        let before = self.due.iter().flat_map(|due| {
            beside(&due.access).iter().map(|&operation| Due {
                access: Access {
                    operation,
                    ..due.access.clone()
                },
                policies: due.policies.clone(),
            })
        });
        self.due.iter().cloned().chain(before).collect()
    }

    /// The alert of each of these, by its index: as many have one as possible.
    fn pairs(&self, due: &[Due]) -> Vec<Option<usize>> {
        let mut holders = vec![None; self.alerts.len()];
        for index in 0..due.len() {
            self.give(
                due,
                index,
                &mut holders,
                &mut vec![false; self.alerts.len()],
            );
        }
        let alert_of = |index| holders.iter().position(|holder| *holder == Some(index));
        (0..due.len()).map(alert_of).collect()
    }

    /// Gives one of them an alert; who has that may take another one.
    fn give(
        &self,
        due: &[Due],
        wanting: usize,
        holders: &mut [Option<usize>],
        tried: &mut [bool],
    ) -> bool {
        for index in 0..self.alerts.len() {
            if tried[index] || !is_due(&self.alerts[index], &due[wanting]) {
                continue;
            }
            tried[index] = true;
            let is_free = match holders[index] {
                None => true,
                Some(holder) => self.give(due, holder, holders, tried),
            };
            if is_free {
                holders[index] = Some(wanting);
                return true;
            }
        }
        false
    }
}

/// The name of a case's policy.
fn name_of(case: &Tried) -> String {
    let policies = karmor_policy::read(&case.name, &case.policy).policies;
    let names = policies.into_iter().map(|policy| policy.name);
    names.collect::<Vec<_>>().join(",")
}

/// Who an alert about an access may say has decided: the policy, unless no rule did. What moves is
/// written to as well, and where a rule and the posture both refuse that, one of them is named.
fn policies(case: &Tried, policy: &str, access: &Access) -> Vec<String> {
    let is_named = match &access.target {
        Target::Object(object) => case.policy.contains(object.name()),
        _ => true,
    };
    let is_moved = access.operation == Operation::Move && access.expect == Verdict::Block;
    let names: &[&str] = if access.by_posture || !is_named {
        &[DEFAULT_POSTURE]
    } else if is_moved && case.posture == Posture::Block {
        &[policy, DEFAULT_POSTURE]
    } else {
        &[policy]
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// What an access is told of besides, each once, as operations on the same: what is done to a socket
/// before it can be used, and that there are two, or two names.
fn beside(access: &Access) -> &'static [Operation] {
    use Operation as O;
    // The first thing that is refused is the last that is done.
    if access.expect == Verdict::Block {
        return &[];
    }
    match (&access.target, access.operation) {
        // Both names, there and back.
        (Target::Path(_), O::Move) => &[O::Move; 3],
        (Target::Socket(_), O::Pair) => &[O::Pair],
        (Target::Socket(_), O::Bind | O::Connect) => &[O::Create],
        (Target::Socket(_), O::Listen) => &[O::Create, O::Bind],
        (Target::Socket(socket), O::Send) if socket.numbers().1 != STREAM => &[O::Create],
        // Somebody has to connect first.
        (Target::Socket(_), O::Accept | O::Send) => {
            &[O::Create, O::Bind, O::Listen, O::Create, O::Connect]
        }
        _ => &[],
    }
}

/// Whether it is not known how many alerts an access leaves: how often the kernel asks about it is up to
/// its version.
fn is_told_of_at_will(access: &Access) -> bool {
    use Operation as O;
    let is_refused = access.expect == Verdict::Block;
    match (&access.target, access.operation) {
        // A shell that is refused looks into the file, and what goes ahead is mapped.
        (Target::Path(_) | Target::Object(_), O::Exec) => {
            !(is_refused && access.by.starts_with(ACTORS))
        }
        // Who is not let in knocks again.
        (Target::Endpoint(..), O::Accept) => is_refused,
        (Target::Capability(_) | Target::Preset(_), _) => true,
        _ => false,
    }
}

/// Whether an alert is about who acts in a case. Nobody else in the container does anything; the
/// host has its own life.
fn is_ours(alert: &Value, kind: Kind) -> bool {
    match kind {
        Kind::Container => alert["Type"] == "MatchedPolicy",
        Kind::Host => {
            alert["Type"] == "MatchedHostPolicy" && text(alert, "Source").starts_with(ACTORS)
        }
    }
}

/// Whether an alert says what must have come of an access.
fn is_due(alert: &Value, due: &Due) -> bool {
    let access = &due.access;
    let action = match access.expect {
        Verdict::Allow => return false,
        Verdict::Audit => "Audit",
        Verdict::Block => "Block",
    };
    let carries = access.alert.as_ref().is_none_or(|carried| {
        alert["Severity"].as_str() == Some(&carried.severity.to_string())
            && text(alert, "Tags") == carried.tags.join(",")
            && alert["Message"] == carried.message
    });
    let decides = due
        .policies
        .iter()
        .any(|name| alert["PolicyName"] == **name);
    let is_so = alert["Action"] == action && decides && carries;
    is_so && is_by(alert, access) && is_about(alert, access)
}

/// Whether an alert names who acted. Of an exec, the process is what is executed.
fn is_by(alert: &Value, access: &Access) -> bool {
    let executes = access.operation == Operation::Exec
        || matches!(
            access.target,
            Target::Preset(Preset::FilelessExec | Preset::Exec | Preset::Drift)
        );
    let key = if executes && alert["Operation"] == "Process" {
        "Source"
    } else {
        "ProcessName"
    };
    alert[key] == access.by
}

/// Whether an alert is about what an access is about.
fn is_about(alert: &Value, access: &Access) -> bool {
    let resource = text(alert, "Resource");
    match &access.target {
        Target::Object(object) => {
            is_about_file(alert, access.operation) && is_object(first_word(resource), *object)
        }
        Target::Path(path) => {
            is_about_file(alert, access.operation) && is_path(first_word(resource), path, access)
        }
        Target::Socket(socket) => {
            let (_, kind, _) = socket.numbers();
            let name = ["", "STREAM", "DGRAM", "RAW", "RDM", "SEQPACKET", "DCCP"]
                .get(kind as usize)
                .unwrap_or(&"");
            is_of_network(alert, access.operation, resource)
                && resource.ends_with(&format!("type=SOCK_{name}"))
        }
        Target::Endpoint(address, protocol) => {
            let said = format!(
                "remoteip={} port={} protocol={}",
                address.ip().to_canonical(),
                address.port(),
                protocol.name().to_uppercase()
            );
            is_of_network(alert, access.operation, &said) && resource == said
        }
        Target::Domain(name) => {
            let name = name.to_lowercase();
            is_of_network(alert, Operation::Send, &format!("domain={name}")) && resource == name
        }
        Target::Preset(preset) => {
            [text(alert, "Enforcer"), text(alert, "Operation")] == said_of(*preset)
        }
        Target::Capability(name) => {
            alert["Operation"] == "Capabilities"
                && resource == format!("CAP_{}", name.to_uppercase())
                && alert["Data"] == format!("lsm=CAPABLE {resource}")
        }
        Target::Syscall(name, path) => {
            let name = format!("SYS_{}", name.to_uppercase());
            alert["Operation"] == "Syscall"
                && alert["Data"] == format!("syscall={name}")
                && resource == path.as_ref().unwrap_or(&name)
        }
    }
}

fn text<'a>(alert: &'a Value, key: &str) -> &'a str {
    alert[key].as_str().unwrap_or_default()
}

/// A program without its arguments.
fn first_word(resource: &str) -> &str {
    resource.split(' ').next().unwrap_or_default()
}

/// Whether an alert is about a file. What is executed or mapped is opened first: which of the two is
/// refused is for the rules to say.
fn is_about_file(alert: &Value, operation: Operation) -> bool {
    let told = text(alert, "Operation");
    match operation {
        Operation::Exec | Operation::Map => ["Process", "File"].contains(&told),
        _ => told == "File",
    }
}

/// As much as is known of its name; of what has one at home, that or the one in its own mount.
fn is_object(told: &str, object: Object) -> bool {
    match object {
        Object::Anonymous => told.starts_with("/memfd:"),
        Object::Unreachable => told == UNREACHABLE || UNREACHABLE.strip_prefix(PLACE) == Some(told),
        Object::TooLong => told.starts_with("/d/d/"),
    }
}

/// A written /bin/x is /usr/bin/x where the alert comes from, and what moves has two names.
fn is_path(told: &str, path: &str, access: &Access) -> bool {
    let first = match access.operation {
        Operation::Move => told.strip_suffix(MOVED).unwrap_or(told),
        _ => told,
    };
    [told, first]
        .into_iter()
        .any(|told| told == path || told.strip_prefix("/usr") == Some(path))
}

/// Whether an alert comes from the hook that sees an operation on a socket.
fn is_of_network(alert: &Value, operation: Operation, said: &str) -> bool {
    alert["Operation"] == "Network" && alert["Data"] == format!("lsm={} {said}", hook_of(operation))
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

/// What alerts about a preset name as the enforcer, and as the operation.
const fn said_of(preset: Preset) -> [&'static str; 2] {
    match preset {
        Preset::AnonymousMapExec => ["PRESET-AnonMapExecutionPreset", "File"],
        Preset::FilelessExec => ["PRESET-FilelessExecutionPreset", "Process"],
        Preset::ProtectEnv => ["PRESET-ProtectEnvPreset", "File"],
        Preset::ProtectProc => ["PRESET-ProtectProcPreset", "File"],
        Preset::Exec => ["PRESET-ExecPreset", "Process"],
        Preset::Drift => ["PRESET-DriftPreset", "Process"],
        Preset::Ptrace => ["PRESET-PtracePreset", "Process"],
        Preset::Mount => ["PRESET-MountPreset", "File"],
        Preset::Namespace => ["PRESET-NamespacePreset", "Process"],
        Preset::KernelModule => ["PRESET-KernelModulePreset", "Process"],
        Preset::Bpf => ["PRESET-BpfPreset", "Process"],
        Preset::IoUring => ["PRESET-IoUringPreset", "Process"],
    }
}

#[cfg(test)]
mod tests {
    use karmor_cases::Socket;
    use serde_json::json;

    use super::*;

    const ONE: &str = "/run/corpus/by/one";

    /// What deciding takes to have a name.
    const POLICY: &str = "\n  file:\n    matchPaths:\n    - path: /a\n";

    fn access(operation: Operation, path: &str, expect: Verdict) -> Access {
        access_to(operation, Target::Path(path.to_owned()), expect)
    }

    fn access_to(operation: Operation, target: Target, expect: Verdict) -> Access {
        Access {
            operation,
            target,
            by: ONE.to_owned(),
            from: ONE.to_owned(),
            args: Vec::new(),
            terminal: false,
            expect,
            by_posture: false,
            alert: None,
        }
    }

    fn past(due: &[Access]) -> Past {
        past_under(Posture::Audit, POLICY, due)
    }

    fn past_under(posture: Posture, spec: &str, due: &[Access]) -> Past {
        let case = Tried {
            name: "case".to_owned(),
            policy: crate::cases::escapes::manifest("corpus", spec),
            kind: Kind::Container,
            posture,
            accesses: due.to_vec(),
        };
        Past::new(&case, Timestamp::UNIX_EPOCH, due.to_vec())
    }

    fn alert(operation: &str, path: &str, action: &str) -> Value {
        json!({
            "Type": "MatchedPolicy", "Operation": operation, "Resource": path, "Action": action,
            "ProcessName": if operation == "Process" { path } else { ONE }, "Source": ONE,
            "PolicyName": "corpus",
        })
    }

    /// An alert about a TCP socket that is audited.
    fn socket_alert(hook: &str) -> Value {
        let resource = "protocol=TCP type=SOCK_STREAM";
        let mut alert = alert("Network", resource, "Audit");
        alert["Data"] = json!(format!("lsm={hook} {resource}"));
        alert
    }

    #[test]
    fn an_alert_is_due_to_one_access() {
        let read = access(Operation::Read, "/a", Verdict::Audit);
        let mut past = past(&[read.clone(), read]);
        past.take(alert("File", "/a", "Audit"));
        assert!(!past.is_told(), "{}", past.missing());
        past.take(alert("File", "/a", "Audit"));
        assert!(past.is_told() && past.surplus().is_empty());
        past.take(alert("File", "/a", "Audit"));
        assert_eq!(past.surplus().len(), 1);
    }

    #[test]
    fn an_access_takes_another_alert_when_somebody_else_needs_its_own() {
        let exec = access(Operation::Exec, "/a", Verdict::Audit);
        let read = access(Operation::Read, "/a", Verdict::Audit);
        let mut past = past(&[exec, read]);
        // Either would do for the one, and only the first for the other.
        past.take(alert("File", "/a", "Audit"));
        past.take(alert("Process", "/a", "Audit"));
        assert!(past.is_told(), "{}", past.missing());
        // What is executed may be told of when it is opened, too.
        past.take(alert("File", "/a", "Audit"));
        assert!(past.surplus().is_empty(), "{:?}", past.surplus());
    }

    #[test]
    fn what_nobody_did_is_too_much() {
        let mut past = past(&[access(Operation::Read, "/a", Verdict::Block)]);
        past.take(alert("File", "/a", "Block"));
        assert!(past.is_told() && past.surplus().is_empty());
        for wrong in [
            alert("File", "/b", "Block"),
            alert("File", "/a", "Audit"),
            alert("Process", "/a", "Block"),
        ] {
            past.take(wrong);
        }
        assert_eq!(past.surplus().len(), 3);
    }

    #[test]
    fn who_acted_counts() {
        let mut past = past(&[access(Operation::Read, "/a", Verdict::Block)]);
        let mut other = alert("File", "/a", "Block");
        other["ProcessName"] = json!("/run/corpus/by/two");
        past.take(other);
        assert!(!past.is_told());
    }

    #[test]
    fn who_decided_counts() {
        let mut by_posture = access(Operation::Read, "/b", Verdict::Audit);
        by_posture.by_posture = true;
        let mut past = past(&[access(Operation::Read, "/a", Verdict::Audit), by_posture]);
        let told = |path: &str, policy: &str| {
            let mut alert = alert("File", path, "Audit");
            alert["PolicyName"] = json!(policy);
            alert
        };
        for (path, policy) in [("/a", DEFAULT_POSTURE), ("/a", "another"), ("/b", "corpus")] {
            past.take(told(path, policy));
        }
        past.take(told("/b", ""));
        assert!(past.pairs(&past.due).iter().all(Option::is_none));
        assert_eq!(past.surplus().len(), 4);
        past.take(told("/a", "corpus"));
        past.take(told("/b", DEFAULT_POSTURE));
        assert!(past.is_told(), "{}", past.missing());
    }

    #[test]
    fn of_what_no_rule_names_no_policy_is_told() {
        let target = Target::Object(Object::TooLong);
        let due = [access_to(Operation::Read, target, Verdict::Block)];
        let named = "\n  file:\n    matchPatterns:\n    - pattern: '@too-long'\n";
        for (spec, policy) in [(POLICY, DEFAULT_POSTURE), (named, "corpus")] {
            let past = past_under(Posture::Audit, spec, &due);
            assert_eq!(past.due[0].policies, [policy]);
        }
    }

    #[test]
    fn what_moves_may_be_refused_by_both() {
        let due = [access(Operation::Move, "/a", Verdict::Block)];
        let policies = |posture| past_under(posture, POLICY, &due).due[0].policies.clone();
        assert_eq!(policies(Posture::Audit), ["corpus"]);
        assert_eq!(policies(Posture::Block), ["corpus", DEFAULT_POSTURE]);
    }

    #[test]
    fn an_object_is_told_by_a_name() {
        for told in ["/b", UNREACHABLE] {
            assert!(is_object(told, Object::Unreachable), "{told}");
        }
        for told in ["", "b", "/corpus/b", "/c"] {
            assert!(!is_object(told, Object::Unreachable), "{told}");
        }
        let read = access(Operation::Read, "/bin/a", Verdict::Block);
        assert!(is_path("/bin/a", "/bin/a", &read) && is_path("/usr/bin/a", "/bin/a", &read));
        assert!(!is_path("", "/bin/a", &read) && !is_path("/x/bin/a", "/bin/a", &read));
    }

    #[test]
    fn what_comes_before_is_told_of_once() {
        let tcp = || Target::Socket(Socket::Tcp);
        let bind = access_to(Operation::Bind, tcp(), Verdict::Audit);
        let mut past = past(&[bind]);
        past.take(socket_alert("SOCKET_CREATE"));
        assert!(!past.is_told());
        past.take(socket_alert("SOCKET_BIND"));
        assert!(past.is_told() && past.surplus().is_empty());
        for again in ["SOCKET_CREATE", "SOCKET_BIND", "SOCKET_LISTEN"] {
            past.take(socket_alert(again));
        }
        assert_eq!(past.surplus().len(), 3);
    }

    #[test]
    fn a_pair_is_two() {
        let pair = access_to(
            Operation::Pair,
            Target::Socket(Socket::UnixStream),
            Verdict::Audit,
        );
        let mut past = past(&[pair]);
        past.take(socket_alert("SOCKET_CREATE"));
        past.take(socket_alert("SOCKET_CREATE"));
        assert!(past.is_told() && past.surplus().is_empty());
        past.take(socket_alert("SOCKET_CREATE"));
        assert_eq!(past.surplus().len(), 1);
    }

    #[test]
    fn how_often_a_capability_is_asked_for_is_not_known() {
        let target = Target::Capability("chown".to_owned());
        let mut past = past(&[access_to(Operation::Use, target, Verdict::Audit)]);
        for _ in 0..3 {
            let mut alert = alert("Capabilities", "CAP_CHOWN", "Audit");
            alert["Data"] = json!("lsm=CAPABLE CAP_CHOWN");
            past.take(alert);
        }
        assert!(past.is_told() && past.surplus().is_empty());
    }

    #[test]
    fn every_policy_of_the_corpus_has_a_name() {
        for case in karmor_cases::all().expect("the corpus can be read") {
            let name = name_of(&case);
            assert!(
                !name.is_empty() && !name.contains(','),
                "{}: {name}",
                case.name
            );
        }
    }
}
