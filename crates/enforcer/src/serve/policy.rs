//! `policy.PolicyService` and `policy.ProbeService`: policies as KubeArmor's clients send them.

use karmor_policy::model::{Kind, Policy};
use karmor_proto::{
    karmor::v1::Enforcement,
    policy::{
        ContainerData, HostSecurityPolicies, Policy as PolicyMessage, PolicyStatus, ProbeResponse,
        Response as PolicyResponse, policy_service_server::PolicyService,
        probe_service_server::ProbeService,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::{
    Api,
    control::{enforcement, is_beyond},
    peer::{Asker, may_change, stopped},
};
use crate::{
    engine::{Done, ListedPolicy, Reference},
    source::{
        read::{MAX_BYTES, Reading, read_new_object},
        store::{CLIENT, id_of},
    },
    text,
    workload::Identity,
};

/// A request, as far as its wrapping goes.
enum Wanted {
    Set(Reading),
    Delete(Reference),
    Invalid(String),
}

/// A watch event. The object stays as it was sent: a generic value would keep the last of the
/// fields that are given twice, and the policy would not say what was meant.
#[derive(Deserialize)]
struct Event<'e> {
    #[serde(rename = "type")]
    change: Option<String>,
    #[serde(borrow)]
    object: Option<&'e RawValue>,
}

/// What names the policy of an object.
#[derive(Deserialize)]
struct Object {
    kind: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
}

/// Takes the watch event apart: `{"type": "ADDED", "object": {...}}`.
fn unwrap(bytes: &[u8], kinds: &[Kind]) -> Wanted {
    if bytes.len() > MAX_BYTES {
        return Wanted::Invalid(crate::source::read::too_large(bytes.len()));
    }
    let event: Event<'_> = match serde_json::from_slice(bytes) {
        Ok(event) => event,
        Err(error) => return Wanted::Invalid(format!("the request is no watch event: {error}")),
    };
    let object = event.object.map(RawValue::get);
    let Some(text) = object.filter(|object| object.starts_with('{')) else {
        return Wanted::Invalid("the request has no `object`".into());
    };
    let object: Object = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => return Wanted::Invalid(format!("`object` is no policy: {error}")),
    };
    let change = event.change.unwrap_or_default().to_uppercase();
    match change.as_str() {
        "ADDED" | "MODIFIED" => set(&object, text, kinds),
        "DELETED" => delete(object, kinds),
        other => Wanted::Invalid(format!(
            "there is no change `{other}`; allowed are ADDED, MODIFIED and DELETED"
        )),
    }
}

fn set(object: &Object, text: &str, kinds: &[Kind]) -> Wanted {
    let stated = object.kind.as_deref();
    let Some(kind) = kinds
        .iter()
        .find(|k| stated.is_none_or(|s| s == k.as_str()))
    else {
        let allowed: Vec<&str> = kinds.iter().map(|k| k.as_str()).collect();
        return Wanted::Invalid(format!("this call takes {} only", allowed.join(" and ")));
    };
    let reading = read_new_object(*kind, text, CLIENT);
    if reading.failed() {
        return Wanted::Invalid(reading.summary());
    }
    let of_container = |policy: &Policy| policy.kind == Kind::Container;
    let of_all = |policy: &Policy| policy.selector.terms.is_empty();
    let mut policies = reading.documents.iter().map(|document| &*document.policy);
    if policies.any(|policy| of_container(policy) && of_all(policy)) {
        // As KubeArmor's daemon does: here a selector is more often forgotten than left out.
        return Wanted::Invalid("`spec.selector` has no labels".into());
    }
    Wanted::Set(reading)
}

fn delete(object: Object, kinds: &[Kind]) -> Wanted {
    let metadata = object.metadata.unwrap_or_default();
    let name = metadata.name.unwrap_or_default();
    if name.is_empty() {
        return Wanted::Invalid("metadata.name is missing".into());
    }
    let stated = object.kind.as_deref();
    let kind = kinds
        .iter()
        .find(|k| stated == Some(k.as_str()))
        .or(kinds.first());
    let kind = kind.map_or_else(String::new, |k| k.as_str().to_owned());
    let namespace = match metadata.namespace.unwrap_or_default() {
        empty if empty.is_empty() && kind == Kind::Container.as_str() => "default".to_owned(),
        namespace if kind == Kind::Container.as_str() => namespace,
        _ => String::new(),
    };
    Wanted::Delete(Reference {
        kind,
        namespace,
        name,
    })
}

