//! `karmor.v1.Control`: policies with their whole state, and what the node can enforce.

use karmor_abi::counters::Class;
use karmor_policy::model::{self, Posture};
use karmor_proto::karmor::v1::{
    ApplyPolicyRequest, ApplyPolicyResponse, Capabilities, ClassCounters, DefaultPostures,
    DeletePolicyRequest, DeletePolicyResponse, Enforcement, EventCounters, GetPolicyRequest,
    GetPolicyResponse, HookSupport, ListPoliciesRequest, ListPoliciesResponse, NotEnforced,
    Outcome, Policy, PolicyRef, PolicyResult, Postures, ProbeRequest, ProbeResponse, RuntimeSocket,
    SettleTrialRequest, SettleTrialResponse, TryPoliciesRequest, TryPoliciesResponse,
    VersionRequest, VersionResponse, Workload, control_server::Control,
};
use tonic::{Request, Response, Status};

use super::{
    Api,
    peer::{Asker, may_change, stopped},
    trial,
};
use crate::{
    backend, config,
    engine::{Core, Done, ListedPolicy, Reference},
    events::{clock::rfc3339, loss::Books},
    index::{MemberStatus, PolicyId, Source},
    source::{
        read::{Document, read_new},
        store::{CLIENT, id_of},
    },
    workload::{Identity, cgroup::Hierarchy},
};

/// The apiVersion of the policies that are understood.
const POLICY_API: &str = "security.kubearmor.com/v1";

/// Parts of one policy that are told of as not enforced, and remarks about its rules. There may be as
/// many as rules, and an answer may be about all policies.
const NOT_ENFORCED: usize = 100;

pub(super) fn reference(id: &PolicyId) -> PolicyRef {
    PolicyRef {
        kind: id.kind.as_str().into(),
        namespace: id.namespace.clone(),
        name: id.name.clone(),
    }
}

/// Whether nothing but their origin tells two policies apart.
fn is_named_as(one: &ListedPolicy, other: &ListedPolicy) -> bool {
    let name = |policy: &ListedPolicy| reference(&policy.id);
    name(one) == name(other)
}

fn wanted(policy: Option<PolicyRef>) -> Result<Reference, Status> {
    let policy = policy.unwrap_or_default();
    if policy.name.is_empty() {
        return Err(Status::invalid_argument("the policy's name is missing"));
    }
    Ok(Reference {
        kind: policy.kind,
        namespace: policy.namespace,
        name: policy.name,
    })
}

/// Whether a policy says something, but nothing that this version enforces.
pub(super) fn is_beyond(policy: &ListedPolicy) -> bool {
    let policy = &policy.loaded.policy;
    policy.rules.is_empty() && !policy.not_enforced.is_empty()
}

/// How far a policy is in force, and why not further.
pub(super) fn enforcement(policy: &ListedPolicy) -> (Enforcement, String) {
    if let Some(why) = &policy.observe_only {
        return (
            Enforcement::None,
            format!("nothing is enforced on this node: {why}"),
        );
    }
    match &policy.error {
        Some(why) if policy.workloads.is_empty() => (Enforcement::None, why.clone()),
        _ if is_beyond(policy) => (
            Enforcement::None,
            "this version enforces none of its rules".into(),
        ),
        Some(why) => (Enforcement::Partial, why.clone()),
        None if policy.workloads.is_empty() => (
            Enforcement::Idle,
            "it selects no workload at the moment".into(),
        ),
        None if !policy.loaded.policy.not_enforced.is_empty() || !policy.remarks.is_empty() => {
            (Enforcement::Partial, "some of it is not enforced".into())
        }
        None => (Enforcement::Full, String::new()),
    }
}

fn not_enforced(policy: &ListedPolicy) -> Vec<NotEnforced> {
    let parts = policy.loaded.policy.not_enforced.iter();
    let parts = parts.map(|part| NotEnforced {
        field: part.field.clone(),
        why: part.why.clone(),
        line: part.location.line,
    });
    let remarks = policy
        .remarks
        .iter()
        .map(|(remark, workloads)| NotEnforced {
            field: remark.path.clone(),
            why: remark.text(workloads),
            line: remark.line,
        });
    first(parts.chain(remarks))
}

/// As many as are told of, and how many there are besides.
fn first(mut parts: impl Iterator<Item = NotEnforced>) -> Vec<NotEnforced> {
    let mut told: Vec<NotEnforced> = parts.by_ref().take(NOT_ENFORCED).collect();
    let more = parts.count();
    if more > 0 {
        told.push(NotEnforced {
            why: format!("{more} more parts of this policy are not enforced"),
            ..NotEnforced::default()
        });
    }
    told
}

