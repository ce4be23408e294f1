//! One module for every command: its arguments, whose comments are its help, and what it does.

mod completion;
mod generate;
mod logs;
mod man;
mod policy;
mod probe;
pub(crate) mod version;
pub(crate) mod vm;

use clap::Subcommand;

use crate::{error::CommandResult, ui::Ui};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Logs(logs::Args),
    #[command(subcommand)]
    Policy(policy::Command),
    #[command(subcommand)]
    Vm(vm::Command),
    Probe(probe::Args),
    Version(version::Args),
    Completion(completion::Args),
    #[command(skip)]
    Upkeep(Upkeep),
}

/// For those who build and package the program. Apart, because completions show hidden commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Upkeep {
    Man(man::Args),
    Generate(generate::Args),
}

impl Command {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        match self {
            Self::Logs(args) => args.run(ui),
            Self::Policy(command) => command.run(ui),
            Self::Vm(command) => command.run(ui),
            Self::Probe(args) => args.run(ui),
            Self::Version(args) => args.run(ui),
            Self::Completion(args) => args.run(ui),
            Self::Upkeep(Upkeep::Man(args)) => args.run(ui),
            Self::Upkeep(Upkeep::Generate(args)) => args.run(ui),
        }
    }
}
