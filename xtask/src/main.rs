//! The project's chores, run as `cargo xtask COMMAND`.
//!
//! ```text
//! commands/   one file per command
//! bypasses    docs/bypasses.md, from the results of the VM tests
//! setup/      what a machine must have, and getting it
//! debian      packages through a private apt state
//! kernel      Debian's kernels, unpacked
//! tree        file trees → initramfs, image layers
//! guest/      what the VM boots into: base + layer
//! machine/    QEMU, its serial ports, its end
//! ```

mod bypasses;
mod cache;
mod commands;
mod debian;
mod guest;
mod kernel;
mod machine;
mod programs;
mod setup;
mod shell;
mod steps;
mod tree;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            ui::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
