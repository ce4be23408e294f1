//! Starting QEMU and watching it until the guest's verdict, its breakdown or the deadline.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    accel::Accel,
    console::{Console, VERDICT},
    ports::{Port, pump},
};
use crate::{
    cache::Cache,
    guest::{self, Layer, Order},
    kernel::Kernel,
    programs::Programs,
    shell,
};

/// The security modules of a Debian kernel, with BPF last.
const LSM: &str = "landlock,lockdown,yama,integrity,apparmor,bpf";

/// How long a guest that gave its verdict may take to switch itself off.
const POWER_OFF: Duration = Duration::from_secs(30);

/// Where a stream of the guest goes.
pub(crate) type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A VM to be.
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
    pub(crate) accel: Accel,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    /// Added to the kernel's command line.
    pub(crate) append: String,
    pub(crate) timeout: Duration,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Host path and absolute guest path of our programs.
    pub(crate) programs: Vec<(PathBuf, String)>,
    /// The same for files that are taken as they are.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// The program that becomes PID 1.
    pub(crate) init: PathBuf,
    /// Copies the kernel console here.
    pub(crate) console: Option<Sink>,
}

/// How a VM ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The command's exit code.
    pub(crate) code: i32,
    /// What the command wrote to the data port.
    pub(crate) data: Vec<u8>,
}

impl Machine {
    /// A VM with two CPUs that emulates, runs `true`, and has our programs in its path.
    pub(crate) fn new(kernel: Kernel, built: &Programs) -> Result<Self> {
        Ok(Self {
            kernel,
            accel: Accel::Tcg,
            cpus: 2,
            memory_mib: 3072,
            append: String::new(),
            timeout: Duration::from_secs(600),
            command: vec!["true".to_owned()],
            environment: Vec::new(),
            programs: built.guest_paths(),
            files: Vec::new(),
            init: built.init()?,
            console: None,
        })
    }

