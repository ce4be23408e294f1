//! How QEMU runs guest code on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{cache::Cache, kernel::Kernel, shell, ui};

/// A way of running guest code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Accel {
    /// The processor's virtualisation.
    Kvm,
    /// Emulation, one thread per CPU.
    Tcg,
    /// Emulation where guest time counts guest instructions.
    Counting,
}

/// A kernel without an initramfs panics within a second where KVM works.
const PATIENCE: Duration = Duration::from_secs(15);

impl Accel {
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max"],
            Self::Counting => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-cpu",
                "max",
            ],
        }
    }

    /// KVM where it works, else emulation.
    ///
    /// A machine may have `/dev/kvm` and still hang or abort with it (nested virtualisation), so
    /// a kernel is booted to see. The answer is kept with what it depends on.
    pub(crate) fn fastest(cache: &Cache, kernel: &Kernel) -> Result<Self> {
        let device = fs::File::options().read(true).write(true).open("/dev/kvm");
        if device.is_err() {
            return Ok(Self::Tcg);
        }
        let kept = cache.join("accel");
        let machine = machine()?;
        if let Some(known) = recall(&kept, &machine) {
            return Ok(known);
        }
        ui::status("trying whether KVM works here");
        let found = if boots_with_kvm(kernel)? {
            Self::Kvm
        } else {
            Self::Tcg
        };
        if found == Self::Tcg {
            ui::status("KVM does not work here; emulating, which is slower");
        }
        let name = if found == Self::Kvm { "kvm" } else { "tcg" };
        crate::cache::write_atomically(&kept, |file| Ok(write!(file, "{name}\n{machine}")?))?;
        Ok(found)
    }
}

/// What the answer depends on: this boot of this kernel, and QEMU.
fn machine() -> Result<String> {
    let boot = "/proc/sys/kernel/random/boot_id";
    let boot = fs::read_to_string(boot).with_context(|| format!("cannot read {boot}"))?;
    let qemu = shell::capture_text(Command::new("qemu-system-x86_64").arg("--version"))?;
    Ok(format!("{boot}{qemu}"))
}

fn recall(kept: &Path, machine: &str) -> Option<Accel> {
    let text = fs::read_to_string(kept).ok()?;
    match text.split_once('\n')? {
        ("kvm", of) if of == machine => Some(Accel::Kvm),
        ("tcg", of) if of == machine => Some(Accel::Tcg),
        _ => None,
    }
}

/// Boots a kernel that finds nothing to run: it panics, and `panic=-1` ends QEMU.
fn boots_with_kvm(kernel: &Kernel) -> Result<bool> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let console: PathBuf = directory.path().join("console");
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ]);
    command
        .args(Accel::Kvm.arguments())
        .args(["-m", "256M", "-smp", "2"]);
    command.arg("-kernel").arg(kernel.image()?);
    command.args(["-append", "console=ttyS0 panic=-1"]);
    command
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let text = shell::display(&command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{text}`"))?;
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().context("cannot wait for QEMU")?.is_none() {
        if Instant::now() > deadline {
            child.kill().context("cannot stop QEMU")?;
            child.wait().context("cannot wait for QEMU")?;
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let console = fs::read(&console).unwrap_or_default();
    Ok(String::from_utf8_lossy(&console).contains("Kernel panic - not syncing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_the_machine_it_was_found_on() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let kept = directory.path().join("accel");
        assert_eq!(recall(&kept, "a\n"), None);
        fs::write(&kept, "tcg\na\n").expect("written");
        assert_eq!(recall(&kept, "a\n"), Some(Accel::Tcg));
        assert_eq!(recall(&kept, "b\n"), None);
    }
}
