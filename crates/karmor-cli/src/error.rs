//! Why a command failed, and what the user can do about it.

use std::{fmt::Write as _, io};

use crate::exit::Exit;

/// The one error type of commands; turned into text in one place, [`crate::main`].
#[derive(Debug)]
pub(crate) struct CommandError {
    /// Exit code.
    pub(crate) exit: Exit,
    /// What went wrong; `None` when everything has been said already.
    source: Option<anyhow::Error>,
    /// What to do about it.
    hints: Vec<String>,
}

/// What commands return.
pub(crate) type CommandResult<T = ()> = Result<T, CommandError>;

impl CommandError {
    /// An error with its exit code.
    pub(crate) fn new(exit: Exit, source: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            source: Some(source.into()),
            hints: Vec::new(),
        }
    }

    /// An error from a message.
    pub(crate) fn message(exit: Exit, message: impl Into<String>) -> Self {
        Self::new(exit, anyhow::Error::msg(message.into()))
    }

    /// An exit code whose reason the output has told.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self {
            exit,
            source: None,
            hints: Vec::new(),
        }
    }

    /// Adds what the user can do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The error as text: each cause after a colon, causes that repeat their effect left out.
    pub(crate) fn text(&self) -> Option<String> {
        let source = self.source.as_ref()?;
        let mut text = String::new();
        for cause in source.chain() {
            let cause = cause.to_string();
            if text.contains(&cause) {
                continue;
            }
            let separator = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{cause}");
        }
        Some(text)
    }

    /// What the user can do, one sentence each.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl From<io::Error> for CommandError {
    /// Errors of writing the output. A reader that has gone away, such as `head`, is not one.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::silent(Exit::Success)
        } else {
            Self::new(
                Exit::Failed,
                anyhow::Error::new(error).context("cannot write the output"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_and_repetitions_do_not() {
        let error = anyhow::anyhow!("no such file").context("cannot read a.yaml: no such file");
        let error = CommandError::new(Exit::Failed, error.context("cannot start"));
        assert_eq!(
            error.text().as_deref(),
            Some("cannot start: cannot read a.yaml: no such file")
        );
    }

    #[test]
    fn a_closed_pipe_is_quiet() {
        let error = CommandError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((error.exit, error.text()), (Exit::Success, None));
    }
}
