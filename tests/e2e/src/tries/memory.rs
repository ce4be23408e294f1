//! Mapping files: to write to one without `write`, and to execute one without `execve`.

use std::{fs::File, os::fd::BorrowedFd, path::Path, ptr};

use anyhow::{Context as _, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Less than a page is mapped as one.
const LENGTH: usize = 1;

/// Changes the first byte of a file through a shared mapping.
pub(crate) fn change(file: &File) -> Result<()> {
    // SAFETY: the kernel chooses the address, so that no other mapping is replaced.
    let start = unsafe {
        mmap(
            ptr::null_mut(),
            LENGTH,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            file,
            0,
        )
    }
    .context("cannot map the file")?;
    // SAFETY: the mapping is ours, writable and of this length; the file has a byte, or the signal
    // ends this process, which is a failed attempt.
    unsafe { start.cast::<u8>().write_volatile(b'!') };
    // SAFETY: nothing points into the mapping any more.
    unsafe { munmap(start, LENGTH) }.context("cannot unmap the file")
}

/// Reads the first byte of a file through a private mapping.
pub(crate) fn read(file: BorrowedFd<'_>) -> Result<()> {
    let (prot, flags) = (ProtFlags::READ, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses the address, so that no other mapping is replaced.
    let start = unsafe { mmap(ptr::null_mut(), LENGTH, prot, flags, file, 0) }
        .context("cannot map the file")?;
    // SAFETY: the mapping is ours and of this length; the file has a byte, or the signal ends this
    // process, which is a failed attempt.
    let _byte = unsafe { start.cast::<u8>().read_volatile() };
    // SAFETY: nothing points into the mapping any more.
    unsafe { munmap(start, LENGTH) }.context("cannot unmap the file")
}

/// Maps a file executable, as `ld.so` does; or shared, as it does not.
pub(crate) fn map_executable(file: &Path, flags: MapFlags) -> Result<()> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let prot = ProtFlags::READ | ProtFlags::EXEC;
    // SAFETY: the kernel chooses the address, so that no other mapping is replaced.
    let start = unsafe { mmap(ptr::null_mut(), LENGTH, prot, flags, &opened, 0) }
        .with_context(|| format!("cannot map {}", file.display()))?;
    // SAFETY: nothing points into the mapping.
    unsafe { munmap(start, LENGTH) }.context("cannot unmap the file")
}
