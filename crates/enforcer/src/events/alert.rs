//! From a decoded event to the alert that users know.

use std::collections::BTreeMap;

use karmor_abi::{
    event::{Hook, Text},
    limits::ARGUMENTS,
    op::{Object, Op},
    pending::UNREADABLE,
    verdict::{Action, Reason},
};
use karmor_policy::compiled::{Compiled, RuleInfo};
use karmor_proto::feeder::Alert;

use super::{clock, decode::Event, words};
use crate::{
    text::clean,
    workload::{Identity, Node},
};

/// `PolicyName` of a verdict that no rule but the default posture gave.
pub const DEFAULT_POSTURE: &str = "DefaultPosture";

/// `Enforcer` of what is only watched.
const MONITOR: &str = "eBPF Monitor";

/// `PolicyName` of a refusal that protects the daemon itself.
pub const SELF_PROTECTION: &str = "SelfProtection";

/// What the alert says about the hook, in KubeArmor's words where it has them.
const fn lsm(hook: Hook) -> &'static str {
    match hook {
        Hook::Exec => "SECURITY_BPRM_CHECK",
        Hook::Mmap => "MMAP_FILE",
        Hook::Open => "FILE_OPEN",
        Hook::Mknod => "FILE_MKNOD",
        Hook::Mkdir => "FILE_MKDIR",
        Hook::Rmdir => "FILE_RMDIR",
        Hook::Unlink => "FILE_UNLINK",
        Hook::Symlink => "FILE_SYMLINK",
        Hook::Link => "FILE_LINK",
        Hook::Rename => "FILE_RENAME",
        Hook::Chmod => "FILE_CHMOD",
        Hook::Chown => "FILE_CHOWN",
        Hook::Truncate => "FILE_TRUNCATE",
        Hook::Setxattr => "FILE_SETXATTR",
        Hook::CopyUp => "FILE_COPY_UP",
        Hook::Capable => "CAPABLE",
        Hook::Committed => "SECURITY_BPRM_COMMITTED_CREDS",
        Hook::Mount => "SB_MOUNT",
        Hook::MoveMount => "MOVE_MOUNT",
        Hook::Umount => "SB_UMOUNT",
        Hook::PivotRoot => "SB_PIVOTROOT",
        Hook::Layer => "OVERLAY_LAYER",
        Hook::SocketCreate => "SOCKET_CREATE",
        Hook::SocketBind => "SOCKET_BIND",
        Hook::SocketListen => "SOCKET_LISTEN",
        Hook::SocketConnect => "SOCKET_CONNECT",
        Hook::SocketAccept => "SOCKET_ACCEPT",
        Hook::SocketSendmsg | Hook::Query => "SOCKET_SENDMSG",
        Hook::Syscall => "SYS_ENTER",
        Hook::Mprotect => "FILE_MPROTECT",
        Hook::FollowLink => "INODE_FOLLOW_LINK",
        Hook::PtraceAccess => "PTRACE_ACCESS_CHECK",
        Hook::PtraceTraceme => "PTRACE_TRACEME",
        Hook::UsernsCreate => "USERNS_CREATE",
        Hook::KernelReadFile => "KERNEL_READ_FILE",
        Hook::KernelLoadData => "KERNEL_LOAD_DATA",
        Hook::KernelModuleRequest => "KERNEL_MODULE_REQUEST",
        Hook::Bpf => "BPF",
        Hook::InitAnon => "INODE_INIT_SECURITY_ANON",
        Hook::Kill => "TASK_KILL",
        Hook::BpfMap => "BPF_MAP",
        Hook::BpfProg => "BPF_PROG",
        Hook::Use => "FILE_PERMISSION",
        Hook::Receive => "FILE_RECEIVE",
        Hook::Search => "TASK_FILE",
        Hook::SendSigio => "FILE_SEND_SIGIOTASK",
        Hook::Setrlimit => "TASK_SETRLIMIT",
        Hook::Setscheduler => "TASK_SETSCHEDULER",
        Hook::Setnice => "TASK_SETNICE",
        Hook::Setioprio => "TASK_SETIOPRIO",
        Hook::UnixConnect => "UNIX_STREAM_CONNECT",
        Hook::Setattr => "INODE_SETATTR",
        Hook::Ioctl => "FILE_IOCTL",
        Hook::Prctl => "TASK_PRCTL",
    }
}

/// Whether the hook sees a change of mounts.
const fn is_mount(hook: Hook) -> bool {
    matches!(
        hook,
        Hook::Mount | Hook::MoveMount | Hook::Umount | Hook::PivotRoot | Hook::Layer
    )
}

