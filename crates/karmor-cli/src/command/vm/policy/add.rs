//! `karmor vm policy add`.

use std::{path::PathBuf, time::Duration};

use karmor_proto::karmor::v1::{ApplyPolicyRequest, PolicyResult};

use super::{outcome, trial};
use crate::{
    connect::{CHANGE, ConnectArgs, block_on, call_failed, control, within},
    error::{CommandError, CommandResult},
    exit::Exit,
    policy_file::{self, PolicyFile},
    ui::Ui,
};

/// Apply policies
///
/// All are checked before any is sent. Returns when the kernel has them; exits with 6 unless every
/// one is wholly in force.
///
/// With --confirm-within they are on trial: all are applied, or none, and the daemon makes everything
/// as it was before when the time is over and nobody has said `karmor vm policy confirm`, whatever
/// became of this program, and also when the machine was restarted meanwhile. For policies that could
/// lock you out. Adding or deleting one without --confirm-within ends its trial.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files, directories, or - for standard input
    ///
    /// Of a directory all .yaml, .yml and .json files are read, also those in directories in it.
    /// Of its own policy directory the daemon takes only those that are in it directly.
    #[arg(value_name = "FILE|DIR|-", required = true, value_hint = clap::ValueHint::AnyPath)]
    files: Vec<PathBuf>,

    /// Take them back unless they are confirmed in time: 5s to 24h, such as 60s, 5m or 1h30m
    ///
    /// Does not wait: prints until when, and how to confirm. In JSON that is an object then, with
    /// `results` and `trial`.
    #[arg(long, value_name = "TIME", value_parser = trial::within)]
    confirm_within: Option<Duration>,

    /// How to print what became of them
    #[arg(long, short, value_enum, default_value_t)]
    output: outcome::Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let files = policy_file::read_compilable(ui, &self.files)?;
        if files.iter().all(|file| file.report.policies.is_empty()) {
            return Err(CommandError::message(
                Exit::PolicyInvalid,
                "there is no policy to apply",
            ));
        }
        if let Some(time) = self.confirm_within {
            return trial::begin(ui, &self.connect, self.output, files, time);
        }
        let results = self.send(ui, files)?;
        outcome::report(ui, self.output, &results)
    }

    fn send(&self, ui: &mut Ui, files: Vec<PolicyFile>) -> CommandResult<Vec<PolicyResult>> {
        let address = self.connect.address()?;
        block_on(async {
            let mut client = control(&address).await?;
            let mut results = Vec::new();
            for file in files {
                let request = ApplyPolicyRequest {
                    text: file.text,
                    file_name: file.name,
                };
                let answer = client
                    .apply_policy(within(CHANGE, request))
                    .await
                    .map_err(|status| call_failed(&address, &status))?
                    .into_inner();
                let shown = file.report.diagnostics.len();
                outcome::problems(ui, &answer.diagnostics, shown, &answer.rendered);
                results.extend(answer.results);
            }
            Ok(results)
        })
    }
}
