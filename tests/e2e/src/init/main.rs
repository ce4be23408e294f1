//! PID 1 of the VM: makes a container host of a bare kernel, runs one command, switches off.
//!
//! ```text
//! /karmor/order.json → mounts → modules → command (stdout, stderr on serial ports) → verdict
//! ```

mod mounts;
mod order;
mod stream;
mod system;

use std::{fs, io::Write as _};

use anyhow::{Context as _, Result};

fn main() {
    let code = match run() {
        Ok((verdict, code)) => {
            say(&format!("{verdict} {code}"));
            code
        }
        Err(error) => {
            // No verdict: the host shows this line with the rest of the console.
            say(&format!("karmor-init: {error:#}"));
            1
        }
    };
    // PID 1 must not return: the kernel would panic. Without power management it does.
    if let Err(error) = system::power_off() {
        say(&format!("karmor-init: cannot switch off: {error}"));
    }
    std::process::exit(code);
}

fn run() -> Result<(String, i32)> {
    // Looked at first: everything below assumes that nobody else uses this system.
    anyhow::ensure!(
        std::process::id() == 1,
        "only runs as PID 1 of the project's VM"
    );
    mounts::leave_rootfs()?;
    mounts::all()?;
    let order = order::read()?;
    system::load_modules("/karmor/modules")?;
    system::configure()?;
    let code = stream::run(&order)?;
    Ok((order.verdict, code))
}

/// Prints one whole line on the kernel console, whatever its log level.
fn say(text: &str) {
    const CRITICAL: &str = "<2>";
    let kmsg = fs::OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .context("no /dev/kmsg");
    let written = kmsg.and_then(|mut kmsg| {
        kmsg.write_all(format!("{CRITICAL}{text}\n").as_bytes())
            .context("cannot write")
    });
    if written.is_err() {
        // Before /dev is mounted, stderr is the console.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
