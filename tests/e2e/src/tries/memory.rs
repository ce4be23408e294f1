//! Writing to a file without `write`.

use std::{fs::File, ptr};

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
