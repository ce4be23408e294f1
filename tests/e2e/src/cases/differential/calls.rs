//! Random system calls about files, and what the reference says of each.

use std::fmt;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use karmor_abi::{
    op::Op,
    table::{self, ABSORBING, Asker, View},
    verdict::Action,
};
use karmor_policy::{
    compiled::Compiled,
    reference::{self, Access, AccessObject},
    select::Effective,
};

/// Directories, each with all files.
pub(super) const DIRECTORIES: [&str; 4] = ["/srv/d", "/srv/d/a", "/srv/d/a/b", "/srv/d/c"];
/// Files of the user that acts.
pub(super) const FILES: [&str; 3] = ["f1", "f2", "x.key"];
/// A file of another user.
pub(super) const FOREIGN: &str = "f2";
/// A program that ends at once: busybox looks at its name.
pub(super) const PROGRAM: &str = "true";
/// Nothing has this name.
const FREE: [&str; 2] = ["new", "new.key"];

/// Names in every directory.
pub(super) const NAMES: [&str; 4] = [FILES[0], FILES[1], FILES[2], PROGRAM];

/// A system call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    kind: Kind,
    path: String,
    /// The other name, of a rename or link.
    other: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Both,
    Chmod,
    Truncate,
    Create,
    Mkdir,
    Symlink,
    Rename,
    Link,
    Exec,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Read,
        Self::Write,
        Self::Both,
        Self::Chmod,
        Self::Truncate,
        Self::Create,
        Self::Mkdir,
        Self::Symlink,
        Self::Rename,
        Self::Link,
        Self::Exec,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Both => "both",
            Self::Chmod => "chmod",
            Self::Truncate => "truncate",
            Self::Create => "create",
            Self::Mkdir => "mkdir",
            Self::Symlink => "symlink",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Exec => "exec",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.word(), self.path)?;
        self.other
            .iter()
            .try_for_each(|other| write!(f, " {other}"))
    }
}

impl Call {
    /// What is opened, changed or executed.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether who acts owns it.
    pub(super) fn is_owned(&self) -> bool {
        is_owned(&self.path)
    }

    /// What it is once, and once alone.
    pub(super) const fn asks(&self) -> &'static [Op] {
        match self.kind {
            Kind::Read => &[Op::Read],
            Kind::Both => &[Op::Read, Op::Write],
            Kind::Exec => &[Op::Read, Op::Exec],
            Kind::Rename | Kind::Link => &[],
            _ => &[Op::Write],
        }
    }
}

/// Says what calls of one image must come to.
pub(super) struct Judge<'a> {
    effective: &'a Effective,
    view: View<'a>,
    image: &'a str,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        effective: &'a Effective,
        compiled: &'a Compiled,
        image: &'a str,
    ) -> Result<Self> {
        let view = View::parse(&compiled.words).ok().context("not a table")?;
        Ok(Self {
            effective,
            view,
            image,
        })
    }

    /// A call whose changes can be undone: the policy must not be in the way of that.
    pub(super) fn random_call(&self, rng: &mut Rng) -> Call {
        loop {
            let call = random(rng);
            if !self.is_stuck(&call) {
                return call;
            }
        }
    }

    /// Whether what the call makes could not be taken away again. It then has an owner, which may
    /// make a difference.
    fn is_stuck(&self, call: &Call) -> bool {
        let (path, owned) = (call.path.as_str(), is_owned(&call.path));
        match (call.kind, call.other.as_deref()) {
            (Kind::Create | Kind::Mkdir | Kind::Symlink, _) => {
                !self.blocks(Op::Write, path) && self.blocks_to(Op::Write, path, true)
            }
            (Kind::Link, Some(new)) => !self.refuses(call) && self.blocks_to(Op::Write, new, owned),
            (Kind::Rename, Some(new)) => {
                !self.refuses(call)
                    && (self.blocks_to(Op::Write, new, owned)
                        || self.blocks_to(Op::Write, path, false)
                        || self.state(path) != self.state(new)
                            && self.blocks_to(Op::Move, new, owned))
            }
            _ => false,
        }
    }

    /// Whether the call must fail with `EACCES`.
    pub(super) fn refuses(&self, call: &Call) -> bool {
        let path = call.path.as_str();
        match (call.kind, call.other.as_deref()) {
            (Kind::Read, _) => self.blocks(Op::Read, path),
            (Kind::Both, _) => self.blocks(Op::Read, path) || self.blocks(Op::Write, path),
            // Opening a program is a read of it.
            (Kind::Exec, _) => self.blocks(Op::Read, path) || self.blocks(Op::Exec, path),
            (Kind::Rename | Kind::Link, Some(other)) => {
                self.blocks(Op::Write, path)
                    || self.blocks(Op::Write, other)
                    || (self.state(path) != self.state(other) && self.blocks(Op::Move, path))
            }
            _ => self.blocks(Op::Write, path),
        }
    }

    fn blocks(&self, op: Op, path: &str) -> bool {
        self.blocks_to(op, path, is_owned(path))
    }

    /// Whether an operation is refused to who owns the file, or does not.
    fn blocks_to(&self, op: Op, path: &str, owner: bool) -> bool {
        self.action_to(op, path, owner) == Action::Block
    }

    /// The same of anything.
    pub(super) fn blocks_object(&self, op: Op, object: AccessObject<'_>, owner: bool) -> bool {
        self.action(op, object, owner) == Action::Block
    }

    /// What is done about an operation of who owns the file, or does not.
    pub(super) fn action_to(&self, op: Op, path: &str, owner: bool) -> Action {
        self.action(op, AccessObject::Path(path.as_bytes()), owner)
    }

    fn action(&self, op: Op, object: AccessObject<'_>, owner: bool) -> Action {
        let access = Access {
            op,
            object,
            source: Some(self.image.as_bytes()),
            parent: Some(self.image.as_bytes()),
            asker: Asker {
                owner,
                terminal: false,
            },
            trusted: true,
            arguments: None,
        };
        reference::decide(self.effective, &access).action()
    }

    /// Where the automaton is after a path: two names after which it is in the same place are alike
    /// to every rule.
    fn state(&self, path: &str) -> u32 {
        let mut state = table::start(&self.view);
        for byte in path.bytes() {
            if state & ABSORBING != 0 {
                break;
            }
            state = table::step(&self.view, state, byte);
        }
        state
    }
}

/// Whether who acts owns the file. What does not exist has no owner.
fn is_owned(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name != FOREIGN && !FREE.contains(&name)
}

fn random(rng: &mut Rng) -> Call {
    let mut place = |names: &[&str]| {
        let directory = rng.choice(DIRECTORIES).unwrap_or(DIRECTORIES[0]);
        let name = rng.choice(names).copied().unwrap_or("f1");
        format!("{directory}/{name}")
    };
    let (file, free, program) = (place(&FILES), place(&FREE), place(&[PROGRAM]));
    // Running a program takes as long as a hundred other calls.
    let kinds = if rng.u8(0..32) == 0 {
        &Kind::ALL[..]
    } else {
        &Kind::ALL[..Kind::ALL.len() - 1]
    };
    let kind = rng.choice(kinds).copied().unwrap_or(Kind::Read);
    let (path, other) = match kind {
        Kind::Create | Kind::Mkdir | Kind::Symlink => (free, None),
        Kind::Rename | Kind::Link => (file, Some(free)),
        Kind::Exec => (program, None),
        _ => (file, None),
    };
    Call { kind, path, other }
}
