//! `karmor vm policy add`.

use std::path::PathBuf;

use karmor_proto::karmor::v1::{ApplyPolicyRequest, PolicyResult};

use super::outcome;
use crate::{
    connect::{CHANGE, ConnectArgs, block_on, call_failed, control, within},
    error::{CommandError, CommandResult},
    exit::Exit,
    policy_file::{self, PolicyFile},
    render::text::printable_lines,
    ui::Ui,
};

/// Apply policies
///
/// All are checked before any is sent. Returns when the kernel has them; exits with 6 unless every
/// one is wholly in force.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files, directories, or - for standard input
    ///
    /// Of a directory all .yaml, .yml and .json files are read, also those in directories in it.
    /// Of its own policy directory the daemon takes only those that are in it directly.
    #[arg(value_name = "FILE|DIR|-", required = true, value_hint = clap::ValueHint::AnyPath)]
    files: Vec<PathBuf>,

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
                // The same problems have been shown already, unless the daemon is of another
                // version.
                if answer.diagnostics.len() > file.report.diagnostics.len() {
                    ui.note(&printable_lines(&answer.rendered));
                }
                results.extend(answer.results);
            }
            Ok(results)
        })
    }
}
