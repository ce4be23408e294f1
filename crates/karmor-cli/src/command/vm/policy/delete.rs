//! `karmor vm policy delete`.

use std::path::PathBuf;

use karmor_proto::karmor::v1::{DeletePolicyRequest, PolicyRef};

use super::{Kind, is_file, outcome, reference};
use crate::{
    connect::{CHANGE, ConnectArgs, block_on, call_failed, control, within},
    error::{CommandError, CommandResult},
    exit::Exit,
    policy_file,
    ui::Ui,
};

/// Delete policies, by name or as named in files
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Names, NAMESPACE/NAME, files, directories, or - for standard input
    ///
    /// Of a directory all .yaml, .yml and .json files are read, also those in directories in it.
    /// Of its own policy directory the daemon takes only those that are in it directly.
    #[arg(value_name = "NAME|FILE|DIR|-", required = true, value_hint = clap::ValueHint::AnyPath)]
    policies: Vec<PathBuf>,

    /// The kind of the policies that are given by name
    #[arg(long, value_enum)]
    kind: Option<Kind>,

    /// How to print what became of them
    #[arg(long, short, value_enum, default_value_t)]
    output: outcome::Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let policies = self.named(ui)?;
        let address = self.connect.address()?;
        let results = block_on(async {
            let mut client = control(&address).await?;
            let mut results = Vec::new();
            for policy in policies {
                let request = DeletePolicyRequest {
                    policy: Some(policy),
                };
                let answer = client
                    .delete_policy(within(CHANGE, request))
                    .await
                    .map_err(|status| call_failed(&address, &status))?;
                results.extend(answer.into_inner().result);
            }
            Ok(results)
        })?;
        outcome::report(ui, self.output, &results)
    }

    fn named(&self, ui: &mut Ui) -> CommandResult<Vec<PolicyRef>> {
        let mut policies = Vec::new();
        for argument in &self.policies {
            if is_file(argument) {
                let files = policy_file::read_valid(ui, std::slice::from_ref(argument))?;
                let read = files.into_iter().flat_map(|file| file.report.policies);
                policies.extend(read.map(|policy| PolicyRef {
                    kind: policy.kind.as_str().to_owned(),
                    namespace: policy.namespace,
                    name: policy.name,
                }));
            } else {
                policies.push(reference(self.kind, &argument.to_string_lossy()));
            }
        }
        if policies.is_empty() {
            return Err(CommandError::message(
                Exit::PolicyInvalid,
                "there is no policy to delete",
            ));
        }
        Ok(policies)
    }
}
