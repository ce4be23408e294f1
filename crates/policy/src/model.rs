//! What a policy means: nothing optional, nothing textual left to interpret.
//!
//! A [`Policy`] is checked once, by [`crate::validate`]; from here on every value is usable as it
//! is. Inheritance (rule, section, spec) is already resolved, comma lists are expanded, and every
//! rule knows where in the text it stands.

use std::{fmt, net::IpAddr, ops::RangeInclusive, sync::Arc};

use ipnet::IpNet;
use karmor_abi::{
    op::{Object, Op},
    word::Protocol,
};

use crate::{names, syscall::Syscall};

pub use karmor_abi::verdict::Action;

/// Where something stands in the text it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// File, or `<stdin>`, or `<grpc>`.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The kind of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `KubeArmorPolicy`: containers of one namespace.
    Container,
    /// `KubeArmorClusterPolicy`: containers of any namespace.
    Cluster,
    /// `KubeArmorHostPolicy`: hosts.
    Host,
}

impl Kind {
    /// The `kind:` of the manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "KubeArmorPolicy",
            Self::Cluster => "KubeArmorClusterPolicy",
            Self::Host => "KubeArmorHostPolicy",
        }
    }
}

/// A checked policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty for kinds without one, `default` when absent.
    pub namespace: String,
    /// Whom it applies to.
    pub selector: Selector,
    /// Rules, section by section in the order of the language, and as in the text within each.
    pub rules: Vec<Rule>,
    /// Sections that are valid but that this version cannot enforce, by field path
    /// (`spec.network`), so that every status can say so.
    pub not_enforced: Vec<NotEnforced>,
    /// Where the document starts.
    pub location: Location,
}

/// Part of a policy that is understood but not enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnforced {
    /// Field path, such as `spec.network`.
    pub field: String,
    /// Why, as a sentence fragment.
    pub why: String,
    /// Where it stands.
    pub location: Location,
}

/// Whom a policy applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// All must hold. Empty: every workload of the kind and namespace, but no host.
    pub terms: Vec<Term>,
}

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// The workload carries this label (`matchLabels`).
    Label {
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// The workload carries one of these labels (`matchExpressions`, key `label`, `In`).
    LabelIn(Vec<(String, String)>),
    /// The workload carries none of these labels (`NotIn`).
    LabelNotIn(Vec<(String, String)>),
    /// The workload's namespace is one of these (`matchExpressions`, key `namespace`, `In`).
    NamespaceIn(Vec<String>),
    /// The workload's namespace is none of these (`NotIn`).
    NamespaceNotIn(Vec<String>),
    /// The container's name is one of these (`kubearmor.io/container.name`). Without Kubernetes a
    /// value without brackets is a regular expression, as users know it; see [`NameMatch`].
    ContainerName(NameMatch),
    /// The host's name (`kubearmor.io/hostname`, `kubernetes.io/hostname`): `*` or a list.
    HostName(NameMatch),
    /// The host's name by unanchored regular expression (`kubearmor.io/hostnamereg`).
    HostNameRegex(Pattern),
}

/// How a name is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameMatch {
    /// Any name.
    Any,
    /// One of these names.
    OneOf(Vec<String>),
    /// An unanchored regular expression.
    Regex(Pattern),
}

/// A regular expression that has been compiled once; equality is equality of the text.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex_lite::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Which family a rule belongs to. Each is a whitelist of its own as soon as it has an Allow rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `process`: what may be executed.
    Process,
    /// `file`: what may be read and written.
    File,
    /// `network.matchProtocols`: which sockets may be made and used.
    Network,
    /// `network.matchEndpoints`: which addresses may be spoken to.
    Endpoints,
    /// `network.matchDNSQueries`: which names may be asked for.
    Dns,
    /// `capabilities`: what a process may be privileged to do.
    Capabilities,
    /// `syscalls`: what is told of, never a whitelist.
    Syscalls,
    /// `presets`: ready-made protections, never a whitelist.
    Presets,
}

impl Family {
    /// All families, in the order of the language.
    pub const ALL: [Self; 8] = [
        Self::Process,
        Self::File,
        Self::Network,
        Self::Endpoints,
        Self::Dns,
        Self::Capabilities,
        Self::Syscalls,
        Self::Presets,
    ];

