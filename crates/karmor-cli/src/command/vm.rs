//! `karmor vm`: machines without Kubernetes.

pub(crate) mod policy;

use clap::Subcommand;

use crate::{error::CommandResult, ui::Ui};

/// Manage a machine without Kubernetes
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Policy(policy::Command),
}

impl Command {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        match self {
            Self::Policy(command) => command.run(ui),
        }
    }
}