/// Makes the alert of an event.
///
/// `workload` is who the acting task belongs to, when that is still known; `table` is what decided.
#[must_use]
pub fn alert(
    event: &Event<'_>,
    table: Option<&Compiled>,
    workload: Option<&Identity>,
    node: &Node,
) -> Alert {
    let time = clock::at_boot_ns(event.header.time_ns);
    let verdict = event.verdict();
    let blocked = verdict.action() == Action::Block;
    let rule = table.and_then(|t| t.rules.get(verdict.rule() as usize));
    let mut alert = Alert {
        timestamp: time.as_second(),
        updated_time: clock::rfc3339(time),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        node_id: node.node_id.clone(),
        kube_armor_version: env!("CARGO_PKG_VERSION").into(),
        r#type: "MatchedPolicy".into(),
        enforcer: words::enforcer(event.op).into(),
        action: if blocked { "Block" } else { "Audit" }.into(),
        result: if blocked {
            "Permission denied"
        } else {
            "Passed"
        }
        .into(),
        event_data: event_data(event, table, rule),
        ..Alert::default()
    };
    identity(&mut alert, event.header.workload, workload);
    process(&mut alert, event);
    match rule {
        Some(rule) => metadata(&mut alert, rule),
        None if verdict.reason() == Reason::Rule => {}
        None if verdict.reason() == Reason::Guard => alert.policy_name = SELF_PROTECTION.into(),
        None => alert.policy_name = DEFAULT_POSTURE.into(),
    }
    alert
}

fn identity(alert: &mut Alert, number: u32, workload: Option<&Identity>) {
    match workload {
        Some(Identity::Container(container)) => {
            alert.namespace_name.clone_from(&container.namespace);
            alert.pod_name = container.pod_name();
            alert.labels = container.labels_text();
            alert.container_id.clone_from(&container.id);
            alert.container_name.clone_from(&container.name);
            alert.container_image.clone_from(&container.image);
        }
        Some(Identity::Host) => alert.r#type = "MatchedHostPolicy".into(),
        None => {
            let reason = format!("workload {number} is no longer known");
            alert.event_data.entry("Workload".into()).or_insert(reason);
        }
    }
}

fn process(alert: &mut Alert, event: &Event<'_>) {
    let header = &event.header;
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    alert.host_pid = number(header.host_pid);
    alert.host_ppid = number(header.host_ppid);
    alert.pid = number(header.pid);
    alert.ppid = number(header.ppid);
    alert.uid = number(header.uid);
    alert.cwd = clean(event.text(Text::Cwd));
    alert.tty = clean(event.tty());

    let exe = clean(event.text(Text::Exe));
    alert.data = format!("lsm={}", lsm(event.hook));
    let said = match &event.word {
        Some(word) => {
            let mut said = words::say(word);
            if let Some(protection) = protection(event) {
                said.data = protection;
            }
            Some(said)
        }
        None if event.op == Op::SyscallAt => {
            Some(words::say_at(object_name(event), event.header.flags))
        }
        None => None,
    };
    if let Some(said) = said {
        alert.operation = said.operation.into();
        alert.resource = said.resource;
        alert.source = command_line(&exe, event);
        alert.parent_process_name = clean(event.text(Text::ParentExe));
        alert.process_name = exe;
        if said.operation == words::SYSCALL {
            alert.data.clone_from(&said.data);
            alert.enforcer = MONITOR.into();
        } else if !said.data.is_empty() {
            alert.data = format!("{} {}", alert.data, said.data);
        }
        alert.event_data.extend(pairs(&said.data));
        if said.operation == "Network" {
            alert
                .event_data
                .insert("Resource".into(), alert.resource.clone());
        }
        return;
    }
    let path = object_name(event);
    // A mount is asked for what it may lead to, and leads to nothing yet.
    let op = if is_mount(event.hook) {
        Op::Move
    } else {
        event.op
    };
    if let Some(protection) = protection(event) {
        alert.data = format!("{} {protection}", alert.data);
        alert.event_data.extend(pairs(&protection));
    }
    // A program that is only mapped has no arguments of its own.
    let op = match op {
        Op::FilelessExec | Op::Drift | Op::ExecSession if event.hook == Hook::Exec => Op::Exec,
        Op::FilelessExec | Op::Drift | Op::Ptrace => Op::Map,
        other => other,
    };
    match op {
        Op::Exec => {
            alert.operation = "Process".into();
            alert.resource = command_line(&path, event);
            alert.source.clone_from(&exe);
            alert.parent_process_name = exe;
            alert.process_name = path;
        }
        Op::Map => {
            alert.operation = "Process".into();
            alert.resource = path;
            alert.source.clone_from(&exe);
            alert.parent_process_name = clean(event.text(Text::ParentExe));
            alert.process_name = exe;
        }
        _ => {
            alert.operation = "File".into();
            alert.resource = path;
            alert.source = command_line(&exe, event);
            alert.parent_process_name = clean(event.text(Text::ParentExe));
            alert.process_name = exe;
        }
    }
}

