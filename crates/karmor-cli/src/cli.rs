//! The tree of commands.

use std::{ffi::OsString, path::Path};

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use crate::{
    command::{Command, Upkeep},
    ui::Color,
};

/// The program's name as a kubectl plugin.
const PLUGIN: &str = "kubectl-karmor";

/// Protect containers and hosts: policies in, refusals out
///
/// A policy says what a container, a pod or a host may execute, read and write; the kernel refuses
/// the rest, and every refusal is an alert.
#[derive(Debug, Parser)]
#[command(
    name = "karmor",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 policy invalid, 4 daemon \
                  unreachable, 5 nothing can be enforced, 6 policy not applied"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands that no help shows.
#[derive(Debug, Parser)]
#[command(name = "karmor")]
struct UpkeepCli {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Upkeep,
}

/// What every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// When to colour the output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,

    /// Say nothing but data, warnings and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// The tree as users see it when they start the program by its own name.
pub(crate) fn tree() -> clap::Command {
    Cli::command()
}

/// Parses a command line. `kubectl karmor` starts a program of another name; its help says so.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    if let Some(word) = arguments.get(1)
        && UpkeepCli::command()
            .get_subcommands()
            .any(|command| word == command.get_name())
    {
        let cli = UpkeepCli::try_parse_from(arguments)?;
        return Ok(Cli {
            global: cli.global,
            command: Command::Upkeep(cli.command),
        });
    }
    let mut command = tree();
    let name = arguments
        .first()
        .and_then(|name| Path::new(name).file_stem());
    if name.is_some_and(|name| name == PLUGIN) {
        command = command.bin_name("kubectl karmor");
    }
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn the_plugin_calls_itself_by_what_users_type() {
        let usage = |name: &str| {
            parse(vec![name.into(), "logs".into(), "--help".into()])
                .unwrap_err()
                .to_string()
        };
        assert!(usage("/usr/local/bin/kubectl-karmor").contains("Usage: kubectl karmor logs"));
        assert!(usage("karmor").contains("Usage: karmor logs"));
    }
}
