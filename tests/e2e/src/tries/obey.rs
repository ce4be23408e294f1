//! Doing what is asked on standard input, one attempt a line: in a process that is there already, and
//! so is executed once for all of it.

use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::{Parser as _, ValueEnum};
use karmor_cases::MOVED;
use karmor_e2e::support::ENDS_AT_ONCE;
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, openat},
    mm::MapFlags,
    process::{Pid, WaitOptions, waitpid},
};

use super::{Args, Attempt, memory, mounts};

/// What is done to a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum How {
    /// Execute it
    Exec,
    /// Map it executable
    Map,
    /// Open it for reading
    Read,
    /// Open it for writing
    Write,
    /// Give it another name, and its own again
    Move,
}

/// A file that has no path.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Object {
    /// In memory
    Anonymous,
    /// In a mount that is attached nowhere
    Unreachable,
}

/// Reads lists of arguments as JSON, makes each attempt, of which nothing lasts, and writes its exit
/// code and what it said.
pub(crate) fn run() -> Result<()> {
    // Who leads a session has the terminal it wants; nobody else gets one from who started it.
    let _ = rustix::process::setsid();
    for line in io::stdin().lock().lines() {
        let line = line.context("cannot read the next attempt")?;
        let words: Vec<String> = serde_json::from_str(&line).with_context(|| line.clone())?;
        let result = attempt(&words).with_context(|| line.clone())?;
        let result = serde_json::to_string(&result).context("text is JSON")?;
        writeln!(io::stdout(), "{result}").context("cannot say how it went")?;
    }
    Ok(())
}

/// The exit code of one, and what it said.
pub(crate) fn attempt(words: &[String]) -> Result<(i32, String)> {
    let name = "karmor-tries".to_owned();
    let attempt = Args::try_parse_from(std::iter::once(&name).chain(words))?.attempt;
    match attempt {
        Attempt::Capability { .. }
        | Attempt::Preset { .. }
        | Attempt::Act { how: How::Exec, .. }
        | Attempt::ActOn { how: How::Exec, .. } => in_child(attempt),
        // Nothing lasts of what is closed again.
        attempt => Ok(match super::attempt(attempt) {
            Ok(()) => (0, String::new()),
            Err(error) => (1, format!("{error:#}")),
        }),
    }
}

/// Makes an attempt that changes who makes it.
fn in_child(attempt: Attempt) -> Result<(i32, String)> {
    let (mut reader, writer) = io::pipe().context("cannot make a pipe")?;
    // SAFETY: there is one thread, so no lock that another one holds is copied.
    let child = match unsafe { libc::fork() } {
        0 => {
            let told = rustix::stdio::dup2_stdout(&writer)
                .and_then(|()| rustix::stdio::dup2_stderr(&writer))
                .context("cannot change standard output");
            let code = match told.and_then(|()| super::attempt(attempt)) {
                Ok(()) => 0,
                Err(error) => {
                    // The parent sees the exit code at least.
                    let _ = writeln!(io::stderr(), "{error:#}");
                    1
                }
            };
            std::process::exit(code)
        }
        child => Pid::from_raw(child).context("cannot fork")?,
    };
    drop(writer);
    let mut said = String::new();
    reader
        .read_to_string(&mut said)
        .context("cannot read what the attempt said")?;
    let (_, status) = waitpid(Some(child), WaitOptions::empty())
        .context("cannot wait for the attempt")?
        .context("the attempt has not ended")?;
    let code = status.exit_status();
    let code = code.or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    Ok((code.unwrap_or(-1), said))
}

/// Does something to a file; returns from executing one only when that failed.
pub(crate) fn act(how: How, file: &Path, arguments: &[OsString]) -> Result<()> {
    let flags = match how {
        How::Exec => {
            return Err(Command::new(file).args(arguments).exec())
                .with_context(|| format!("cannot execute {}", file.display()));
        }
        How::Map => return memory::map_executable(file, MapFlags::PRIVATE),
        How::Move => {
            let mut moved = file.as_os_str().to_owned();
            moved.push(MOVED);
            return fs::rename(file, &moved)
                .and_then(|()| fs::rename(&moved, file))
                .with_context(|| format!("cannot rename {}", file.display()));
        }
        How::Read => OFlags::RDONLY,
        How::Write => OFlags::WRONLY | OFlags::APPEND,
    };
    openat(CWD, file, flags, Mode::empty())
        .with_context(|| format!("cannot open {}", file.display()))?;
    Ok(())
}

/// Does something to a program that has no path.
pub(crate) fn act_on(object: Object, how: How, tree: &Path, file: &Path) -> Result<()> {
    let fd = match object {
        Object::Anonymous => {
            let fd = rustix::fs::memfd_create("nothing", MemfdFlags::empty())
                .context("cannot create a file in memory")?;
            rustix::io::write(&fd, &ENDS_AT_ONCE).context("cannot fill the file in memory")?;
            fd
        }
        Object::Unreachable => {
            let tree = mounts::copy(tree)?;
            openat(&tree, file, OFlags::PATH, Mode::empty()).context("cannot find the file")?
        }
    };
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    act(how, Path::new(&path), &[])
}
