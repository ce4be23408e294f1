//! What alerts say about objects that have no path, in KubeArmor's words where it has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use karmor_abi::{
    guard::Guarded,
    op::Op,
    word::{
        Convention, Endpoint, Protocol, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
        SOCK_SEQPACKET, SOCK_STREAM, UNREADABLE, Word,
    },
};
use karmor_policy::{names, syscall};

use crate::text::clean;

/// What an alert says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// `Operation`.
    pub(super) operation: &'static str,
    /// `Resource`.
    pub(super) resource: String,
    /// What follows the hook in `Data`: `key=value` pairs, or a name.
    pub(super) data: String,
}

/// Says what a word is about.
pub(super) fn say(word: &Word<'_>) -> Said {
    let (operation, resource, data) = match *word {
        Word::Path(path) => ("File", clean(path), String::new()),
        Word::Capability(number) => {
            let name = capability(number);
            ("Capabilities", name.clone(), name)
        }
        Word::Socket(kind, protocol) => {
            let text = socket(kind, protocol);
            ("Network", text.clone(), text)
        }
        Word::Endpoint(endpoint) => {
            let text = remote(&endpoint);
            ("Network", text.clone(), text)
        }
        Word::Domain(reversed) => {
            let name = domain(reversed);
            ("Network", name.clone(), format!("domain={name}"))
        }
        Word::Syscall(convention, number) => {
            let name = call(convention, number);
            (SYSCALL, name.clone(), format!("syscall={name}"))
        }
        Word::Preset(op) => {
            let name = names::preset(op).unwrap_or("preset");
            let operation = match op {
                Op::AnonymousMapExec | Op::ProtectEnv | Op::ProtectProc | Op::Mount => "File",
                _ => "Process",
            };
            (operation, name.to_owned(), String::new())
        }
        Word::Guarded(what) => {
            let (operation, name) = match what {
                Guarded::Process => ("Process", "karmor-enforcer"),
                Guarded::Map => ("Syscall", "a map of karmor-enforcer"),
                Guarded::Program => ("Syscall", "a program of karmor-enforcer"),
                Guarded::File => ("File", "files of karmor-enforcer"),
                Guarded::Ftrace => ("File", "/proc/sys/kernel/ftrace_enabled"),
                Guarded::Sysrq => ("File", "/proc/sysrq-trigger"),
                Guarded::Lockdown => ("File", "/sys/kernel/security/lockdown"),
                Guarded::Helper => ("File", "a program for the kernel to execute"),
                Guarded::Image => ("Process", "the image of a process"),
                Guarded::Outside => ("Process", "a process outside of the container"),
            };
            (operation, name.to_owned(), String::new())
        }
    };
    Said {
        operation,
        resource,
        data,
    }
}

/// `Operation` of a system call.
pub(super) const SYSCALL: &str = "Syscall";

/// Says which system call it is that a path is about, by its word.
pub(super) fn say_at(path: String, word: u32) -> Said {
    let data = match Word::parse(&word.to_ne_bytes()) {
        Some(Word::Syscall(convention, number)) => format!("syscall={}", call(convention, number)),
        _ => String::new(),
    };
    Said {
        operation: SYSCALL,
        resource: path,
        data,
    }
}

/// A system call's name as the C library has it.
fn call(convention: Convention, number: u32) -> String {
    match syscall::name_of(convention, number) {
        Some(name) => format!("SYS_{}", name.to_ascii_uppercase()),
        None => format!("SYS_{number}"),
    }
}

/// What the alert says has enforced the policy: presets are known by names of their own.
pub(super) const fn enforcer(op: Op) -> &'static str {
    match op {
        Op::AnonymousMapExec => "PRESET-AnonMapExecutionPreset",
        Op::FilelessExec => "PRESET-FilelessExecutionPreset",
        Op::ProtectEnv => "PRESET-ProtectEnvPreset",
        Op::ProtectProc => "PRESET-ProtectProcPreset",
        Op::ExecSession => "PRESET-ExecPreset",
        Op::Drift => "PRESET-DriftPreset",
        Op::Ptrace => "PRESET-PtracePreset",
        Op::Mount => "PRESET-MountPreset",
        Op::Namespace => "PRESET-NamespacePreset",
        Op::KernelModule => "PRESET-KernelModulePreset",
        Op::Bpf => "PRESET-BpfPreset",
        Op::IoUring => "PRESET-IoUringPreset",
        Op::Exec
        | Op::Map
        | Op::Read
        | Op::Write
        | Op::Move
        | Op::Socket
        | Op::Egress
        | Op::Ingress
        | Op::Query
        | Op::Capable
        | Op::Syscall
        | Op::SyscallAt => "BPFLSM",
    }
}

