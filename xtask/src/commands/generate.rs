//! `cargo xtask generate`

use std::process::ExitCode;

use anyhow::Result;

use crate::{cache::Cache, generated, ui};

/// Write the files that come from our own programs: deploy/crds and completions
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; list what is out of date and exit 1
    #[arg(long)]
    check: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        if !self.check {
            generated::write(&cache)?;
            return Ok(ExitCode::SUCCESS);
        }
        let stale = generated::stale(&cache)?;
        for path in &stale {
            ui::line(&path.display().to_string());
        }
        Ok(if stale.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
