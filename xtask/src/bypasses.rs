//! `docs/bypasses.md`: what was tried to get round a policy, and what came of it.
//!
//! ```text
//! rows: technique, what protects, its cases ──┐
//! results of the VM tests, kernel by kernel ──┴─▶ docs/bypasses.md
//! ```
//!
//! A technique counts as stopped on a kernel when every case that tries it passed there in the run
//! that wrote the file. A full run of the tests fails when the file says something else.

mod rows;

use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context as _, Result, ensure};

use self::rows::{OPEN, Row, STOPPED};
use crate::{cache, kernel::Series, steps::Outcome};

/// Where the file is, from the root of the repository.
const PATH: &str = "docs/bypasses.md";

/// Outcomes of cases: their names without the kernel they begin with, and whether they passed.
pub(crate) type Results = BTreeMap<String, bool>;

/// Reads the outcomes from what the tests printed.
pub(crate) fn results(log: &str) -> Results {
    log.lines()
        .filter_map(|line| {
            let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
            // `k6_1_name`
            let name = name.trim().strip_prefix('k')?.splitn(3, '_').nth(2)?;
            Some((name.to_owned(), outcome.trim() == "ok"))
        })
        .collect()
}

/// Holds the file against what came of a full run, and writes it anew when it says something else.
pub(crate) fn check(runs: &BTreeMap<Series, Results>) -> Result<Outcome> {
    if runs.len() < Series::ALL.len() {
        let ran = runs.len();
        return Ok(Outcome::Skipped(format!(
            "needs the results of {} kernels, and there are {ran}",
            Series::ALL.len()
        )));
    }
    let text = render(runs)?;
    let path = cache::repository().join(PATH);
    let old = fs::read_to_string(&path).unwrap_or_default();
    if old == text {
        return Ok(Outcome::Done(String::new()));
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    ensure!(
        false,
        "{PATH} did not say what came of this run; it does now: read it and commit it"
    );
    Ok(Outcome::Done(String::new()))
}

fn render(runs: &BTreeMap<Series, Results>) -> Result<String> {
    let mut text = String::from(HEAD);
    let kernels: Vec<String> = runs.keys().map(ToString::to_string).collect();
    let rule = "|---".repeat(kernels.len());
    writeln!(
        text,
        "| technique | what protects | {} | tried by |\n|---|---{rule}|---|",
        kernels.join(" | ")
    )?;
    for row in STOPPED {
        for case in row.cases {
            let is_tried = runs.values().any(|results| results.contains_key(*case));
            ensure!(is_tried, "no case is named {case}");
        }
        let outcomes: Vec<&str> = runs.values().map(|results| outcome(row, results)).collect();
        let cases: Vec<String> = row.cases.iter().map(|case| format!("`{case}`")).collect();
        writeln!(
            text,
            "| {} | {} | {} | {} |",
            row.technique,
            row.protects,
            outcomes.join(" | "),
            cases.join(", ")
        )?;
    }
    text.push_str(OPEN_HEAD);
    for row in OPEN {
        writeln!(text, "| {} | {} | {} |", row.technique, row.why, row.helps)?;
    }
    Ok(text)
}

/// What came of a row on a kernel.
fn outcome(row: &Row, results: &Results) -> &'static str {
    let tried: Vec<bool> = row
        .cases
        .iter()
        .filter_map(|case| results.get(*case).copied())
        .collect();
    if tried.contains(&false) {
        "NOT stopped"
    } else if tried.is_empty() {
        "not tried"
    } else if tried.len() < row.cases.len() {
        "stopped, as far as tried"
    } else {
        "stopped"
    }
}

const HEAD: &str = "\
# Ways round a policy, tried

<!-- Written by `cargo xtask test` from its results; do not edit. -->

