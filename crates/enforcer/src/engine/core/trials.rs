//! Policies that are in force on trial.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::{Core, Done, POLICIES, back, set};
use crate::{
    index::{Change, IndexError, Loaded, PolicyId, error_text},
    source::{
        read::Document,
        store::{id_of, reread},
    },
    trial::{Before, Candidate, OnTrial, Trial, Unknown},
};

/// What became of policies that were to go on trial.
#[derive(Debug)]
pub struct Tried {
    /// What became of each, in their order.
    pub done: Vec<(PolicyId, Done)>,
    /// The trial and the time it has, when something waits to be confirmed.
    pub trial: Option<(Trial, Duration)>,
}

/// A trial whose time was over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its name.
    pub token: String,
    /// Policies that are as they were before.
    pub policies: Vec<PolicyId>,
}

impl Core {
    /// Puts clients' policies in force together, all or none, until they are confirmed or the time is
    /// over.
    pub fn try_policies(&mut self, documents: Vec<Document>, within: Duration) -> Tried {
        let ids: Vec<PolicyId> = documents.iter().map(id_of).collect();
        if let Some(refused) = self.refused(&ids) {
            return all_or_none(ids, refused);
        }
        let before = self.trials.snapshot();
        let candidates = documents.iter().map(|d| self.candidate(d)).collect();
        let token = match self.trials.begin(within, candidates) {
            Ok(token) => token,
            Err(error) => {
                let why = format!("which policies are on trial cannot be kept: {error}");
                return failed(ids, &why);
            }
        };
        match self.apply_together(documents) {
            Ok(done) => {
                let trial = token.and_then(|token| self.trials.arm(&token, within));
                Tried {
                    done: ids.into_iter().zip(done).collect(),
                    trial: trial.map(|trial| (trial, within)),
                }
            }
            Err(why) => {
                self.trials.restore(before);
                failed(ids, &why)
            }
        }
    }

    /// What speaks against taking some of these policies, and against which one.
    fn refused(&self, ids: &[PolicyId]) -> Option<(usize, Done)> {
        let mut known = BTreeSet::new();
        for (at, id) in ids.iter().enumerate() {
            if let Some(why) = self.disabled(id.kind) {
                return Some((at, Done::NotEnabled(why)));
            }
            if !known.insert(id) {
                return Some((at, Done::Failed("it is given twice".into())));
            }
        }
        let new = ids.iter().filter(|id| self.index.policy(id).is_none());
        if self.index.policies().len() + new.count() > POLICIES {
            let why = format!("there would be more than {POLICIES} policies");
            return Some((ids.len().saturating_sub(1), Done::Failed(why)));
        }
        None
    }

    fn candidate(&self, document: &Document) -> Candidate {
        let id = id_of(document);
        Candidate {
            now: self.index.policy(&id).map(|loaded| Before {
                text: Arc::clone(&loaded.text),
                since: loaded.updated,
            }),
            id,
            text: Arc::clone(&document.text),
        }
    }

