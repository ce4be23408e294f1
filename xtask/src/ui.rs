//! Everything xtask says: data on stdout, the rest on stderr, bars only on a terminal.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A line about what is going on.
pub(crate) fn status(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(stderr, "xtask: {text}");
}

/// A line of text on stderr, as it is.
pub(crate) fn note(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

/// Part of another program's stream, on stderr as it is.
pub(crate) fn pass_on(bytes: &[u8]) {
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() {
        // Over the spinner, which draws itself anew below.
        let _ = stderr.write_all(b"\r\x1b[2K");
    }
    let _ = stderr.write_all(bytes);
}

/// A line of data on stdout.
pub(crate) fn line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that went away is not an error of ours.
    let _ = writeln!(stdout, "{text}");
}

/// A spinner on a terminal; elsewhere one line.
#[derive(Clone)]
pub(crate) struct Spinner {
    bar: Option<ProgressBar>,
}

impl Spinner {
    pub(crate) fn start(text: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        match &bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => status(text),
        }
        Self { bar }
    }

    /// Removes the spinner from the terminal; once is enough.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
