//! Which alerts must come of a case, and which came.
//!
//! Each access that is refused or audited has an alert of its own: nothing merges alerts, so no two
//! accesses share one. An alert beside these is due as well where an access may leave several
//! ([`leaves_one`]); any other is one too many.

use jiff::Timestamp;
use karmor_cases::{
    ACTORS, Access, Case as Tried, Kind, MOVED, Object, Operation, Preset, Target, UNREACHABLE,
    Verdict,
};
use serde_json::Value;

/// A case that has been tried.
pub(super) struct Past {
    name: String,
    /// The name of its policy.
    policy: String,
    /// When its attempts began.
    pub(super) began: Timestamp,
    kind: Kind,
    /// What has to be told of.
    due: Vec<Access>,
    /// What was told of who acts in it.
    alerts: Vec<Value>,
}

impl Past {
    pub(super) fn new(case: &Tried, policy: &str, began: Timestamp, due: Vec<Access>) -> Self {
        Self {
            name: case.name.clone(),
            policy: policy.to_owned(),
            began,
            kind: case.kind,
            due,
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
        self.pairs().iter().all(Option::is_some)
    }

    /// Says which accesses have none.
    pub(super) fn missing(&self) -> String {
        let pairs = self.pairs();
        let missing: Vec<String> = pairs
            .iter()
            .zip(&self.due)
            .filter(|(alert, _)| alert.is_none())
            .map(|(_, access)| format!("{access:?}"))
            .collect();
        format!(
            "no alerts about\n{}\namong\n{:?}",
            missing.join("\n"),
            self.alerts
        )
    }

    /// Says which alerts are too many.
    pub(super) fn surplus(&self) -> Vec<String> {
        let taken = self.pairs();
        let beside = self
            .alerts
            .iter()
            .enumerate()
            .filter(|(index, _)| !taken.contains(&Some(*index)));
        beside
            .filter(|(_, alert)| {
                !self
                    .due
                    .iter()
                    .any(|a| !leaves_one(a) && self.is_due(alert, a))
            })
            .map(|(_, alert)| format!("{}: an alert too many: {alert}", self.name))
            .collect()
    }

    /// The alert of each access, by its index: as many have one as possible.
    fn pairs(&self) -> Vec<Option<usize>> {
        let mut holders = vec![None; self.alerts.len()];
        for access in 0..self.due.len() {
            self.give(access, &mut holders, &mut vec![false; self.alerts.len()]);
        }
        let alert_of = |access| holders.iter().position(|holder| *holder == Some(access));
        (0..self.due.len()).map(alert_of).collect()
    }

    /// Gives an access an alert; who has that may take another one.
    fn give(&self, access: usize, holders: &mut [Option<usize>], tried: &mut [bool]) -> bool {
        for index in 0..self.alerts.len() {
            if tried[index] || !self.is_due(&self.alerts[index], &self.due[access]) {
                continue;
            }
            tried[index] = true;
            let is_free = match holders[index] {
                None => true,
                Some(holder) => self.give(holder, holders, tried),
            };
            if is_free {
                holders[index] = Some(access);
                return true;
            }
        }
        false
    }

    /// Whether an alert says what must have come of an access.
    fn is_due(&self, alert: &Value, access: &Access) -> bool {
        let action = match access.expect {
            Verdict::Allow => return false,
            Verdict::Audit => "Audit",
            Verdict::Block => "Block",
        };
        let name = text(alert, "PolicyName");
        let is_of_rule = name == self.policy;
        let carries = match &access.alert {
            Some(carried) => {
                is_of_rule
                    && alert["Severity"].as_str() == Some(&carried.severity.to_string())
                    && text(alert, "Tags") == carried.tags.join(",")
                    && alert["Message"] == carried.message
            }
            None => is_of_rule || name == "DefaultPosture",
        };
        alert["Action"] == action && carries && is_by(alert, access) && is_about(alert, access)
    }
}

/// Whether an access leaves one alert and never more. The others ask several hooks, one of them
/// several times, or of both names that something has.
fn leaves_one(access: &Access) -> bool {
    use Operation as O;
    match (&access.target, access.operation) {
        (Target::Path(_), O::Read | O::Write) => true,
        // A shell that is refused looks into the file, and what goes ahead is mapped.
        (Target::Path(_), O::Exec) => {
            access.expect == Verdict::Block && access.by.starts_with(ACTORS)
        }
        // Who is not let in knocks again.
        (Target::Endpoint(..), operation) => operation != O::Accept,
        (Target::Domain(_), _) | (Target::Syscall(_, None), _) => true,
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

/// As much as is known of its name; of what has one at home, that or the other.
fn is_object(told: &str, object: Object) -> bool {
    match object {
        Object::Anonymous => told.starts_with("/memfd:"),
        Object::Unreachable => !told.is_empty() && UNREACHABLE.ends_with(told),
        Object::TooLong => told.starts_with("/d/d/"),
    }
}

/// A written /bin/x is /usr/bin/x where the alert comes from, and what moves has two names.
fn is_path(told: &str, path: &str, access: &Access) -> bool {
    let first = match access.operation {
        Operation::Move => told.strip_suffix(MOVED).unwrap_or(told),
        _ => told,
    };
    told.ends_with(path) || first.ends_with(path)
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
    use karmor_cases::Posture;
    use serde_json::json;

    use super::*;

    const ONE: &str = "/run/corpus/by/one";

    fn access(operation: Operation, path: &str, expect: Verdict) -> Access {
        Access {
            operation,
            target: Target::Path(path.to_owned()),
            by: ONE.to_owned(),
            from: ONE.to_owned(),
            args: Vec::new(),
            terminal: false,
            expect,
            alert: None,
        }
    }

    fn past(due: &[Access]) -> Past {
        let case = Tried {
            name: "case".to_owned(),
            policy: String::new(),
            kind: Kind::Container,
            posture: Posture::Audit,
            accesses: due.to_vec(),
        };
        Past::new(&case, "policy", Timestamp::UNIX_EPOCH, due.to_vec())
    }

    fn alert(operation: &str, path: &str, action: &str) -> Value {
        json!({
            "Type": "MatchedPolicy", "Operation": operation, "Resource": path, "Action": action,
            "ProcessName": if operation == "Process" { path } else { ONE }, "Source": ONE,
            "PolicyName": "policy",
        })
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
    fn the_policy_counts() {
        let mut past = past(&[access(Operation::Read, "/a", Verdict::Block)]);
        let mut other = alert("File", "/a", "Block");
        other["PolicyName"] = json!("another");
        past.take(other.clone());
        assert!(!past.is_told());
        other["PolicyName"] = json!("DefaultPosture");
        past.take(other);
        assert!(past.is_told());
    }

    #[test]
    fn who_acted_counts() {
        let mut past = past(&[access(Operation::Read, "/a", Verdict::Block)]);
        let mut other = alert("File", "/a", "Block");
        other["ProcessName"] = json!("/run/corpus/by/two");
        past.take(other);
        assert!(!past.is_told());
    }
}
