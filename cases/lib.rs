//! The corpus: one directory a case, with the policy as a user writes it and the accesses that must
//! be allowed, audited or blocked under it.
//!
//! ```text
//! NAME/policy.yaml     selects containers labelled app: nginx
//! NAME/accesses.yaml   posture, and a list of accesses with their verdicts
//! ```
//!
//! The same files are run against the reference evaluator, against the compiled table, and in a
//! container against the kernel; so every path must exist in the Debian image of the end-to-end
//! tests, and every image that acts must be one that can: bash, cat, head.

use include_dir::{Dir, include_dir};
use serde::Deserialize;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR");

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Directory.
    pub name: &'static str,
    /// `policy.yaml`, as text.
    pub policy: &'static str,
    /// Default posture under which the accesses are made.
    pub posture: Posture,
    /// What is tried, in order.
    pub accesses: Vec<Access>,
}

/// `accesses.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accesses {
    posture: Posture,
    accesses: Vec<Access>,
}

/// Default posture.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Posture {
    /// What no rule allows is reported.
    Audit,
    /// What no rule allows is refused.
    Block,
}

/// One access, and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// What is done.
    #[serde(rename = "do")]
    pub operation: Operation,
    /// To which path.
    pub path: String,
    /// By which image.
    #[serde(default = "bash")]
    pub by: String,
    /// What must come of it.
    pub expect: Verdict,
}

/// An operation a shell can try.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Execute the path.
    Exec,
    /// Open it for reading.
    Read,
    /// Open it for appending.
    Write,
}

/// What must come of an access.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Verdict {
    /// It goes ahead; no alert.
    Allow,
    /// It goes ahead; an alert.
    Audit,
    /// It is refused; an alert.
    Block,
}

fn bash() -> String {
    "/usr/bin/bash".to_owned()
}

/// A file of the corpus that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A case lacks a file, or it is not UTF-8.
    #[error("case {0} has no readable {1}")]
    Missing(&'static str, &'static str),
    /// A file does not say what it should.
    #[error("case {0}: accesses.yaml: {1}")]
    Malformed(&'static str, String),
}

/// Every case, by name.
///
/// # Errors
/// The first file that cannot be used.
pub fn all() -> Result<Vec<Case>, CorpusError> {
    let mut cases = FILES
        .dirs()
        .filter_map(|dir| Some((dir, dir.path().file_name()?.to_str()?)))
        .map(|(dir, name)| case(dir, name))
        .collect::<Result<Vec<_>, _>>()?;
    cases.sort_by_key(|case| (case.posture, case.name));
    Ok(cases)
}

fn case(dir: &'static Dir<'static>, name: &'static str) -> Result<Case, CorpusError> {
    let read = |file| {
        dir.get_file(dir.path().join(file))
            .and_then(|found| found.contents_utf8())
            .ok_or(CorpusError::Missing(name, file))
    };
    let Accesses { posture, accesses } = serde_saphyr::from_str(read("accesses.yaml")?)
        .map_err(|error| CorpusError::Malformed(name, error.to_string()))?;
    let policy = read("policy.yaml")?;
    Ok(Case {
        name,
        policy,
        posture,
        accesses,
    })
}