fn describe(policy: &ListedPolicy, with_text: bool) -> Policy {
    let (enforcement, message) = enforcement(policy);
    Policy {
        kind: policy.id.kind.as_str().into(),
        namespace: policy.id.namespace.clone(),
        name: policy.id.name.clone(),
        source: policy.id.source.to_string(),
        enforcement: enforcement.into(),
        message,
        not_enforced: not_enforced(policy),
        workloads: policy.workloads.clone(),
        updated_at: rfc3339(policy.loaded.updated),
        text: if with_text {
            policy.loaded.text.to_string()
        } else {
            String::new()
        },
        trial: policy
            .trial
            .as_ref()
            .map(|(token, left)| trial::brief(token, *left)),
    }
}

/// All policies, and the files that should hold some but cannot be read.
fn list(core: &Core) -> Vec<Policy> {
    let mut policies: Vec<Policy> = core.policies().iter().map(|p| describe(p, false)).collect();
    policies.extend(core.complaints().into_iter().map(|(path, message)| Policy {
        source: Source::File(path).to_string(),
        enforcement: Enforcement::None.into(),
        message,
        ..Policy::default()
    }));
    policies
}

fn outcome(done: Done) -> (Outcome, Option<String>) {
    match done {
        Done::Applied => (Outcome::Applied, None),
        Done::Modified => (Outcome::Modified, None),
        Done::Unchanged => (Outcome::Unchanged, None),
        Done::Deleted => (Outcome::Deleted, None),
        Done::NotFound => (Outcome::NotFound, None),
        Done::NotEnabled(why) => (Outcome::NotEnabled, Some(why)),
        Done::Failed(why) => (Outcome::Failed, Some(why)),
    }
}

pub(super) fn result(
    id: Option<&PolicyId>,
    done: Done,
    now: Option<&ListedPolicy>,
) -> PolicyResult {
    answer(id, outcome(done), now)
}

pub(super) fn answer(
    id: Option<&PolicyId>,
    (outcome, why): (Outcome, Option<String>),
    now: Option<&ListedPolicy>,
) -> PolicyResult {
    let (enforcement, message) = now.map(enforcement).unwrap_or_default();
    PolicyResult {
        policy: id.map(reference),
        outcome: outcome.into(),
        enforcement: enforcement.into(),
        message: why.unwrap_or(message),
        not_enforced: now.map(not_enforced).unwrap_or_default(),
        workloads: now.map_or(0, |p| u32::try_from(p.workloads.len()).unwrap_or(u32::MAX)),
    }
}

pub(super) fn invalid(why: String) -> PolicyResult {
    PolicyResult {
        outcome: Outcome::Invalid.into(),
        message: why,
        ..PolicyResult::default()
    }
}

fn apply(core: &mut Core, documents: Vec<Document>) -> Vec<PolicyResult> {
    documents
        .into_iter()
        .map(|document| {
            let id = id_of(&document);
            let done = core.set(document);
            result(Some(&id), done, core.policy(&id).as_ref())
        })
        .collect()
}

fn capabilities(from: backend::Capabilities) -> Capabilities {
    Capabilities {
        kernel: from.kernel,
        btf: from.btf,
        lsms: from.lsms,
        hooks: from
            .hooks
            .into_iter()
            .map(|hook| HookSupport {
                hook: hook.hook,
                loads: hook.loads,
                attached: hook.attached,
                verified_instructions: hook.verified_instructions,
                error: hook.error,
            })
            .collect(),
        observe_only: from.observe_only,
    }
}

fn workload(member: MemberStatus, host: &str) -> Workload {
    let base = Workload {
        id: member.number,
        policies: member.policies,
        error: member.error,
        ..Workload::default()
    };
    match member.identity {
        Identity::Host => Workload {
            name: host.to_owned(),
            ..base
        },
        Identity::Container(container) => Workload {
            namespace: container.namespace.clone(),
            name: container.name.clone(),
            container_id: container.id.clone(),
            image: container.image.clone(),
            labels: container.user_labels().collect(),
            ..base
        },
    }
}

fn default_postures(
    (postures, error): (config::DefaultPostures, Option<String>),
) -> DefaultPostures {
    let word = |posture: Posture| {
        let word = match posture {
            Posture::Audit => "audit",
            Posture::Block => "block",
            Posture::Allow => "allow",
        };
        word.to_owned()
    };
    let of = |postures: model::Postures| Postures {
        file: word(postures.file),
        network: word(postures.network),
        capabilities: word(postures.capabilities),
    };
    DefaultPostures {
        containers: Some(of(postures.containers)),
        host: Some(of(postures.host)),
        error,
    }
}

fn event_counters(books: &Books) -> EventCounters {
    let of = |class: Class| {
        let book = books.classes[class as usize];
        ClassCounters {
            emitted: book.emitted,
            delivered: book.delivered,
            lost: book.lost,
        }
    };
    let classes = [of(Class::Denial), of(Class::Audit)];
    let [denials, audits] = classes;
    EventCounters {
        emitted: classes.iter().map(|class| class.emitted).sum(),
        delivered: classes.iter().map(|class| class.delivered).sum::<u64>() + books.malformed,
        lost: classes.iter().map(|class| class.lost).sum(),
        denials: Some(denials),
        audits: Some(audits),
        faults: books.faults,
        malformed: books.malformed,
    }
}

