//! The sections of a spec.

use super::{
    Capability, ClusterExpression, Device, DnsQuery, Endpoint, FileDirectory, FilePath,
    FilePattern, LabelExpression, Labels, List, ProcessDirectory, ProcessPath, ProcessPattern,
    Protocol, Spanned, Syscall, SyscallPath, mapping,
};

mapping! {
    /// Which containers of its namespace a policy is for; all conditions must hold.
    pub struct PodSelector {
        /// Labels that a workload must carry.
        "matchLabels" match_labels: Option<Spanned<Labels>>,
        /// Conditions about labels.
        "matchExpressions" match_expressions: Option<List<LabelExpression>>,
    }
}

mapping! {
    /// Which containers of all namespaces a policy is for; all conditions must hold.
    pub struct ClusterSelector {
        /// Conditions about labels and namespaces.
        "matchExpressions" match_expressions: Option<List<ClusterExpression>>,
    }
}

mapping! {
    /// Which hosts a policy is for.
    pub struct NodeSelector {
        /// Labels that a host must carry.
        "matchLabels" match_labels: Option<Spanned<Labels>>,
    }
}

mapping! {
    /// What may be executed.
    pub struct ProcessSection with attributes {
        /// Executables.
        "matchPaths" match_paths: Option<List<ProcessPath>>,
        /// Directories of executables.
        "matchDirectories" match_directories: Option<List<ProcessDirectory>>,
        /// Patterns of executables.
        "matchPatterns" match_patterns: Option<List<ProcessPattern>>,
    }
}

mapping! {
    /// What may be read and written.
    pub struct FileSection with attributes {
        /// Files.
        "matchPaths" match_paths: Option<List<FilePath>>,
        /// Directories of files.
        "matchDirectories" match_directories: Option<List<FileDirectory>>,
        /// Patterns of files.
        "matchPatterns" match_patterns: Option<List<FilePattern>>,
    }
}

mapping! {
    /// What may be spoken on the network.
    pub struct NetworkSection with attributes {
        /// Protocols.
        "matchProtocols" match_protocols: Option<List<Protocol>>,
        /// Addresses. An extension of KubeArmor's language.
        "matchEndpoints" match_endpoints: Option<List<Endpoint>>,
        /// Names that are looked up.
        "matchDNSQueries" match_dns_queries: Option<List<DnsQuery>>,
    }
}

mapping! {
    /// Which capabilities may be used.
    pub struct CapabilitiesSection with attributes {
        /// Capabilities.
        "matchCapabilities" match_capabilities: Option<List<Capability>>,
    }
}

mapping! {
    /// Which system calls are told of. Their action is always `Audit`.
    pub struct SyscallsSection with alert attributes {
        /// System calls by name.
        "matchSyscalls" match_syscalls: Option<List<Syscall>>,
        /// System calls about a path.
        "matchPaths" match_paths: Option<List<SyscallPath>>,
    }
    action: |_this| None,
}

mapping! {
    /// Which USB devices may be used.
    pub struct DeviceSection with attributes {
        /// Devices.
        "matchDevice" match_device: Option<List<Device>>,
    }
}
