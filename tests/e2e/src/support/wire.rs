//! gRPC over the daemon's socket, for what a user's commands cannot say or not fast enough.

use std::io;

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use karmor_proto::{
    karmor::v1::{
        ApplyPolicyRequest, ApplyPolicyResponse, DeletePolicyRequest, DeletePolicyResponse,
        PolicyRef, control_client::ControlClient,
    },
    policy::{Policy, PolicyStatus, policy_service_client::PolicyServiceClient},
};
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::transport::{Channel, Endpoint, Uri};

use super::SOCKET;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Wire {
    runtime: Runtime,
    channel: Channel,
}

impl Wire {
    /// Connects as root.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        // The URI is required and means nothing: the connector does not look at it.
        let endpoint = Endpoint::from_static("http://localhost");
        let connector = tower::service_fn(|_: Uri| async {
            Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(SOCKET).await?))
        });
        let channel = runtime
            .block_on(endpoint.connect_with_connector(connector))
            .with_context(|| format!("cannot connect to {SOCKET}"))?;
        Ok(Self { runtime, channel })
    }

    /// Applies the policies of a text.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn apply(&self, text: &str) -> Result<ApplyPolicyResponse> {
        let mut client = ControlClient::new(self.channel.clone());
        let request = ApplyPolicyRequest {
            text: text.to_owned(),
            file_name: "case.yaml".to_owned(),
        };
        let answer = self.runtime.block_on(client.apply_policy(request));
        Ok(answer.context("cannot apply a policy")?.into_inner())
    }

    /// Deletes a policy by its name.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn delete(&self, name: &str) -> Result<DeletePolicyResponse> {
        self.delete_policy(PolicyRef {
            name: name.to_owned(),
            ..PolicyRef::default()
        })
    }

    /// Deletes the policy that is referred to.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn delete_policy(&self, policy: PolicyRef) -> Result<DeletePolicyResponse> {
        let mut client = ControlClient::new(self.channel.clone());
        let request = DeletePolicyRequest {
            policy: Some(policy),
        };
        let answer = self.runtime.block_on(client.delete_policy(request));
        Ok(answer.context("cannot delete a policy")?.into_inner())
    }

    /// Sends bytes as KubeArmor's clients send a container policy.
    ///
    /// # Errors
    /// When the daemon does not answer with a status.
    pub fn container_policy(&self, bytes: &[u8]) -> Result<PolicyStatus> {
        let mut client = PolicyServiceClient::new(self.channel.clone());
        let request = Policy {
            policy: bytes.to_vec(),
        };
        let answer = self.runtime.block_on(client.container_policy(request));
        let status = answer.context("no answer to a container policy")?;
        Ok(status.into_inner().status())
    }
}
