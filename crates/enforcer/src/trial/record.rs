//! Trials as they are kept over restarts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use karmor_policy::model::Kind;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{Before, Digest, OnTrial, Trial, clock::Moment};
use crate::{
    file::{at, write_atomic},
    index::{PolicyId, Source},
};

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    trials: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    token: String,
    /// Which start of the machine the time is of.
    boot_id: String,
    /// When it is over, in milliseconds since that start.
    end_ms: u64,
    policies: Vec<PolicyRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyRecord {
    kind: String,
    namespace: String,
    name: String,
    /// Digests of the texts that it had on trial, the last one last.
    texts: Vec<Digest>,
    /// What it said before; nothing when it was not there.
    before: Option<BeforeRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BeforeRecord {
    text: String,
    /// RFC 3339.
    since: String,
}

/// Reads what an earlier daemon kept.
///
/// # Errors
/// When it is there and cannot be read. What is damaged is set aside: with it the daemon could not
/// start, and whoever is locked out would stay so.
pub(super) fn read(path: &Path) -> io::Result<Vec<Trial>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(path)(error)),
    };
    let parsed = serde_json::from_slice::<File>(&bytes).map_err(|error| error.to_string());
    let trials = parsed.and_then(|file| file.trials.into_iter().map(trial).collect());
    trials.or_else(|why: String| {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".broken");
        let aside = PathBuf::from(aside);
        error!(
            why,
            file = %aside.display(),
            "which policies were on trial is damaged and set aside; they stay in force"
        );
        fs::rename(path, &aside).map_err(at(path))?;
        Ok(Vec::new())
    })
}

/// Replaces what is kept.
///
/// # Errors
/// When it cannot be written; then it is as it was.
pub(super) fn write(path: &Path, trials: &[Trial]) -> io::Result<()> {
    let trials = trials.iter().map(record).collect();
    // Also when there are none: a file that was removed may be there again after a power failure.
    let bytes = serde_json::to_vec_pretty(&File { trials })?;
    write_atomic(path, &bytes)
}

fn record(trial: &Trial) -> Record {
    Record {
        token: trial.token.clone(),
        boot_id: (*trial.end.boot).to_owned(),
        end_ms: u64::try_from(trial.end.age.as_millis()).unwrap_or(u64::MAX),
        policies: trial.policies.iter().map(policy_record).collect(),
    }
}

fn policy_record(policy: &OnTrial) -> PolicyRecord {
    PolicyRecord {
        kind: policy.id.kind.as_str().to_owned(),
        namespace: policy.id.namespace.clone(),
        name: policy.id.name.clone(),
        texts: policy.texts.clone(),
        before: policy.before.as_ref().map(|before| BeforeRecord {
            text: (*before.text).to_owned(),
            since: before.since.to_string(),
        }),
    }
}

fn trial(record: Record) -> Result<Trial, String> {
    let policies: Result<_, String> = record.policies.into_iter().map(on_trial).collect();
    let mut policies: Vec<OnTrial> = policies?;
    policies.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Trial {
        token: record.token,
        end: Moment {
            boot: record.boot_id.into(),
            age: Duration::from_millis(record.end_ms),
        },
        policies,
    })
}

fn on_trial(record: PolicyRecord) -> Result<OnTrial, String> {
    let kinds = [Kind::Container, Kind::Cluster, Kind::Host];
    let kind = kinds.into_iter().find(|k| k.as_str() == record.kind);
    let before = record.before.map(|before| {
        Ok::<_, String>(Before {
            text: before.text.into(),
            since: before
                .since
                .parse::<Timestamp>()
                .map_err(|error| error.to_string())?,
        })
    });
    Ok(OnTrial {
        id: PolicyId {
            source: Source::Grpc,
            kind: kind.ok_or_else(|| format!("there is no kind `{}`", record.kind))?,
            namespace: record.namespace,
            name: record.name,
        },
        texts: record.texts,
        before: before.transpose()?,
    })
}
