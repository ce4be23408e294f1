//! What ends a process, or keeps it from its work, without a signal of one's own. What is set is what
//! was there, and whom the signal stops goes on at once.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

/// What is done.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum How {
    /// Have a pipe stop it, and see whether it stops
    Sigio,
    /// Set its limit of CPU time
    Limit,
    /// Set how it is scheduled
    Schedule,
    /// Set its priority
    Nice,
    /// Set the priority of its input and output
    IoPriority,
}

/// `F_SETSIG`
const SETSIG: libc::c_int = 10;

/// How long a process may take to stop.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn try_it(how: How, process: i32) -> Result<()> {
    match how {
        How::Sigio => sigio(process),
        How::Limit => limit(process).context("cannot set the limit"),
        How::Schedule => schedule(process).context("cannot set how it is scheduled"),
        How::Nice => nice(process).context("cannot set the priority"),
        How::IoPriority => io_priority(process).context("cannot set the priority of its output"),
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The signal comes when something can be read. Nobody is told whether it came, but who got it stops.
fn sigio(process: i32) -> Result<()> {
    let mut ends = [0; 2];
    // SAFETY: numbers and memory for two descriptors.
    unsafe {
        done(libc::pipe(ends.as_mut_ptr())).context("cannot make a pipe")?;
        done(libc::fcntl(ends[0], libc::F_SETOWN, process)).context("cannot give it away")?;
        done(libc::fcntl(ends[0], SETSIG, libc::SIGSTOP)).context("cannot choose the signal")?;
        done(libc::fcntl(ends[0], libc::F_SETFL, libc::O_ASYNC)).context("cannot ask for it")?;
        let written = libc::write(ends[1], b"x".as_ptr().cast(), 1);
        done(libc::c_int::try_from(written)?).context("cannot write")?;
    }
    let stopped = stops(process);
    // The pipe's end would be another signal.
    // SAFETY: numbers only.
    done(unsafe { libc::fcntl(ends[0], libc::F_SETFL, 0) }).context("cannot ask for no more")?;
    ensure!(stopped?, "the signal did not come");
    // SAFETY: numbers only.
    done(unsafe { libc::kill(process, libc::SIGCONT) }).context("cannot have it go on")
}

/// Whether a process stops in time.
fn stops(process: i32) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while !is_stopped(process)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// Whether a process is stopped by a signal.
fn is_stopped(process: i32) -> Result<bool> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // Behind the name, which may be anything.
    let state = text.rsplit(')').next().map(str::trim_start);
    Ok(state.is_some_and(|state| state.starts_with('T')))
}

fn limit(process: i32) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: memory for a limit.
    unsafe {
        let kind = libc::RLIMIT_CPU;
        done(libc::prlimit(
            process,
            kind,
            std::ptr::null(),
            &raw mut limit,
        ))?;
        done(libc::prlimit(
            process,
            kind,
            &raw const limit,
            std::ptr::null_mut(),
        ))
    }
}

fn schedule(process: i32) -> io::Result<()> {
    // SAFETY: memory for the parameters.
    unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        let policy = libc::sched_getscheduler(process);
        done(policy)?;
        done(libc::sched_getparam(process, &raw mut parameters))?;
        done(libc::sched_setscheduler(
            process,
            policy,
            &raw const parameters,
        ))
    }
}

fn nice(process: i32) -> io::Result<()> {
    let process = libc::id_t::try_from(process).map_err(io::Error::other)?;
    // SAFETY: numbers only.
    unsafe {
        let priority = libc::getpriority(libc::PRIO_PROCESS, process);
        done(libc::setpriority(libc::PRIO_PROCESS, process, priority))
    }
}

fn io_priority(process: i32) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: numbers only.
    unsafe {
        let priority = libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, process);
        let set = libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, process, priority);
        done(libc::c_int::try_from(set).map_err(io::Error::other)?)
    }
}

/// Has another file count as the image of this process. The kernel refuses that for as long as the old
/// one is mapped, which is enough to know that nobody else does.
pub(crate) fn take_image(file: &Path) -> Result<()> {
    let image = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    // SAFETY: numbers only.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_MM,
            libc::PR_SET_MM_EXE_FILE,
            image.as_raw_fd(),
            0,
            0,
        )
    };
    let error = io::Error::last_os_error();
    ensure!(
        result == 0 || error.raw_os_error() == Some(libc::EBUSY),
        "cannot take another image: {error}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_signal_that_comes_is_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = i32::try_from(child.id()).unwrap();
        let outcome = sigio(process);
        let is_stopped = is_stopped(process).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        outcome.unwrap();
        assert!(!is_stopped, "it goes on");
        // Nobody is there to get another one.
        sigio(process).unwrap_err();
    }
}
