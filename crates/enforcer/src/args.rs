//! The command line of `karmor-enforcer`.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{FUTURE_KEYS, Settings};

/// Enforce security policies on containers and this host, and report what they refuse
///
/// Settings are taken from the command line, else from the environment, else from the file that
/// --config or KUBEARMOR_CFG names, else from the defaults below; an empty variable says nothing.
/// Without a subcommand the daemon runs in the foreground until it is told to stop; what it enforces
/// stays in force after that, until `karmor-enforcer unload`.
#[derive(Debug, Parser)]
#[command(
    name = "karmor-enforcer",
    version,
    max_term_width = 100,
    after_long_help = EXIT_CODES,
    args_conflicts_with_subcommands = false
)]
pub struct Args {
    /// What to do instead of running
    #[command(subcommand)]
    pub command: Option<Command>,

    /// YAML file of settings, with the same names as the flags
    #[arg(long, env = "KUBEARMOR_CFG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// Exit code when the command line or the environment is wrong, as of `karmor` and of clap.
pub const USAGE: u8 = 2;

/// Exit code when nothing can be enforced on this machine, as of `karmor`.
pub const NOT_ENFORCEABLE: u8 = 5;

const EXIT_CODES: &str = "\
Exit codes:
  0  everything asked for was done; of the daemon: it was told to stop
  1  something failed that has no code of its own
  2  the command line, or a value of the environment, is wrong
  5  nothing can be enforced on this machine, and --observe was not given";

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stop enforcing: remove every program, link and map from the kernel
    ///
    /// Refuses while a daemon runs; stop it first.
    Unload,
    /// Show what this node can enforce, found by trying; exits with 5 if nothing
    Probe {
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Body of the daemon's self-test: not for people
    #[command(name = SELF_TEST, hide = true)]
    SelfTest {
        /// Directory with the files to try
        dir: PathBuf,
    },
}

/// Name of the subcommand that the daemon starts for its self-test.
pub const SELF_TEST: &str = "self-test";

/// A parsed command line, and what should be said about it.
#[derive(Debug)]
pub struct Parsed {
    /// The arguments.
    pub args: Args,
    /// KubeArmor flags and variables that were given and that mean nothing here yet.
    pub notices: Vec<String>,
}

/// Parses a command line.
///
/// # Errors
/// clap's, which includes `--help` and `--version`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    // Templates of units and containers set variables to nothing where they have no value.
    let mut command = Args::command().mut_args(|arg| match arg.get_env().map(is_set) {
        Some(false) => arg.env(None::<&'static str>),
        _ => arg,
    });
    for key in FUTURE_KEYS {
        // Hidden, so that --help shows what works and old unit files still start.
        command = command.arg(
            clap::Arg::new(*key)
                .long(*key)
                .num_args(0..=1)
                .default_missing_value("true")
                .action(ArgAction::Set)
                .hide(true)
                .global(true),
        );
    }
    let names: Vec<String> = command
        .get_arguments()
        .filter_map(|a| a.get_long().map(str::to_owned))
        .collect();
    let arguments = arguments.into_iter().map(|a| go_style(a, &names));
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    let mut notices = Vec::new();
    for key in FUTURE_KEYS {
        if matches.value_source(key).is_some() {
            notices.push(notice(&format!("--{key}")));
        } else if is_set(OsStr::new(&key.to_uppercase())) {
            notices.push(notice(&format!(
                "environment variable {}",
                key.to_uppercase()
            )));
        }
    }
    let args = Args::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))?;
    Ok(Parsed { args, notices })
}

fn is_set(variable: &OsStr) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// What is said about a KubeArmor setting that means nothing here yet.
#[must_use]
pub fn notice(what: &str) -> String {
    format!("{what} is accepted for KubeArmor's sake but has no effect in this version")
}

/// Go programs take `-name=value` as well as `--name=value`, and KubeArmor's manifests use the
/// former.
fn go_style(argument: OsString, names: &[String]) -> OsString {
    let Some(text) = argument.to_str() else {
        return argument;
    };
    let Some(rest) = text.strip_prefix('-').filter(|r| !r.starts_with('-')) else {
        return argument;
    };
    let name = rest.split('=').next().unwrap_or(rest);
    if name.len() > 1 && names.iter().any(|n| n == name) {
        return format!("-{text}").into();
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Parsed, clap::Error> {
        parse(text.split(' ').map(OsString::from))
    }

    #[test]
    fn takes_single_dash_flags_as_kubearmors_manifests_write_them() {
        let parsed = parse_text("karmor-enforcer -gRPC=4000 -k8s=false -lsm bpf,apparmor").unwrap();
        assert_eq!(parsed.args.settings.grpc, Some(4000));
        assert_eq!(parsed.args.settings.k8s, Some(false));
    }

    #[test]
    fn says_which_flags_mean_nothing() {
        let parsed = parse_text("karmor-enforcer --coverageTest --nriIndex=98").unwrap();
        assert_eq!(parsed.notices.len(), 2, "{:?}", parsed.notices);
        assert!(parsed.notices.iter().any(|n| n.contains("--nriIndex")));
    }

    #[test]
    fn refuses_unknown_flags_with_a_suggestion() {
        let error = parse_text("karmor-enforcer --enableKubeArmorHostPolicies").unwrap_err();
        assert!(
            error.to_string().contains("--enableKubeArmorHostPolicy"),
            "{error}"
        );
    }

    #[test]
    fn a_switch_needs_no_value() {
        let parsed = parse_text("karmor-enforcer --observe --debug").unwrap();
        assert_eq!(parsed.args.settings.observe, Some(true));
        assert_eq!(parsed.args.settings.debug, Some(true));
        // As Go's flags, and as environments say it.
        let parsed = parse_text("karmor-enforcer --observe=1 --debug=0").unwrap();
        assert_eq!(parsed.args.settings.observe, Some(true));
        assert_eq!(parsed.args.settings.debug, Some(false));
    }

    #[test]
    fn the_help_tells_the_exit_codes() {
        let help = Args::command().render_long_help().to_string();
        let code = format!("\n  {NOT_ENFORCEABLE}  nothing can be enforced");
        assert!(help.contains(&code), "{help}");
    }

    #[test]
    fn the_command_tree_is_sound() {
        Args::command().debug_assert();
    }
}
