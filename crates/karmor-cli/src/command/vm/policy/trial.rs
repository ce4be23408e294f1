//! Policies on trial.

use std::time::Duration;

use karmor_proto::karmor::v1::{
    PolicyResult, PolicyText, SettleTrialRequest, Trial, TryPoliciesRequest, Verdict,
};
use serde::Serialize;
use tonic::Code;

use super::outcome;
use crate::{
    connect::{CHANGE, ConnectArgs, block_on, call_failed, control, within as patient},
    error::{CommandError, CommandResult},
    exit::Exit,
    policy_file::PolicyFile,
    render::text::printable,
    ui::Ui,
};

/// What the daemon takes.
const SECONDS: std::ops::RangeInclusive<u64> = 5..=24 * 60 * 60;

/// What became of policies that went on trial, as JSON.
#[derive(Serialize)]
struct Begun<'a> {
    results: &'a [PolicyResult],
    /// `null` when nothing waits to be confirmed.
    trial: Option<&'a Trial>,
}

/// Which trial is to end, and how to say what became of it.
#[derive(clap::Args, Debug)]
pub(super) struct SettleArgs {
    /// The trial, as `karmor vm policy add` printed it
    ///
    /// May be left out when there is only one.
    token: Option<String>,

    /// How to print what became of them
    #[arg(long, short, value_enum, default_value_t)]
    output: outcome::Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// A time as users write it: `90s`, `5m`, `1h30m`.
pub(super) fn within(text: &str) -> Result<Duration, String> {
    const FORM: &str = "a time is written as 60s, 5m or 1h30m";
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(|| format!("its unit is missing; {FORM}"))?;
        let (number, behind) = rest.split_at(end);
        let mut unit = behind.chars();
        let factor = match unit.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 60 * 60,
            _ => return Err(FORM.to_owned()),
        };
        let number: u64 = number.parse().map_err(|_no_number| FORM.to_owned())?;
        seconds = seconds.saturating_add(number.saturating_mul(factor));
        rest = unit.as_str();
    }
    if SECONDS.contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("allowed are 5s to 24h".to_owned())
    }
}

/// Applies policies until somebody confirms them or the time is over.
pub(super) fn begin(
    ui: &mut Ui,
    connect: &ConnectArgs,
    output: outcome::Output,
    files: Vec<PolicyFile>,
    time: Duration,
) -> CommandResult {
    let shown = files.iter().map(|file| file.report.diagnostics.len()).sum();
    let text = |file: PolicyFile| PolicyText {
        text: file.text,
        file_name: file.name,
    };
    let request = TryPoliciesRequest {
        texts: files.into_iter().map(text).collect(),
        confirm_within_seconds: u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
    };
    let address = connect.address()?;
    let answer = block_on(async {
        let mut client = control(&address).await?;
        let answer = client.try_policies(patient(CHANGE, request)).await;
        answer.map_err(|status| call_failed(&address, &status))
    })?
    .into_inner();
    outcome::problems(ui, &answer.diagnostics, shown, &answer.rendered);
    let (results, trial) = (&answer.results, answer.trial.as_ref());
    match output {
        outcome::Output::Json => ui.json(&Begun { results, trial })?,
        outcome::Output::Text => outcome::texts(ui, results)?,
    }
    match trial {
        Some(trial) => {
            let token = printable(&trial.token);
            ui.warning(format_args!(
                "trial {token}: taken back at {} ({} from now) unless confirmed",
                printable(&trial.until),
                duration(trial.seconds_left)
            ));
            ui.hint(format_args!(
                "`karmor vm policy confirm {token}` keeps what was applied, `karmor vm policy \
                 revert {token}` takes it back at once"
            ));
        }
        None if outcome::judge(results).is_ok() => {
            ui.status("all is as it was: there is nothing to confirm");
        }
        None => {}
    }
    outcome::judge(results)
}

/// Ends a trial and prints what became of its policies.
pub(super) fn settle(ui: &mut Ui, args: SettleArgs, verdict: Verdict) -> CommandResult {
    let address = args.connect.address()?;
    let request = SettleTrialRequest {
        token: args.token.unwrap_or_default(),
        verdict: verdict.into(),
    };
    let answer = block_on(async {
        let mut client = control(&address).await?;
        let answer = client.settle_trial(patient(CHANGE, request)).await;
        answer.map_err(|status| match status.code() {
            Code::NotFound => {
                CommandError::message(Exit::NotApplied, printable(status.message()).into_owned())
                    .hint("`karmor vm policy list` shows what is in force, and what is on trial")
            }
            _ => call_failed(&address, &status),
        })
    })?;
    outcome::report(ui, args.output, &answer.into_inner().results)
}

/// A policy's trial, in a line.
pub(super) fn remark(trial: &Trial) -> String {
    if trial.seconds_left == 0 {
        return format!("on trial {}, whose time is over", trial.token);
    }
    format!(
        "on trial {}, taken back in {} unless confirmed",
        trial.token,
        duration(trial.seconds_left)
    )
}

/// `1h 30m 5s`, without what is zero.
fn duration(seconds: u32) -> String {
    let parts = [
        (seconds / 3600, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let parts = parts.into_iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> = parts.map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_bounds() {
        let seconds = |text| within(text).map(|time| time.as_secs());
        assert_eq!(seconds("5s"), Ok(5));
        assert_eq!(seconds("60s"), Ok(60));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("24h"), Ok(86_400));
        for outside in [
            "",
            "0s",
            "4s",
            "24h1s",
            "99999999999999999999h",
            "9999999999999999h",
        ] {
            assert!(seconds(outside).is_err(), "{outside}");
        }
        assert!(
            seconds("60")
                .unwrap_err()
                .starts_with("its unit is missing")
        );
        for bad in ["s", "1d", "-5s", "1 m", "5ss"] {
            assert!(seconds(bad).unwrap_err().contains("60s, 5m"), "{bad}");
        }
    }

    #[test]
    fn durations_leave_out_what_is_zero() {
        assert_eq!(duration(60), "1m");
        assert_eq!(duration(5405), "1h 30m 5s");
        assert_eq!(duration(0), "0s");
    }
}
