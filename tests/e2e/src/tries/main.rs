//! What no shell can try: run by the cases inside a container, as whoever tries to get around a
//! policy.

mod memory;
mod terminal;

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use rustix::fs::{MemfdFlags, Mode, OFlags};

/// Try something and say how it went
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    attempt: Attempt,
}

#[derive(Debug, Subcommand)]
enum Attempt {
    /// Execute a copy of a program that lies in memory alone
    Memfd {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
    /// Empty a file by opening it for reading
    Truncate { file: PathBuf },
    /// Change a file's first byte through a shared mapping
    Map { file: PathBuf },
    /// Open a file for writing, and change it when told
    Hold {
        change: Change,
        file: PathBuf,
        /// Appears in this directory when the file is open: `ready`; what to wait for: `go`
        signals: PathBuf,
    },
    /// Execute a program with a controlling terminal of its own
    Terminal {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Change {
    /// `ftruncate`
    Truncate,
    /// A shared mapping
    Map,
}

fn main() -> Result<()> {
    match Args::parse().attempt {
        Attempt::Memfd { program, arguments } => memfd(&program, &arguments),
        Attempt::Truncate { file } => truncate(&file),
        Attempt::Map { file } => memory::change(&open(&file)?),
        Attempt::Hold {
            change,
            file,
            signals,
        } => hold(change, &file, &signals),
        Attempt::Terminal { program, arguments } => terminal::run(&program, &arguments),
    }
}

fn memfd(program: &Path, arguments: &[OsString]) -> Result<()> {
    // Open over the exec, too, for the sake of interpreters.
    let fd = rustix::fs::memfd_create("nothing", MemfdFlags::empty())
        .context("cannot create a file in memory")?;
    let mut file = File::from(fd);
    let mut source =
        File::open(program).with_context(|| format!("cannot read {}", program.display()))?;
    io::copy(&mut source, &mut file).context("cannot fill the file in memory")?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Err(Command::new(path).args(arguments).exec()).context("cannot execute the file in memory")
}

fn truncate(file: &Path) -> Result<()> {
    rustix::fs::open(file, OFlags::RDONLY | OFlags::TRUNC, Mode::empty())
        .with_context(|| format!("cannot empty {}", file.display()))?;
    Ok(())
}

fn open(file: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open(file)
        .with_context(|| format!("cannot open {}", file.display()))
}

fn hold(change: Change, file: &Path, signals: &Path) -> Result<()> {
    let file = open(file)?;
    fs::write(signals.join("ready"), "").context("cannot say that the file is open")?;
    while !signals.join("go").exists() {
        thread::sleep(Duration::from_millis(20));
    }
    match change {
        Change::Truncate => file.set_len(0).context("cannot empty the open file"),
        Change::Map => memory::change(&file),
    }
}
