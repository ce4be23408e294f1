//! System calls by way of io_uring.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use rustix::{
    io::{self, Errno},
    io_uring::{IoringEnterFlags, io_uring_enter, io_uring_params, io_uring_setup},
    mm::{MapFlags, ProtFlags, mmap},
    net::addr::SocketAddrArg as _,
};

/// Where the kernel shows its rings, and the requests (`IORING_OFF_SQES`).
const RINGS: u64 = 0;
const REQUESTS: u64 = 0x1000_0000;

/// `IORING_OP_CONNECT`, and bytes of a request.
const CONNECT: u8 = 16;
const REQUEST_BYTES: usize = 64;

/// Connects; the outer result is about the ring.
pub(crate) fn connect(socket: &OwnedFd, address: SocketAddr) -> Result<io::Result<()>> {
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
    // SAFETY: the kernel reads as many bytes of the address as it is told, while it is there; what
    // is written lies in the mappings, at the places the kernel named; they last as long as this
    // process.
    unsafe {
        address.with_sockaddr(|pointer, len| -> Result<()> {
            let mut request = [0_u8; REQUEST_BYTES];
            request[0] = CONNECT;
            request[4..8].copy_from_slice(&socket.as_raw_fd().to_ne_bytes());
            request[8..16].copy_from_slice(&u64::from(len).to_ne_bytes());
            request[16..24].copy_from_slice(&(pointer as u64).to_ne_bytes());
            ptr::copy_nonoverlapping(request.as_ptr(), requests, REQUEST_BYTES);
            rings
                .add(sq.array as usize)
                .cast::<u32>()
                .write_unaligned(0);
            let tail: *const AtomicU32 = rings.add(sq.tail as usize).cast();
            (*tail).fetch_add(1, Ordering::Release);
            io_uring_enter(&ring, 1, 1, IoringEnterFlags::GETEVENTS).context("cannot submit")?;
            Ok(())
        })?;
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
