//! What a policy means: nothing optional, nothing textual left to interpret.
//!
//! A [`Policy`] is checked once, by [`crate::validate`]; from here on every value is usable as it
//! is. Inheritance (rule, section, spec) is already resolved, comma lists are expanded, and every
//! rule knows where in the text it stands.

use std::{fmt, sync::Arc};

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
    /// Process and file rules, in the order of the text: process first.
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
    /// The rule it is in, when it is a modifier of a process or file rule.
    pub rule: Option<Arc<Narrowed>>,
}

/// A rule that is narrowed by a modifier that is not enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// What it says.
    pub written: Rule,
    /// Which of [`Policy::rules`] stands for it; none when it is left out.
    pub applied: Option<usize>,
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

/// Which family a rule belongs to. Each has its own allow rules and posture; later families
/// (network, capabilities, syscalls, presets) get rule types of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `process`: what may be executed.
    Process,
    /// `file`: what may be read and written.
    File,
}

/// A process or file rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Family.
    pub family: Family,
    /// Which objects.
    pub target: Target,
    /// Executables the rule is limited to, as absolute paths; empty: any.
    pub sources: Vec<String>,
    /// Writes are refused, reads are not (`readOnly`).
    pub read_only: bool,
    /// Only the object's owner passes (`ownerOnly`).
    pub owner_only: bool,
    /// What happens, inheritance resolved.
    pub action: Action,
    /// What an alert carries, inheritance resolved.
    pub meta: Arc<Meta>,
    /// Where the rule stands.
    pub location: Location,
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
    Object(karmor_abi::op::Object),
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
