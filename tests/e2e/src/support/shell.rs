//! A bash that stays, for lines that are to run in a container: starting one there takes seconds
//! under emulation.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::program::Output;

/// What the bash executes: reads lines that end with NUL, and prints the exit code and the output of
/// each, with NUL behind both. Its own complaints, about NUL in what a line printed, are of no use.
pub(super) const PROGRAM: &str = r#"
exec 2> /dev/null
while IFS= read -r -d '' line; do
    said=$( ( eval "$line" ) 2>&1 < /dev/null )
    printf '%s\0%s\0' "$?" "$said"
done
"#;

/// A running bash; it ends with this value.
#[derive(Debug)]
pub(super) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// Starts one by a command that ends up at `bash -c` [`PROGRAM`].
    ///
    /// # Errors
    /// When the command cannot be started.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            input: child.stdin.take().context("stdin is piped")?,
            output: BufReader::new(child.stdout.take().context("stdout is piped")?),
            child,
        })
    }

    /// Runs lines, one after the other and each in a subshell of its own.
    ///
    /// # Errors
    /// When the bash is gone. How a line ended is for the caller to judge.
    pub(super) fn lines(&mut self, lines: &[&str]) -> Result<Vec<Output>> {
        lines.iter().map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: &str) -> Result<Output> {
        self.input
            .write_all(&[line.as_bytes(), b"\0"].concat())
            .and_then(|()| self.input.flush())
            .context("the shell does not listen")?;
        let code = self.answer(line)?;
        let code = code.parse().with_context(|| format!("`{line}`: {code}"))?;
        Ok(Output::of_shell(line, code, &self.answer(line)?))
    }

    fn answer(&mut self, line: &str) -> Result<String> {
        let mut bytes = Vec::new();
        self.output
            .read_until(0, &mut bytes)
            .with_context(|| format!("no answer from the shell about `{line}`"))?;
        if bytes.pop() != Some(0) {
            bail!("the shell ended at `{line}`");
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_run_in_subshells_and_say_how_they_ended() {
        let mut command = Command::new("bash");
        command.args(["-c", PROGRAM]);
        let mut shell = Shell::start(command).unwrap();
        let outputs = shell
            .lines(&[
                "x=1; echo in",
                "echo \"[$x]\" >&2; exit 3",
                "cat",
                "exec true",
            ])
            .unwrap();
        let said: Vec<(i32, &str)> = outputs
            .iter()
            .map(|o| (o.code, o.stdout.as_str()))
            .collect();
        assert_eq!(said, [(0, "in"), (3, "[]"), (0, ""), (0, "")]);
        let gone = shell.lines(&["kill -9 $$"]).unwrap_err();
        assert!(format!("{gone:#}").contains("kill -9"), "{gone:#}");
    }
}