    /// Puts policies in force and keeps them, or leaves everything as it is and says why.
    fn apply_together(&mut self, documents: Vec<Document>) -> Result<Vec<Done>, String> {
        let mut done = Vec::with_capacity(documents.len());
        let (mut changes, mut undo, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for document in documents {
            let id = id_of(&document);
            let old = self.index.policy(&id).cloned();
            done.push(match &old {
                Some(old) if old.text == document.text => Done::Unchanged,
                Some(_) => Done::Modified,
                None => Done::Applied,
            });
            if !matches!(done.last(), Some(Done::Unchanged)) {
                kept.push((id.clone(), Arc::clone(&document.text)));
                undo.push((id.clone(), old));
                changes.push(set(id, document));
            }
        }
        if changes.is_empty() {
            return Ok(done);
        }
        self.change(changes).map_err(|error| error_text(&error))?;
        for (id, text) in kept {
            if let Some(store) = &mut self.store
                && let Err(error) = store.keep(&id, &text)
            {
                let why = format!("{} cannot be kept over a restart: {error}", id.name);
                return Err(self.undo(undo).map_or(why.clone(), |more| why + &more));
            }
        }
        Ok(done)
    }

    /// Makes policies what they were, first in the kernel: they may be what keeps the disk from being
    /// written. Returns what of it failed.
    fn undo(&mut self, old: Vec<(PolicyId, Option<Loaded>)>) -> Option<String> {
        let changes = old.iter().map(|(id, old)| back(id.clone(), old.as_ref()));
        let undone = self.change(changes.collect());
        for (id, old) in old {
            let text = old.as_ref().map(|old| &*old.text);
            if let Err(error) = self.keep(&id, text) {
                warn!(%error, policy = id.name, "what was in force before cannot be kept over a restart");
            }
        }
        undone
            .err()
            .map(|e| format!("; undoing it failed too: {}", error_text(&e)))
    }

    /// Has the disk say what a policy says; `None` when there is none.
    fn keep(&mut self, id: &PolicyId, text: Option<&str>) -> std::io::Result<()> {
        match (&mut self.store, text) {
            (Some(store), Some(text)) => store.keep(id, text),
            (Some(store), None) => store.forget(id),
            (None, _) => Ok(()),
        }
    }

    /// Ends a trial: its policies stay. Returns which, and why they are still on trial if they are.
    ///
    /// # Errors
    /// When no such trial is open.
    pub fn confirm(&mut self, token: &str) -> Result<Vec<(PolicyId, Option<String>)>, Unknown> {
        let trial = self.trials.named(token)?;
        let why = match self.trials.confirm(&trial.token) {
            Ok(()) => {
                info!(trial = trial.token, "policies on trial are confirmed");
                None
            }
            Err(error) => Some(format!(
                "it is still on trial, since its end cannot be kept over a restart: {error}"
            )),
        };
        let ids = trial.policies.into_iter().map(|policy| policy.id);
        Ok(ids.map(|id| (id, why.clone())).collect())
    }

    /// Ends a trial: what was there before is again. Returns which policies it is about, and why they
    /// are still on trial if they are.
    ///
    /// # Errors
    /// When no such trial is open.
    pub fn revert(&mut self, token: &str) -> Result<Vec<(PolicyId, Option<String>)>, Unknown> {
        let trial = self.trials.named(token)?;
        let left = self.take_back(&trial);
        let why = |id: &PolicyId| {
            let left = left.iter().find(|(of, _)| of == id);
            left.map(|(_, why)| why.clone())
        };
        let ids = trial.policies.iter().map(|policy| &policy.id);
        Ok(ids.map(|id| (id.clone(), why(id))).collect())
    }

    /// Takes back what was not confirmed in time. Returns the trials that ended so since the last
    /// call, and at the start.
    pub fn expire(&mut self) -> Vec<Ended> {
        self.take_back_what_is_over();
        std::mem::take(&mut self.ended)
    }

    pub(super) fn take_back_what_is_over(&mut self) {
        for trial in self.trials.over() {
            let left = self.take_back(&trial);
            for (id, why) in &left {
                error!(
                    policy = id.name,
                    trial = trial.token,
                    why,
                    "a policy was not confirmed in time and cannot be taken back; trying again"
                );
            }
            let is_left = |id: &PolicyId| left.iter().any(|(of, _)| of == id);
            let ids = trial.policies.into_iter().map(|policy| policy.id);
            let policies: Vec<PolicyId> = ids.filter(|id| !is_left(id)).collect();
            if !policies.is_empty() {
                let names: Vec<&str> = policies.iter().map(|id| &*id.name).collect();
                warn!(
                    policies = names.join(", "),
                    trial = trial.token,
                    "policies were not confirmed in time and are taken back"
                );
                self.ended.push(Ended {
                    token: trial.token,
                    policies,
                });
            }
        }
    }

    /// When to call [`Core::expire`] again; `None` as long as no trial begins.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.trials.next()
    }

    /// Told whenever a trial begins.
    #[must_use]
    pub fn trial_begun(&self) -> Arc<Notify> {
        self.trials.begun()
    }

