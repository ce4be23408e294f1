//! Element commands of `bpf(2)` that aya has no function for: emptying a slot of an array of maps,
//! and reading a value too large for the stack. And giving memory back.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `BPF_MAP_LOOKUP_ELEM`.
const LOOKUP_ELEM: libc::c_long = 1;
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

fn element(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: u32,
    value: *mut libc::c_void,
) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const key).addr() as u64,
        value: value.addr() as u64,
        flags: 0,
    };
    // SAFETY: `attr`, the key and the value live until the call returns. `attr`'s size is passed
    // along; the kernel takes the members beyond it as zero. The callers vouch for the size of the
    // value.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of_val(&attr)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Empties a slot of an array of maps.
///
/// # Errors
/// What the kernel says; `NotFound` for a slot that was empty.
pub(super) fn clear_slot(map: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
    element(DELETE_ELEM, map, slot, std::ptr::null_mut())
}

/// Id of the map in a slot of an array of maps.
///
/// # Errors
/// What the kernel says; `NotFound` for an empty slot.
pub(super) fn map_in_slot(map: BorrowedFd<'_>, slot: u32) -> io::Result<u32> {
    let mut id = 0u32;
    element(LOOKUP_ELEM, map, slot, (&raw mut id).cast())?;
    Ok(id)
}

/// Reads the only element of an array whose value has exactly the size of `words`.
///
/// # Errors
/// What the kernel says.
pub(super) fn read_words(map: BorrowedFd<'_>, words: &mut [u64]) -> io::Result<()> {
    element(LOOKUP_ELEM, map, 0, words.as_mut_ptr().cast())
}

/// Lets threads share memory. By default each of the first few gets a heap of its own, and those that
/// look into containers come and go.
pub(super) fn share_heaps() {
    // SAFETY: takes no pointers, and is safe to call at any time in any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2)
    };
}

/// Gives the memory that was freed back to the kernel. The allocator keeps what the reading of the
/// kernel's types took at the start, many times what the daemon needs afterwards.
pub(super) fn trim() {
    // SAFETY: takes no pointers, and is safe to call at any time in any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
