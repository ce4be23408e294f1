//! `cargo xtask setup`

use std::process::ExitCode;

use anyhow::Result;

use crate::{cache::Cache, kernel::Series, setup, ui};

/// Set this machine up for everything else here
///
/// Installs Debian packages (asking sudo when not root), builds bpf-linker, and downloads kernels
/// and the VM's files into a cache: $KARMOR_CACHE, else ~/.cache/karmor-dev. Does nothing when
/// nothing is missing. The other commands do this by themselves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only list what is missing and how to get it; exit 1 when something is
    #[arg(long)]
    check: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        if self.check {
            let complete = setup::report(&cache, &Series::ALL)?;
            return Ok(if complete {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        if let Err(error) = setup::ensure(&cache, &Series::ALL) {
            // Whatever went wrong, the way to do it by hand is of use.
            setup::report(&cache, &Series::ALL)?;
            return Err(error);
        }
        ui::status("everything is there");
        Ok(ExitCode::SUCCESS)
    }
}
