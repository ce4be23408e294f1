//! `karmor policy explain`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use karmor_abi::{
    limits::{PATH_BYTES, PATH_COMPONENTS},
    op::Op,
    word::{Protocol, SOCK_DGRAM, SOCK_STREAM},
};
use karmor_policy::{
    alias::Aliases,
    explain::{Asked, Query, explain},
    model::{Kind, Policy, Posture, Postures, SocketKind},
    names,
    select::WorkloadKind,
    syscall::Syscall,
};

use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
    policy_file,
    render::text::printable_lines,
    ui::Ui,
};

/// Tell how policies decide an access, and why
///
/// Shows the verdict, the rule that decides with its file and line, and every other rule about the
/// same object with the reason why it does not. All policies are taken to apply to the workload in
/// question, whatever they select; but those of containers and those of hosts are never about the
/// same process. An exec opens its file first, so it is refused where opening is; so does mapping a file,
/// and another name is refused where writing is. Connecting and accepting need a socket of the protocol,
/// asking for a name one of UDP; a system call is asked about with its path and without. What presets
/// look at cannot be told: those that may have a say are named.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("access").required(true))]
pub(crate) struct Args {
    /// Policy files, directories, or - for standard input
    #[arg(
        long = "file", short = 'f', value_name = "FILE|DIR|-", required = true, num_args = 1..,
        value_hint = clap::ValueHint::AnyPath
    )]
    files: Vec<PathBuf>,

    /// Execute this
    #[arg(long, value_name = "PATH", group = "access")]
    exec: Option<String>,

    /// Map this executable, as `ld.so PATH` does
    #[arg(long, value_name = "PATH", group = "access")]
    map: Option<String>,

    /// Give this another name, or one more (rename, hard link)
    #[arg(long = "move", value_name = "PATH", group = "access")]
    moved: Option<String>,

    /// Open this
    #[arg(long, value_name = "PATH", group = "access")]
    open: Option<String>,

    /// Open for writing instead of reading
    #[arg(long, requires = "open", conflicts_with_all = ["exec", "map", "moved"])]
    write: bool,

    /// Make a socket of this kind, or use one: tcp, udp, icmp, raw, stream, ...; as TYPE/PROTOCOL where a
    /// protocol has two types: icmp and icmpv6 are raw/icmp, else dgram/icmp, and sctp is seqpacket/sctp,
    /// else stream/sctp
    #[arg(long, value_name = "[TYPE/]PROTOCOL", group = "access")]
    socket: Option<String>,

    /// Connect or send to this address, as ADDRESS:PORT[/tcp|udp|sctp] or ADDRESS/icmp
    #[arg(long, value_name = "ENDPOINT", group = "access")]
    connect: Option<String>,

    /// Accept a TCP connection from this address, at this port of its own, as ADDRESS:PORT
    #[arg(long, value_name = "ENDPOINT", group = "access")]
    accept: Option<String>,

    /// Ask for this name
    #[arg(long, value_name = "DOMAIN", group = "access")]
    query: Option<String>,

    /// Use this capability
    #[arg(long, value_name = "NAME", group = "access")]
    capability: Option<String>,

    /// Make this system call
    #[arg(long, value_name = "NAME", group = "access")]
    syscall: Option<String>,

    /// The path that the system call is about
    #[arg(long, value_name = "PATH", requires = "syscall")]
    at: Option<String>,

    /// Do what this preset is about
    #[arg(long, value_name = "NAME", group = "access")]
    preset: Option<String>,

    /// The executable that does it [default: one that no rule names]
    #[arg(long, value_name = "EXE")]
    from: Option<String>,

    /// The executable that started that one
    #[arg(long, value_name = "EXE")]
    parent: Option<String>,

    /// A process of the host does it, not one of a container; taken so if all policies are hosts'
    #[arg(long)]
    host: bool,

    /// The root has directories where others have the links /bin, /lib and so on into /usr
    #[arg(long)]
    no_merged_usr: bool,

    /// The user that does it
    #[arg(long, value_name = "N", default_value_t = 0)]
    uid: u32,

    /// The user that owns the object
    #[arg(long, value_name = "N", default_value_t = 0)]
    owner: u32,

    /// The process has a controlling terminal
    #[arg(long)]
    terminal: bool,

    /// What happens where Allow rules make everything else the exception
    #[arg(long, value_enum, default_value_t)]
    posture: PostureArg,

    /// How to print the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    /// With these arguments, the name of the program not among them
    #[arg(last = true, value_name = "ARG", requires = "exec")]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum PostureArg {
    #[default]
    Audit,
    Block,
    Allow,
}

