//! `docs/bypasses.md`: what was tried to get round a policy, and what came of it.
//!
//! ```text
//! rows: technique, what protects, its cases ──┐
//! results of the VM tests, kernel by kernel ──┴─▶ docs/bypasses.md
//! ```
//!
//! A technique counts as stopped on a kernel when every case that tries it passed there in the run
//! that wrote the file, and is said to be so by part when not all of them ran. A run of all tests fails
//! when the file says something else, whether cases failed or not. A run with everything on every kernel
//! says nothing of the file: it is about what every run shows.

mod rows;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

use self::rows::{OPEN, Row, STOPPED};
use crate::{cache, kernel::Series, steps::Outcome};

/// Where the file is, from the root of the repository.
const PATH: &str = "docs/bypasses.md";

/// Outcomes of cases: their names without the kernel they begin with, and whether they passed.
pub(crate) type Results = BTreeMap<String, bool>;

/// Reads the outcomes from what the tests printed; none if they did not come to their end, so that
/// what was still to come does not count as what is not tried there.
pub(crate) fn results(log: &str) -> Option<Results> {
    let is_whole = log.lines().any(|line| line.starts_with("test result: "));
    is_whole.then(|| outcomes(log))
}

fn outcomes(log: &str) -> Results {
    log.lines()
        .filter_map(|line| {
            let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
            // `k6_1_name`
            let name = name.trim().strip_prefix('k')?.splitn(3, '_').nth(2)?;
            Some((name.to_owned(), outcome.trim() == "ok"))
        })
        .collect()
}

/// Holds the file against what came of a run of all tests, and writes it anew when it says something
/// else.
pub(crate) fn check(runs: &BTreeMap<Series, Results>, is_full: bool) -> Result<Outcome> {
    if is_full {
        return Ok(Outcome::Skipped(
            "states what comes of a run without KARMOR_FULL".to_owned(),
        ));
    }
    if runs.len() < Series::ALL.len() {
        let ran = runs.len();
        return Ok(Outcome::Skipped(format!(
            "needs the results of {} kernels, and there are {ran}",
            Series::ALL.len()
        )));
    }
    write(&cache::repository().join(PATH), &render(runs)?)
}

/// Writes the file, which is an error unless it says the same already.
fn write(path: &Path, text: &str) -> Result<Outcome> {
    let old = fs::read_to_string(path).unwrap_or_default();
    if old == text {
        return Ok(Outcome::Done(String::new()));
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    bail!("{PATH} did not say what came of this run; it does now: read it and commit it")
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
        let outcomes: Vec<String> = runs.values().map(|results| outcome(row, results)).collect();
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

/// What came of a row on a kernel, and of how many of its cases, unless that is all. A case that is
/// tried nowhere is a mistake.
fn outcome(row: &Row, results: &Results) -> String {
    let cases = row.cases.iter();
    let tried: Vec<bool> = cases
        .filter_map(|case| results.get(*case).copied())
        .collect();
    if tried.is_empty() {
        return "not tried".to_owned();
    }
    let is_stopped = tried.iter().all(|passed| *passed);
    let word = if is_stopped { "stopped" } else { "NOT stopped" };
    match (tried.len(), row.cases.len()) {
        (some, all) if some < all => format!("{word} ({some} of {all} tried)"),
        _ => word.to_owned(),
    }
}

const HEAD: &str = "\
# Ways round a policy, tried

<!-- Written by `cargo xtask test` from its results; do not edit. -->

Each technique is tried as root, on each kernel, by a case of `tests/e2e/src/cases`: round presets and
rules about files, programs, arguments, sockets, addresses and queries in an ordinary container, where
that may do it at all, and in a privileged one, else in the one that can. A case passes when the technique
works without the policy, is refused with it, leaves an alert with the policy's name, and its twins, the
same on something no rule names, are not refused. What takes long is tried on the oldest kernel alone.
`KARMOR_FULL=1 cargo xtask test` tries everything on each; what is written here comes of a run without.
Where only some cases of a line are tried on a kernel, it says how many.

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
    use karmor_e2e::{cases, support::KernelVersion};

    use super::*;

    fn all(passed: bool) -> Results {
        let cases = STOPPED.iter().flat_map(|row| row.cases);
        cases.map(|&case| (case.to_owned(), passed)).collect()
    }

    /// What comes of a run without `KARMOR_FULL` in which nothing fails.
    fn passed(series: Series) -> Results {
        let kernel: KernelVersion = series.to_string().parse().expect("a version");
        let cases = cases::of(kernel, false).into_iter();
        let run = cases.filter(|case| case.since <= kernel);
        run.map(|case| (case.name.to_owned(), true)).collect()
    }

    #[test]
    fn results_are_read_from_what_libtest_prints() {
        let log = "running 2 tests\ntest k6_1_escape_by_rename   ... ok\n\
                   test k6_12_alerts_come ... FAILED\nnoise\n\
                   test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let read = results(log).expect("it came to its end");
        assert_eq!(read.get("escape_by_rename"), Some(&true));
        assert_eq!(read.get("alerts_come"), Some(&false));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_run_that_was_cut_off_has_no_results() {
        let log = "running 2 tests\ntest k6_1_escape_by_rename   ... ok\n";
        assert_eq!(results(log), None);
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
    fn a_row_of_which_some_cases_ran_says_how_many() {
        let row = Row {
            technique: "",
            protects: "",
            cases: &["one", "two", "three"],
        };
        let of = |results: &[(&str, bool)]| {
            let results = results
                .iter()
                .map(|&(case, passed)| (case.to_owned(), passed));
            outcome(&row, &results.collect())
        };
        assert_eq!(of(&[]), "not tried");
        assert_eq!(of(&[("two", true)]), "stopped (1 of 3 tried)");
        let half = [("one", true), ("three", false)];
        assert_eq!(of(&half), "NOT stopped (2 of 3 tried)");
        let whole = [("one", true), ("two", true), ("three", true)];
        assert_eq!(of(&whole), "stopped");
    }

    /// A run that would have to write the file anew says so only at its end. Whether something was not
    /// stopped is for such a run to say.
    #[test]
    fn the_file_says_what_comes_of_a_run() {
        let runs = Series::ALL.map(|series| (series, passed(series))).into();
        let text = render(&runs).expect("every case has a result");
        let file = fs::read_to_string(cache::repository().join(PATH)).expect("the file is there");
        let file = file.replace("| NOT stopped ", "| stopped ");
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        assert_eq!(
            lines(&file),
            lines(&text),
            "`cargo xtask test` writes {PATH}"
        );
    }

    #[test]
    fn a_file_that_says_something_else_is_written_and_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("bypasses.md");
        assert!(write(&path, "NOT stopped").is_err());
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text, "NOT stopped");
        assert!(write(&path, "NOT stopped").is_ok());
    }

    #[test]
    fn a_row_whose_case_did_not_run_is_an_error() {
        let runs = Series::ALL.map(|series| (series, Results::new())).into();
        assert!(render(&runs).is_err());
    }

    #[test]
    fn a_run_of_everything_leaves_the_file_alone() {
        let runs = Series::ALL.map(|series| (series, all(false))).into();
        let outcome = check(&runs, true).expect("nothing is compared");
        assert!(matches!(outcome, Outcome::Skipped(_)));
    }
}
