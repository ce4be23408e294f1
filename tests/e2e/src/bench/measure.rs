//! The operations, each repeated until its cheapest round is found.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    net::UdpSocket,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// Measure in this process
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the operations with one of these texts in their name
    names: Vec<String>,
}

/// What one operation costs.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Cost {
    pub(crate) name: String,
    pub(crate) ns: f64,
}

/// The cheapest of so many rounds counts: interrupts only ever add.
const ROUNDS: u32 = 5;

/// Where the files are that are opened; policies do not name it.
const ROOT: &str = "/tmp/karmor-bench";

type Operation = Box<dyn FnMut() -> Result<()>>;

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let mut operations: Vec<(String, u32, Operation)> = Vec::new();
        for depth in [1, 5, 13] {
            operations.push((
                format!("open_close/depth={depth}"),
                3000,
                open_close(depth)?,
            ));
        }
        operations.push(("getppid".to_owned(), 30_000, Box::new(getppid)));
        operations.push(("pwrite".to_owned(), 3000, pwrite()?));
        operations.push(("exec".to_owned(), 40, Box::new(exec)));
        operations.push(("exec_static".to_owned(), 40, exec_static()?));
        operations.push(("connect".to_owned(), 3000, connect()?));
        operations.push(("sendto".to_owned(), 3000, sendto()?));
        operations.push(("capable".to_owned(), 3000, Box::new(capable)));
        for (name, times, mut operation) in operations {
            if !self.names.is_empty() && !self.names.iter().any(|text| name.contains(text)) {
                continue;
            }
            let ns = cheapest(times, &mut operation)?;
            let row = serde_json::to_string(&Cost { name, ns }).context("a row is JSON")?;
            writeln!(std::io::stdout(), "{row}").context("cannot write to stdout")?;
        }
        Ok(())
    }
}

/// Nanoseconds per operation in the cheapest round. The first round warms the caches.
fn cheapest(times: u32, operation: &mut Operation) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..times {
            operation()?;
        }
        let round = start.elapsed().as_secs_f64() * 1e9 / f64::from(times);
        best = best.min(round);
    }
    Ok(best)
}

/// Opens and closes a file whose path has this many components.
fn open_close(depth: usize) -> Result<Operation> {
    let path = path_of(depth);
    let parent = path.parent().context("a file has a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::write(&path, "x").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(move || {
        File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(())
    }))
}

fn path_of(depth: usize) -> std::path::PathBuf {
    if depth == 1 {
        return Path::new("/karmor-bench-file").to_path_buf();
    }
    // The root has two components, the file is one.
    let mut path = Path::new(ROOT).to_path_buf();
    path.extend((3..depth).map(|level| format!("d{level}")));
    path.join("file")
}

fn pwrite() -> Result<Operation> {
    fs::create_dir_all(ROOT).with_context(|| format!("cannot create {ROOT}"))?;
    let path = Path::new(ROOT).join("written");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(Box::new(move || {
        let written = file.write_at(b"x", 0).context("cannot write")?;
        ensure!(written == 1, "one byte was not written");
        Ok(())
    }))
}

/// The least that a system call can be.
fn getppid() -> Result<()> {
    let _ = rustix::process::getppid();
    Ok(())
}

/// Executes a program that opens its libraries.
fn exec() -> Result<()> {
    execute(&mut Command::new("/usr/bin/true"))
}

/// Executes one that opens nothing.
fn exec_static() -> Result<Operation> {
    let this = env::current_exe().context("cannot find this program")?;
    Ok(Box::new(move || {
        execute(Command::new(&this).arg("nothing"))
    }))
}

fn execute(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

/// Connects a datagram socket, which no packet leaves for.
fn connect() -> Result<Operation> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot bind")?;
    let other = UdpSocket::bind("127.0.0.1:0").context("cannot bind")?;
    let address = other.local_addr().context("a socket has an address")?;
    Ok(Box::new(move || {
        socket.connect(address).context("cannot connect")?;
        // Bound until here.
        let _ = &other;
        Ok(())
    }))
}

/// Sends a datagram to a socket that nobody reads: once it is full, it drops what comes.
fn sendto() -> Result<Operation> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot bind")?;
    let other = UdpSocket::bind("127.0.0.1:0").context("cannot bind")?;
    let address = other.local_addr().context("a socket has an address")?;
    Ok(Box::new(move || {
        socket.send_to(b"x", address).context("cannot send")?;
        let _ = &other;
        Ok(())
    }))
}

/// Names the machine, which takes `CAP_SYS_ADMIN`.
fn capable() -> Result<()> {
    rustix::system::sethostname(b"bench").context("cannot name the machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_deep_as_they_say() {
        for depth in [1, 5, 13] {
            // The root directory is a component for Rust, not for us.
            assert_eq!(path_of(depth).components().count() - 1, depth);
        }
    }

    #[test]
    fn the_cheapest_round_is_positive() {
        let mut operation: Operation = Box::new(|| Ok(()));
        assert!(cheapest(10, &mut operation).unwrap() >= 0.0);
    }
}
