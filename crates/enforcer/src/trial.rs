//! Policies on trial: what was there before is again unless somebody says in time that they are to
//! stay. For policies that could lock out whoever would have to take them back.
//!
//! ```text
//! begin ──▶ on disk ──▶ in force ──▶ arm ──▶ settle: they stay
//!                                       └──▶ time over, machine restarted: as before
//! ```
//!
//! A policy is in one trial at most. Trying it once more takes it over to the new one, with what was
//! there before the first. A plain change or removal of it is a decision, and ends its trial.
//!
//! Time is counted by [`clock::Clock`], which nobody sets. A restart of the machine ends every
//! trial: it is what somebody who is locked out does, and no clock can be relied on across it.

pub mod clock;
mod record;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tracing::warn;

use self::clock::{Clock, Moment};
use crate::{file::hex, index::PolicyId};

/// Shortest trial: there must be time to read what happened and to answer.
pub const SHORTEST: Duration = Duration::from_secs(5);

/// Longest trial.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How often to look while there is a trial: whoever waits does so by another clock.
const CHECK: Duration = Duration::from_secs(1);

/// How soon to try again to take back what could not be.
const AGAIN: Duration = Duration::from_secs(5);

/// Identifies a text.
type Digest = String;

/// What a policy said before it went on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// As it was written.
    pub text: Arc<str>,
    /// Since when it said so.
    pub since: Timestamp,
}

/// A policy on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnTrial {
    /// Which.
    pub id: PolicyId,
    /// What it said while on trial, the last one last.
    texts: Vec<Digest>,
    /// What it said before; `None` when it was not there.
    pub before: Option<Before>,
}

impl OnTrial {
    /// Whether a policy that says this now is still what was put on trial.
    #[must_use]
    pub fn says(&self, text: Option<&str>) -> bool {
        text.is_some_and(|text| self.texts.contains(&digest(text)))
    }

    /// Whether it is again as it was before.
    #[must_use]
    pub fn is_as_before(&self, text: Option<&str>) -> bool {
        self.before.as_ref().map(|before| &*before.text) == text
    }

    fn says_its_last(&self, text: Option<&str>) -> bool {
        text.map(digest).as_ref() == self.texts.last()
    }
}

/// Policies that went on trial together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Names it to people.
    pub token: String,
    /// When its time is over.
    end: Moment,
    /// Which policies, in the order of their ids.
    pub policies: Vec<OnTrial>,
}

impl Trial {
    fn position(&self, id: &PolicyId) -> Option<usize> {
        self.policies.binary_search_by(|p| p.id.cmp(id)).ok()
    }
}

/// A policy that is to go on trial.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub id: PolicyId,
    /// What it will say.
    pub text: Arc<str>,
    /// What it says now; `None` when it is not there.
    pub now: Option<Before>,
}

/// What was open at some time.
#[derive(Debug)]
pub struct Snapshot(Vec<Trial>);

/// Why a trial cannot be named.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// There is none.
    #[error("no policy is on trial")]
    None,
    /// There is none of this name.
    #[error(
        "there is no trial `{0}`; it is confirmed already, its policies were changed since, or its \
         time was over and they were taken back"
    )]
    Token(String),
    /// There are several.
    #[error("there are several trials; name one of {0}")]
    Several(String),
}

/// All trials.
#[derive(Debug)]
pub struct Trials {
    path: Option<PathBuf>,
    clock: Clock,
    open: Vec<Trial>,
    /// What is kept is older than what is here: it could not be written.
    is_behind: bool,
    begun: Arc<Notify>,
}