/// What KubeArmor's clients are told, and why when it is not what they asked for. `now` is the policy
/// as it stands after a change of it.
fn status(done: Done, now: Option<&ListedPolicy>) -> (PolicyStatus, Option<String>) {
    let asked = match done {
        Done::Applied => PolicyStatus::Applied,
        Done::Modified | Done::Unchanged => PolicyStatus::Modified,
        Done::Deleted => return (PolicyStatus::Deleted, None),
        Done::NotFound => return (PolicyStatus::NotExist, None),
        Done::NotEnabled(why) => return (PolicyStatus::NotEnabled, Some(why)),
        Done::Failed(why) => return (PolicyStatus::Failure, Some(why)),
    };
    let Some(now) = now else {
        return (asked, None);
    };
    // KubeArmor has no word for what is kept but not in force; "Applied" would be taken for
    // protection.
    match enforcement(now) {
        // In force as soon as the node, or a later version, can do it.
        (Enforcement::None, why) if now.observe_only.is_some() || is_beyond(now) => {
            (PolicyStatus::NotEnabled, Some(why))
        }
        (Enforcement::None, why) => (PolicyStatus::Failure, Some(why)),
        (Enforcement::Partial, why) => (asked, Some(why)),
        _ => (asked, None),
    }
}

impl Api {
    async fn take(
        &self,
        request: Request<PolicyMessage>,
        kinds: &'static [Kind],
    ) -> Result<Response<PolicyResponse>, Status> {
        may_change(&request)?;
        let bytes = request.into_inner().policy;
        // Reading may take a while; the other clients should not wait for it.
        let wanted = tokio::task::spawn_blocking(move || unwrap(&bytes, kinds))
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let (done, now) = match wanted {
            Wanted::Invalid(why) => {
                info!(why, "a policy sent over gRPC is not valid");
                return Ok(answer(PolicyStatus::Invalid));
            }
            Wanted::Set(reading) => {
                let Some(document) = reading.documents.into_iter().next() else {
                    return Ok(answer(PolicyStatus::Invalid));
                };
                let id = id_of(&document);
                self.engine
                    .ask(move |core| (core.set(document), core.policy(&id)))
                    .await
                    .map_err(stopped)?
            }
            Wanted::Delete(wanted) => self
                .engine
                .ask(move |core| (core.delete(&wanted).1, None))
                .await
                .map_err(stopped)?,
        };
        let (status, why) = status(done, now.as_ref());
        let told = status.as_str_name();
        match why {
            Some(why) => warn!(
                status = told,
                why, "a policy over gRPC is not wholly in force"
            ),
            None => info!(status = told, "policy over gRPC"),
        }
        Ok(answer(status))
    }
}

fn answer(status: PolicyStatus) -> Response<PolicyResponse> {
    Response::new(PolicyResponse {
        status: status.into(),
    })
}

#[tonic::async_trait]
impl PolicyService for Api {
    async fn container_policy(
        &self,
        request: Request<PolicyMessage>,
    ) -> Result<Response<PolicyResponse>, Status> {
        self.take(request, &[Kind::Container, Kind::Cluster]).await
    }

    async fn host_policy(
        &self,
        request: Request<PolicyMessage>,
    ) -> Result<Response<PolicyResponse>, Status> {
        self.take(request, &[Kind::Host]).await
    }

    async fn network_policy(
        &self,
        request: Request<PolicyMessage>,
    ) -> Result<Response<PolicyResponse>, Status> {
        may_change(&request)?;
        // KubeArmorNetworkPolicy is not among what this version knows.
        Ok(answer(PolicyStatus::NotEnabled))
    }
}

#[tonic::async_trait]
impl ProbeService for Api {
    async fn get_probe_data(
        &self,
        request: Request<()>,
    ) -> Result<Response<ProbeResponse>, Status> {
        let (members, policies) = self
            .ask(Asker::of(&request), |core| {
                (core.members(), core.policies())
            })
            .await?;
        let mut response = ProbeResponse::default();
        for member in members {
            let texts = || {
                let mine = policies
                    .iter()
                    .filter(|p| member.policies.contains(&p.id.name));
                mine.map(|p| PolicyMessage {
                    policy: p.loaded.text.as_bytes().to_vec(),
                })
                .collect()
            };
            match &member.identity {
                Identity::Host => {
                    let data = HostSecurityPolicies {
                        policy_list: member.policies.clone(),
                        policy_list_data: texts(),
                    };
                    response.host_map.insert(self.node.host.clone(), data);
                }
                Identity::Container(container) => {
                    let name = text::name(&container.name);
                    let data = ContainerData {
                        policy_enabled: i32::from(!member.policies.is_empty()),
                        policy_list: member.policies.clone(),
                        policy_list_data: texts(),
                    };
                    response.container_list.push(name.clone());
                    response.container_map.insert(name, data);
                }
            }
        }
        Ok(Response::new(response))
    }
}