impl From<PostureArg> for Posture {
    fn from(posture: PostureArg) -> Self {
        match posture {
            PostureArg::Audit => Self::Audit,
            PostureArg::Block => Self::Block,
            PostureArg::Allow => Self::Allow,
        }
    }
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let mut query = self.query()?;
        let files = policy_file::read_compilable(ui, &self.files)?;
        let policies: Vec<_> = files
            .into_iter()
            .flat_map(|file| file.report.policies)
            .collect();
        let are_host = |policies: &[Policy]| policies.iter().all(|p| p.kind == Kind::Host);
        if self.host || (!policies.is_empty() && are_host(&policies)) {
            query.workload = WorkloadKind::Host;
        }
        let explanation = explain(&policies, &query);
        match self.output {
            Output::Json => ui.json(&explanation),
            Output::Text => ui.data(&printable_lines(&explanation.to_string())),
        }
    }

    fn query(&self) -> CommandResult<Query> {
        let (op, object) = self.asked()?;
        for path in self.from.iter().chain(&self.parent).chain(&self.exec) {
            if path == "/" {
                let message = "`/` is a directory: nothing is executed by this name";
                return Err(CommandError::message(Exit::Usage, message));
            }
        }
        for path in self.from.iter().chain(&self.parent) {
            absolute(path)?;
        }
        Ok(Query {
            op,
            object,
            source: self.from.clone(),
            parent: self.parent.clone(),
            arguments: (!self.arguments.is_empty()).then(|| self.arguments.clone()),
            uid: self.uid,
            owner: self.owner,
            workload: WorkloadKind::Container,
            terminal: self.terminal,
            postures: Postures::all(self.posture.into()),
            // What the daemon assumes of every root as well.
            aliases: Aliases::merged_usr(),
            has_links: !self.no_merged_usr,
        })
    }
}

impl Args {
    fn asked(&self) -> CommandResult<(Op, Asked)> {
        let open = if self.write { Op::Write } else { Op::Read };
        let files = [
            (Op::Exec, &self.exec),
            (Op::Map, &self.map),
            (Op::Move, &self.moved),
            (open, &self.open),
        ];
        let file = files
            .into_iter()
            .find_map(|(op, path)| Some((op, path.as_ref()?)));
        if let Some((op, path)) = file {
            if path.starts_with('@') {
                class(path)?;
            } else {
                absolute(path)?;
            }
            return Ok((op, Asked::Path(path.clone())));
        }
        if let Some(name) = &self.socket {
            return Ok((Op::Socket, socket(name)?));
        }
        if let Some(text) = &self.connect {
            return Ok((Op::Egress, endpoint(text)?));
        }
        if let Some(text) = &self.accept {
            return Ok((Op::Ingress, incoming(text)?));
        }
        if let Some(name) = &self.query {
            return Ok((Op::Query, Asked::Domain(name.clone())));
        }
        if let Some(name) = &self.capability {
            let number = names::capability_named(&name.to_ascii_lowercase());
            let number = number.ok_or_else(|| unknown("capability", name))?;
            return Ok((Op::Capable, Asked::Capability(number)));
        }
        if let Some(name) = &self.syscall {
            let syscall = Syscall::named(&name.to_ascii_lowercase());
            let syscall = syscall.ok_or_else(|| unknown("system call", name))?;
            let Some(path) = &self.at else {
                return Ok((Op::Syscall, Asked::Syscall(syscall, None)));
            };
            absolute(path)?;
            return Ok((Op::SyscallAt, Asked::Syscall(syscall, Some(path.clone()))));
        }
        if let Some(name) = &self.preset {
            let op = names::preset_named(name).ok_or_else(|| unknown("preset", name))?;
            return Ok((op, Asked::Preset));
        }
        let message = "say what is done: --exec, --open, --socket, --connect, ...";
        Err(CommandError::message(Exit::Usage, message))
    }
}

fn unknown(what: &str, name: &str) -> CommandError {
    CommandError::message(Exit::Usage, format!("there is no {what} `{name}`"))
}

