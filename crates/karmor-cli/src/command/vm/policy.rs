//! `karmor vm policy`: the policies of the daemon on this machine.

mod add;
mod confirm;
mod delete;
mod get;
pub(crate) mod list;
mod outcome;
mod revert;
mod trial;

use std::path::Path;

use clap::Subcommand;
use karmor_proto::karmor::v1::{Enforcement, NotEnforced, PolicyRef};

use crate::{error::CommandResult, ui::Ui};

/// Add, confirm, delete and show policies of the daemon
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(add::Args),
    Confirm(confirm::Args),
    Revert(revert::Args),
    Delete(delete::Args),
    List(list::Args),
    Get(get::Args),
}

impl Command {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        match self {
            Self::Add(args) => args.run(ui),
            Self::Confirm(args) => args.run(ui),
            Self::Revert(args) => args.run(ui),
            Self::Delete(args) => args.run(ui),
            Self::List(args) => args.run(ui),
            Self::Get(args) => args.run(ui),
        }
    }
}

/// Kinds of policies.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    #[value(name = "KubeArmorPolicy")]
    Container,
    #[value(name = "KubeArmorClusterPolicy")]
    Cluster,
    #[value(name = "KubeArmorHostPolicy")]
    Host,
}

/// What the user names a policy by: its name, with or without a namespace before it.
fn reference(kind: Option<Kind>, name: &str) -> PolicyRef {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let kind = kind.map_or("", |kind| match kind {
        Kind::Container => "KubeArmorPolicy",
        Kind::Cluster => "KubeArmorClusterPolicy",
        Kind::Host => "KubeArmorHostPolicy",
    });
    PolicyRef {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// A policy's name for people.
fn title(policy: &PolicyRef) -> String {
    let mut title = String::new();
    if !policy.kind.is_empty() {
        title.push_str(&policy.kind);
        title.push(' ');
    }
    if !policy.namespace.is_empty() {
        title.push_str(&policy.namespace);
        title.push('/');
    }
    title.push_str(&policy.name);
    title
}

/// How far a policy is in force, in a word.
fn enforcement_word(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Unspecified => "unknown",
        Enforcement::Full => "full",
        Enforcement::Partial => "partial",
        Enforcement::None => "none",
        Enforcement::Idle => "idle",
    }
}

/// Whether an argument means a file rather than a policy's name.
fn is_file(argument: &Path) -> bool {
    argument.as_os_str() == "-"
        || argument.exists()
        || argument.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        })
}

/// What is not enforced, in a line: the part and why, or how many parts there are besides.
fn part_text(part: &NotEnforced) -> String {
    if part.field.is_empty() {
        part.why.clone()
    } else {
        format!("{}: {}", part.field, part.why)
    }
}
