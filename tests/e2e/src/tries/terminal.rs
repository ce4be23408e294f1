//! A process with a controlling terminal.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Makes a new terminal this session's and executes a program, which inherits it.
pub(crate) fn run(program: &Path, arguments: &[OsString]) -> Result<()> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("cannot open a pty")?;
    grantpt(&master).context("cannot grant the pty")?;
    unlockpt(&master).context("cannot unlock the pty")?;
    let name = ptsname(&master, Vec::new()).context("the pty has no name")?;
    // The leader of a session, it may be already; whoever else started this process was not.
    let _ = rustix::process::setsid();
    // The first terminal that a session's leader opens becomes the session's own.
    let terminal = File::options()
        .read(true)
        .write(true)
        .open(std::ffi::OsStr::from_bytes(name.as_bytes()))
        .context("cannot open the terminal")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let kept = (
        rustix::io::dup(&master).context("cannot copy a descriptor")?,
        rustix::io::dup(&terminal).context("cannot copy a descriptor")?,
    );
    let error = command.exec();
    drop(kept);
    Err(error).context("cannot execute the program")
}
