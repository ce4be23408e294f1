//! One running container and commands in it.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result};

use super::{
    Actor, Containerd, lock,
    program::Output,
    shell::{self, Shell},
};

/// The images `xtask` makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Image {
    /// Static busybox; label `app=busybox`.
    Busybox,
    /// Debian with apt, bash, coreutils, nginx and wget; label `app=nginx`.
    Debian,
}

impl Image {
    /// As containerd knows it.
    #[must_use]
    pub const fn reference(self) -> &'static str {
        match self {
            Self::Busybox => "localhost/karmor/busybox:latest",
            Self::Debian => "localhost/karmor/debian:latest",
        }
    }
}

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// A container to be.
#[derive(Debug)]
pub struct ContainerBuilder<'a> {
    containerd: &'a Containerd,
    image: String,
    options: Vec<String>,
}

impl<'a> ContainerBuilder<'a> {
    pub(super) fn new(containerd: &'a Containerd, image: Image) -> Self {
        Self {
            containerd,
            image: image.reference().to_owned(),
            options: Vec::new(),
        }
    }

    /// Uses the image under another name.
    #[must_use]
    pub fn named(mut self, reference: &str) -> Self {
        reference.clone_into(&mut self.image);
        self
    }

    /// Sets a label of the container.
    #[must_use]
    pub fn label(self, name: &str, value: &str) -> Self {
        self.option(&format!("--label={name}={value}"))
    }

    /// Adds an option of `ctr run`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Mounts a host directory.
    #[must_use]
    pub fn bind(self, host: &str, target: &str) -> Self {
        self.option(&format!(
            "--mount=type=bind,src={host},dst={target},options=rbind:rw"
        ))
    }

    /// Mounts a service account with made-up secrets, as kubelet does.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn service_account(self) -> Result<Self> {
        let directory = Path::new("/run/karmor-e2e/serviceaccount");
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        for (name, content) in [
            ("token", "made-up-token\n"),
            ("ca.crt", "made-up-ca\n"),
            ("namespace", "default\n"),
        ] {
            let path = directory.join(name);
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(self.bind("/run/karmor-e2e/serviceaccount", SERVICE_ACCOUNT))
    }

    /// Starts the container with a process that does nothing.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn start(self, name: &str) -> Result<Container<'a>> {
        self.start_with(name, &["sleep", "1000000"])
    }

    /// Starts the container with a process of its own.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn start_with(self, name: &str, command: &[&str]) -> Result<Container<'a>> {
        // Other runtimes set it; without, bash reads /etc/passwd to find out.
        let mut arguments = vec!["run", "--detach", "--env=HOME=/root", "--env=SHELL=/bin/sh"];
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.extend([&self.image, name]);
        arguments.extend(command);
        self.containerd.ctr(&arguments)?.success()?;
        Ok(Container {
            containerd: self.containerd,
            name: name.to_owned(),
            kept: false,
            shell: SharedShell::default(),
        })
    }

    /// Starts the container if no earlier case has, and leaves it to the next one.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn kept(self, name: &str) -> Result<Container<'a>> {
        let containerd = self.containerd;
        let mut names = lock(&containerd.kept);
        if let Some(shell) = names.get(name) {
            return Ok(Container {
                containerd,
                name: name.to_owned(),
                kept: true,
                shell: Arc::clone(shell),
            });
        }
        let mut container = self.start(name)?;
        container.kept = true;
        names.insert(name.to_owned(), Arc::clone(&container.shell));
        Ok(container)
    }
}

/// A running container; it ends with this value, unless it is kept.
#[derive(Debug)]
pub struct Container<'a> {
    containerd: &'a Containerd,
    name: String,
    kept: bool,
    /// Started by the first line that is to run.
    shell: SharedShell,
}

/// The shell in a container, for whoever has the container.
pub(super) type SharedShell = Arc<Mutex<Option<Shell>>>;

/// Every exec in a container wants an id of its own.
static EXECS: AtomicU32 = AtomicU32::new(0);

impl Container<'_> {
    /// The container's name, which is its id too.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a program in the container.
    ///
    /// # Errors
    /// When `ctr` cannot be started. How the program ended is for the caller to judge.
    pub fn exec(&self, command: &[&str]) -> Result<Output> {
        self.exec_with(&[], command)
    }

    /// As [`Container::exec`], with options of `ctr task exec`.
    ///
    /// # Errors
    /// As [`Container::exec`].
    pub fn exec_with(&self, options: &[&str], command: &[&str]) -> Result<Output> {
        let id = format!("e{}", EXECS.fetch_add(1, Ordering::Relaxed));
        let mut arguments = vec!["task", "exec", "--exec-id", &id];
        arguments.extend(options);
        arguments.push(&self.name);
        arguments.extend(command);
        self.containerd.ctr(&arguments)
    }

    /// Starts a `karmor-tries` that does what it is told in the container.
    ///
    /// # Errors
    /// As [`Actor::start`].
    pub fn actor(&self, command: &[&str]) -> Result<Actor> {
        Actor::start(self.exec_command(command))
    }

    fn exec_command(&self, command: &[&str]) -> Command {
        let id = format!("e{}", EXECS.fetch_add(1, Ordering::Relaxed));
        let mut arguments = vec!["task", "exec", "--exec-id", &id, &self.name];
        arguments.extend(command);
        self.containerd.ctr_command(&arguments)
    }

    /// Runs a line of shell in the container. What it starts is a child of the shell, so a
    /// refused exec is the shell's "Permission denied" and exit code 126.
    ///
    /// # Errors
    /// As [`Container::exec`].
    pub fn shell(&self, line: &str) -> Result<Output> {
        self.exec(&["sh", "-c", line])
    }

    /// Runs lines of bash in the container, one after the other and each in a subshell of its own.
    /// What a line starts is a child of that, so a refused exec is bash's "Permission denied". The
    /// bash is the container's, started by the first line.
    ///
    /// # Errors
    /// As [`Container::exec`], and when bash did not get to the end.
    pub fn lines(&self, lines: &[&str]) -> Result<Vec<Output>> {
        let mut shell = lock(&self.shell);
        // One that failed is not asked again.
        let mut running = match shell.take() {
            Some(running) => running,
            None => Shell::start(self.exec_command(&["bash", "-c", shell::PROGRAM]))?,
        };
        let outputs = running.lines(lines)?;
        *shell = Some(running);
        Ok(outputs)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        drop(lock(&self.shell).take());
        // A container that died by itself is as good.
        for arguments in [
            &["task", "kill", "--signal", "SIGKILL", &self.name][..],
            &["task", "delete", "--force", &self.name],
            &["container", "delete", &self.name],
        ] {
            let _ = self.containerd.ctr(arguments);
        }
    }
}