Each technique is tried as root, on each kernel, by a case of `tests/e2e/src/cases`: round presets and
rules about files, programs, arguments, sockets, addresses and queries in an ordinary container, where
that may do it at all, and in a privileged one, else in the one that can. A case passes when the technique
works without the policy, is refused with it, leaves an alert with the policy's name, and its twins, the
same on something no rule names, are not refused. What takes long is tried on the oldest kernel alone, and
where that is one of several cases, the others say: as far as tried. `KARMOR_FULL=1 cargo xtask test` tries
everything on each.

Exceptions:

- What is refused because no list names it, or because it has no path that a rule could name, is told of
  as `DefaultPosture`; what protects the enforcer, and what the kernel executes, as `SelfProtection`.
- Refusals by the thousand (flooding, preemption, killing the daemon, changing policies) come from an
  ordinary container whose policy is there from the beginning. They are counted. While events flood, and
  while hooks are preempted or policies change, so are their events; of the others at most one alert is
  read.
- In the privileged container, descriptors from before the policy are tried in four ways of using them,
  queries only over UDP, and not again whether an answer comes to its end.
- Unmounting the file system of the enforcer's pins is only tried where it is refused.

";

const OPEN_HEAD: &str = "
## Not stopped

The ways that matter most. All that we know of are in
[SECURITY.md](../SECURITY.md#known-ways-round), which also says against whom policies hold at all.

| technique | why | what helps |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    fn all(passed: bool) -> Results {
        let cases = STOPPED.iter().flat_map(|row| row.cases);
        cases.map(|&case| (case.to_owned(), passed)).collect()
    }

    #[test]
    fn results_are_read_from_what_libtest_prints() {
        let log = "running 2 tests\ntest k6_1_escape_by_rename   ... ok\n\
                   test k6_12_alerts_come ... FAILED\nnoise\n";
        let read = results(log);
        assert_eq!(read.get("escape_by_rename"), Some(&true));
        assert_eq!(read.get("alerts_come"), Some(&false));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_case_that_failed_anywhere_is_not_stopped_there() {
        let mut runs: BTreeMap<_, _> = Series::ALL.map(|series| (series, all(true))).into();
        let first = *STOPPED[0].cases.first().expect("a row has a case");
        let results = runs.get_mut(&Series::ALL[0]).expect("a run a kernel");
        results.insert(first.to_owned(), false);
        let text = render(&runs).expect("every case has a result");
        assert!(text.contains("NOT stopped | stopped | stopped"), "{text}");
    }

    #[test]
    fn what_was_not_tried_is_not_said_to_be_stopped() {
        let row = Row {
            technique: "",
            protects: "",
            cases: &["one", "other"],
        };
        for (results, said) in [
            (&[][..], "not tried"),
            (&[("one", true)], "stopped, as far as tried"),
            (&[("one", false)], "NOT stopped"),
            (&[("one", true), ("other", true)], "stopped"),
            (&[("one", true), ("other", false)], "NOT stopped"),
        ] {
            let results = results.iter().map(|&(case, ok)| (case.to_owned(), ok));
            assert_eq!(outcome(&row, &results.collect()), said);
        }
    }

    /// A run that would have to write the file anew says so only at its end.
    #[test]
    fn the_file_has_every_row_and_nothing_else() {
        let runs = Series::ALL.map(|series| (series, all(true))).into();
        let text = render(&runs).expect("every case has a result");
        let file = fs::read_to_string(cache::repository().join(PATH)).expect("the file is there");
        let rows = |text: &str| -> Vec<String> {
            text.lines()
                .map(|line| {
                    line.replace("NOT stopped", "stopped")
                        .replace("not tried", "stopped")
                        .replace("stopped, as far as tried", "stopped")
                })
                .collect()
        };
        assert_eq!(rows(&file), rows(&text), "`cargo xtask test` writes {PATH}");
    }

    #[test]
    fn a_row_whose_case_did_not_run_is_an_error() {
        let runs = Series::ALL.map(|series| (series, Results::new())).into();
        assert!(render(&runs).is_err());
    }
}