    /// Its rules are about paths.
    #[must_use]
    pub const fn is_about_paths(self) -> bool {
        matches!(self, Self::Process | Self::File)
    }

    /// The section of the language that it is in.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::File => "file",
            Self::Network | Self::Endpoints | Self::Dns => "network",
            Self::Capabilities => "capabilities",
            Self::Syscalls => "syscalls",
            Self::Presets => "presets",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Family.
    pub family: Family,
    /// Which objects.
    pub target: Target,
    /// Executables the rule is limited to; empty: any.
    pub sources: Vec<Source>,
    /// Writes are refused, reads are not (`readOnly`).
    pub read_only: bool,
    /// Only the object's owner passes (`ownerOnly`).
    pub owner_only: bool,
    /// Only who has no controlling terminal passes (`pts: false`).
    pub no_terminal: bool,
    /// Only an exec passes whose every argument is one of these (`allowedArgs`).
    pub arguments: Option<Arc<[String]>>,
    /// It is a host policy's that spares essential programs ([`crate::essential`]).
    pub spares: bool,
    /// What happens, inheritance resolved.
    pub action: Action,
    /// What an alert carries, inheritance resolved.
    pub meta: Arc<Meta>,
    /// Where the rule stands.
    pub location: Location,
}

impl Rule {
    /// Whether it lets those pass who satisfy it, and nobody else.
    #[must_use]
    pub const fn is_conditional(&self) -> bool {
        self.read_only || self.owner_only || self.no_terminal || self.arguments.is_some()
    }
}

/// An executable, or a directory of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// This one.
    Path(String),
    /// Those of a directory.
    Directory {
        /// Path with its trailing slash.
        path: String,
        /// Sub-directories too.
        recursive: bool,
    },
}

impl Source {
    /// The path as written; of a directory, with its trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Path(path) | Self::Directory { path, .. } => path,
        }
    }
}

impl From<&str> for Source {
    fn from(path: &str) -> Self {
        Self::Path(path.to_owned())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())?;
        match self {
            Self::Directory {
                recursive: true, ..
            } => f.write_str(" (recursive)"),
            _ => Ok(()),
        }
    }
}

/// Alert metadata of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Severity 1 to 10, or 0 when unset.
    pub severity: u8,
    /// Tags.
    pub tags: Vec<String>,
    /// Message.
    pub message: String,
}

/// The objects a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Exactly this path (`matchPaths[].path`).
    Path(String),
    /// Any path with this base name (`matchPaths[].execname`).
    ExecName(String),
    /// A directory and what is in it (`matchDirectories[]`).
    Directory {
        /// Path with its trailing slash.
        path: String,
        /// Sub-directories too.
        recursive: bool,
    },
    /// A glob over the whole path (`matchPatterns[].pattern`).
    Glob(String),
    /// Objects without a decidable path, named by the patterns `@anonymous`, `@unreachable` and
    /// `@too-long`.
    Object(Object),
    /// Sockets (`matchProtocols[].protocol`).
    Socket(SocketKind),
    /// Addresses (`matchEndpoints[]`).
    Endpoint(Endpoint),
    /// A domain and those below it, in lower case, without a dot at its end
    /// (`matchDNSQueries[].domain`).
    Domain(String),
    /// A capability, by its number (`matchCapabilities[].capability`).
    Capability(u8),
    /// A system call, whatever it is about (`matchSyscalls[].syscall`).
    Syscall(Syscall),
    /// A system call about a path (`syscalls.matchPaths[]`).
    SyscallAt {
        /// Which.
        syscall: Syscall,
        /// [`Target::Path`] or [`Target::Directory`].
        place: Box<Self>,
    },
    /// What a preset is about.
    Preset(Op),
}

