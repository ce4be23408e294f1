//! A report for people.

use std::fmt::Write as _;

use karmor_proto::karmor::v1::{DefaultPostures, HookSupport, Postures, RuntimeSocket, Workload};

use super::report::{Enforcement, Report};
use crate::{
    command::vm::policy::list,
    render::{
        table::table,
        text::{count, printable},
    },
};

/// Renders a report: properties first, then a table for each list that there is.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for (name, value) in properties(report) {
        let _ = writeln!(text, "{:<14}{}", format!("{name}:"), printable(&value));
    }
    section(&mut text, "Hooks", report.hooks.as_deref(), hooks);
    section(
        &mut text,
        "Policies",
        report.policies.as_deref(),
        list::rows,
    );
    section(
        &mut text,
        "Workloads",
        report.workloads.as_deref(),
        workloads,
    );
    text
}

fn properties(report: &Report) -> Vec<(&'static str, String)> {
    let mut properties = Vec::new();
    properties.push(("Enforcement", enforcement(report.enforcement).to_owned()));
    properties.extend(
        report
            .reasons
            .iter()
            .map(|reason| ("Reason", reason.clone())),
    );
    match &report.daemon {
        Some(daemon) => properties.push((
            "Daemon",
            format!(
                "{} at {}, on {} since {}",
                daemon.version, daemon.address, daemon.host_name, daemon.started_at
            ),
        )),
        None => properties.push(("Daemon", "not running".to_owned())),
    }
    properties.push(("Kernel", report.kernel.clone()));
    properties.push(("BTF", if report.btf { "yes" } else { "no" }.to_owned()));
    let lsms = match report.lsms.as_deref() {
        None => "the kernel does not tell".to_owned(),
        Some([]) => "none".to_owned(),
        Some(lsms) => lsms.join(", "),
    };
    properties.push(("LSMs", lsms));
    properties.push(("Cgroups", report.cgroup.clone()));
    properties.extend(
        report
            .runtimes
            .iter()
            .map(|socket| ("Runtime", runtime(socket))),
    );
    if let Some(defaults) = &report.postures {
        properties.extend(postures(defaults));
    }
    if report.hooks.is_none() {
        properties.push(("Hooks", "not tried".to_owned()));
    }
    if let Some(events) = report.events {
        let mut text = format!(
            "{} emitted, {} delivered, {} lost",
            events.emitted, events.delivered, events.lost
        );
        if events.faults > 0 {
            text.push_str(&format!(
                "; {} accesses could not be decided and were refused",
                events.faults
            ));
        }
        properties.push(("Events", text));
    }
    properties
}

/// In the words of KubeArmor's probe.
fn postures(defaults: &DefaultPostures) -> Vec<(&'static str, String)> {
    let of = |whose: &str, postures: &Postures| {
        let text = format!(
            "{}(File) {}(Network) {}(Capabilities) {whose}",
            postures.file, postures.network, postures.capabilities
        );
        ("Postures", text)
    };
    let containers = defaults.containers.iter().map(|p| of("in containers", p));
    let host = defaults.host.iter().map(|p| of("on the host", p));
    let error = defaults.error.iter();
    let error = error.map(|why| ("Postures", format!("not as configured: {why}")));
    containers.chain(host).chain(error).collect()
}

fn enforcement(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Possible => "possible",
        Enforcement::Impossible => "impossible",
        Enforcement::Unknown => "unknown",
    }
}

fn runtime(socket: &RuntimeSocket) -> String {
    let state = match (&socket.error, socket.connected) {
        (Some(error), _) => format!(" ({error})"),
        (None, true) => " (connected)".to_owned(),
        (None, false) => String::new(),
    };
    match socket.path.as_str() {
        "" => format!("{}{state}", socket.runtime),
        path => format!("{} at {path}{state}", socket.runtime),
    }
}

fn section<T>(text: &mut String, title: &str, items: Option<&[T]>, render: fn(&[T]) -> String) {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return;
    };
    let _ = write!(text, "\n{title}\n{}", render(items));
}

fn hooks(hooks: &[HookSupport]) -> String {
    let rows: Vec<_> = hooks
        .iter()
        .map(|hook| {
            let yes_no = |yes| if yes { "yes" } else { "no" }.to_owned();
            vec![
                hook.hook.clone(),
                yes_no(hook.loads),
                yes_no(hook.attached),
                hook.verified_instructions.to_string(),
                hook.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(
        &["HOOK", "LOADS", "ATTACHED", "INSTRUCTIONS", "ERROR"],
        &rows,
    )
}

/// What is in force on a workload, a line each, and what is wrong.
fn policies(workload: &Workload) -> String {
    let mut lines = workload.policies.clone();
    if lines.is_empty() && workload.error.is_none() {
        lines.push(count(0, "policy", "policies"));
    }
    lines.extend(workload.error.iter().map(|error| format!("error: {error}")));
    lines.join("\n")
}

/// The beginning of an identifier that people use.
const SHORT_ID: usize = 12;

fn workloads(workloads: &[Workload]) -> String {
    let rows: Vec<_> = workloads
        .iter()
        .map(|workload| {
            vec![
                workload.namespace.clone(),
                workload.name.clone(),
                workload.container_id.chars().take(SHORT_ID).collect(),
                workload.image.clone(),
                policies(workload),
            ]
        })
        .collect();
    table(
        &["NAMESPACE", "NAME", "CONTAINER", "IMAGE", "POLICIES"],
        &rows,
    )
}