/// A kind of socket, as one that exists: rules name types and protocols apart.
fn socket(text: &str) -> CommandResult<Asked> {
    let lower = text.to_ascii_lowercase();
    let named = |name| names::socket_kind_named(name).ok_or_else(|| unknown("protocol", name));
    if let Some((kind, protocol)) = lower.split_once('/') {
        return socket_of(named(kind)?, named(protocol)?)
            .ok_or_else(|| unknown("kind of socket", text));
    }
    Ok(match named(&lower)? {
        SocketKind::Type(SOCK_STREAM) => Asked::usual_socket(Protocol::Tcp),
        SocketKind::Type(SOCK_DGRAM) => Asked::usual_socket(Protocol::Udp),
        SocketKind::Type(kind) => Asked::Socket(kind, Protocol::Other),
        SocketKind::Protocol(protocol) => Asked::usual_socket(protocol),
        SocketKind::Packet => Asked::usual_socket(Protocol::Packet),
        SocketKind::All => {
            let message = "`all` is no socket; ask about one, such as tcp";
            return Err(CommandError::message(Exit::Usage, message));
        }
    })
}

/// A type of socket with a protocol, if the kernel has such.
fn socket_of(kind: SocketKind, protocol: SocketKind) -> Option<Asked> {
    let SocketKind::Type(kind) = kind else {
        return None;
    };
    let protocol = match protocol {
        SocketKind::Protocol(protocol) => protocol,
        SocketKind::Packet => Protocol::Packet,
        SocketKind::Type(_) | SocketKind::All => return None,
    };
    let exists = names::is_socket(kind, protocol);
    exists.then_some(Asked::Socket(kind, protocol))
}

fn endpoint(text: &str) -> CommandResult<Asked> {
    let (address, name) = text.split_once('/').unwrap_or((text, "tcp"));
    let name = name.to_ascii_lowercase();
    let protocol = names::ip_protocol_named(&name).ok_or_else(|| unknown("protocol", &name))?;
    let wrong = |message: String| {
        Err(CommandError::message(Exit::Usage, message)
            .hint("write 10.0.0.1:443, [2001:db8::1]:443/udp or 10.0.0.1/icmp"))
    };
    let has_ports = names::has_ports(protocol);
    let address = match (address.parse::<SocketAddr>(), address.parse::<IpAddr>()) {
        (Ok(address), _) if has_ports => address,
        (Ok(_), _) => return wrong(format!("`{text}`: {name} has no ports")),
        (_, Ok(_)) if has_ports => return wrong(format!("`{text}`: {name} needs a port")),
        (_, Ok(address)) => SocketAddr::new(address, 0),
        _ => return wrong(format!("`{address}` is not an address")),
    };
    Ok(Asked::Endpoint { address, protocol })
}

/// What comes in is decided for TCP only: of other protocols there is no verdict to explain.
fn incoming(text: &str) -> CommandResult<Asked> {
    let asked = endpoint(text)?;
    match asked {
        Asked::Endpoint { protocol, .. } if !names::comes_in(protocol) => {
            let name = names::ip_protocol(protocol).unwrap_or_default();
            let message = format!("`{text}`: incoming connections are TCP, not {name}");
            Err(CommandError::message(Exit::Usage, message)
                .hint("what comes in over other protocols is not decided"))
        }
        asked => Ok(asked),
    }
}

/// Objects without a path, as rules and the explanation name them.
const CLASSES: [&str; 3] = ["@anonymous", "@unreachable", "@too-long"];

fn class(object: &str) -> CommandResult {
    if CLASSES.contains(&object) {
        return Ok(());
    }
    let message = format!("there is no class of objects `{object}`");
    Err(CommandError::message(Exit::Usage, message)
        .hint(format!("allowed are {}", CLASSES.join(", "))))
}

/// Only what the kernel could name can be asked about: anything else would be answered with a
/// verdict that no access gets.
fn absolute(path: &str) -> CommandResult {
    let wrong = |what: &str, hint: String| {
        Err(CommandError::message(Exit::Usage, format!("`{path}` {what}")).hint(hint))
    };
    let Some(rest) = path.strip_prefix('/') else {
        return wrong(
            "is not an absolute path",
            "rules are about paths as the workload sees them, from its own root: /usr/bin/apt"
                .to_owned(),
        );
    };
    if !rest.is_empty() && rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return wrong(
            "is not how the kernel names it",
            "real paths have no `.`, `..` or `//`, and no `/` at their end: /usr/bin/apt"
                .to_owned(),
        );
    }
    if path.len() > PATH_BYTES || rest.split('/').count() > PATH_COMPONENTS {
        return Err(CommandError::message(
            Exit::Usage,
            format!("the path has more than {PATH_BYTES} bytes or {PATH_COMPONENTS} components"),
        )
        .hint("such objects are called `@too-long`"));
    }
    Ok(())
}
