//! The corpus: policies, the accesses that are made under them, and what must come of each.
//!
//! ```text
//! NAME/policy.yaml     a policy as a user writes it, for containers labelled app: nginx
//! NAME/accesses.yaml   the default posture, and a list of accesses with their verdicts
//!
//! FAMILY.yaml          tables: rules, and accesses with a verdict for each action
//! host.yaml            what a host that whitelists must let its own programs do
//! ```
//!
//! A directory is a case that tells a story. A table is many that differ in one thing: its rules are
//! tried with each action, under each default posture, by a policy for containers and by one for
//! hosts ([`table`]). Verdicts are reasoned from `docs/policy-semantics.md`, never computed.
//!
//! All are asked of the reference evaluator, of the compiled table, and of the kernel. For the
//! latter, who acts in a table is a copy of `karmor-tries` below [`ACTORS`], and what it acts on is
//! below [`PLACE`]: files that are made for the purpose, each a program that ends at once and
//! each, unless it is called [`FOREIGN`], owned by who acts. Directories are about what is in the
//! Debian image of the end-to-end tests; images that act on paths are those that can, bash, cat and
//! head.

mod table;

use std::net::SocketAddr;

use include_dir::{Dir, include_dir};
use serde::Deserialize;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR");

/// Where the files of tables are, in a container and on the host.
pub const PLACE: &str = "/run/corpus";

/// Where the images are that act in tables.
pub const ACTORS: &str = "/run/corpus/by";

/// Other name of the file that is tried in a mount that is attached nowhere.
pub const UNREACHABLE: &str = "/run/corpus/b";

/// What is behind a name that is moved.
pub const MOVED: &str = ".moved";

/// Name of files that somebody else owns.
pub const FOREIGN: &str = "foreign";

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its directory; or file, table, action, posture and kind.
    pub name: String,
    /// The policy, as text.
    pub policy: String,
    /// Whom it is about.
    pub kind: Kind,
    /// Default posture under which the accesses are made.
    pub posture: Posture,
    /// What is tried, in order.
    pub accesses: Vec<Access>,
}

/// `accesses.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accesses {
    posture: Posture,
    accesses: Vec<Written>,
}

/// Whom a policy is about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `KubeArmorPolicy`.
    Container,
    /// `KubeArmorHostPolicy`.
    Host,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Container, Self::Host];

    /// As it is written in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Host => "host",
        }
    }
}

/// Default posture.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Posture {
    /// What no rule allows is reported.
    Audit,
    /// What no rule allows is refused.
    Block,
}

impl Posture {
    const ALL: [Self; 2] = [Self::Audit, Self::Block];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Block => "block",
        }
    }

    /// What comes of an access that it decides.
    const fn verdict(self) -> Verdict {
        match self {
            Self::Audit => Verdict::Audit,
            Self::Block => Verdict::Block,
        }
    }
}

/// One access, and what must come of it.
#[derive(Clone, Debug)]
pub struct Access {
    /// What is done.
    pub operation: Operation,
    /// To what.
    pub target: Target,
    /// By which image.
    pub by: String,
    /// Which image started that one; the same, unless told.
    pub from: String,
    /// With which arguments it is executed.
    pub args: Vec<String>,
    /// By a process with a controlling terminal.
    pub terminal: bool,
    /// What must come of it.
    pub expect: Verdict,
    /// Whether it is the default posture that says so, and no rule.
    pub by_posture: bool,
    /// What the alert must carry.
    pub alert: Option<Carried>,
}

impl Access {
    /// Whether who acts owns what it acts on.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        !matches!(&self.target, Target::Path(path) if path.ends_with(FOREIGN))
    }
}

/// What a policy's author has alerts carry.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Severity.
    pub severity: u8,
    /// Tags.
    pub tags: Vec<String>,
    /// Message.
    pub message: String,
}

/// What an access is about: one of the fields of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path.
    Path(String),
    /// A file without one: `path: "@anonymous"`.
    Object(Object),
    /// A socket.
    Socket(Socket),
    /// An address with a port, and an IP protocol: `10.0.0.1:443/tcp`. Where a connection comes in,
    /// the port is the one that it comes to.
    Endpoint(SocketAddr, IpProtocol),
    /// A capability, by its name in lower case.
    Capability(String),
    /// A system call, by its name, and the path it is about.
    Syscall(String, Option<String>),
    /// A name that is asked for.
    Domain(String),
    /// What a preset is about.
    Preset(Preset),
}

/// A preset, in the words of policies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[expect(
    missing_docs,
    reason = "docs/policy-semantics.md says what each is about"
)]
pub enum Preset {
    AnonymousMapExec,
    FilelessExec,
    ProtectEnv,
    ProtectProc,
    Exec,
    Drift,
    Ptrace,
    Mount,
    Namespace,
    KernelModule,
    Bpf,
    IoUring,
}

