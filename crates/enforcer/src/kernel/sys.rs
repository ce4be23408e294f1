//! The one system call that aya has no function for.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `BPF_MAP_DELETE_ELEM`.
const DELETE_ELEM: libc::c_long = 3;

/// The part of `union bpf_attr` that element commands use.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Empties a slot of an array of maps.
///
/// # Errors
/// What the kernel says; `NotFound` for a slot that was empty.
pub(super) fn clear_slot(map: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const slot).addr() as u64,
        value: 0,
        flags: 0,
    };
    // SAFETY: `attr` and the key it points to live until the call returns, and its size is passed
    // along; the kernel treats the members beyond it as zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            DELETE_ELEM,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
