//! `karmor vm policy get`.

use karmor_proto::karmor::v1::{GetPolicyRequest, Policy};
use tonic::Code;

use super::{Kind, enforcement_word, part_text, reference, trial};
use crate::{
    connect::{ANSWER, ConnectArgs, block_on, call_failed, control, within},
    error::{CommandError, CommandResult},
    exit::Exit,
    render::text::printable,
    ui::Ui,
};

/// Show a policy of the daemon
///
/// One that came from several places, such as a file and `karmor vm policy add`, is shown as often:
/// in JSON and YAML as a list then.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Its name, or NAMESPACE/NAME
    name: String,

    /// Its kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,

    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    /// Its state, a line a property
    #[default]
    Table,
    /// Its state and its text, as JSON
    Json,
    /// Its state and its text, as YAML
    Yaml,
    /// Its text as it was applied
    Text,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let address = self.connect.address()?;
        let request = GetPolicyRequest {
            policy: Some(reference(self.kind, &self.name)),
        };
        let answer = block_on(async {
            let mut client = control(&address).await?;
            client
                .get_policy(within(ANSWER, request))
                .await
                .map_err(|status| match status.code() {
                    Code::NotFound => self.not_found(),
                    _ => call_failed(&address, &status),
                })
        })?;
        let answer = answer.into_inner();
        let policy = answer.policy.ok_or_else(|| self.not_found())?;
        if answer.others.is_empty() {
            return match self.output {
                Output::Json => ui.json(&policy),
                Output::Yaml => ui.yaml(&policy),
                Output::Table => ui.data(&lines(&policy)),
                Output::Text => ui.data(&ended(policy.text)),
            };
        }
        let policies: Vec<Policy> = std::iter::once(policy).chain(answer.others).collect();
        match self.output {
            Output::Json => ui.json(&policies),
            Output::Yaml => ui.yaml(&policies),
            Output::Table => {
                let blocks: Vec<String> = policies.iter().map(lines).collect();
                ui.data(&blocks.join("\n"))
            }
            Output::Text => {
                let texts: Vec<String> = policies.into_iter().map(with_origin).collect();
                ui.data(&texts.join("---\n"))
            }
        }
    }

    fn not_found(&self) -> CommandError {
        CommandError::message(Exit::Failed, format!("there is no policy `{}`", self.name))
            .hint("`karmor vm policy list` shows all of them")
    }
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The text, and a comment that says whose it is.
fn with_origin(policy: Policy) -> String {
    format!(
        "# from {}\n{}",
        printable(&policy.source),
        ended(policy.text)
    )
}

fn lines(policy: &Policy) -> String {
    let mut lines = vec![
        ("Kind", policy.kind.clone()),
        ("Namespace", policy.namespace.clone()),
        ("Name", policy.name.clone()),
        ("Source", policy.source.clone()),
        ("Updated", policy.updated_at.clone()),
        (
            "Enforced",
            enforcement_word(policy.enforcement()).to_owned(),
        ),
        (
            "Trial",
            policy.trial.as_ref().map(trial::remark).unwrap_or_default(),
        ),
        ("Remark", policy.message.clone()),
    ];
    for part in &policy.not_enforced {
        let text = match part.line {
            0 => part_text(part),
            line => format!("line {line}: {}", part_text(part)),
        };
        lines.push(("Not enforced", text));
    }
    lines.extend(
        policy
            .workloads
            .iter()
            .map(|workload| ("Workload", workload.clone())),
    );
    let mut text = String::new();
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{:<14}{}\n", format!("{name}:"), printable(value)));
    }
    text
}
