//! Runs the cases, in the VM: `karmor-e2e [FILTER] [--list]`, with libtest's arguments; the filter may
//! be several texts, divided by commas.

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use karmor_e2e::{
    cases,
    support::{Guest, KernelVersion, Place, full, note},
};
use libtest_mimic::{Arguments, Trial};

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    // One kernel, one enforcer: cases would see each other.
    arguments.test_threads = Some(1);
    // Cases start daemons in the system's own places and load programs into its kernel.
    anyhow::ensure!(
        arguments.list || Path::new("/karmor/order.json").exists(),
        "only runs in the project's VM: cargo xtask test"
    );
    let kernel = KernelVersion::running()?;
    let guest = Arc::new(Guest::new(Place::system()));
    let times = Arc::new(Mutex::new(Vec::new()));
    if full() {
        note("everything runs here, and all of it");
    } else {
        note(
            "long cases, and those about the daemon alone, run on the oldest kernel; KARMOR_FULL=1 runs all everywhere",
        );
    }
    // libtest takes one text.
    let filter = arguments.filter.take().unwrap_or_default();
    let is_wanted = |name: &str| filter.split(',').any(|text| name.contains(text));
    let trials = cases::of(kernel, full())
        .into_iter()
        .filter(|case| is_wanted(&case.full_name()))
        .map(|case| {
            let (guest, times) = (Arc::clone(&guest), Arc::clone(&times));
            Trial::test(case.full_name(), move || {
                let started = Instant::now();
                let outcome = (case.run)(&guest);
                times
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((started.elapsed(), case.name));
                outcome.map_err(|error| {
                    let error = format!("{error:#}");
                    // At once too: what failed first often explains the rest, minutes later.
                    note(&error);
                    error.into()
                })
            })
            .with_ignored_flag(case.since > kernel)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    tell_slowest(&times.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(conclusion.exit_code())
}

/// Names the cases that took most of the time, for whoever wants the run to be shorter.
fn tell_slowest(times: &[(Duration, &str)]) {
    const NAMED: usize = 12;
    let mut times = times.to_vec();
    times.sort_unstable();
    let slowest: Vec<String> = times
        .iter()
        .rev()
        .take(NAMED)
        .map(|(time, name)| format!("{name} {:.0} s", time.as_secs_f64()))
        .collect();
    note(&format!("slowest: {}", slowest.join(", ")));
}