impl Preset {
    /// As policies write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnonymousMapExec => "anonymousMapExec",
            Self::FilelessExec => "filelessExec",
            Self::ProtectEnv => "protectEnv",
            Self::ProtectProc => "protectProc",
            Self::Exec => "exec",
            Self::Drift => "drift",
            Self::Ptrace => "ptrace",
            Self::Mount => "mount",
            Self::Namespace => "namespace",
            Self::KernelModule => "kernelModule",
            Self::Bpf => "bpf",
            Self::IoUring => "ioUring",
        }
    }
}

/// A class of objects that no path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// In memory, without a name in any mount.
    Anonymous,
    /// In a mount that is attached nowhere; at home it is [`UNREACHABLE`].
    Unreachable,
    /// Too deep.
    TooLong,
}

impl Object {
    const ALL: [Self; 3] = [Self::Anonymous, Self::Unreachable, Self::TooLong];

    /// As patterns write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "@anonymous",
            Self::Unreachable => "@unreachable",
            Self::TooLong => "@too-long",
        }
    }
}

/// An access as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "do")]
    operation: Operation,
    path: Option<String>,
    socket: Option<Socket>,
    endpoint: Option<String>,
    capability: Option<String>,
    syscall: Option<String>,
    domain: Option<String>,
    preset: Option<Preset>,
    by: Option<String>,
    from: Option<String>,
    #[serde(default)]
    terminal: bool,
    args: Option<Vec<String>>,
    expect: Expect,
    alert: Option<Carried>,
}

/// One verdict, or one for each of Allow, Audit and Block.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Expect {
    Always(Word),
    Each([Word; 3]),
}

/// A verdict as it is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Word {
    Allow,
    Audit,
    Block,
    /// Whatever the default posture says.
    Posture,
}

impl Word {
    const fn under(self, posture: Posture) -> Verdict {
        match self {
            Self::Allow => Verdict::Allow,
            Self::Audit => Verdict::Audit,
            Self::Block => Verdict::Block,
            Self::Posture => posture.verdict(),
        }
    }
}

impl Written {
    /// The access under an action and a posture; by `somebody`, unless it says by whom.
    fn access(
        self,
        action: Option<Verdict>,
        posture: Posture,
        somebody: &str,
    ) -> Result<Access, String> {
        use Operation as O;
        let target = match (self.syscall, self.path) {
            (Some(syscall), path) => Some(Target::Syscall(syscall, path)),
            (None, Some(path)) => {
                let class = Object::ALL.into_iter().find(|object| object.name() == path);
                Some(class.map_or(Target::Path(path), Target::Object))
            }
            (None, None) => None,
        };
        let endpoint = self
            .endpoint
            .map(|text| parse_endpoint(&text))
            .transpose()?;
        let mut targets = [
            target,
            self.socket.map(Target::Socket),
            endpoint,
            self.capability.map(Target::Capability),
            self.domain.map(Target::Domain),
            self.preset.map(Target::Preset),
        ]
        .into_iter()
        .flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            let what =
                "an access has one of path, socket, endpoint, capability, syscall, domain, preset";
            return Err(what.to_owned());
        };
        let operation = self.operation;
        let fits = match &target {
            Target::Path(_) => matches!(operation, O::Exec | O::Map | O::Read | O::Write | O::Move),
            Target::Object(_) => matches!(operation, O::Exec | O::Read | O::Write),
            Target::Socket(_) => matches!(
                operation,
                O::Create | O::Pair | O::Bind | O::Listen | O::Connect | O::Accept | O::Send
            ),
            Target::Endpoint(..) => matches!(operation, O::Connect | O::Accept | O::Send),
            Target::Capability(_) | Target::Preset(_) => operation == O::Use,
            Target::Domain(_) => operation == O::Ask,
            Target::Syscall(..) => operation == O::Call,
        };
        if !fits {
            return Err(format!("{operation:?} is nothing to do with {target:?}"));
        }
        let word = match (self.expect, action) {
            (Expect::Always(word), _) => word,
            (Expect::Each(words), Some(action)) => words[action as usize],
            (Expect::Each(_), None) => {
                return Err("a verdict for each action of a policy that has its own".to_owned());
            }
        };
        let by = self.by.unwrap_or_else(|| somebody.to_owned());
        Ok(Access {
            operation,
            target,
            from: self.from.unwrap_or_else(|| by.clone()),
            by,
            // What every program takes.
            args: self.args.unwrap_or_else(|| vec!["--version".to_owned()]),
            terminal: self.terminal,
            expect: word.under(posture),
            by_posture: word == Word::Posture,
            alert: self.alert,
        })
    }
}

fn parse_endpoint(text: &str) -> Result<Target, String> {
    let wrong = || format!("{text:?} is no address:port/protocol");
    let (address, protocol) = text.rsplit_once('/').ok_or_else(wrong)?;
    let protocol = IpProtocol::ALL.into_iter().find(|p| p.name() == protocol);
    Ok(Target::Endpoint(
        address.parse().map_err(|_no_address| wrong())?,
        protocol.ok_or_else(wrong)?,
    ))
}

