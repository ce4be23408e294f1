//! The specs of the three kinds.

use super::{
    CapabilitiesSection, ClusterSelector, DeviceSection, FileSection, List, NetworkSection,
    NodeSelector, PodSelector, Preset, ProcessSection, Spanned, SyscallsSection, mapping,
};

mapping! {
    /// Spec of a `KubeArmorPolicy`.
    #[cfg_attr(
        feature = "crd",
        derive(kube_derive::CustomResource),
        kube(
            group = "security.kubearmor.com",
            version = "v1",
            kind = "KubeArmorPolicy",
            doc = "States what containers of a namespace may do.",
            plural = "kubearmorpolicies",
            singular = "kubearmorpolicy",
            shortname = "ksp",
            namespaced,
            status = "PolicyStatus",
            printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
            printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action","priority":10}"#,
            printcolumn = r#"{"name":"Selector","type":"string","jsonPath":".spec.selector.matchLabels","priority":10}"#,
            crates(
                kube_core = "::kube_core",
                k8s_openapi = "::k8s_openapi",
                schemars = "::schemars",
                serde = "::serde",
                serde_json = "::serde_json",
                std = "::std"
            )
        )
    )]
    pub struct PolicySpec with attributes {
        /// Which containers of the namespace; all if empty.
        "selector" selector: Option<Spanned<PodSelector>>,
        /// What may be executed.
        "process" process: Option<Spanned<ProcessSection>>,
        /// What may be read and written.
        "file" file: Option<Spanned<FileSection>>,
        /// What may be spoken on the network.
        "network" network: Option<Spanned<NetworkSection>>,
        /// Which capabilities may be used.
        "capabilities" capabilities: Option<Spanned<CapabilitiesSection>>,
        /// Which system calls are told of.
        "syscalls" syscalls: Option<Spanned<SyscallsSection>>,
        /// Ready-made protections.
        "presets" presets: Option<List<Preset>>,
        /// Rules in AppArmor's own language.
        "apparmor" apparmor: Option<Spanned<String>>,
    }
}

mapping! {
    /// Spec of a `KubeArmorClusterPolicy`.
    #[cfg_attr(
        feature = "crd",
        derive(kube_derive::CustomResource),
        kube(
            group = "security.kubearmor.com",
            version = "v1",
            kind = "KubeArmorClusterPolicy",
            doc = "States what containers of any namespace may do.",
            plural = "kubearmorclusterpolicies",
            singular = "kubearmorclusterpolicy",
            shortname = "csp",
            status = "PolicyStatus",
            printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
            printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action","priority":10}"#,
            printcolumn = r#"{"name":"Selector","type":"string","jsonPath":".spec.selector.matchExpressions","priority":10}"#,
            crates(
                kube_core = "::kube_core",
                k8s_openapi = "::k8s_openapi",
                schemars = "::schemars",
                serde = "::serde",
                serde_json = "::serde_json",
                std = "::std"
            )
        )
    )]
    pub struct ClusterPolicySpec with attributes {
        /// Which containers of all namespaces; all if empty.
        "selector" selector: Option<Spanned<ClusterSelector>>,
        /// What may be executed.
        "process" process: Option<Spanned<ProcessSection>>,
        /// What may be read and written.
        "file" file: Option<Spanned<FileSection>>,
        /// What may be spoken on the network.
        "network" network: Option<Spanned<NetworkSection>>,
        /// Which capabilities may be used.
        "capabilities" capabilities: Option<Spanned<CapabilitiesSection>>,
        /// Which system calls are told of.
        "syscalls" syscalls: Option<Spanned<SyscallsSection>>,
        /// Ready-made protections.
        "presets" presets: Option<List<Preset>>,
        /// Rules in AppArmor's own language.
        "apparmor" apparmor: Option<Spanned<String>>,
    }
}

mapping! {
    /// Spec of a `KubeArmorHostPolicy`.
    #[cfg_attr(
        feature = "crd",
        derive(kube_derive::CustomResource),
        kube(
            group = "security.kubearmor.com",
            version = "v1",
            kind = "KubeArmorHostPolicy",
            doc = "States what the processes of hosts may do.",
            plural = "kubearmorhostpolicies",
            singular = "kubearmorhostpolicy",
            shortname = "hsp",
            status = "PolicyStatus",
            printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
            printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action","priority":10}"#,
            printcolumn = r#"{"name":"Selector","type":"string","jsonPath":".spec.nodeSelector.matchLabels","priority":10}"#,
            crates(
                kube_core = "::kube_core",
                k8s_openapi = "::k8s_openapi",
                schemars = "::schemars",
                serde = "::serde",
                serde_json = "::serde_json",
                std = "::std"
            )
        )
    )]
    pub struct HostPolicySpec with attributes {
        /// Which hosts; none if empty.
        #[cfg_attr(feature = "crd", schemars(required))]
        "nodeSelector" node_selector: Option<Spanned<NodeSelector>>,
        /// `true` holds init, the enforcer, what starts containers and the console to the policy as
        /// well, which spares them otherwise. An extension of KubeArmor's language.
        "includeEssential" include_essential: Option<Spanned<bool>>,
        /// What may be executed.
        "process" process: Option<Spanned<ProcessSection>>,
        /// What may be read and written.
        "file" file: Option<Spanned<FileSection>>,
        /// What may be spoken on the network.
        "network" network: Option<Spanned<NetworkSection>>,
        /// Which capabilities may be used.
        "capabilities" capabilities: Option<Spanned<CapabilitiesSection>>,
        /// Which system calls are told of.
        "syscalls" syscalls: Option<Spanned<SyscallsSection>>,
        /// Which USB devices may be used.
        "device" device: Option<Spanned<DeviceSection>>,
        /// Ready-made protections. An extension of KubeArmor's language.
        "presets" presets: Option<List<Preset>>,
        /// Rules in AppArmor's own language.
        "apparmor" apparmor: Option<Spanned<String>>,
    }
}

/// Status of a policy.
#[cfg(feature = "crd")]
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct PolicyStatus {
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}
