//! Installing packages on this machine.
//!
//! Backports, where QEMU comes from, are given to apt for this one call: the system's sources
//! and package lists stay as they are.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::Need;
use crate::{
    cache::{self, Cache},
    debian::{self, Pool},
    shell, ui,
};

/// Installs the packages that meet these needs.
pub(super) fn install(cache: &Cache, needs: &[Need]) -> Result<()> {
    if needs.is_empty() {
        return Ok(());
    }
    let apt = Configuration::create(cache)?;
    apt.run(&["-q", "update"])?;
    for backports in [false, true] {
        let packages: Vec<&str> = needs
            .iter()
            .filter(|need| need.in_backports() == backports)
            .flat_map(|need| need.packages().iter().copied())
            .collect();
        if packages.is_empty() {
            continue;
        }
        let release = format!("{}-backports", debian::RELEASE);
        let mut arguments = vec!["-q", "-y", "--no-install-recommends"];
        if backports {
            arguments.extend(["-t", &release]);
        }
        arguments.push("install");
        arguments.extend(&packages);
        ui::status(&format!(
            "installing on this machine with apt: {}{}",
            packages.join(" "),
            if backports { " (from backports)" } else { "" },
        ));
        apt.run(&arguments)?;
    }
    Ok(())
}

/// apt with the system's sources and backports, and package lists of its own.
struct Configuration {
    directory: PathBuf,
}

impl Configuration {
    fn create(cache: &Cache) -> Result<Self> {
        let directory = cache.directory("apt/install")?;
        let sources = directory.join("sources.d");
        if sources.exists() {
            fs::remove_dir_all(&sources)
                .with_context(|| format!("cannot remove {}", sources.display()))?;
        }
        cache::create_dir_all(&sources)?;
        cache::create_dir_all(&directory.join("lists/partial"))?;
        let system = PathBuf::from("/etc/apt/sources.list.d");
        for entry in fs::read_dir(&system).into_iter().flatten() {
            let path = entry?.path();
            let link = sources.join(path.file_name().unwrap_or_default());
            symlink(&path, &link).with_context(|| format!("cannot create {}", link.display()))?;
        }
        if !debian::has_backports()? {
            let backports = sources.join("karmor-rig.sources");
            fs::write(&backports, Pool::Backports.sources()?)
                .with_context(|| format!("cannot write {}", backports.display()))?;
        }
        Ok(Self { directory })
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let root = rustix::process::geteuid().is_root();
        if !root && !shell::in_path("sudo") {
            bail!("installing packages needs root: run `cargo xtask setup` once as root");
        }
        let mut command = if root {
            Command::new("env")
        } else {
            Command::new("sudo")
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        for (name, value) in [
            ("Dir::Etc::sourceparts", "sources.d"),
            ("Dir::State::lists", "lists"),
        ] {
            let path = self.directory.join(value);
            command.arg("-o").arg(format!("{name}={}", path.display()));
        }
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]);
        command.args(arguments);
        let text = shell::display(&command);
        // Packages are installed in plain sight; stdout is for data.
        let status = command
            .stdout(Stdio::from(std::io::stderr()))
            .status()
            .with_context(|| format!("cannot start `{text}`"))?;
        if !status.success() {
            bail!("`{text}` failed ({status})");
        }
        Ok(())
    }
}