    /// What of the kept policies is to come into force at a start: of those on trial whose time is
    /// over, what they said before.
    pub(super) fn without_what_is_over(&mut self, documents: Vec<Document>) -> Vec<Document> {
        let by_id = documents.into_iter().map(|d| (id_of(&d), d));
        let mut by_id: BTreeMap<PolicyId, Document> = by_id.collect();
        self.trials.survey(|id| by_id.get(id).map(|d| &*d.text));
        for policy in self.trials.over().iter().flat_map(|t| &t.policies) {
            by_id.remove(&policy.id);
            by_id.extend(before(policy).map(|document| (policy.id.clone(), document)));
        }
        by_id.into_values().collect()
    }

    /// Makes the policies of a trial what they were before, first in the kernel and then on the
    /// disk, where a policy may be in the way. Returns those with which that failed, and why; they
    /// stay on trial.
    fn take_back(&mut self, trial: &Trial) -> Vec<(PolicyId, String)> {
        let mut left = Vec::new();
        let pending: Vec<&OnTrial> = trial.policies.iter().collect();
        let changes: Vec<Change> = pending.iter().filter_map(|p| self.taking_back(p)).collect();
        match self.change(changes) {
            Ok(()) => {}
            Err(error @ IndexError::Backend { .. }) => {
                let why = error_text(&error);
                return pending
                    .iter()
                    .map(|p| (p.id.clone(), why.clone()))
                    .collect();
            }
            // One may be in the way of all, together with what came meanwhile.
            Err(IndexError::Compile { .. }) => {
                for policy in &pending {
                    if let Some(change) = self.taking_back(policy)
                        && let Err(error) = self.change(vec![change])
                    {
                        left.push((policy.id.clone(), error_text(&error)));
                    }
                }
            }
        }
        let mut settled = Vec::new();
        for policy in pending {
            if left.iter().any(|(id, _)| *id == policy.id) {
                continue;
            }
            let text = policy.before.as_ref().map(|before| &*before.text);
            match self.keep(&policy.id, text) {
                Ok(()) => settled.push(&policy.id),
                Err(error) => {
                    let why = format!("it would be in force again after a restart: {error}");
                    left.push((policy.id.clone(), why));
                }
            }
        }
        self.trials.release(settled);
        left
    }

    /// The change that makes a policy what it was before, unless it is.
    fn taking_back(&self, policy: &OnTrial) -> Option<Change> {
        let now = self.index.policy(&policy.id).map(|loaded| &*loaded.text);
        if policy.is_as_before(now) {
            return None;
        }
        match before(policy) {
            Some(document) => Some(set(policy.id.clone(), document)),
            None => now.map(|_| Change::Remove(policy.id.clone())),
        }
    }
}

/// What a policy said before it went on trial.
fn before(policy: &OnTrial) -> Option<Document> {
    let before = policy.before.as_ref()?;
    match reread(&policy.id, &before.text) {
        Ok(mut document) => {
            document.since = Some(before.since);
            Some(document)
        }
        Err(why) => {
            error!(
                policy = policy.id.name,
                why, "what a policy said before its trial is not taken by this version"
            );
            None
        }
    }
}

/// No policy is applied, since one cannot be.
fn all_or_none(ids: Vec<PolicyId>, refused: (usize, Done)) -> Tried {
    let (at, done) = refused;
    let name = ids.get(at).map(|id| id.name.clone()).unwrap_or_default();
    let mut done = Some(done);
    let other = || Done::Failed(format!("it is applied together with {name} or not at all"));
    let results = ids.into_iter().enumerate().map(|(i, id)| {
        let own = if i == at { done.take() } else { None };
        (id, own.unwrap_or_else(other))
    });
    Tried {
        done: results.collect(),
        trial: None,
    }
}

fn failed(ids: Vec<PolicyId>, why: &str) -> Tried {
    let failed = |id| (id, Done::Failed(why.to_owned()));
    Tried {
        done: ids.into_iter().map(failed).collect(),
        trial: None,
    }
}
