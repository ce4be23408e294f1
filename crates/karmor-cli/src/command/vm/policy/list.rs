//! `karmor vm policy list`.

use karmor_proto::karmor::v1::{ListPoliciesRequest, Policy};

use super::{enforcement_word, part_text, trial};
use crate::{
    connect::{ANSWER, ConnectArgs, block_on, call_failed, control, within},
    error::CommandResult,
    render::table::table,
    ui::Ui,
};

/// List the policies of the daemon
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How to print them
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
    Yaml,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let address = self.connect.address()?;
        let policies = block_on(async {
            let mut client = control(&address).await?;
            let answer = client
                .list_policies(within(ANSWER, ListPoliciesRequest {}))
                .await;
            answer.map_err(|status| call_failed(&address, &status))
        })?
        .into_inner()
        .policies;
        match self.output {
            Output::Json => ui.json(&policies),
            Output::Yaml => ui.yaml(&policies),
            Output::Table if policies.is_empty() => {
                ui.status("there are no policies");
                Ok(())
            }
            Output::Table => ui.data(&rows(&policies)),
        }
    }
}

/// Policies as a table; what is not in force says why.
pub(crate) fn rows(policies: &[Policy]) -> String {
    let rows: Vec<_> = policies
        .iter()
        .map(|policy| {
            vec![
                policy.kind.clone(),
                policy.namespace.clone(),
                policy.name.clone(),
                enforcement_word(policy.enforcement()).to_owned(),
                policy.workloads.len().to_string(),
                policy.source.clone(),
                remark(policy),
            ]
        })
        .collect();
    table(
        &[
            "KIND",
            "NAMESPACE",
            "NAME",
            "ENFORCED",
            "WORKLOADS",
            "SOURCE",
            "REMARK",
        ],
        &rows,
    )
}

fn remark(policy: &Policy) -> String {
    let parts = policy.not_enforced.iter().map(part_text);
    let remarks: Vec<_> = policy
        .trial
        .as_ref()
        .map(trial::remark)
        .into_iter()
        .chain(Some(policy.message.clone()).filter(|text| !text.is_empty()))
        .chain(parts)
        .collect();
    remarks.join("\n")
}
