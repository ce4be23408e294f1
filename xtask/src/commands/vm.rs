//! `cargo xtask vm`

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::{
    cache::Cache,
    kernel::{Kernel, Series},
    machine::{Accel, Machine, Sink},
    programs::{self, Profile},
    setup, ui,
};

/// Run a command as root in a throw-away VM
///
/// The VM has the project's programs in /usr/local/bin, containerd with runc, a Debian shell and
/// busybox. The command's stdout, stderr and exit code become this command's own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kernel series; `all` runs the command on one after the other
    #[arg(long, default_value = "6.1", value_parser = parse_kernel)]
    kernel: Kernels,

    /// Arguments added to the kernel's command line
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,

    /// CPUs of the guest
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,

    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 3072)]
    memory: u32,

    /// Emulate one CPU whose clock counts instructions: guest nanoseconds are instructions
    #[arg(long)]
    icount: bool,

    /// Put a file of this machine into the guest
    #[arg(long, value_name = "HOST:GUEST", value_parser = parse_file)]
    file: Vec<(PathBuf, String)>,

    /// Set a variable in the command's environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,

    /// Seconds until a VM that has not finished is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,

    /// Copy what the command writes to $KARMOR_DATA into this file
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Show the kernel console on stderr
    #[arg(long)]
    console: bool,

    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

#[derive(Clone, Debug)]
struct Kernels(Vec<Series>);

fn parse_kernel(text: &str) -> Result<Kernels, String> {
    if text == "all" {
        return Ok(Kernels(Series::ALL.to_vec()));
    }
    Series::from_str(text, false)
        .map(|series| Kernels(vec![series]))
        .map_err(|_unknown| {
            format!(
                "no such kernel; there are {}, or all",
                Series::ALL.map(Series::name).join(", ")
            )
        })
}

fn parse_file(text: &str) -> Result<(PathBuf, String), String> {
    match text.split_once(':') {
        Some((host, guest)) if !host.is_empty() && guest.starts_with('/') => {
            Ok((PathBuf::from(host), guest.to_owned()))
        }
        _ => Err("write HOST:GUEST with an absolute path in the guest".to_owned()),
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        setup::ensure(&cache, &self.kernel.0)?;
        let built = programs::build(&cache, Profile::Rig)?;
        let mut worst = 0;
        for series in &self.kernel.0 {
            let several = self.kernel.0.len() > 1;
            let kernel = Kernel::get(&cache, *series)?;
            if several {
                ui::status(&format!("{series}: {}", self.command.join(" ")));
            }
            let accel = if self.icount {
                Accel::Counting
            } else {
                Accel::fastest(&cache, &kernel)?
            };
            let machine = Machine {
                accel,
                cpus: if self.icount { 1 } else { self.cpus },
                memory_mib: self.memory,
                append: self.append.clone(),
                timeout: Duration::from_secs(self.timeout),
                command: self.command.clone(),
                environment: self.env.clone(),
                files: self.file.clone(),
                console: self.console.then(to_stderr),
                ..Machine::new(kernel, &built)?
            };
            let ended = machine.run(&cache, to_stdout(), to_stderr())?;
            if let Some(path) = &self.data {
                write_data(path, &ended.data)?;
            }
            if several && ended.code != 0 {
                ui::status(&format!("{series}: exit code {}", ended.code));
            }
            worst = worst.max(ended.code);
        }
        Ok(ExitCode::from(u8::try_from(worst).unwrap_or(u8::MAX)))
    }
}

fn write_data(path: &Path, data: &[u8]) -> Result<()> {
    std::fs::write(path, data).with_context(|| format!("cannot write {}", path.display()))
}

/// Streams to stdout; a reader that went away does not stop the VM.
pub(super) fn to_stdout() -> Sink {
    Box::new(|bytes| {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    })
}

/// Streams to stderr.
pub(super) fn to_stderr() -> Sink {
    Box::new(|bytes| {
        let _ = std::io::stderr().lock().write_all(bytes);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_or_all() {
        assert_eq!(parse_kernel("6.12").expect("known").0, [Series::V6_12]);
        assert_eq!(parse_kernel("all").expect("known").0, Series::ALL);
        let error = parse_kernel("5.4").expect_err("not tested on");
        assert!(error.contains("6.1, 6.12, 7.2"), "{error}");
    }

    #[test]
    fn a_file_needs_both_places() {
        assert_eq!(
            parse_file("a/b:/c").expect("both"),
            (PathBuf::from("a/b"), "/c".to_owned())
        );
        for wrong in ["a", "a:", ":/c", "a:c"] {
            parse_file(wrong).expect_err(wrong);
        }
    }
}
