//! Being another program by its name: in a mount namespace that anybody may make for themselves.

use std::{
    ffi::CString, fs, io, os::unix::ffi::OsStrExt as _, os::unix::process::CommandExt as _,
    path::Path, process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// A user and a group that are nobody's.
const NOBODY: libc::uid_t = 4711;

/// Reads a file by this very program, where another is; as root of a user namespace.
pub(crate) fn read_as(program: &Path, file: &Path) -> Result<()> {
    let own = std::env::current_exe().context("cannot find the own program")?;
    let [from, onto] = [&*own, program].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (from, onto) = (from?, onto?);
    // SAFETY: numbers, and texts that outlive the calls.
    unsafe {
        ensure!(
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(NOBODY) == 0
                && libc::setuid(NOBODY) == 0,
            "cannot become nobody: {}",
            io::Error::last_os_error()
        );
        // Who changes users does not own their files in /proc any more.
        libc::prctl(libc::PR_SET_DUMPABLE, 1);
        ensure!(
            libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) == 0,
            "cannot make namespaces: {}",
            io::Error::last_os_error()
        );
    }
    fs::write("/proc/self/setgroups", "deny").context("cannot give up groups")?;
    fs::write("/proc/self/uid_map", format!("0 {NOBODY} 1")).context("cannot become root")?;
    // SAFETY: as above.
    let mounted = unsafe {
        libc::mount(
            from.as_ptr(),
            onto.as_ptr(),
            std::ptr::null(),
            libc::MS_BIND,
            std::ptr::null(),
        )
    };
    ensure!(
        mounted == 0,
        "cannot mount over {}: {}",
        program.display(),
        io::Error::last_os_error()
    );
    let error = Command::new(program).args(["act", "read"]).arg(file).exec();
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
}
