//! The operations of `cargo xtask bench`.
//!
//! ```text
//! run      in the VM: a container, perhaps the enforcer with a policy; rows to $KARMOR_DATA
//! measure  in that container: nanoseconds per operation, as JSON lines on stdout
//! daemon   in the VM: the daemon beside idle containers; rows to $KARMOR_DATA
//! ```
//! Under `-icount` with one nanosecond per instruction, nanoseconds are instructions.

mod daemon;
mod measure;
mod policy;
mod run;

use std::{env, fs::File, io::Write as _};

use anyhow::{Context as _, Result};
use clap::Parser;

/// Measure what single operations cost
#[derive(Debug, Parser)]
enum Args {
    Daemon(daemon::Args),
    Measure(measure::Args),
    /// End at once, for who measures that
    Nothing,
    Run(run::Args),
}

fn main() -> Result<()> {
    match Args::parse() {
        Args::Daemon(args) => args.run(),
        Args::Measure(args) => args.run(),
        Args::Nothing => Ok(()),
        Args::Run(args) => args.run(),
    }
}

/// Sends rows out of the VM.
fn send(rows: &str) -> Result<()> {
    let data = env::var("KARMOR_DATA").context("KARMOR_DATA names the data port")?;
    let mut port = File::options()
        .append(true)
        .open(&data)
        .with_context(|| format!("cannot open {data}"))?;
    port.write_all(rows.as_bytes())
        .with_context(|| format!("cannot write to {data}"))
}
