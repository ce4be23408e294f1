//! Starting the program.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

/// The program in a cleared environment.
pub(crate) fn karmor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_karmor"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}

/// What it said, and how it ended.
#[must_use]
#[derive(Debug)]
pub(crate) struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    karmor(args).output().expect("it starts").into()
}

/// Runs it to its end in a directory, so that paths in its output are the same everywhere.
pub(crate) fn run_in(dir: &Path, args: &[&str]) -> Ran {
    karmor(args)
        .current_dir(dir)
        .output()
        .expect("it starts")
        .into()
}

/// Runs it to its end with something to read.
pub(crate) fn run_with_stdin(stdin: &str, args: &[&str]) -> Ran {
    let mut command = karmor(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("piped");
    pipe.write_all(stdin.as_bytes()).expect("it reads");
    drop(pipe);
    child.wait_with_output().expect("it ends").into()
}
