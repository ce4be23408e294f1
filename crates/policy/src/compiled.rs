//! What the kernel reads, and what user space needs to tell what it decided.

use std::sync::Arc;

use crate::model::{Location, Meta};

/// The compiled policies of a workload.
///
/// Two workloads with equal policies (and equal [`crate::alias::Aliases`]) share one `Compiled`;
/// equality is that of [`Compiled::words`].
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The table, as [`karmor_abi::table`] describes it, without padding.
    pub words: Vec<u64>,
    /// The rules that verdicts name by index.
    pub rules: Vec<RuleInfo>,
    /// Rules of each set, as indices into `rules`; what an alert lists as other matches. A rule
    /// that loses whatever follows may be missing where the winner is there.
    pub sets: Vec<Box<[u32]>>,
}

/// What an alert says about a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// `metadata.name` of the rule's policy.
    pub policy: Arc<str>,
    /// `metadata.namespace` of the rule's policy.
    pub namespace: Arc<str>,
    /// Severity, tags, message.
    pub meta: Arc<Meta>,
    /// Where the rule stands.
    pub location: Location,
}
