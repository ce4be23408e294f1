//! What is found out about a rule in a workload, and whoever wrote it should hear of.

use std::sync::Arc;

use karmor_policy::model::Policy;

/// A rule that does not do all it seems to.
#[derive(Clone, Debug)]
pub struct Remark {
    /// Whose rule it is.
    pub policy: Arc<Policy>,
    /// Where the rule stands.
    pub line: u32,
    /// What it names.
    pub path: String,
    /// What there is to say.
    pub about: About,
}

/// What there is to say about a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// It names a link; where that leads to, made harmless.
    Link(String),
    /// It names a link as a source; likewise.
    SourceLink(String),
    /// Not all of its files were checked for other names, and why.
    Unsearched(String),
}

impl Remark {
    /// What makes it the same in several workloads.
    pub(crate) fn said(&self) -> (u32, &str, &About) {
        (self.line, &self.path, &self.about)
    }

    /// What comes of it, in some workloads.
    #[must_use]
    pub fn text(&self, workloads: &str) -> String {
        match &self.about {
            About::Link(real) => format!(
                "in {workloads} this is a link to {real}: the rule does not protect that, at most \
                 the link itself; name {real}"
            ),
            About::SourceLink(real) => format!(
                "in {workloads} this is a link to {real}, which is what runs: the rule is not for \
                 it; name {real}"
            ),
            About::Unsearched(why) => format!(
                "in {workloads} not every file was checked for hard links, which go by other \
                 names: {why}"
            ),
        }
    }
}
