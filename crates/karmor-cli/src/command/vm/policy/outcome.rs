//! What became of policies, told.

use karmor_proto::karmor::v1::{Diagnostic, Enforcement, Outcome, PolicyResult};

use super::{enforcement_word, title};
use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
    render::text::{count, printable, printable_lines},
    ui::Ui,
};

/// How to print it.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(super) enum Output {
    /// A line a policy
    #[default]
    Text,
    /// A JSON array
    Json,
}

/// Prints results, and fails unless each is what was asked for.
pub(super) fn report(ui: &mut Ui, output: Output, results: &[PolicyResult]) -> CommandResult {
    match output {
        Output::Json => ui.json(&results)?,
        Output::Text => texts(ui, results)?,
    }
    judge(results)
}

/// Prints results for people.
pub(super) fn texts(ui: &mut Ui, results: &[PolicyResult]) -> CommandResult {
    results.iter().try_for_each(|result| text(ui, result))
}

/// Fails unless each is what was asked for.
pub(super) fn judge(results: &[PolicyResult]) -> CommandResult {
    if results.iter().all(is_as_asked) {
        Ok(())
    } else {
        Err(CommandError::silent(Exit::NotApplied))
    }
}

/// Shows the problems that the daemon found in a text, unless as many have been shown already: they
/// are the same when it is of this version.
pub(super) fn problems(ui: &mut Ui, found: &[Diagnostic], shown: usize, rendered: &str) {
    if found.len() > shown {
        ui.note(&printable_lines(rendered));
    }
}

/// Whether the policy is wholly in force, or gone. One that waits for its workloads is in force.
fn is_as_asked(result: &PolicyResult) -> bool {
    match result.outcome() {
        Outcome::Deleted | Outcome::Confirmed | Outcome::Reverted => true,
        Outcome::Applied | Outcome::Modified | Outcome::Unchanged => {
            matches!(result.enforcement(), Enforcement::Full | Enforcement::Idle)
        }
        Outcome::Unspecified
        | Outcome::NotFound
        | Outcome::Invalid
        | Outcome::NotEnabled
        | Outcome::Failed => false,
    }
}

/// The line users know. "Applied" is said of nothing that does not block.
fn word(result: &PolicyResult) -> &'static str {
    match (result.outcome(), result.enforcement()) {
        (Outcome::Applied | Outcome::Modified | Outcome::Unchanged, Enforcement::None) => {
            "Policy Not Enforced"
        }
        (Outcome::Applied | Outcome::Modified | Outcome::Unchanged, Enforcement::Partial) => {
            "Policy Partly Enforced"
        }
        (Outcome::Applied, _) => "Policy Applied",
        (Outcome::Modified, _) => "Policy Modified",
        (Outcome::Unchanged, _) => "Policy Unchanged",
        (Outcome::Deleted, _) => "Policy Deleted",
        (Outcome::Confirmed, _) => "Policy Confirmed",
        (Outcome::Reverted, _) => "Policy Reverted",
        (Outcome::NotFound, _) => "Policy NotExist",
        (Outcome::Invalid, _) => "Policy Invalid",
        (Outcome::NotEnabled, _) => "Policy NotEnabled",
        (Outcome::Failed | Outcome::Unspecified, _) => "Policy Failure",
    }
}

/// The known line is the data; which policy it is about and why go beside it.
fn text(ui: &mut Ui, result: &PolicyResult) -> CommandResult {
    let name = title(&result.policy.clone().unwrap_or_default());
    let name = printable(&name);
    let is_gone = match result.outcome() {
        Outcome::Deleted => true,
        // There was none before.
        Outcome::Reverted => result.enforcement() == Enforcement::Unspecified,
        _ => false,
    };
    if is_as_asked(result) && !is_gone {
        ui.status(format_args!(
            "{name}: {}, applies to {}",
            enforcement_word(result.enforcement()),
            count(result.workloads as usize, "workload", "workloads")
        ));
    } else if !result.message.is_empty() {
        ui.warning(format_args!("{name}: {}", printable(&result.message)));
    } else {
        ui.status(&name);
    }
    for part in &result.not_enforced {
        if part.field.is_empty() {
            ui.warning(format_args!("{name}: {}", printable(&part.why)));
            continue;
        }
        ui.warning(format_args!(
            "{name}: line {}: {} is not enforced: {}",
            part.line,
            printable(&part.field),
            printable(&part.why)
        ));
    }
    ui.data(&format!("{}\n", word(result)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applied_is_not_said_of_what_does_not_block() {
        let of = |outcome: Outcome, enforcement: Enforcement| {
            let result = PolicyResult {
                outcome: outcome.into(),
                enforcement: enforcement.into(),
                ..PolicyResult::default()
            };
            (word(&result), is_as_asked(&result))
        };
        assert_eq!(
            of(Outcome::Applied, Enforcement::Full),
            ("Policy Applied", true)
        );
        assert_eq!(
            of(Outcome::Applied, Enforcement::Idle),
            ("Policy Applied", true)
        );
        assert_eq!(
            of(Outcome::Modified, Enforcement::None),
            ("Policy Not Enforced", false)
        );
        assert_eq!(
            of(Outcome::Unchanged, Enforcement::Partial),
            ("Policy Partly Enforced", false)
        );
        assert_eq!(
            of(Outcome::NotFound, Enforcement::Unspecified),
            ("Policy NotExist", false)
        );
    }
}
