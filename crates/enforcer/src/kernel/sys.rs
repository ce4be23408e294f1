//! Commands of `bpf(2)` that aya has no function for: emptying a slot of an array of maps, reading a
//! value too large for the stack, asking whether there is something of an id, and attaching to a cgroup
//! without a link. And giving memory back.

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
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const key).addr() as u64,
        value: value.addr() as u64,
        flags: 0,
    };
    // SAFETY: the key and the value live until the call returns. The callers vouch for the size of
    // the value.
    unsafe { bpf(command, &mut attr) }
}

/// `bpf(2)`, for commands that return nothing.
///
/// # Safety
/// `T` is as much of `union bpf_attr` as the command uses; what it points to lives until the call
/// returns and is as large as the command takes it to be.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: the caller's; `attr`'s size is passed along, and the kernel takes the members beyond
    // it as zero.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of_val(attr)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `BPF_PROG_GET_NEXT_ID`.
const PROG_GET_NEXT_ID: libc::c_long = 11;
/// `BPF_MAP_GET_NEXT_ID`.
const MAP_GET_NEXT_ID: libc::c_long = 12;

/// The part of `union bpf_attr` that walks over ids.
#[repr(C)]
struct IdAttr {
    start: u32,
    next: u32,
    flags: u32,
}

/// Whether there is a map of this id. It is not opened for that.
pub(super) fn map_exists(id: u32) -> bool {
    exists(MAP_GET_NEXT_ID, id)
}

/// Whether there is a program of this id.
pub(super) fn program_exists(id: u32) -> bool {
    exists(PROG_GET_NEXT_ID, id)
}

fn exists(command: libc::c_long, id: u32) -> bool {
    let Some(start) = id.checked_sub(1) else {
        return false;
    };
    let mut attr = IdAttr {
        start,
        next: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes `next`, and is pointed to nothing.
    let found = unsafe { bpf(command, &mut attr) };
    found.is_ok() && attr.next == id
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

/// `BPF_PROG_ATTACH`.
const PROG_ATTACH: libc::c_long = 8;
/// `BPF_PROG_DETACH`.
const PROG_DETACH: libc::c_long = 9;
/// `BPF_F_ALLOW_MULTI`: beside those of others, here and below.
const ALLOW_MULTI: u32 = 1 << 1;

/// The part of `union bpf_attr` that attaches.
#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Attaches a program to a cgroup, beside those of others. There is no link, which whoever knows its id
/// could detach or give another program: to detach this takes a descriptor of the program.
///
/// # Errors
/// What the kernel says; `PermissionDenied` when somebody has attached there for themselves alone.
pub(super) fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, kind: u32) -> io::Result<()> {
    attachment(PROG_ATTACH, cgroup, program, kind, ALLOW_MULTI)
}

/// Detaches it.
///
/// # Errors
/// What the kernel says; `NotFound` when it is not attached.
pub(super) fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, kind: u32) -> io::Result<()> {
    attachment(PROG_DETACH, cgroup, program, kind, 0)
}

fn attachment(
    command: libc::c_long,
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    kind: u32,
    flags: u32,
) -> io::Result<()> {
    let mut attr = AttachAttr {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind,
        flags,
    };
    // SAFETY: numbers only.
    unsafe { bpf(command, &mut attr) }
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
