//! Policies on trial, over the wire and by the machine's own clock.

use karmor_proto::karmor::v1::{
    PolicyText, SettleTrialRequest, SettleTrialResponse, TryPoliciesRequest, TryPoliciesResponse,
    Verdict,
};
use tonic::Status;

use super::*;

impl Daemon {
    async fn tries(&self, texts: &[&str], seconds: u32) -> Result<TryPoliciesResponse, Status> {
        let text = |text: &&str| PolicyText {
            text: (*text).to_owned(),
            file_name: "p.yaml".into(),
        };
        let request = TryPoliciesRequest {
            texts: texts.iter().map(text).collect(),
            confirm_within_seconds: seconds,
        };
        let mut client = ControlClient::new(self.channel().await);
        Ok(client.try_policies(request).await?.into_inner())
    }

    async fn settle(&self, token: &str, verdict: Verdict) -> Result<SettleTrialResponse, Status> {
        let request = SettleTrialRequest {
            token: token.into(),
            verdict: verdict.into(),
        };
        let mut client = ControlClient::new(self.channel().await);
        Ok(client.settle_trial(request).await?.into_inner())
    }

    async fn names(&self) -> Vec<String> {
        let policies = self.list().await.into_iter();
        policies.map(|policy| policy.name).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_confirms_is_taken_back_and_told() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let mut log = LogServiceClient::new(daemon.channel().await);
    let watch = log.watch_alerts(RequestMessage {
        filter: "all".into(),
    });
    let mut alerts = watch.await.unwrap().into_inner();
    let (a, b) = (block("a", "/bin/a"), block("b", "/bin/b"));
    let begun = std::time::Instant::now();
    let answer = daemon.tries(&[&a, &b], 5).await.unwrap();
    let outcomes: Vec<Outcome> = answer.results.iter().map(PolicyResult::outcome).collect();
    assert_eq!(outcomes, [Outcome::Applied; 2], "{}", answer.rendered);
    let trial = answer.trial.unwrap();
    assert_eq!((trial.policies.len(), trial.seconds_left), (2, 5));
    let alert = tokio::time::timeout(Duration::from_secs(20), alerts.message());
    let alert = alert.await.unwrap().unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(5), "too early");
    assert_eq!(alert.operation, "PolicyReverted");
    assert!(alert.message.starts_with("a, b not confirmed"), "{alert:?}");
    assert_eq!(daemon.names().await, [""; 0]);
    let status = daemon.settle(&trial.token, Verdict::Keep).await;
    assert_eq!(status.unwrap_err().code(), Code::NotFound);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_is_ended_by_its_name_over_a_restart() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let tries = async |daemon: &Daemon, name: &str| {
        let answer = daemon.tries(&[&block(name, "/bin/a")], 3600).await.unwrap();
        answer.trial.unwrap().token
    };
    let (a, b) = (tries(&daemon, "a").await, tries(&daemon, "b").await);
    let daemon = Daemon::start(daemon.stop().await).await;
    let listed = daemon.list().await;
    let shown = listed[0].trial.as_ref().unwrap();
    assert_eq!(shown.token, a);
    assert!((1800..=3600).contains(&shown.seconds_left), "{shown:?}");
    let until: Timestamp = shown.until.parse().unwrap();
    assert!(until > Timestamp::now(), "{shown:?}");
    let status = daemon.settle("", Verdict::Keep).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains(&a) && status.message().contains(&b));
    let status = daemon.settle(&a, Verdict::Unspecified).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let answer = daemon.settle(&a, Verdict::Keep).await.unwrap();
    assert_eq!(answer.results[0].outcome(), Outcome::Confirmed);
    let answer = daemon.settle("", Verdict::Revert).await.unwrap();
    assert_eq!(answer.results[0].outcome(), Outcome::Reverted);
    assert_eq!(daemon.names().await, ["a"]);
    assert!(daemon.list().await[0].trial.is_none());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_tried_is_not_applied() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap()).await;
    let a = block("a", "/bin/a");
    for seconds in [0, 4, 86_401, u32::MAX] {
        let status = daemon.tries(&[&a], seconds).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("5 to 86400 s"), "{status}");
    }
    // One of the documents is wrong, so none is applied.
    let answer = daemon.tries(&[&a, "kind: ["], 60).await.unwrap();
    assert_eq!(answer.results[0].outcome(), Outcome::Invalid);
    assert!(answer.trial.is_none() && !answer.rendered.is_empty());
    assert_eq!(daemon.names().await, [""; 0]);
    daemon.stop().await;
}