fn capability(number: u8) -> String {
    match names::capability(number) {
        Some(name) => format!("CAP_{}", name.to_ascii_uppercase()),
        None => format!("CAP_{number}"),
    }
}

fn socket(kind: u8, protocol: Protocol) -> String {
    let kind = match u32::from(kind) {
        SOCK_STREAM => "SOCK_STREAM".to_owned(),
        SOCK_DGRAM => "SOCK_DGRAM".to_owned(),
        SOCK_RAW => "SOCK_RAW".to_owned(),
        SOCK_RDM => "SOCK_RDM".to_owned(),
        SOCK_SEQPACKET => "SOCK_SEQPACKET".to_owned(),
        SOCK_DCCP => "SOCK_DCCP".to_owned(),
        SOCK_PACKET => "SOCK_PACKET".to_owned(),
        other => other.to_string(),
    };
    let protocol = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Icmp => "ICMP",
        Protocol::Icmpv6 => "IPv6-ICMP",
        Protocol::Sctp => "SCTP",
        Protocol::Packet => "PACKET",
        Protocol::Other => return format!("type={kind}"),
    };
    format!("protocol={protocol} type={kind}")
}

fn remote(endpoint: &Endpoint) -> String {
    let octets = endpoint.address;
    let address = if endpoint.is_v6 {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
    };
    let protocol = match names::ip_protocol(endpoint.protocol) {
        Some(name) => name.to_ascii_uppercase(),
        None => endpoint.protocol.to_string(),
    };
    format!(
        "remoteip={address} port={} protocol={protocol}",
        endpoint.port
    )
}

/// The name, from its beginning and without the dot behind it.
fn domain(reversed: &[u8]) -> String {
    if reversed == &UNREADABLE[1..] {
        return "@unreadable".to_owned();
    }
    let reversed = reversed.strip_suffix(b".").unwrap_or(reversed);
    let name: Vec<u8> = reversed.iter().rev().copied().collect();
    clean(&name)
}

#[cfg(test)]
mod tests {
    use karmor_abi::word::{self, ENDPOINT_BYTES};

    use super::*;

    fn said(word: &[u8]) -> (&'static str, String, String) {
        let said = say(&Word::parse(word).expect("a word"));
        (said.operation, said.resource, said.data)
    }

    #[test]
    fn in_the_words_that_users_know() {
        let cap = "CAP_NET_RAW".to_owned();
        assert_eq!(
            said(&word::capability(13)),
            ("Capabilities", cap.clone(), cap)
        );
        let tcp = "protocol=TCP type=SOCK_STREAM".to_owned();
        assert_eq!(
            said(&word::socket(SOCK_STREAM, Protocol::Tcp)),
            ("Network", tcp.clone(), tcp)
        );
        let raw = "type=SOCK_RAW".to_owned();
        assert_eq!(
            said(&word::socket(SOCK_RAW, Protocol::Other)),
            ("Network", raw.clone(), raw)
        );
        let name = [&[word::DOMAIN][..], b"moc.elpmaxe."].concat();
        assert_eq!(
            said(&name),
            (
                "Network",
                "example.com".to_owned(),
                "domain=example.com".to_owned()
            )
        );
    }

    #[test]
    fn addresses() {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[10, 1, 2, 3]);
        let endpoint = Endpoint {
            address,
            is_v6: false,
            protocol: 6,
            port: 443,
        };
        let mut word = [0; ENDPOINT_BYTES];
        let len = endpoint.write(&mut word);
        assert_eq!(
            said(&word[..len]).1,
            "remoteip=10.1.2.3 port=443 protocol=TCP"
        );
    }
}
