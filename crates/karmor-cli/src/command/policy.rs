//! `karmor policy`: policies as text, without a daemon.

mod check;
mod explain;

use clap::Subcommand;

use crate::{error::CommandResult, ui::Ui};

/// Check and explain policies, without a daemon and without root
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Explain(Box<explain::Args>),
}

impl Command {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        match self {
            Self::Check(args) => args.run(ui),
            Self::Explain(args) => args.run(ui),
        }
    }
}
