//! A containerd of our own, and `ctr` to talk to it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{container::SharedShell, program, until};

/// Emulation with other work on the host: seconds, not milliseconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where containerd keeps its things.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    state: PathBuf,
    logs: PathBuf,
    /// Directory of the images' archives.
    images: PathBuf,
}

impl Place {
    /// containerd's own defaults, for a system that is ours alone.
    #[must_use]
    pub fn system() -> Self {
        Self {
            root: PathBuf::from("/var/lib/containerd"),
            state: PathBuf::from("/run/containerd"),
            logs: PathBuf::from("/var/log"),
            images: PathBuf::from("/images"),
        }
    }

    /// Everything below one directory, for a system that is somebody else's.
    #[must_use]
    pub fn below(directory: &Path, images: PathBuf) -> Self {
        Self {
            root: directory.join("root"),
            state: directory.join("state"),
            logs: directory.join("log"),
            images,
        }
    }
}

/// A running containerd; it ends with this value.
#[derive(Debug)]
pub struct Containerd {
    child: Child,
    socket: PathBuf,
    logs: PathBuf,
    /// Containers that outlive the case that started them, with their shells.
    pub(super) kept: Mutex<BTreeMap<String, SharedShell>>,
}

impl Containerd {
    /// Starts it, waits until it answers, and imports every image.
    ///
    /// # Errors
    /// When it does not start or does not answer, with its log; when an import fails.
    pub fn start(place: &Place) -> Result<Self> {
        for directory in [&place.root, &place.state, &place.logs] {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let socket = place.state.join("containerd.sock");
        let config = place.state.join("config.toml");
        // Without the Kubernetes plugin it starts faster and needs no network configuration.
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            place.root, place.state,
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let path = place.logs.join("containerd.log");
        let log =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let errors = log.try_clone().context("cannot copy a file")?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .context("cannot start containerd")?;
        let mut containerd = Self {
            child,
            socket,
            logs: place.logs.clone(),
            kept: Mutex::default(),
        };
        until("containerd to answer", PATIENCE, || containerd.answers())
            .with_context(|| fs::read_to_string(&path).unwrap_or_default())?;
        containerd.import_all(&place.images)?;
        Ok(containerd)
    }

    fn answers(&mut self) -> Result<Option<()>> {
        if let Some(status) = self
            .child
            .try_wait()
            .context("cannot wait for containerd")?
        {
            bail!("containerd ended ({status})");
        }
        if UnixStream::connect(&self.socket).is_err() {
            return Ok(None);
        }
        Ok((self.ctr(&["version"])?.code == 0).then_some(()))
    }

    fn import_all(&self, images: &Path) -> Result<()> {
        let entries =
            fs::read_dir(images).with_context(|| format!("cannot read {}", images.display()))?;
        for entry in entries {
            let path = entry?.path();
            let path = path.to_str().context("an image's path is UTF-8")?;
            self.ctr(&["images", "import", path])?.success()?;
        }
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it and its companions log.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Runs `ctr` against it.
    ///
    /// # Errors
    /// When `ctr` cannot be started.
    pub fn ctr(&self, arguments: &[&str]) -> Result<program::Output> {
        let socket = self.socket.to_str().context("a socket's path is UTF-8")?;
        program::run("ctr", ["--address", socket].iter().chain(arguments))
    }

    /// `ctr` against it, to be started.
    #[must_use]
    pub fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(arguments);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
