//! Modules, the loopback device, the host name, the switch.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::system::RebootCommand;

/// Loads the modules in a directory in the order of their names.
pub(crate) fn load_modules(directory: &str) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // A kernel with everything built in.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {directory}")),
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        rustix::system::finit_module(&file, c"", 0)
            .with_context(|| format!("cannot load {}", path.display()))?;
    }
    Ok(())
}

/// Names the host and brings the loopback device up.
pub(crate) fn configure() -> Result<()> {
    let name = fs::read_to_string("/etc/hostname").context("cannot read /etc/hostname")?;
    rustix::system::sethostname(name.trim().as_bytes()).context("cannot set the host name")?;
    let status = Command::new("/usr/bin/busybox")
        .args(["ip", "link", "set", "lo", "up"])
        .status()
        .context("cannot start busybox")?;
    ensure!(
        status.success(),
        "cannot bring the loopback device up ({status})"
    );
    Ok(())
}

pub(crate) fn power_off() -> rustix::io::Result<()> {
    rustix::fs::sync();
    rustix::system::reboot(RebootCommand::PowerOff)
}
