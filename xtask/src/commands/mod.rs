//! The command tree; one file per command.

mod generate;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;

/// Chores of the karmor workspace
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Setup(setup::Args),
    Test(test::Args),
    Generate(generate::Args),
    Vm(vm::Args),
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Setup(args) => args.run(),
            Command::Test(args) => args.run(),
            Command::Generate(args) => args.run(),
            Command::Vm(args) => args.run(),
        }
    }
}
