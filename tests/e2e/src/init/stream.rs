//! Running the command with its output on serial ports, and reaping whatever it leaves behind.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, WaitOptions, wait},
    termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr},
};

use crate::order::Order;

/// As a shell reports a program that could not be started.
const NOT_STARTED: i32 = 127;

/// Runs the command to its end and returns its exit code, 128 + N for signal N.
pub(crate) fn run(order: &Order) -> Result<i32> {
    let (stdout, stderr, data) = (
        serial(&order.stdout)?,
        serial(&order.stderr)?,
        serial(&order.data)?,
    );
    let finished = Arc::new(AtomicBool::new(false));
    let (out_pump, out) = pump(stdout, &finished)?;
    let (err_pump, err) = pump(stderr.try_clone().context("cannot copy a file")?, &finished)?;

    let (program, arguments) = order.command.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment(order))
        .current_dir("/root");
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let code = match command.spawn() {
        Ok(child) => reap_until(Pid::from_child(&child))?,
        Err(error) => {
            writeln!(&stderr, "karmor-init: cannot start {program}: {error}")
                .context("cannot write to a serial port")?;
            NOT_STARTED
        }
    };
    // Closes this process's write ends of the pipes.
    drop(command);
    finished.store(true, Ordering::Release);
    for pump in [out_pump, err_pump] {
        // A panic was printed on the console already.
        let _ = pump.join();
    }
    tcdrain(&data).context("cannot flush the data port")?;
    Ok(code)
}

fn environment(order: &Order) -> BTreeMap<&str, &str> {
    let mut variables = BTreeMap::from([
        ("HOME", "/root"),
        ("KARMOR_DATA", order.data.as_str()),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/local/bin:/usr/bin:/usr/sbin"),
        ("RUST_BACKTRACE", "1"),
        // For panics, not for errors: those say where they come from themselves.
        ("RUST_LIB_BACKTRACE", "0"),
        ("TERM", "dumb"),
        ("USER", "root"),
    ]);
    variables.extend(
        order
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    variables
}

/// Opens a serial port that passes bytes as they are.
fn serial(path: &str) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {path}"))?;
    let mut settings =
        tcgetattr(&file).with_context(|| format!("cannot read the settings of {path}"))?;
    settings.make_raw();
    tcsetattr(&file, OptionalActions::Now, &settings)
        .with_context(|| format!("cannot set {path} to raw"))?;
    Ok(file)
}

/// Copies a pipe to a serial port on a thread of its own.
///
/// A daemon that the command left behind may hold the pipe open for ever, so the end is: the
/// command has ended and the pipe is empty.
fn pump(port: File, finished: &Arc<AtomicBool>) -> Result<(JoinHandle<()>, Stdio)> {
    let (mut reader, writer) = std::io::pipe().context("cannot create a pipe")?;
    let finished = Arc::clone(finished);
    let thread = std::thread::spawn(move || {
        let mut port = port;
        let mut buffer = vec![0; 4096];
        loop {
            // Read before the pipe is looked at: nothing written before the end is missed.
            let last = finished.load(Ordering::Acquire);
            let mut ready = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            match poll(&mut ready, Some(&patience)) {
                Ok(0) if last => break,
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => break,
            }
            match reader.read(&mut buffer) {
                Ok(count @ 1..) if port.write_all(&buffer[..count]).is_ok() => {}
                _ => break,
            }
        }
        // An error here means that the host went away.
        let _ = tcdrain(&port);
    });
    Ok((thread, writer.into()))
}

/// Waits for every child that ends, as PID 1 must, until this one does.
fn reap_until(child: Pid) -> Result<i32> {
    loop {
        let (pid, status) = match wait(WaitOptions::empty()) {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for the command"),
        };
        if pid != child {
            continue;
        }
        if let Some(code) = status.exit_status() {
            return Ok(code);
        }
        if let Some(signal) = status.terminating_signal() {
            return Ok(128 + signal);
        }
    }
}
