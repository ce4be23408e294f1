//! The operations of `cargo xtask bench`.
//!
//! ```text
//! run      in the VM: a container, perhaps the enforcer with a policy; rows to $KARMOR_DATA
//! measure  in that container: nanoseconds per operation, as JSON lines on stdout
//! ```
//! Under `-icount` with one nanosecond per instruction, nanoseconds are instructions.

mod measure;
mod policy;
mod run;

use anyhow::Result;
use clap::Parser;

/// Measure what single operations cost
#[derive(Debug, Parser)]
enum Args {
    Measure(measure::Args),
    Run(run::Args),
}

fn main() -> Result<()> {
    match Args::parse() {
        Args::Measure(args) => args.run(),
        Args::Run(args) => args.run(),
    }
}
