//! Executing with arguments that somebody minds.

use std::{
    ffi::{CString, OsString},
    hint,
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, ExitStatus},
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};

/// `SIGKILL`.
const KILL: i32 = 9;

/// Executes a program that is open, by no name.
pub(crate) fn descriptor(program: &Path, arguments: &[OsString]) -> Result<()> {
    let file = rustix::fs::open(program, OFlags::PATH, Mode::empty())
        .with_context(|| format!("cannot open {}", program.display()))?;
    let texts = [program.as_os_str()]
        .into_iter()
        .chain(arguments.iter().map(OsString::as_os_str))
        .map(|text| CString::new(text.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let pointers: Vec<_> = texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([ptr::null()])
        .collect();
    let environment = [ptr::null::<libc::c_char>()];
    // SAFETY: both lists end with a null pointer, and live with their texts until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            std::os::fd::AsRawFd::as_raw_fd(&file),
            c"".as_ptr(),
            pointers.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Err(io::Error::last_os_error()).context("cannot execute the open file")
}

/// How executions ended.
#[derive(Default)]
struct Fates {
    refused: u32,
    killed: u32,
    ran: u32,
}

impl Fates {
    fn count(&mut self, status: ExitStatus) -> Result<()> {
        match (status.signal(), status.code()) {
            (Some(KILL), _) => self.killed += 1,
            (_, Some(0)) => self.ran += 1,
            _ => bail!("a program ended with {status}"),
        }
        Ok(())
    }

    fn tell(&self) -> Result<()> {
        let Self {
            refused,
            killed,
            ran,
        } = self;
        writeln!(io::stdout(), "{refused} {killed} {ran}").context("cannot write to stdout")
    }
}

/// Executes a program while another thread writes one argument after the other where the kernel
/// reads it. Each is seven bytes and a NUL: one store.
pub(crate) fn race(program: &Path, arguments: [&str; 2], rounds: u32) -> Result<()> {
    let mut words = [0; 2];
    for (word, text) in words.iter_mut().zip(arguments) {
        ensure!(text.len() == 7, "{text} has not seven bytes");
        let mut bytes = [0; 8];
        bytes[..7].copy_from_slice(text.as_bytes());
        *word = u64::from_ne_bytes(bytes);
    }
    let path = CString::new(program.as_os_str().as_bytes())?;
    // What it is called by is what busybox does.
    let name = program.file_name().context("the program has no name")?;
    let name = CString::new(name.as_bytes())?;
    let argument = AtomicU64::new(words[0]);
    let done = AtomicBool::new(false);
    let mut fates = Fates::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut pause = 1;
            while !done.load(Relaxed) {
                for word in words {
                    argument.store(word, Relaxed);
                    // In step with nothing.
                    pause = pause * 1103 % 8009;
                    (0..pause).for_each(|_| hint::spin_loop());
                }
            }
        });
        let result = (0..rounds).try_for_each(|_| {
            let pointers = [
                name.as_ptr().cast_mut(),
                argument.as_ptr().cast(),
                ptr::null_mut(),
            ];
            spawn(&path, &pointers, &mut fates)
        });
        done.store(true, Relaxed);
        result
    })?;
    fates.tell()?;
    Ok(())
}

/// Executes in a child that shares this process's memory until then.
fn spawn(path: &CString, arguments: &[*mut libc::c_char; 3], fates: &mut Fates) -> Result<()> {
    let mut child = 0;
    let environment = [ptr::null_mut()];
    // SAFETY: both lists end with a null pointer and live until the call returns; texts end with a
    // NUL whoever writes them meanwhile.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut child,
            path.as_ptr(),
            ptr::null(),
            ptr::null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    if error == libc::EACCES {
        fates.refused += 1;
        return Ok(());
    }
    ensure!(error == 0, "{}", io::Error::from_raw_os_error(error));
    let mut status = 0;
    // SAFETY: the status lives until the call returns.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(waited == child, "{}", io::Error::last_os_error());
    fates.count(ExitStatus::from_raw(status))
}

/// Executes a program that may and one that may not, until told to stop.
pub(crate) fn storm(good: &Path, evil: &Path, stop: &Path) -> Result<()> {
    let run = |program: &Path| -> Result<Fates> {
        let mut fates = Fates::default();
        match Command::new(program).status() {
            Ok(status) => fates.count(status)?,
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => fates.refused += 1,
            Err(error) => return Err(error).context("cannot execute"),
        }
        Ok(fates)
    };
    let mut all = Fates::default();
    while !stop.exists() {
        let fates = run(good)?;
        ensure!(
            fates.ran == 1,
            "what may run was refused or killed after {}",
            all.ran
        );
        all.ran += 1;
        let fates = run(evil)?;
        ensure!(
            fates.ran == 0,
            "what may not run did so after {}",
            all.killed
        );
        all.refused += fates.refused;
        all.killed += fates.killed;
    }
    all.tell()?;
    Ok(())
}
