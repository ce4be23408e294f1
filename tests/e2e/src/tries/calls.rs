//! Making system calls by name.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt as _, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

/// A system call that changes nothing, or one about a path.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Call {
    /// Asks for the priority
    Getpriority,
    /// Asks for a timer
    Getitimer,
    /// Asks for times
    Times,
    /// Opens
    Openat,
    /// Makes a directory
    Mkdirat,
    /// Removes a directory
    Rmdir,
    /// Removes a file, or a directory as `rmdir` does
    Unlinkat,
    /// Gives a file every permission
    Fchmodat,
    /// Gives a file another name, with `.new` at its end
    Renameat2,
}

/// Makes it once.
pub(crate) fn make(call: Call, path: Option<&Path>) -> Result<()> {
    let name = |ending: &str| {
        let mut bytes = path
            .map_or(&b"."[..], |path| path.as_os_str().as_bytes())
            .to_vec();
        bytes.extend(ending.as_bytes());
        CString::new(bytes).context("a path has no NUL")
    };
    let (path, new) = (name("")?, name(".new")?);
    let at = libc::AT_FDCWD;
    // SAFETY: the texts end in NUL, and the buffers are as long as the kernel's structs.
    let result = unsafe {
        let mut buffer = [0u64; 16];
        match call {
            Call::Getpriority => libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0),
            Call::Getitimer => libc::syscall(libc::SYS_getitimer, 0, buffer.as_mut_ptr()),
            Call::Times => libc::syscall(libc::SYS_times, buffer.as_mut_ptr()),
            Call::Openat => libc::syscall(
                libc::SYS_openat,
                at,
                path.as_ptr(),
                libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC,
                0o600,
            ),
            Call::Mkdirat => libc::syscall(libc::SYS_mkdirat, at, path.as_ptr(), 0o700),
            #[cfg(target_arch = "x86_64")]
            Call::Rmdir => libc::syscall(libc::SYS_rmdir, path.as_ptr()),
            #[cfg(not(target_arch = "x86_64"))]
            Call::Rmdir => libc::syscall(libc::SYS_unlinkat, at, path.as_ptr(), libc::AT_REMOVEDIR),
            Call::Unlinkat => libc::syscall(libc::SYS_unlinkat, at, path.as_ptr(), 0),
            Call::Fchmodat => libc::syscall(libc::SYS_fchmodat, at, path.as_ptr(), 0o777),
            Call::Renameat2 => {
                libc::syscall(libc::SYS_renameat2, at, path.as_ptr(), at, new.as_ptr(), 0)
            }
        }
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("{call:?}"));
    }
    Ok(())
}

/// Makes the system call of this number as a 32-bit program does.
#[cfg(target_arch = "x86_64")]
pub(crate) fn make_compat(number: u32) -> Result<()> {
    let result: u32;
    // SAFETY: the calls that are tried take numbers only, and change nothing. The compiler keeps `rbx`
    // to itself, and the kernel leaves zeroes in the others.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "xor ebx, ebx",
            "int 0x80",
            "pop rbx",
            inlateout("eax") number => result,
            in("ecx") 0,
            in("edx") 0,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    let error = result.cast_signed();
    if error < 0 {
        return Err(io::Error::from_raw_os_error(-error)).context("system call of 32 bits");
    }
    Ok(())
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn make_compat(_number: u32) -> Result<()> {
    anyhow::bail!("nothing here makes system calls of 32-bit programs")
}
