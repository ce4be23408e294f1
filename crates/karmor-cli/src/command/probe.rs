//! `karmor probe`.

mod gather;
mod report;
mod text;

use self::report::Enforcement;
use crate::{
    connect::ConnectArgs,
    error::{CommandError, CommandResult},
    exit::Exit,
    ui::Ui,
};

/// Show what this machine can enforce, and what it enforces
///
/// Asks the daemon when it runs. Otherwise looks at what can be seen without it; as root, and with
/// karmor-enforcer installed, that includes loading its programs for real. Exits with 5 when nothing
/// can be enforced.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How to print it
    #[arg(
        long,
        short,
        value_enum,
        default_value_t,
        alias = "format",
        short_alias = 'f'
    )]
    output: Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
    /// Text without colour, as older versions called it
    #[value(hide = true)]
    NoColor,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let report = gather::gather(ui, &self.connect)?;
        match self.output {
            Output::Json => ui.json(&report)?,
            Output::Text | Output::NoColor => ui.data(&text::text(&report))?,
        }
        if report.enforcement == Enforcement::Impossible {
            Err(CommandError::silent(Exit::NotEnforceable))
        } else {
            Ok(())
        }
    }
}
