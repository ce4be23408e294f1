//! One item of a section's lists.

use super::{List, Port, Spanned, mapping};

mapping! {
    /// An executable that a rule is limited to.
    pub struct FromSource {
        /// Absolute path of the executable.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^\/+.*[^\/]$"), length(max = 4095)))]
        "path" path: Spanned<String>,
    }
}

mapping! {
    /// An executable by its path or by its name.
    pub struct ProcessPath with attributes {
        /// Absolute path of the executable.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^\/+.*[^\/]$"), length(max = 4095)))]
        "path" path: Option<Spanned<String>>,
        /// Name of the executable, in whatever directory it is.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^[^\/]+$"), length(max = 255)))]
        "execname" execname: Option<Spanned<String>>,
        /// The only arguments it may be executed with.
        #[cfg_attr(feature = "crd", schemars(length(max = 64)))]
        "allowedArgs" allowed_args: Option<List<String>>,
        /// Only the file's owner may execute it.
        "ownerOnly" owner_only: Option<Spanned<bool>>,
        /// `false` limits the rule to processes without a controlling terminal.
        "pts" pts: Option<Spanned<bool>>,
        /// Limits the rule to these executables as callers.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// The executables of a directory.
    pub struct ProcessDirectory with attributes {
        /// Absolute path of the directory, with a slash at its end.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^\/$|^\/.*\/$"), length(max = 4095)))]
        "dir" dir: Spanned<String>,
        /// Includes sub-directories.
        "recursive" recursive: Option<Spanned<bool>>,
        /// Only a file's owner may execute it.
        "ownerOnly" owner_only: Option<Spanned<bool>>,
        /// `false` limits the rule to processes without a controlling terminal.
        "pts" pts: Option<Spanned<bool>>,
        /// Limits the rule to these executables as callers.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// Executables by a pattern.
    pub struct ProcessPattern with attributes {
        /// Pattern of the whole path: `*`, `**`, `?`, `[…]`, `{…,…}`.
        #[cfg_attr(feature = "crd", schemars(length(max = 4095)))]
        "pattern" pattern: Spanned<String>,
        /// Only a file's owner may execute it.
        "ownerOnly" owner_only: Option<Spanned<bool>>,
    }
}

mapping! {
    /// A file by its path.
    pub struct FilePath with attributes {
        /// Absolute path of the file.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^\/+.*[^\/]$"), length(max = 4095)))]
        "path" path: Spanned<String>,
        /// Refuses writing and allows reading.
        "readOnly" read_only: Option<Spanned<bool>>,
        /// Only the file's owner has access.
        "ownerOnly" owner_only: Option<Spanned<bool>>,
        /// `false` limits the rule to processes without a controlling terminal.
        "pts" pts: Option<Spanned<bool>>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// The files of a directory.
    pub struct FileDirectory with attributes {
        /// Absolute path of the directory, with a slash at its end.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^\/$|^\/.*\/$"), length(max = 4095)))]
        "dir" dir: Spanned<String>,
        /// Includes sub-directories.
        "recursive" recursive: Option<Spanned<bool>>,
        /// Refuses writing and allows reading.
        "readOnly" read_only: Option<Spanned<bool>>,
        /// Only a file's owner has access.
        "ownerOnly" owner_only: Option<Spanned<bool>>,
        /// `false` limits the rule to processes without a controlling terminal.
        "pts" pts: Option<Spanned<bool>>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// Files by a pattern.
    pub struct FilePattern with attributes {
        /// Pattern of the whole path: `*`, `**`, `?`, `[…]`, `{…,…}`.
        #[cfg_attr(feature = "crd", schemars(length(max = 4095)))]
        "pattern" pattern: Spanned<String>,
        /// Refuses writing and allows reading.
        "readOnly" read_only: Option<Spanned<bool>>,
        /// Only a file's owner has access.
        "ownerOnly" owner_only: Option<Spanned<bool>>,
    }
}

mapping! {
    /// A protocol or kind of socket.
    pub struct Protocol with attributes {
        /// Protocol, such as `tcp`; several are separated by commas.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"(tcp|TCP|udp|UDP|raw|RAW|icmp|ICMP|icmpv6|ICMPV6|sctp|SCTP|stream|STREAM|dgram|DGRAM|rdm|RDM|seqpacket|SEQPACKET|dccp|DCCP|packet|PACKET|all|ALL)$")))]
        "protocol" protocol: Spanned<String>,
        /// `false` limits the rule to processes without a controlling terminal.
        "pts" pts: Option<Spanned<bool>>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// A name that is looked up.
    pub struct DnsQuery with attributes {
        /// Domain, which includes its sub-domains; several are separated by commas.
        "domain" domain: Spanned<String>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// The other ends of connections and datagrams. An extension of KubeArmor's language.
    pub struct Endpoint with attributes {
        /// Network, such as `10.0.0.0/8` or `2001:db8::/32`; a single address is a network of one.
        /// Without one, every address.
        #[cfg_attr(feature = "crd", schemars(length(min = 2, max = 64)))]
        "cidr" cidr: Option<Spanned<String>>,
        /// Ports and ranges of ports, such as `443` and `8000-8999`: those that are connected to, of
        /// the other end or, where the workload accepts, its own. Without one, every port.
        #[cfg_attr(feature = "crd", schemars(length(max = 64)))]
        "ports" ports: Option<List<Port>>,
        /// Protocol: `tcp`, `udp`, `sctp`, `icmp` or `icmpv6`; all but `tcp` are about egress only.
        /// Without one, every protocol.
        #[cfg_attr(feature = "crd", schemars(extend("enum" = ["tcp", "TCP", "udp", "UDP", "sctp", "SCTP", "icmp", "ICMP", "icmpv6", "ICMPV6"])))]
        "protocol" protocol: Option<Spanned<String>>,
        /// `egress`: what the workload connects or sends to; `ingress`: whose TCP connections it
        /// accepts. Without one, both.
        #[cfg_attr(feature = "crd", schemars(extend("enum" = ["egress", "ingress"])))]
        "direction" direction: Option<Spanned<String>>,
        /// `false` limits the rule to processes without a controlling terminal.
        "pts" pts: Option<Spanned<bool>>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// A capability.
    pub struct Capability with attributes {
        /// Capability, such as `net_raw`; several are separated by commas.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"(chown|dac_override|dac_read_search|fowner|fsetid|kill|setgid|setuid|setpcap|linux_immutable|net_bind_service|net_broadcast|net_admin|net_raw|ipc_lock|ipc_owner|sys_module|sys_rawio|sys_chroot|sys_ptrace|sys_pacct|sys_admin|sys_boot|sys_nice|sys_resource|sys_time|sys_tty_config|mknod|lease|audit_write|audit_control|setfcap|mac_override|mac_admin|syslog|wake_alarm|block_suspend|audit_read|perfmon|bpf|checkpoint_restore)$")))]
        "capability" capability: Spanned<String>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<FromSource>>,
    }
}

mapping! {
    /// Executables that a syscall rule is limited to.
    pub struct SyscallSource {
        /// Absolute path of an executable.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^\/+.*[^\/]$"), length(max = 4095)))]
        "path" path: Option<Spanned<String>>,
        /// Absolute path of a directory of executables.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"^\/$|^\/.*\/$"), length(max = 4095)))]
        "dir" dir: Option<Spanned<String>>,
        /// Includes sub-directories.
        "recursive" recursive: Option<Spanned<bool>>,
    }
}

mapping! {
    /// System calls by name.
    pub struct Syscall with alert attributes {
        /// System calls, by their names on x86-64.
        #[cfg_attr(feature = "crd", schemars(extend("items" = crate::validate::syscall_schema())))]
        "syscall" syscall: Option<List<String>>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<SyscallSource>>,
    }
    action: |_this| None,
}

mapping! {
    /// System calls about a path.
    pub struct SyscallPath with alert attributes {
        /// Absolute path of a file, or of a directory with a slash at its end.
        #[cfg_attr(feature = "crd", schemars(regex(pattern = r"(^\/+.*[^\/]$)|(^\/$|^\/.*\/$)"), length(max = 4095)))]
        "path" path: Option<Spanned<String>>,
        /// Includes sub-directories.
        "recursive" recursive: Option<Spanned<bool>>,
        /// System calls, by their names on x86-64.
        #[cfg_attr(feature = "crd", schemars(extend("items" = crate::validate::syscall_schema())))]
        "syscall" syscall: Option<List<String>>,
        /// Limits the rule to these executables.
        "fromSource" from_source: Option<List<SyscallSource>>,
    }
    action: |_this| None,
}

mapping! {
    /// A ready-made protection.
    pub struct Preset {
        /// Name of the preset.
        "name" name: Spanned<String>,
        /// What happens: `Audit`, or else `Block`.
        #[cfg_attr(feature = "crd", schemars(extend("enum" = ["Allow", "Audit", "Block"])))]
        "action" action: Option<Spanned<String>>,
    }
}

mapping! {
    /// USB devices.
    pub struct Device with attributes {
        /// Device class: a name such as `MASS-STORAGE`, a number, or `ALL`.
        "class" class: Spanned<String>,
        /// Sub-class number.
        "subClass" sub_class: Option<Spanned<i32>>,
        /// Protocol number.
        "protocol" protocol: Option<Spanned<i32>>,
        /// Depth in the tree of hubs.
        #[cfg_attr(feature = "crd", schemars(range(min = 1)))]
        "level" level: Option<Spanned<i32>>,
    }
}

mapping! {
    /// A condition about labels or namespaces.
    pub struct LabelExpression {
        /// What is looked at: `label`.
        #[cfg_attr(feature = "crd", schemars(extend("enum" = ["label"])))]
        "key" key: Option<Spanned<String>>,
        /// How: `In` or `NotIn`.
        #[cfg_attr(feature = "crd", schemars(extend("enum" = ["In", "NotIn"])))]
        "operator" operator: Option<Spanned<String>>,
        /// Labels, as `name=value`.
        "values" values: Option<List<String>>,
    }
}

mapping! {
    /// A condition about labels or namespaces.
    pub struct ClusterExpression {
        /// What is looked at: `namespace` or `label`.
        #[cfg_attr(feature = "crd", schemars(extend("enum" = ["namespace", "label"])))]
        "key" key: Option<Spanned<String>>,
        /// How: `In` or `NotIn`.
        #[cfg_attr(feature = "crd", schemars(extend("enum" = ["In", "NotIn"])))]
        "operator" operator: Option<Spanned<String>>,
        /// Namespaces, or labels as `name=value`.
        "values" values: Option<List<String>>,
    }
}
