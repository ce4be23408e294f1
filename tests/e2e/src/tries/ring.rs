//! System calls by way of io_uring.

use std::{
    ffi::CString,
    net::SocketAddr,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::{
    io::{self, Errno},
    io_uring::{IoringEnterFlags, io_uring_enter, io_uring_params, io_uring_setup},
    mm::{MapFlags, ProtFlags, mmap},
    net::addr::SocketAddrArg as _,
};

/// Where the kernel shows its rings, and the requests (`IORING_OFF_SQES`).
const RINGS: u64 = 0;
const REQUESTS: u64 = 0x1000_0000;

/// Bytes of a request.
const REQUEST_BYTES: usize = 64;

/// `IORING_OP_*`.
const CONNECT: u8 = 16;
const READ: u8 = 22;
const WRITE: u8 = 23;
const OPENAT: u8 = 18;
const RENAMEAT: u8 = 35;
const UNLINKAT: u8 = 36;
const LINKAT: u8 = 39;

/// `IOSQE_ASYNC`: by a thread of the kernel's, not by whoever asks.
const ASYNC: u8 = 1 << 4;

/// What is done to a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum How {
    /// Open it for reading
    Read,
    /// Open it for writing
    Write,
    /// Give it another name as well
    Link,
    /// Give it another name
    Rename,
    /// Remove it
    Unlink,
}

/// Part of `struct io_uring_sqe`.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    operation: u8,
    flags: u8,
    fd: i32,
    /// `off`, or `addr2`.
    second: u64,
    address: u64,
    len: u32,
    /// `open_flags` and others.
    options: u32,
}

impl Request {
    fn bytes(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0] = self.operation;
        bytes[1] = self.flags;
        bytes[4..8].copy_from_slice(&self.fd.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.second.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.address.to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_ne_bytes());
        bytes[28..32].copy_from_slice(&self.options.to_ne_bytes());
        bytes
    }
}

/// Does something to a file; `to` is its new name.
pub(crate) fn act(how: How, file: &Path, to: Option<&Path>, by_worker: bool) -> Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).context("a NUL in a path");
    let (old, new) = (text(file)?, text(to.unwrap_or(Path::new("")))?);
    let request = Request {
        flags: if by_worker { ASYNC } else { 0 },
        fd: libc::AT_FDCWD,
        address: old.as_ptr().addr() as u64,
        ..Request::default()
    };
    let renaming = Request {
        second: new.as_ptr().addr() as u64,
        len: libc::AT_FDCWD.cast_unsigned(),
        ..request
    };
    let opening = |flags: i32| Request {
        operation: OPENAT,
        options: flags.cast_unsigned(),
        ..request
    };
    let request = match how {
        How::Read => opening(libc::O_RDONLY),
        How::Write => opening(libc::O_WRONLY),
        How::Unlink => Request {
            operation: UNLINKAT,
            ..request
        },
        How::Rename => Request {
            operation: RENAMEAT,
            ..renaming
        },
        How::Link => Request {
            operation: LINKAT,
            ..renaming
        },
    };
    // SAFETY: the texts live until the request is done.
    unsafe { submit(request)? }.with_context(|| format!("cannot {how:?} {}", file.display()))
}

/// Reads or writes a byte of an open file.
pub(crate) fn move_bytes(file: BorrowedFd<'_>, writes: bool) -> Result<()> {
    let mut byte = [b'x'];
    let request = Request {
        operation: if writes { WRITE } else { READ },
        fd: file.as_raw_fd(),
        address: byte.as_mut_ptr().addr() as u64,
        len: 1,
        ..Request::default()
    };
    // SAFETY: the byte lives until the request is done.
    unsafe { submit(request)? }.context("cannot move a byte")
}

/// Connects; the outer result is about the ring.
pub(crate) fn connect(socket: &OwnedFd, address: SocketAddr) -> Result<io::Result<()>> {
    // SAFETY: the address lives until the request is done.
    unsafe {
        address.with_sockaddr(|pointer, len| {
            submit(Request {
                operation: CONNECT,
                fd: socket.as_raw_fd(),
                second: u64::from(len),
                address: pointer.addr() as u64,
                ..Request::default()
            })
        })
    }
}

/// Makes a request and waits until it is done; the outer result is about the ring.
///
/// # Safety
/// What the request's addresses lead to must last until this returns.
unsafe fn submit(request: Request) -> Result<io::Result<()>> {
    // SAFETY: all zero is what asks for nothing special.
    let mut params: io_uring_params = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the parameters and nothing else.
    let ring = unsafe { io_uring_setup(1, &mut params) }.context("cannot make a ring")?;
    let (sq, cq) = (params.sq_off, params.cq_off);
    let length = (sq.array + 4).max(cq.cqes + 32) as usize;
    let map = |length: usize, offset: u64| {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so that no other mapping is replaced.
        unsafe {
            mmap(
                ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED,
                &ring,
                offset,
            )
        }
        .context("cannot map the ring")
    };
    let rings = map(length, RINGS)?.cast::<u8>();
    let requests = map(REQUEST_BYTES, REQUESTS)?.cast::<u8>();
    // SAFETY: what is written and read lies in the mappings, at the places the kernel named; they
    // last as long as this process.
    unsafe {
        ptr::copy_nonoverlapping(request.bytes().as_ptr(), requests, REQUEST_BYTES);
        rings
            .add(sq.array as usize)
            .cast::<u32>()
            .write_unaligned(0);
        let tail: *const AtomicU32 = rings.add(sq.tail as usize).cast();
        (*tail).fetch_add(1, Ordering::Release);
        io_uring_enter(&ring, 1, 1, IoringEnterFlags::GETEVENTS).context("cannot submit")?;
        // `struct io_uring_cqe`: user data, result, flags.
        let result = rings
            .add(cq.cqes as usize + 8)
            .cast::<i32>()
            .read_unaligned();
        Ok(match result {
            0.. => Ok(()),
            error => Err(Errno::from_raw_os_error(-error)),
        })
    }
}
