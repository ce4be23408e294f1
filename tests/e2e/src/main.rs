//! Runs the cases, in the VM: `karmor-e2e [FILTER] [--list]`, with libtest's arguments.

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::Result;
use karmor_e2e::{
    cases,
    support::{Guest, KernelVersion, Place, note},
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
    let trials = cases::all()
        .into_iter()
        .map(|case| {
            let guest = Arc::clone(&guest);
            Trial::test(case.full_name(), move || {
                (case.run)(&guest).map_err(|error| {
                    let error = format!("{error:#}");
                    // At once too: what failed first often explains the rest, minutes later.
                    note(&error);
                    error.into()
                })
            })
            .with_ignored_flag(case.since > kernel)
        })
        .collect();
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