/// The protection that memory would have.
fn protection(event: &Event<'_>) -> Option<String> {
    const BITS: [(u32, &str); 3] = [(1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC")];
    if event.op != Op::AnonymousMapExec {
        return None;
    }
    let set = BITS.iter().filter(|(bit, _)| event.header.flags & bit != 0);
    let names: Vec<&str> = set.map(|&(_, name)| name).collect();
    Some(format!("prot={}", names.join("|")))
}

/// The `key=value` pairs of a text, each key with a capital letter, as KubeArmor has them.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split_ascii_whitespace().filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let mut letters = key.chars();
        let first = letters.next()?.to_ascii_uppercase();
        Some((format!("{first}{}", letters.as_str()), value.to_owned()))
    })
}

/// The object's path, or what is known of an object without one.
fn object_name(event: &Event<'_>) -> String {
    let path = clean(event.text(Text::Path));
    match (event.object, path.is_empty()) {
        (Some(object), true) => format!("@{}", object_word(object)),
        _ => path,
    }
}

const fn object_word(object: Object) -> &'static str {
    match object {
        Object::Anonymous => "anonymous",
        Object::Unreachable => "unreachable",
        Object::TooLong => "too-long",
    }
}

fn command_line(program: &str, event: &Event<'_>) -> String {
    let mut line = program.to_owned();
    for argument in event.arguments() {
        line.push(' ');
        line.push_str(&clean(argument));
    }
    line
}

fn metadata(alert: &mut Alert, rule: &RuleInfo) {
    alert.policy_name = rule.policy.to_string();
    if rule.meta.severity != 0 {
        alert.severity = rule.meta.severity.to_string();
    }
    alert.tags = rule.meta.tags.join(",");
    alert.a_tags.clone_from(&rule.meta.tags);
    alert.message.clone_from(&rule.meta.message);
}

fn event_data(
    event: &Event<'_>,
    table: Option<&Compiled>,
    winner: Option<&RuleInfo>,
) -> BTreeMap<String, String> {
    let mut data = BTreeMap::new();
    if !matches!(event.op, Op::Syscall | Op::SyscallAt) {
        data.insert("Lsm".to_owned(), lsm(event.hook).to_owned());
    }
    let others = other_policies(event, table, winner);
    if !others.is_empty() {
        data.insert("MatchedPolicies".into(), others.join(","));
    }
    let reason = match event.verdict().reason() {
        Reason::None | Reason::Posture => None,
        _ if event.op == Op::Query && event.hook != Hook::Query => {
            Some("the address was an answer about this name".to_owned())
        }
        Reason::Rule if winner.is_some() => arguments(event),
        Reason::Rule => Some("the policy that decided is no longer loaded".to_owned()),
        Reason::Object if matches!(event.hook, Hook::Mount | Hook::PivotRoot | Hook::Umount) => {
            Some("what would get other names cannot be told, and rules are about names".to_owned())
        }
        Reason::Object if event.hook == Hook::Query => {
            Some("what is asked for cannot be read, and queries are restricted".to_owned())
        }
        Reason::Object => {
            let word = event.object.map_or("unknown", object_word);
            Some(format!(
                "the object has no decidable path ({word}) and its family is restricted"
            ))
        }
        Reason::Move if is_mount(event.hook) => Some(
            "names that a rule means would lead elsewhere, or others to what it means".to_owned(),
        ),
        Reason::Move => {
            Some("the new name would take a protected object out of a rule's reach".to_owned())
        }
        Reason::Guard => Some("karmor protects itself, whatever policies say".to_owned()),
        Reason::Fault => {
            Some("the access could not be decided and was refused for safety".to_owned())
        }
    };
    if let Some(reason) = reason {
        data.insert("Reason".into(), reason);
    }
    data
}

/// What decided about an exec's arguments, if that did. The argument itself may be a secret; it is
/// where the whole command line is.
fn arguments(event: &Event<'_>) -> Option<String> {
    let what = match u64::from(event.header.argument) {
        0 => return None,
        UNREADABLE => "the arguments could not be read".to_owned(),
        many if many > u64::from(ARGUMENTS) => {
            format!("more than {ARGUMENTS} arguments are not allowed")
        }
        position => format!("argument {position} is not allowed"),
    };
    let blocked = event.verdict().action() == Action::Block;
    Some(if event.hook == Hook::Committed && blocked {
        format!("{what}; the program was killed before its first instruction")
    } else {
        what
    })
}

/// Names of the other policies with a pattern that the object matches, in table order.
fn other_policies(
    event: &Event<'_>,
    table: Option<&Compiled>,
    winner: Option<&RuleInfo>,
) -> Vec<String> {
    let Some(table) = table else {
        return Vec::new();
    };
    let rules = table
        .sets
        .get(event.header.set as usize)
        .into_iter()
        .flatten();
    let mut names: Vec<String> = Vec::new();
    for rule in rules.filter_map(|index| table.rules.get(*index as usize)) {
        let same = winner.is_some_and(|w| w.policy == rule.policy && w.namespace == rule.namespace);
        if !same && !names.iter().any(|n| **n == *rule.policy) {
            names.push(rule.policy.to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests;
