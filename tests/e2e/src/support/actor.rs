//! A running `karmor-tries` that does what it is told, on the host or in a container.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::program::Output;

/// A program that ends at once, without opening or mapping anything but itself: `exit(0)` and the
/// headers that Linux wants to see, for x86-64.
#[rustfmt::skip]
pub const ENDS_AT_ONCE: [u8; 129] = [
    // ELF, 64 bits, little-endian; executable, x86-64.
    0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0,
    // Begins at 0x400078; its one program header is at 64, with nothing else.
    0x78, 0, 0x40, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    // To be loaded, read and executed, from the file's beginning, at 0x400000.
    1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0,
    // All 129 bytes of it, aligned to pages.
    129, 0, 0, 0, 0, 0, 0, 0, 129, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0,
    // mov eax, 60; xor edi, edi; syscall
    0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05,
];

/// A process that makes attempts; it ends with this value.
#[derive(Debug)]
pub struct Actor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts one by a command that ends up at `karmor-tries obey`.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut actor = Self {
            input: child.stdin.take().context("stdin is piped")?,
            output: BufReader::new(child.stdout.take().context("stdout is piped")?),
            child,
        };
        // It is there when it has done something.
        let idle = ["act", "read", "/"].map(str::to_owned).to_vec();
        for output in actor.attempts(&[idle])? {
            output.success().with_context(|| format!("{command:?}"))?;
        }
        Ok(actor)
    }

    /// Makes attempts, each the arguments of `karmor-tries`; how they ended.
    ///
    /// # Errors
    /// When the actor is gone. What became of an attempt is for the caller to judge.
    pub fn attempts(&mut self, attempts: &[Vec<String>]) -> Result<Vec<Output>> {
        let mut lines = String::new();
        for attempt in attempts {
            lines += &serde_json::to_string(attempt).context("text is JSON")?;
            lines.push('\n');
        }
        self.input
            .write_all(lines.as_bytes())
            .context("the actor does not listen")?;
        attempts
            .iter()
            .map(|attempt| self.answer(attempt))
            .collect()
    }

    fn answer(&mut self, attempt: &[String]) -> Result<Output> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("the actor does not answer")?;
        let (code, said): (i32, String) = serde_json::from_str(&line)
            .with_context(|| format!("{attempt:?} was answered with {line:?}"))?;
        Ok(Output::of_shell(&attempt.join(" "), code, &said))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