    /// Boots, runs the command, and returns when the VM is gone.
    ///
    /// # Errors
    /// When QEMU does not start, the guest does not come to a verdict in time, or its kernel
    /// shows a fault, whatever the command returned.
    pub(crate) fn run(mut self, cache: &Cache, stdout: Sink, stderr: Sink) -> Result<Ended> {
        let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
        let initrd = directory.path().join("initrd");
        self.pack(cache, &initrd)?;

        let ports = ["console", "stdout", "stderr", "data"]
            .map(|name| Port::bind(directory.path(), name).map(|port| (name, port)));
        let mut command = self.qemu(&initrd)?;
        let mut bound = Vec::new();
        for port in ports {
            let (name, port) = port?;
            command.arg("-chardev").arg(port.chardev(name));
            command.arg("-serial").arg(format!("chardev:{name}"));
            bound.push(port);
        }
        let log = directory.path().join("qemu.log");
        let file =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let text = shell::display(&command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{text}`"))?;
        let deadline = Instant::now() + self.timeout;
        let mut running = Running { child, text, log };

        let streams = running.connect(&bound, deadline)?;
        let [console_port, stdout_port, stderr_port, data_port] = streams;
        let console = Arc::new(Mutex::new(Console::default()));
        let data = Arc::new(Mutex::new(Vec::new()));
        let (seen, kept) = (Arc::clone(&console), Arc::clone(&data));
        let mut echo = self.console.take();
        let pumps = [
            pump(console_port, move |bytes| {
                // The guest has it by now. An interrupt kills this process, and nobody would
                // tidy up after it; that it is gone already is fine.
                let _ = std::fs::remove_file(&initrd);
                lock(&seen).feed(bytes);
                if let Some(echo) = &mut echo {
                    echo(bytes);
                }
            }),
            pump(stdout_port, stdout),
            pump(stderr_port, stderr),
            pump(data_port, move |bytes| lock(&kept).extend_from_slice(bytes)),
        ];
        let waited = running.wait(&console, deadline, self.timeout);
        drop(running);
        for pump in pumps {
            // Pumps end with QEMU; a panic in a sink was printed already.
            let _ = pump.join();
        }
        let mut console = std::mem::take(&mut *lock(&console));
        console.end_line();
        let data = std::mem::take(&mut *lock(&data));
        if let Err(error) = waited {
            bail!(with_console(
                &format!("the VM did not end well: {error:#}"),
                &console
            ));
        }
        if !console.broken.is_empty() {
            bail!(with_console("the guest's kernel showed a fault", &console));
        }
        match console.verdict {
            Some(code) => Ok(Ended { code, data }),
            None => bail!(with_console("the VM ended without a verdict", &console)),
        }
    }

    /// Writes the initramfs: the base, then this boot's layer.
    fn pack(&self, cache: &Cache, initrd: &Path) -> Result<()> {
        let order = Order {
            command: self.command.clone(),
            environment: self.environment.iter().cloned().collect(),
            stdout: "/dev/ttyS1",
            stderr: "/dev/ttyS2",
            data: "/dev/ttyS3",
            verdict: VERDICT,
        };
        let mut layer = Layer::new(&self.init, &order, &self.kernel)?;
        for (host, guest) in &self.programs {
            layer.program(guest, host)?;
        }
        for (host, guest) in &self.files {
            layer.file(guest, host)?;
        }
        layer.images(&guest::images(cache)?)?;
        let base = guest::base(cache)?;
        std::fs::copy(&base, initrd)
            .with_context(|| format!("cannot copy {} to {}", base.display(), initrd.display()))?;
        let file = File::options()
            .append(true)
            .open(initrd)
            .with_context(|| format!("cannot open {}", initrd.display()))?;
        let mut file = std::io::BufWriter::new(file);
        layer.write(&mut file)?;
        file.flush()
            .with_context(|| format!("cannot write {}", initrd.display()))
    }

    fn qemu(&self, initrd: &Path) -> Result<Command> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.args(self.accel.arguments());
        command.arg("-smp").arg(self.cpus.to_string());
        command.arg("-m").arg(format!("{}M", self.memory_mib));
        command.arg("-kernel").arg(self.kernel.image()?);
        command.arg("-initrd").arg(initrd);
        command.arg("-append").arg(self.kernel_arguments());
        Ok(command)
    }

    fn kernel_arguments(&self) -> String {
        // Emulation on a busy machine is slow enough for the default watchdogs to bark.
        let patience = "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120";
        let mut text = format!("console=ttyS0 quiet panic=-1 {patience}");
        if !self
            .append
            .split_whitespace()
            .any(|word| word.starts_with("lsm="))
        {
            text.push_str(" lsm=");
            text.push_str(LSM);
        }
        if !self.append.is_empty() {
            text.push(' ');
            text.push_str(&self.append);
        }
        text
    }
}

/// A QEMU process; it ends with this value.
struct Running {
    child: Child,
    text: String,
    log: PathBuf,
}

impl Running {
    fn connect(
        &mut self,
        ports: &[Port],
        deadline: Instant,
    ) -> Result<[std::os::unix::net::UnixStream; 4]> {
        let mut streams = Vec::new();
        while streams.len() < ports.len() {
            match ports[streams.len()].accept()? {
                Some(stream) => streams.push(stream),
                None => {
                    self.check_alive()?;
                    if Instant::now() > deadline {
                        bail!("`{}` did not open its serial ports", self.text);
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        streams
            .try_into()
            .ok()
            .context("four ports make four streams")
    }

    fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait().context("cannot wait for QEMU")? {
            None => Ok(()),
            Some(status) => bail!("`{}` failed ({status})\n{}", self.text, self.said()),
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until QEMU has ended by itself.
    fn wait(
        &mut self,
        console: &Mutex<Console>,
        mut deadline: Instant,
        timeout: Duration,
    ) -> Result<()> {
        let mut decided = false;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for QEMU")? {
                if !status.success() {
                    bail!("`{}` failed ({status})\n{}", self.text, self.said());
                }
                return Ok(());
            }
            if !decided && lock(console).verdict.is_some() {
                decided = true;
                deadline = Instant::now() + POWER_OFF;
            }
            if Instant::now() > deadline {
                if decided {
                    bail!("the guest did not switch itself off within {POWER_OFF:?}");
                }
                bail!("no verdict within {} s", timeout.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that is gone, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicked thread left behind is still worth showing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message with the fault and the end of the console.
fn with_console(text: &str, console: &Console) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = console.log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let mut message = text.to_owned();
    for line in &console.broken {
        message.push_str("\n  ");
        message.push_str(line);
    }
    message.push_str("\nthe end of the kernel console:\n");
    message.push_str(if tail.is_empty() {
        "  (nothing was printed)"
    } else {
        &tail
    });
    message
}
