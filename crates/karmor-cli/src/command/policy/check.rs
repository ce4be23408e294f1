//! `karmor policy check`.

use std::path::PathBuf;

use karmor_policy::diagnostic::{Diagnostic, Severity, Style};
use serde::Serialize;

use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
    policy_file::{self, PolicyFile},
    render::text::count,
    ui::Ui,
};

/// Check policy files and show all their problems
///
/// Every problem is shown with its place, what is allowed and what was probably meant. Each policy is
/// compiled as the daemon would, alone, since patterns may be too complex, and together with those that
/// by their selectors are for the same workloads or for more, to find rules that never decide and those
/// that contradict each other. Exits with 3 when there is an error, with 1 when the only errors are files that cannot be read; warnings alone are no failure.
/// A file without a policy is an error if it is named, and a warning if it is found in a directory.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files, directories, or - for standard input
    #[arg(value_name = "FILE|DIR|-", required = true, value_hint = clap::ValueHint::AnyPath)]
    files: Vec<PathBuf>,

    /// How to print the result
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// What `-o json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked<'a> {
    valid: bool,
    errors: usize,
    warnings: usize,
    files: Vec<FileView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileView<'a> {
    file: &'a str,
    policies: Vec<PolicyView<'a>>,
    diagnostics: &'a [Diagnostic],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyView<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    line: u32,
    rules: usize,
    not_enforced: Vec<NotEnforcedView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotEnforcedView<'a> {
    field: &'a str,
    why: &'a str,
    line: u32,
    column: u32,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let mut files = policy_file::read_all(&self.files);
        files.iter_mut().for_each(expect_policies);
        policy_file::refuse_uncompilable(&mut files);
        policy_file::lint(&mut files);
        let total = |severity| {
            files
                .iter()
                .map(|file| file.report.count(severity))
                .sum::<usize>()
        };
        let (errors, warnings) = (total(Severity::Error), total(Severity::Warning));
        match self.output {
            Output::Json => ui.json(&Checked {
                valid: errors == 0,
                errors,
                warnings,
                files: files.iter().map(view).collect(),
            })?,
            Output::Text => {
                for file in &files {
                    match &file.unreadable {
                        // There is no text of which to show a part.
                        Some(error) => ui.error(error),
                        None => ui.data(&file.report.render(&file.text, Style::Coloured))?,
                    }
                }
            }
        }
        let policies = files
            .iter()
            .map(|file| file.report.policies.len())
            .sum::<usize>();
        ui.status(format_args!(
            "{} in {}; {}, {}",
            count(policies, "valid policy", "valid policies"),
            count(files.len(), "file", "files"),
            count(errors, "error", "errors"),
            count(warnings, "warning", "warnings"),
        ));
        match files.iter().filter_map(exit).max() {
            None => Ok(()),
            Some(exit) => Err(CommandError::silent(exit)),
        }
    }
}

/// What a file with errors makes of the command.
fn exit(file: &PolicyFile) -> Option<Exit> {
    let unreadable = file.unreadable.as_ref().map(|error| error.exit);
    let invalid = file.report.has_errors().then_some(Exit::PolicyInvalid);
    unreadable.or(invalid)
}

fn view(file: &PolicyFile) -> FileView<'_> {
    let policies = file.report.policies.iter().map(|policy| PolicyView {
        kind: policy.kind.as_str(),
        namespace: &policy.namespace,
        name: &policy.name,
        line: policy.location.line,
        rules: policy.rules.len(),
        not_enforced: policy
            .not_enforced
            .iter()
            .map(|part| NotEnforcedView {
                field: &part.field,
                why: &part.why,
                line: part.location.line,
                column: part.location.column,
            })
            .collect(),
    });
    FileView {
        file: &file.name,
        policies: policies.collect(),
        diagnostics: &file.report.diagnostics,
    }
}

/// Whoever names a file means that there is a policy in it; in a directory there may be others.
fn expect_policies(file: &mut PolicyFile) {
    let report = &mut file.report;
    if file.is_named && report.policies.is_empty() && !report.has_errors() {
        for diagnostic in &mut report.diagnostics {
            diagnostic.severity = Severity::Error;
        }
    }
}
