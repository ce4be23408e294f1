//! `karmor man`.

use std::io;

use clap_mangen::Man;

use crate::{cli, error::CommandResult, ui::Ui};

/// Print the manual page of karmor
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        ui.data(&page(cli::tree())?)
    }
}

/// The page of one command.
pub(super) fn page(command: clap::Command) -> io::Result<String> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