impl Trials {
    /// Those that an earlier daemon kept in a file.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(path: PathBuf, clock: Clock) -> io::Result<Self> {
        Ok(Self {
            open: record::read(&path)?,
            path: Some(path),
            ..Self::in_memory(clock)
        })
    }

    /// Trials that are kept nowhere.
    #[must_use]
    pub fn in_memory(clock: Clock) -> Self {
        Self {
            path: None,
            clock,
            open: Vec::new(),
            is_behind: false,
            begun: Arc::default(),
        }
    }

    /// Told whenever a trial begins.
    #[must_use]
    pub fn begun(&self) -> Arc<Notify> {
        Arc::clone(&self.begun)
    }

    /// Compares what an earlier daemon kept of trials with what it kept of policies. Where it ended
    /// halfway through beginning or ending a trial, that trial is over.
    pub fn survey<'a>(&mut self, stored: impl Fn(&PolicyId) -> Option<&'a str>) {
        for trial in &mut self.open {
            let is_halfway = trial.policies.iter().any(|policy| {
                let text = stored(&policy.id);
                policy.is_as_before(text) || policy.says(text) && !policy.says_its_last(text)
            });
            if is_halfway {
                trial.end = Moment {
                    age: Duration::ZERO,
                    ..trial.end.clone()
                };
            }
            // What is neither was changed since, by somebody who meant it.
            trial.policies.retain(|policy| {
                let text = stored(&policy.id);
                policy.says(text) || policy.is_as_before(text)
            });
        }
        self.open.retain(|trial| !trial.policies.is_empty());
    }

    /// Puts policies on trial, before they are in force. `None` when nothing of it would change
    /// anything, and so nothing waits to be confirmed.
    ///
    /// # Errors
    /// When it cannot be kept; then everything is as it was.
    pub fn begin(
        &mut self,
        within: Duration,
        candidates: Vec<Candidate>,
    ) -> io::Result<Option<String>> {
        let before = self.snapshot();
        let token = token(&candidates);
        let mut policies: Vec<OnTrial> = candidates
            .into_iter()
            .filter_map(|candidate| self.take_over(candidate))
            .collect();
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        self.open.retain(|trial| !trial.policies.is_empty());
        let has_begun = !policies.is_empty();
        if has_begun {
            self.open.push(Trial {
                token: token.clone(),
                end: self.in_time(within),
                policies,
            });
        }
        if self.open == before.0 {
            return Ok(None);
        }
        if let Err(error) = self.keep() {
            self.open = before.0;
            return Err(error);
        }
        Ok(has_begun.then_some(token))
    }

    /// The candidate with what was there before anything of it was on trial, unless that is what it
    /// will say.
    fn take_over(&mut self, candidate: Candidate) -> Option<OnTrial> {
        let Candidate { id, text, now } = candidate;
        let mut policy = self.remove(&id).unwrap_or(OnTrial {
            id,
            texts: Vec::new(),
            before: now,
        });
        policy.texts.push(digest(&text));
        (!policy.is_as_before(Some(&text))).then_some(policy)
    }

    fn remove(&mut self, id: &PolicyId) -> Option<OnTrial> {
        let of = |trial: &mut Trial| {
            let at = trial.position(id)?;
            Some(trial.policies.remove(at))
        };
        self.open.iter_mut().find_map(of)
    }

    /// Begins counting, once what is on trial is in force. Returns the trial.
    pub fn arm(&mut self, token: &str, within: Duration) -> Option<Trial> {
        let end = self.in_time(within);
        let trial = self.open.iter_mut().find(|trial| trial.token == token)?;
        trial.end = end;
        let trial = trial.clone();
        if let Err(error) = self.keep() {
            // What is kept already is over a little earlier.
            warn!(%error, token, "the end of a trial cannot be kept over a restart");
        }
        self.begun.notify_one();
        Some(trial)
    }

    fn in_time(&self, within: Duration) -> Moment {
        let mut now = self.clock.now();
        now.age += within;
        now
    }

    /// What is open, for [`Trials::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.open.clone())
    }

    /// Goes back to what was open.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.open = snapshot.0;
        // Should this fail, what is kept says of policies that they are on trial which are as they
        // were before: the next start finds that out.
        self.try_keep();
    }

    /// Ends the trial of policies that were changed or removed for good, or are as before.
    pub fn release<'a>(&mut self, ids: impl IntoIterator<Item = &'a PolicyId>) {
        let removed = ids.into_iter().filter(|id| self.remove(id).is_some());
        if removed.count() > 0 || self.is_behind {
            self.open.retain(|trial| !trial.policies.is_empty());
            // Should this fail, the next start finds the change.
            self.try_keep();
        }
    }

    fn try_keep(&mut self) {
        if let Err(error) = self.keep() {
            warn!(%error, "which policies are on trial cannot be kept over a restart");
        }
    }

    fn keep(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let kept = record::write(path, &self.open);
        self.is_behind = kept.is_err();
        kept
    }

    /// The trial that is meant; without a name the only one.
    ///
    /// # Errors
    /// When that is none.
    pub fn named(&self, token: &str) -> Result<Trial, Unknown> {
        match self.open.as_slice() {
            trials if !token.is_empty() => trials
                .iter()
                .find(|trial| trial.token == token)
                .cloned()
                .ok_or_else(|| Unknown::Token(token.to_owned())),
            [] => Err(Unknown::None),
            [one] => Ok(one.clone()),
            several => {
                let tokens: Vec<&str> = several.iter().map(|t| &*t.token).collect();
                Err(Unknown::Several(tokens.join(", ")))
            }
        }
    }

    /// Lets everything of a trial stay.
    ///
    /// # Errors
    /// When that cannot be kept: after a restart it would be taken back. Then it is still on trial.
    pub fn confirm(&mut self, token: &str) -> io::Result<()> {
        let before = self.snapshot();
        self.open.retain(|trial| trial.token != token);
        self.keep().inspect_err(|_| self.open = before.0)
    }

    /// The trial of a policy, if it is on one.
    #[must_use]
    pub fn of(&self, id: &PolicyId) -> Option<&Trial> {
        self.open.iter().find(|trial| trial.position(id).is_some())
    }

    /// The time that a trial has left; zero when that is over, and after a restart of the machine.
    #[must_use]
    pub fn left(&self, trial: &Trial) -> Duration {
        let now = self.clock.now();
        if now.boot == trial.end.boot {
            trial.end.age.saturating_sub(now.age)
        } else {
            Duration::ZERO
        }
    }

    /// Trials whose time is over.
    #[must_use]
    pub fn over(&self) -> Vec<Trial> {
        let is_over = |trial: &&Trial| self.left(trial).is_zero();
        self.open.iter().filter(is_over).cloned().collect()
    }

    /// When to look again whether one is over; `None` when there is none.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let next = |trial| match self.left(trial) {
            Duration::ZERO => AGAIN,
            left => left.min(CHECK),
        };
        self.open.iter().map(next).min()
    }
}

fn digest(text: &str) -> Digest {
    hex(&Sha256::digest(text))
}

/// A name that no other trial has had, short enough to be typed.
fn token(candidates: &[Candidate]) -> String {
    const BYTES: usize = 4;
    let mut hash = Sha256::new();
    hash.update(Timestamp::now().as_nanosecond().to_le_bytes());
    for candidate in candidates {
        hash.update(digest(&candidate.text));
    }
    hex(&hash.finalize()[..BYTES])
}

#[cfg(test)]
pub(crate) mod tests;
