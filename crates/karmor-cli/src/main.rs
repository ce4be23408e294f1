//! `karmor`, the command line.
//!
//! ```text
//! argv ──cli──▶ command::* ──connect──▶ daemon
//!                  │    └───policy_file──▶ karmor-policy
//!                  ▼
//!               render ──▶ ui (stdout: data, stderr: the rest)      errors ──▶ exit code, once
//! ```

#![forbid(unsafe_code)]

mod cli;
mod command;
mod connect;
mod error;
mod exit;
mod node;
mod policy_file;
mod render;
mod ui;

use std::process::ExitCode;

use crate::{exit::Exit, ui::Ui};

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        // Help and version end up here as well.
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            // A closed pipe is all that can fail, and nobody is left to tell.
            let _ = error.print();
            return exit.into();
        }
    };
    let mut ui = Ui::new(cli.global.color, cli.global.quiet);
    match cli.command.run(&mut ui) {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            ui.error(&error);
            error.exit.into()
        }
    }
}