/// What a shell, or `karmor-tries`, can try.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Execute a path.
    Exec,
    /// Map it executable.
    Map,
    /// Open it for reading.
    Read,
    /// Open it for appending.
    Write,
    /// Give it a name with [`MOVED`] behind, and its own again.
    Move,
    /// Make a socket.
    Create,
    /// Make two that are connected.
    Pair,
    /// Make a socket of IPv4 and bind it.
    Bind,
    /// Make one and listen.
    Listen,
    /// Make one and connect, or connect to an address.
    Connect,
    /// Make one and accept a connection, or accept one from an address.
    Accept,
    /// Make one and send, or send to an address.
    Send,
    /// Do what takes a capability, or what a preset is about.
    Use,
    /// Ask for a name.
    Ask,
    /// Make a system call.
    Call,
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it; the numbers are below")]
pub enum Socket {
    Tcp,
    Tcp6,
    Mptcp,
    UnixStream,
    Udp,
    Udplite,
    UnixDgram,
    Icmp,
    Icmpv6,
    Sctp,
    SctpPackets,
    Raw,
    Packet,
    Seqpacket,
    Rdm,
    Dccp,
}

impl Socket {
    /// `AF_*`, `SOCK_*` and `IPPROTO_*`.
    #[must_use]
    pub const fn numbers(self) -> (u32, u32, u32) {
        const UNIX: u32 = 1;
        const INET: u32 = 2;
        const INET6: u32 = 10;
        const PACKET: u32 = 17;
        const TIPC: u32 = 30;
        match self {
            Self::Tcp => (INET, 1, 0),
            Self::Tcp6 => (INET6, 1, 6),
            Self::Mptcp => (INET, 1, 262),
            Self::UnixStream => (UNIX, 1, 0),
            Self::Udp => (INET, 2, 0),
            Self::Udplite => (INET, 2, 136),
            Self::UnixDgram => (UNIX, 2, 0),
            Self::Icmp => (INET, 3, 1),
            Self::Icmpv6 => (INET6, 3, 58),
            Self::Sctp => (INET, 1, 132),
            Self::SctpPackets => (INET, 5, 132),
            Self::Raw => (INET, 3, 255),
            Self::Packet => (PACKET, 3, 0x300),
            Self::Seqpacket => (UNIX, 5, 0),
            Self::Rdm => (TIPC, 4, 0),
            Self::Dccp => (INET, 6, 33),
        }
    }
}

/// A protocol over which an address can be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IpProtocol {
    Tcp,
    Udp,
    Icmp,
}

impl IpProtocol {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    /// `IPPROTO_*`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
        }
    }
}

/// What must come of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes ahead; no alert.
    Allow,
    /// It goes ahead; an alert.
    Audit,
    /// It is refused; an alert.
    Block,
}

/// Who acts unless told otherwise, in a directory on a path.
const BASH: &str = "/usr/bin/bash";

/// Who acts unless told otherwise.
const ACTOR: &str = "/run/corpus/by/one";

/// A file of the corpus that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file is missing, or not UTF-8.
    #[error("{0} cannot be read")]
    Missing(String),
    /// A file does not say what it should.
    #[error("{0}: {1}")]
    Malformed(String, String),
}

/// Every case, those of the same posture and kind beside each other.
///
/// # Errors
/// The first file that cannot be used.
pub fn all() -> Result<Vec<Case>, CorpusError> {
    let mut cases = FILES.dirs().map(case).collect::<Result<Vec<_>, _>>()?;
    cases.extend(table::all()?);
    cases.sort_by(|a, b| {
        let key = |case: &Case| (case.posture, case.kind);
        (key(a), &a.name).cmp(&(key(b), &b.name))
    });
    Ok(cases)
}

fn case(dir: &'static Dir<'static>) -> Result<Case, CorpusError> {
    let name = dir.path().display().to_string();
    let Accesses { posture, accesses } = yaml(&format!("{name}/accesses.yaml"))?;
    let accesses = accesses.into_iter().map(|written| {
        let somebody = if written.path.is_some() { BASH } else { ACTOR };
        written.access(None, posture, somebody)
    });
    Ok(Case {
        policy: text(&format!("{name}/policy.yaml"))?.to_owned(),
        kind: Kind::Container,
        posture,
        accesses: accesses
            .collect::<Result<_, _>>()
            .map_err(|why| CorpusError::Malformed(name.clone(), why))?,
        name,
    })
}

fn text(path: &str) -> Result<&'static str, CorpusError> {
    FILES
        .get_file(path)
        .and_then(|file| file.contents_utf8())
        .ok_or_else(|| CorpusError::Missing(path.to_owned()))
}

fn yaml<T: serde::de::DeserializeOwned>(path: &str) -> Result<T, CorpusError> {
    serde_saphyr::from_str(text(path)?)
        .map_err(|error| CorpusError::Malformed(path.to_owned(), error.to_string()))
}