impl Target {
    /// The path it names, if it names one; of a directory, with its trailing slash.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) | Self::Directory { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// As it is written, but for what KubeArmor has no way to write.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: Option<&'static str>| name.unwrap_or("?");
        match self {
            Self::Path(text)
            | Self::ExecName(text)
            | Self::Glob(text)
            | Self::Domain(text)
            | Self::Directory { path: text, .. } => f.write_str(text),
            Self::Object(object) => f.write_str(names::object(*object)),
            Self::Socket(kind) => f.write_str(name(names::socket_kind(*kind))),
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Capability(number) => f.write_str(name(names::capability(*number))),
            Self::Syscall(syscall) => f.write_str(syscall.name()),
            Self::SyscallAt { syscall, place } => write!(f, "{} {place}", syscall.name()),
            Self::Preset(op) => f.write_str(name(names::preset(*op))),
        }
    }
}

/// Kinds of sockets, as rules name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// Every socket.
    All,
    /// Those of a `SOCK_*` type.
    Type(u32),
    /// Those of a protocol.
    Protocol(Protocol),
    /// Those that see whole frames: of type `SOCK_PACKET`, or of the family `AF_PACKET`.
    Packet,
}

impl SocketKind {
    /// Whether it names sockets of this type and protocol.
    #[must_use]
    pub fn includes(self, kind: u32, protocol: Protocol) -> bool {
        use karmor_abi::word::SOCK_PACKET;
        match self {
            Self::All => true,
            Self::Type(named) => named == kind,
            Self::Protocol(named) => named == protocol,
            Self::Packet => kind == SOCK_PACKET || protocol == Protocol::Packet,
        }
    }
}

/// Addresses that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Network; all addresses of both versions without one.
    pub network: Option<IpNet>,
    /// Ports; any without one.
    pub ports: Vec<RangeInclusive<u16>>,
    /// `IPPROTO_*`; any without one.
    pub protocol: Option<u8>,
    /// Only what goes out, or only what comes in.
    pub direction: Option<Direction>,
}

impl Endpoint {
    /// Whether it names this other end, whatever the direction.
    #[must_use]
    pub fn includes(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.network.is_none_or(|net| net.contains(&address))
            && self.protocol.is_none_or(|named| named == protocol)
            && (self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&port)))
    }

    /// Whether it can be what this operation is about. What comes in is only ever decided for TCP,
    /// and DCCP, which no rule can name.
    #[must_use]
    pub fn faces(&self, op: Op) -> bool {
        match op {
            Op::Egress => self.direction != Some(Direction::Ingress),
            Op::Ingress => {
                self.direction != Some(Direction::Egress)
                    && self.protocol.is_none_or(names::comes_in)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            Some(net) => write!(f, "{net}")?,
            None => f.write_str("any address")?,
        }
        for (index, ports) in self.ports.iter().enumerate() {
            f.write_str(if index == 0 { " port " } else { "," })?;
            match (ports.start(), ports.end()) {
                (low, high) if low == high => write!(f, "{low}")?,
                (low, high) => write!(f, "{low}-{high}")?,
            }
        }
        let protocol = self.protocol.and_then(names::ip_protocol);
        let direction = self.direction.map(|direction| match direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        });
        for word in protocol.into_iter().chain(direction) {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The workload: it connects or sends.
    Egress,
    /// The other end: the workload accepts.
    Ingress,
}

/// Default posture: what happens to an access that no rule matches, in a family that some Allow
/// rule turned into a whitelist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Posture {
    /// It goes ahead with an alert.
    #[default]
    Audit,
    /// It is refused with an alert.
    Block,
    /// It goes ahead silently.
    Allow,
}

/// The default postures of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Postures {
    /// Of the process and file families.
    pub file: Posture,
    /// Of the network families.
    pub network: Posture,
    /// Of capabilities.
    pub capabilities: Posture,
}

impl Postures {
    /// The same for every family.
    #[must_use]
    pub const fn all(posture: Posture) -> Self {
        Self {
            file: posture,
            network: posture,
            capabilities: posture,
        }
    }

    /// That of a family.
    #[must_use]
    pub const fn of(&self, family: Family) -> Posture {
        match family {
            Family::Process | Family::File => self.file,
            Family::Network | Family::Endpoints | Family::Dns => self.network,
            Family::Capabilities => self.capabilities,
            Family::Syscalls | Family::Presets => Posture::Allow,
        }
    }
}