#[tonic::async_trait]
impl Control for Api {
    async fn apply_policy(
        &self,
        request: Request<ApplyPolicyRequest>,
    ) -> Result<Response<ApplyPolicyResponse>, Status> {
        may_change(&request)?;
        let request = request.into_inner();
        let reading = tokio::task::spawn_blocking(move || {
            let file = if request.file_name.is_empty() {
                CLIENT
            } else {
                &request.file_name
            };
            read_new(&request.text, file)
        })
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
        let (refused, summary) = (reading.failed(), reading.summary());
        let mut results = Vec::new();
        if !reading.documents.is_empty() {
            let documents = reading.documents;
            results = self
                .engine
                .ask(|core| apply(core, documents))
                .await
                .map_err(stopped)?;
        }
        if refused {
            // Refused documents have no identity that could be relied on.
            results.push(invalid(summary));
        }
        Ok(Response::new(ApplyPolicyResponse {
            results,
            diagnostics: reading.diagnostics,
            rendered: reading.rendered,
        }))
    }

    async fn try_policies(
        &self,
        request: Request<TryPoliciesRequest>,
    ) -> Result<Response<TryPoliciesResponse>, Status> {
        may_change(&request)?;
        self.try_all(request.into_inner()).await.map(Response::new)
    }

    async fn settle_trial(
        &self,
        request: Request<SettleTrialRequest>,
    ) -> Result<Response<SettleTrialResponse>, Status> {
        may_change(&request)?;
        self.settle(request.into_inner()).await.map(Response::new)
    }

    async fn delete_policy(
        &self,
        request: Request<DeletePolicyRequest>,
    ) -> Result<Response<DeletePolicyResponse>, Status> {
        may_change(&request)?;
        let asked = request.into_inner().policy;
        let wanted = wanted(asked.clone())?;
        let (id, done) = self
            .engine
            .ask(move |core| core.delete(&wanted))
            .await
            .map_err(stopped)?;
        let mut result = result(id.as_ref(), done, None);
        result.policy = result.policy.or(asked);
        Ok(Response::new(DeletePolicyResponse {
            result: Some(result),
        }))
    }

    async fn list_policies(
        &self,
        request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let policies = self.ask(Asker::of(&request), |core| list(core)).await?;
        Ok(Response::new(ListPoliciesResponse { policies }))
    }

    async fn get_policy(
        &self,
        request: Request<GetPolicyRequest>,
    ) -> Result<Response<GetPolicyResponse>, Status> {
        let asker = Asker::of(&request);
        let wanted = wanted(request.into_inner().policy)?;
        let name = wanted.name.clone();
        let found = self.ask(asker, move |core| core.find(&wanted)).await?;
        match found.as_slice() {
            [] => Err(Status::not_found(format!("there is no policy `{name}`"))),
            [one, others @ ..] if others.iter().all(|other| is_named_as(other, one)) => {
                Ok(Response::new(GetPolicyResponse {
                    policy: Some(describe(one, true)),
                    others: others.iter().map(|other| describe(other, true)).collect(),
                }))
            }
            many => {
                let names: Vec<String> = many
                    .iter()
                    .map(|p| {
                        format!(
                            "{} {}/{} ({})",
                            p.id.kind.as_str(),
                            p.id.namespace,
                            p.id.name,
                            p.id.source
                        )
                    })
                    .collect();
                Err(Status::failed_precondition(format!(
                    "several policies have that name: {}; say kind and namespace",
                    names.join(", ")
                )))
            }
        }
    }

    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        let (able, members, policies, counters, postures) = self
            .ask(Asker::of(&request), |core| {
                (
                    core.capabilities(),
                    core.members(),
                    list(core),
                    core.counters(),
                    core.postures(),
                )
            })
            .await?;
        let counters = counters.map_err(|error| Status::internal(error.to_string()))?;
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        Ok(Response::new(ProbeResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            host_name: self.node.host.clone(),
            capabilities: Some(capabilities(able)),
            cgroup: Hierarchy::kind().into(),
            runtimes: vec![RuntimeSocket {
                runtime: "containerd".into(),
                path: runtime
                    .path
                    .map(|p| p.display().to_string())
                    .unwrap_or_default(),
                connected: runtime.connected,
                error: runtime.error,
            }],
            workloads: members
                .into_iter()
                .map(|m| workload(m, &self.node.host))
                .collect(),
            policies,
            events: Some(event_counters(&self.accounts.books(&counters))),
            started_at: rfc3339(self.started),
            postures: Some(default_postures(postures)),
        }))
    }

    async fn version(
        &self,
        _request: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            policy_api: POLICY_API.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_enforced_is_told_up_to_a_number() {
        let part = |n: u32| NotEnforced {
            line: n,
            ..NotEnforced::default()
        };
        assert_eq!(first((0..100).map(part)).len(), 100);
        let told = first((0..150).map(part));
        assert_eq!(told.len(), 101);
        assert_eq!(
            told[100].why,
            "50 more parts of this policy are not enforced"
        );
    }
}
