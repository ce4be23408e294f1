//! What the kernel reads, and what user space needs to tell what it decided.

use std::{net::IpAddr, sync::Arc};

use karmor_abi::{
    limits,
    op::Op,
    table::{self, View},
    verdict::Verdict,
    word::{self, Convention, ENDPOINT_BYTES, Endpoint},
};

use crate::{
    model::{Location, Meta},
    reference::{Access, AccessObject},
    syscall::Syscall,
};

/// The compiled policies of a workload.
///
/// Two workloads with equal policies (and equal [`crate::alias::Aliases`]) share one `Compiled`;
/// equality is that of [`Compiled::words`].
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The table, as [`karmor_abi::table`] describes it, without padding.
    pub words: Vec<u64>,
    /// The rules that verdicts name by index.
    pub rules: Vec<RuleInfo>,
    /// Rules of each set, as indices into `rules`; what an alert lists as other matches. A rule
    /// that loses whatever follows may be missing where the winner is there.
    pub sets: Vec<Box<[u32]>>,
}

impl Compiled {
    /// Asks the table, as the kernel half does.
    #[must_use]
    pub fn decide(&self, access: &Access<'_>) -> Verdict {
        let Ok(view) = View::parse(&self.words) else {
            return Verdict::FAULT;
        };
        let class = |image: Option<&[u8]>| {
            image.map_or(0, |path| {
                let class = table::set(&view, table::walk(&view, path)).source();
                table::class_of(&view, class, access.trusted)
            })
        };
        let number = match access.object {
            AccessObject::Path(path) => table::walk(&view, path),
            AccessObject::Class(object) => table::object_set(&view, object),
            object => match table::walk(&view, &word_of(object, access.op)) {
                0 => return Verdict::ALLOW,
                set => set,
            },
        };
        let set = table::set(&view, number);
        let (op, source, asker) = (access.op, class(access.source), access.asker);
        match op {
            Op::Exec => {
                let rows = table::rows(&view, set, source, class(access.parent), asker);
                let execution = table::execution(&view, rows);
                let unlisted = execution.arguments & !listing(&view, access.arguments);
                execution.verdict.stricter(table::mismatch(&view, unlisted))
            }
            Op::Map => {
                let rows = table::rows(&view, set, source, class(access.parent), asker);
                table::verdict_of_both(&view, rows, op)
            }
            _ => table::verdict(&view, set, op, source, asker),
        }
    }
}

/// The rules whose lists have all of these arguments.
fn listing(view: &View<'_>, arguments: Option<&[&[u8]]>) -> u64 {
    let arguments = arguments.unwrap_or_default();
    if arguments.len() > limits::ARGUMENTS as usize {
        return 0;
    }
    arguments.iter().fold(u64::MAX, |rules, argument| {
        let state = table::walk_on(view, table::argument_start(view), argument);
        rules & table::listing(view, state)
    })
}

/// The word for what is not a path.
fn word_of(object: AccessObject<'_>, op: Op) -> Vec<u8> {
    match object {
        AccessObject::Path(path) => path.to_vec(),
        AccessObject::Class(_) => Vec::new(),
        AccessObject::Capability(number) => word::capability(number).to_vec(),
        AccessObject::Socket(kind, protocol) => word::socket(kind, protocol).to_vec(),
        AccessObject::Preset => word::preset(op).to_vec(),
        AccessObject::UnreadableQuery => word::UNREADABLE.to_vec(),
        AccessObject::Syscall(syscall) => call(syscall),
        AccessObject::SyscallAt(syscall, path) => [&call(syscall), path].concat(),
        AccessObject::Domain(name) => {
            let reversed = name.iter().rev().copied();
            [word::DOMAIN]
                .into_iter()
                .chain(reversed)
                .chain([b'.'])
                .collect()
        }
        AccessObject::Endpoint {
            address,
            protocol,
            port,
        } => {
            let mut octets = [0; 16];
            match address {
                IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => octets = v6.octets(),
            }
            let endpoint = Endpoint {
                address: octets,
                is_v6: address.is_ipv6(),
                protocol,
                port,
            };
            let mut word = [0; ENDPOINT_BYTES];
            let len = endpoint.write(&mut word);
            word[..len].to_vec()
        }
    }
}

/// The word of a system call as programs of this architecture make it; where they cannot, nothing.
fn call(syscall: Syscall) -> Vec<u8> {
    syscall.number().map_or_else(Vec::new, |number| {
        word::syscall(Convention::Native, number).to_vec()
    })
}

/// What an alert says about a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// `metadata.name` of the rule's policy.
    pub policy: Arc<str>,
    /// `metadata.namespace` of the rule's policy.
    pub namespace: Arc<str>,
    /// Severity, tags, message.
    pub meta: Arc<Meta>,
    /// Where the rule stands.
    pub location: Location,
}
