//! `karmor completion`.

use clap_complete::{Shell, generate};

use crate::{cli, error::CommandResult, ui::Ui};

/// Print the completion script of a shell
///
/// For example, for bash: karmor completion bash > /etc/bash_completion.d/karmor
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        ui.data(&script(self.shell))
    }
}

/// The script.
pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut cli::tree(), "karmor", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
