//! `cargo xtask demo`

use std::{
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::vm::{to_stderr, to_stdout};
use crate::{
    cache::Cache,
    guest,
    kernel::{Kernel, Series},
    machine::{Accel, Machine, Sink},
    programs::{self, Profile, Programs},
    setup, shell,
    ui::Spinner,
};

/// Show karmor at work: three policies, before and after, in a throw-away VM
///
/// Sets the machine up first if it is not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kernel series
    #[arg(long, value_name = "SERIES", value_enum, default_value = "6.1")]
    kernel: Series,

    /// Print nothing on stdout but one JSON object per alert
    #[arg(long)]
    json: bool,

    /// Use this machine's own kernel instead of a VM; needs root, containerd, runc and BPF LSM
    #[arg(long, conflicts_with = "kernel")]
    native: bool,

    /// Seconds until a VM that has not finished is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        let spinner = Spinner::start("looking at what this machine has");
        if self.native {
            able()?;
        }
        // Set-up and compiler talk themselves; a spinner would be drawn over.
        spinner.finish();
        let kernels: &[Series] = if self.native { &[] } else { &[self.kernel] };
        setup::ensure(&cache, kernels)?;
        let built = programs::build(&cache, Profile::Dev)?;
        let code = if self.native {
            self.on_this_machine(&cache, &built)?
        } else {
            self.in_vm(&cache, &built)?
        };
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    }

    fn in_vm(&self, cache: &Cache, built: &Programs) -> Result<i32> {
        let kernel = Kernel::get(cache, self.kernel)?;
        let spinner = Spinner::start(&format!("booting a VM with Linux {}", kernel.release));
        let mut command = vec!["karmor-demo".to_owned()];
        command.extend(self.json.then(|| "--json".to_owned()));
        let machine = Machine {
            accel: Accel::fastest(cache, &kernel)?,
            timeout: Duration::from_secs(self.timeout),
            command,
            ..Machine::new(kernel, built)?
        };
        // Gone with the first line of the demonstration.
        let stdout = until_first(&spinner, to_stdout());
        let stderr = until_first(&spinner, to_stderr());
        let ended = machine.run(cache, stdout, stderr);
        spinner.finish();
        Ok(ended?.code)
    }

    /// Runs the demonstration beside whatever else this machine does: its containerd and its
    /// state are its own.
    fn on_this_machine(&self, cache: &Cache, built: &Programs) -> Result<i32> {
        let state = tempfile::tempdir().context("cannot create a temporary directory")?;
        let program = built.path("karmor-demo")?;
        let mut command = Command::new(&program);
        command.arg("--state").arg(state.path());
        command.arg("--images").arg(guest::images(cache)?);
        if self.json {
            command.arg("--json");
        }
        // The demonstration calls its companions by name.
        let own = program
            .parent()
            .context("a program has a directory")?
            .to_path_buf();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::iter::once(own).chain(std::env::split_paths(&path));
        command.env(
            "PATH",
            std::env::join_paths(directories).context("cannot build PATH")?,
        );
        let text = shell::display(&command);
        let status = command
            .status()
            .with_context(|| format!("cannot start `{text}`"))?;
        status
            .code()
            .with_context(|| format!("`{text}` was killed ({status})"))
    }
}

/// A sink that ends the spinner with its first bytes.
fn until_first(spinner: &Spinner, mut sink: Sink) -> Sink {
    let spinner = spinner.clone();
    Box::new(move |bytes| {
        spinner.finish();
        sink(bytes);
    })
}

/// Refuses where the demonstration cannot run on this machine's kernel, with every reason.
fn able() -> Result<()> {
    let mut reasons = Vec::new();
    if !rustix::process::geteuid().is_root() {
        reasons.push("this is not root".to_owned());
    }
    let list = Path::new("/sys/kernel/security/lsm");
    match std::fs::read_to_string(list) {
        Ok(modules) if modules.trim().split(',').any(|module| module == "bpf") => {}
        Ok(modules) => reasons.push(format!(
            "the kernel's security modules are {}, without bpf (add it to the kernel's lsm= argument)",
            modules.trim()
        )),
        Err(error) => reasons.push(format!("{}: {error}", list.display())),
    }
    for program in ["containerd", "ctr", "runc"] {
        if !shell::in_path(program) {
            reasons.push(format!("{program} is not installed"));
        }
    }
    if !reasons.is_empty() {
        bail!("--native cannot run here:\n  {}", reasons.join("\n  "));
    }
    Ok(())
}
