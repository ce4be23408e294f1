//! Running programs and keeping everything they said.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Output {
    command: String,
    /// The exit code; 128 + N for signal N.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// The output of one line among several that a shell ran; nobody told its streams apart.
    pub(super) fn of_shell(line: &str, code: i32, said: &str) -> Self {
        Self {
            command: line.to_owned(),
            code,
            stdout: said.to_owned(),
            stderr: String::new(),
        }
    }

    /// The output of a program that must succeed.
    ///
    /// # Errors
    /// When it did not, with all it said.
    pub fn success(self) -> Result<Self> {
        ensure!(self.code == 0, "{self}");
        Ok(self)
    }

    /// Whether the kernel refused: the program failed and says why in the words of EACCES.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.code != 0 && format!("{}{}", self.stdout, self.stderr).contains("ermission denied")
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.command, self.code)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n{name}: {}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started. How it ended is for the caller to judge.
pub fn run<I>(program: &str, arguments: I) -> Result<Output>
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    let output = command
        .output()
        .with_context(|| format!("cannot start `{text}`"))?;
    let status = output.status;
    Ok(Output {
        command: text,
        code: status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_program_said() {
        let output = run(
            "sh",
            ["-c", "echo out; echo Permission denied >&2; exit 126"],
        )
        .unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (126, "out\n"));
        assert!(output.denied());
        let error = output.success().unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("126"), "{error}");
    }

    #[test]
    fn a_success_is_not_a_denial() {
        assert!(!run("echo", ["Permission denied"]).unwrap().denied());
    }
}
