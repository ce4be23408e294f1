//! The part of `karmor.v1.Control` that is about policies on trial.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use karmor_proto::karmor::v1::{
    self as wire, Outcome, PolicyResult, SettleTrialRequest, SettleTrialResponse,
    TryPoliciesRequest, TryPoliciesResponse, Verdict,
};
use tonic::Status;

use super::{
    Api,
    control::{answer, invalid, reference, result},
    peer::stopped,
};
use crate::{
    engine::{Core, Done},
    events::clock::rfc3339,
    index::PolicyId,
    source::{
        read::{Reading, read_new},
        store::CLIENT,
    },
    trial::{LONGEST, SHORTEST, Trial, Unknown},
};

/// A trial for clients, without its policies.
pub(super) fn brief(token: &str, left: Duration) -> wire::Trial {
    let until = SignedDuration::try_from(left)
        .ok()
        .and_then(|left| Timestamp::now().checked_add(left).ok());
    wire::Trial {
        token: token.to_owned(),
        policies: Vec::new(),
        until: until.map(rfc3339).unwrap_or_default(),
        seconds_left: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
    }
}

fn whole(trial: &Trial, left: Duration) -> wire::Trial {
    let ids = trial.policies.iter().map(|policy| &policy.id);
    wire::Trial {
        policies: ids.map(reference).collect(),
        ..brief(&trial.token, left)
    }
}

fn within(seconds: u32) -> Result<Duration, Status> {
    let within = Duration::from_secs(seconds.into());
    if (SHORTEST..=LONGEST).contains(&within) {
        return Ok(within);
    }
    Err(Status::invalid_argument(format!(
        "the time to confirm is {seconds} s; allowed are {} to {} s",
        SHORTEST.as_secs(),
        LONGEST.as_secs()
    )))
}

fn results(core: &Core, done: Vec<(PolicyId, Done)>) -> Vec<PolicyResult> {
    done.into_iter()
        .map(|(id, done)| result(Some(&id), done, core.policy(&id).as_ref()))
        .collect()
}

fn unknown(why: Unknown) -> Status {
    match why {
        Unknown::None | Unknown::Token(_) => Status::not_found(why.to_string()),
        Unknown::Several(_) => Status::failed_precondition(why.to_string()),
    }
}

/// Ends a trial.
type Settle = fn(&mut Core, &str) -> Result<Vec<(PolicyId, Option<String>)>, Unknown>;

impl Api {
    pub(super) async fn try_all(
        &self,
        request: TryPoliciesRequest,
    ) -> Result<TryPoliciesResponse, Status> {
        let within = within(request.confirm_within_seconds)?;
        let reading = tokio::task::spawn_blocking(move || read_all(request))
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut response = TryPoliciesResponse::default();
        if reading.failed() {
            response.results.push(invalid(reading.summary()));
        } else if !reading.documents.is_empty() {
            let documents = reading.documents;
            let task = move |core: &mut Core| {
                let tried = core.try_policies(documents, within);
                let trial = tried.trial.map(|(trial, left)| whole(&trial, left));
                (results(core, tried.done), trial)
            };
            (response.results, response.trial) = self.engine.ask(task).await.map_err(stopped)?;
        }
        response.diagnostics = reading.diagnostics;
        response.rendered = reading.rendered;
        Ok(response)
    }

    pub(super) async fn settle(
        &self,
        request: SettleTrialRequest,
    ) -> Result<SettleTrialResponse, Status> {
        let verdict = request.verdict();
        let (settle, outcome): (Settle, Outcome) = match verdict {
            Verdict::Keep => (Core::confirm, Outcome::Confirmed),
            Verdict::Revert => (Core::revert, Outcome::Reverted),
            Verdict::Unspecified => {
                return Err(Status::invalid_argument("the verdict is missing"));
            }
        };
        let task = move |core: &mut Core| {
            let settled = settle(core, &request.token)?.into_iter();
            let results = settled.map(|(id, why)| {
                let outcome = why.map_or((outcome, None), |why| (Outcome::Failed, Some(why)));
                answer(Some(&id), outcome, core.policy(&id).as_ref())
            });
            Ok(results.collect())
        };
        let results = self.engine.ask(task).await.map_err(stopped)?;
        let results: Vec<PolicyResult> = results.map_err(unknown)?;
        Ok(SettleTrialResponse { results })
    }
}

/// All texts as if they were one. May take seconds.
fn read_all(request: TryPoliciesRequest) -> Reading {
    let mut all = Reading::default();
    for text in request.texts {
        let file = Some(&*text.file_name).filter(|name| !name.is_empty());
        let reading = read_new(&text.text, file.unwrap_or(CLIENT));
        all.documents.extend(reading.documents);
        all.diagnostics.extend(reading.diagnostics);
        all.rendered.push_str(&reading.rendered);
        all.damaged |= reading.damaged;
    }
    all
}
