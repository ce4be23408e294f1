//! Where events are written.

use std::{
    convert::Infallible,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    str::FromStr,
};

use anyhow::Context as _;

use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
    ui::Ui,
};

/// Alerts tell what a machine does: they are for the owner of the file alone.
const MODE: u32 = 0o600;

/// A place to write to, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    Stdout,
    None,
    File(PathBuf),
}

impl FromStr for Sink {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "stdout" => Self::Stdout,
            "none" => Self::None,
            path => Self::File(path.into()),
        })
    }
}

/// A place that can be written to.
pub(super) enum Open {
    Stdout,
    None,
    File(File, PathBuf),
}

impl Sink {
    /// Opens it, once.
    pub(super) fn open(&self) -> CommandResult<Open> {
        match self {
            Self::Stdout => Ok(Open::Stdout),
            Self::None => Ok(Open::None),
            Self::File(path) => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(MODE)
                    .open(path)
                    .with_context(|| format!("cannot write to {}", path.display()))
                    .map_err(|error| CommandError::new(Exit::Failed, error))?;
                Ok(Open::File(file, path.clone()))
            }
        }
    }
}

impl Open {
    /// Writes one event.
    pub(super) fn write(&mut self, ui: &mut Ui, text: &str) -> CommandResult {
        match self {
            Self::Stdout => ui.data(text),
            Self::None => Ok(()),
            Self::File(file, path) => file
                .write_all(text.as_bytes())
                .with_context(|| format!("cannot write to {}", path.display()))
                .map_err(|error| CommandError::new(Exit::Failed, error)),
        }
    }
}
