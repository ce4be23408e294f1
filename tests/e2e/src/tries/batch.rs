//! Many system calls, one after the other: a line of the input each, and what became of it as a
//! line of the output. What is about files is made right here; the rest are arguments of this program.
//!
//! Whatever a call changed is put back before the next one, so that each finds the same files.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};

use super::obey;

/// Does what `input` lists, and writes a number a line to `output`: 0, or that of the error.
pub(crate) fn run(input: &Path, output: &Path) -> Result<()> {
    let lines = File::open(input).with_context(|| format!("cannot open {}", input.display()))?;
    let results =
        File::create(output).with_context(|| format!("cannot create {}", output.display()))?;
    let mut results = BufWriter::new(results);
    for line in BufReader::new(lines).lines() {
        let line = line.context("cannot read the input")?;
        let words: Vec<&str> = line.split(' ').collect();
        let errno = attempt(&words).with_context(|| line.clone())?;
        writeln!(results, "{errno}").context("cannot write the output")?;
    }
    results.flush().context("cannot write the output")
}

fn attempt(words: &[&str]) -> Result<i32> {
    let number = |result: Result<(), Errno>| result.map_or_else(Errno::raw_os_error, |()| 0);
    Ok(match *words {
        ["read", path] => number(open(path, OFlags::RDONLY).map(drop)),
        ["write", path] => number(open(path, OFlags::WRONLY).map(drop)),
        ["both", path] => number(open(path, OFlags::RDWR | OFlags::APPEND).map(drop)),
        ["chmod", path] => {
            let mode = fs::metadata(path)?.permissions().mode();
            number(rustix::fs::chmod(path, Mode::from_raw_mode(mode)))
        }
        ["truncate", path] => {
            let length = fs::metadata(path)?.len();
            match fs::OpenOptions::new().write(true).open(path) {
                Ok(file) => number(rustix::fs::ftruncate(&file, length)),
                Err(error) => error.raw_os_error().context("not an error of the system")?,
            }
        }
        ["create", path] => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            undone(open(path, flags).map(drop), || rustix::fs::unlink(path))?
        }
        ["mkdir", path] => undone(rustix::fs::mkdir(path, Mode::RWXU), || {
            rustix::fs::rmdir(path)
        })?,
        ["symlink", path] => undone(rustix::fs::symlink("nowhere", path), || {
            rustix::fs::unlink(path)
        })?,
        ["rename", old, new] => undone(rustix::fs::rename(old, new), || {
            rustix::fs::rename(new, old)
        })?,
        ["link", old, new] => {
            let linked = rustix::fs::linkat(CWD, old, CWD, new, AtFlags::empty());
            undone(linked, || rustix::fs::unlink(new))?
        }
        ["exec", path] => match Command::new(path).stdin(Stdio::null()).status() {
            Ok(status) if status.success() => 0,
            Ok(status) => bail!("it ended with {status}"),
            Err(error) => error.raw_os_error().context("not an error of the system")?,
        },
        _ => {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            match obey::attempt(&words)? {
                (0, _) => 0,
                (_, said) => errno_in(&said).with_context(|| said.clone())?,
            }
        }
    })
}

/// The number in what is said of an error of the system.
fn errno_in(said: &str) -> Option<i32> {
    let (_, behind) = said.rsplit_once("os error ")?;
    behind.split(')').next()?.parse().ok()
}

/// The error's number, or 0 for what was done and could be undone.
fn undone(done: Result<(), Errno>, undo: impl FnOnce() -> Result<(), Errno>) -> Result<i32> {
    match done {
        Ok(()) => undo().map(|()| 0).context("cannot undo it"),
        Err(errno) => Ok(errno.raw_os_error()),
    }
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
}
