//! All output. Data goes to stdout, everything said about it to stderr.

use std::{
    fmt::Display,
    io::{self, Write},
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::{CommandError, CommandResult};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<Color> for ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

/// Where output goes.
pub(crate) struct Ui {
    stdout: AutoStream<io::Stdout>,
    stderr: AutoStream<io::Stderr>,
    quiet: bool,
}

impl Ui {
    /// An output with the user's wishes.
    pub(crate) fn new(color: Color, quiet: bool) -> Self {
        Self {
            stdout: AutoStream::new(io::stdout(), color.into()),
            stderr: AutoStream::new(io::stderr(), color.into()),
            quiet,
        }
    }

    /// Writes data at once: whoever reads may be following. Styles in it reach only who wants
    /// colour.
    pub(crate) fn data(&mut self, text: &str) -> CommandResult {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()?;
        Ok(())
    }

    /// Writes a value as one indented JSON document.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> CommandResult {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CommandError::new(crate::exit::Exit::Failed, error))?;
        self.data(&format!("{text}\n"))
    }

    /// Writes a value as one YAML document.
    pub(crate) fn yaml(&mut self, value: &impl Serialize) -> CommandResult {
        let text = serde_saphyr::to_string(value)
            .map_err(|error| CommandError::message(crate::exit::Exit::Failed, error.to_string()))?;
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.data(&format!("{text}{end}"))
    }

    /// Tells what is going on, unless the user wants it quiet.
    pub(crate) fn status(&mut self, text: impl Display) {
        if !self.quiet {
            self.say(format_args!("{text}\n"));
        }
    }

    /// Tells of something the user should know.
    pub(crate) fn warning(&mut self, text: impl Display) {
        self.say(format_args!("{WARNING}warning{WARNING:#}: {text}\n"));
    }

    /// Tells what to do next, unless the user wants it quiet.
    pub(crate) fn hint(&mut self, text: impl Display) {
        if !self.quiet {
            self.say(format_args!("{HINT}hint{HINT:#}: {text}\n"));
        }
    }

    /// Writes text that has its own form to stderr.
    pub(crate) fn note(&mut self, text: &str) {
        self.say(format_args!("{text}"));
    }

    /// Tells of an error.
    pub(crate) fn error(&mut self, error: &CommandError) {
        if let Some(text) = error.text() {
            self.say(format_args!("{ERROR}error{ERROR:#}: {text}\n"));
        }
        for hint in error.hints() {
            self.hint(hint);
        }
    }

    /// There is nobody left to tell when stderr itself fails.
    fn say(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.stderr.write_fmt(text);
        let _ = self.stderr.flush();
    }
}
