//! The daemon under test.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Containerd, Output, note, program, until};

/// Where the daemon takes policies.
pub const SOCKET: &str = "/run/karmor/karmor.sock";

/// Below which the daemon pins what outlives it.
pub const PINS: &str = "/sys/fs/bpf/karmor";

/// Where the daemon keeps what must survive a restart.
pub const STATE: &str = "/var/lib/karmor";

const PROGRAM: &str = "karmor-enforcer";

/// Loading programs means verifying them, which takes a while under emulation.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the daemon keeps the policies that it was given.
const POLICIES: &str = "/var/lib/karmor/policies";

/// A running daemon. When this value goes, the daemon is killed, and what it left in the kernel and
/// the policies it was given go with it.
#[derive(Debug)]
pub struct Enforcer {
    child: Child,
    log: PathBuf,
    /// It is gone, and what it left in the kernel is the next one's.
    crashed: bool,
}

impl Enforcer {
    /// Starts it beside a containerd and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not get ready, with its log.
    pub fn start(containerd: &Containerd, arguments: &[&str]) -> Result<Self> {
        let log = containerd.logs().join("karmor-enforcer.log");
        // Appended to: the log of a restart belongs to the log of what was before.
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let errors = file.try_clone().context("cannot copy a file")?;
        // A socket that a killed daemon left behind must not pass for a ready one.
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {SOCKET}"));
            }
            _ => {}
        }
        let child = Command::new(PROGRAM)
            .arg(format!(
                "--criSocket=unix://{}",
                containerd.socket().display()
            ))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let mut enforcer = Self {
            child,
            log,
            crashed: false,
        };
        until("the enforcer to get ready", PATIENCE, || enforcer.ready())
            .with_context(|| enforcer.log())?;
        Ok(enforcer)
    }

    fn ready(&mut self) -> Result<Option<()>> {
        if let Some(status) = self
            .child
            .try_wait()
            .context("cannot wait for the enforcer")?
        {
            bail!("{PROGRAM} ended ({status})");
        }
        // The socket is there before the programs are.
        if UnixStream::connect(SOCKET).is_err() {
            return Ok(None);
        }
        let answer = program::run("karmor", ["vm", "policy", "list"])?;
        Ok((answer.code == 0).then_some(()))
    }

    /// Everything daemons of this boot have logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The daemon's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the daemon to end, as a service manager does. Enforcement stays.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = until("the enforcer to end", PATIENCE, || {
            self.child
                .try_wait()
                .context("cannot wait for the enforcer")
        })?;
        if !status.success() {
            bail!("{PROGRAM} ended with {status}\n{}", self.log());
        }
        Ok(())
    }

    /// Keeps the daemon from doing anything until [`Enforcer::thaw`].
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen daemon go on.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process id is positive")?, signal)
            .context("cannot signal the enforcer")
    }

    /// Ends the daemon as a crash would. Enforcement stays, for the next one.
    ///
    /// # Errors
    /// When the process cannot be killed.
    pub fn crash(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the enforcer")?;
        self.child.wait().context("cannot wait for the enforcer")?;
        self.crashed = true;
        Ok(())
    }

    /// Waits until the daemon knows a container, with or without policies: containerd tells it of
    /// one that starts at its own pace.
    ///
    /// # Errors
    /// When it does not find it in time.
    pub fn knows(&self, container: &str) -> Result<()> {
        until("the daemon to find the container", PATIENCE, || {
            let probe = probe()?;
            let known = probe["workloads"].as_array().is_some_and(|workloads| {
                workloads
                    .iter()
                    .any(|workload| workload["name"] == container)
            });
            Ok(known.then_some(()))
        })
        .with_context(|| self.log())
    }

    /// Adds policies the way a user does.
    ///
    /// # Errors
    /// When `karmor` refuses them, with what it said.
    pub fn add_policy(&self, file: &Path) -> Result<Output> {
        let file = file.to_str().context("a policy's path is UTF-8")?;
        program::run("karmor", ["vm", "policy", "add", file])?.success()
    }

    /// Adds a policy from its text and returns the file it was written to.
    ///
    /// # Errors
    /// When the file cannot be written, and as for [`Enforcer::add_policy`].
    pub fn add_manifest(&self, name: &str, manifest: &str) -> Result<PathBuf> {
        let path = std::env::temp_dir().join(format!("{name}.yaml"));
        fs::write(&path, manifest).with_context(|| format!("cannot write {}", path.display()))?;
        self.add_policy(&path)?;
        Ok(path)
    }

    /// Deletes policies the way a user does.
    ///
    /// # Errors
    /// When `karmor` refuses, with what it said.
    pub fn delete_policy(&self, file: &Path) -> Result<Output> {
        let file = file.to_str().context("a policy's path is UTF-8")?;
        program::run("karmor", ["vm", "policy", "delete", file])?.success()
    }
}

/// The directory of what the daemon has pinned: one for each form of its maps, and there is one.
///
/// # Errors
/// When nothing is pinned.
pub fn pins() -> Result<PathBuf> {
    let mut forms = fs::read_dir(PINS).context("nothing is pinned")?;
    let form = forms.next().context("nothing is pinned")?;
    ensure!(forms.next().is_none(), "pins of several forms in {PINS}");
    Ok(form?.path())
}

/// What the daemon finds, as `karmor probe -o json` tells it.
///
/// # Errors
/// When `karmor` fails, or what it prints is not JSON.
pub fn probe() -> Result<Value> {
    let output = program::run("karmor", ["probe", "-o", "json"])?.success()?;
    serde_json::from_str(&output.stdout)
        .with_context(|| format!("karmor probe printed no JSON: {output}"))
}

/// Refusals so far of which there is an event, be it that the kernel had no room for it.
///
/// # Errors
/// As [`probe`], and when that does not tell.
pub fn refusals() -> Result<u64> {
    let report = probe()?;
    let told = report["events"]["denials"]["emitted"].as_u64();
    told.context("the probe shows no refusals")
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        if self.crashed {
            return;
        }
        // The next case starts from nothing. Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(error) = program::run(PROGRAM, ["unload"]).and_then(Output::success) {
            note(&format!(
                "what the enforcer left in the kernel stays: {error:#}"
            ));
        }
        match fs::remove_dir_all(POLICIES) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                note(&format!(
                    "policies stay for the next case: {POLICIES}: {error}"
                ));
            }
            _ => {}
        }
    }
}
