//! What a probe finds. Its JSON form is documented in docs/probe.md: fields are only added.

use karmor_proto::karmor::v1::{
    DefaultPostures, EventCounters, HookSupport, Policy, RuntimeSocket, Workload,
};
use serde::Serialize;

/// Whether anything can be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Enforcement {
    /// Programs load, or a daemon enforces.
    Possible,
    /// Nothing can be; the reasons say why.
    Impossible,
    /// Nothing seems to be in the way, but loading the programs was not tried.
    Unknown,
}

/// Everything found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Of this program.
    pub(super) version: &'static str,
    /// The daemon that was asked, or `null`.
    pub(super) daemon: Option<Daemon>,
    pub(super) enforcement: Enforcement,
    /// Why the enforcement is not `possible`, as sentence fragments.
    pub(super) reasons: Vec<String>,
    pub(super) kernel: String,
    pub(super) btf: bool,
    /// `null` when the kernel does not tell.
    pub(super) lsms: Option<Vec<String>>,
    /// What loading each hook's program showed; `null` when it was not tried.
    pub(super) hooks: Option<Vec<HookSupport>>,
    pub(super) cgroup: String,
    pub(super) runtimes: Vec<RuntimeSocket>,
    /// `null` without a daemon, as are the next ones.
    pub(super) workloads: Option<Vec<Workload>>,
    pub(super) policies: Option<Vec<Policy>>,
    pub(super) events: Option<EventCounters>,
    pub(super) postures: Option<DefaultPostures>,
}

/// The daemon.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Daemon {
    pub(super) address: String,
    pub(super) version: String,
    pub(super) host_name: String,
    pub(super) started_at: String,
}
