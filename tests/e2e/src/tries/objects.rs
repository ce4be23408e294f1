//! Descriptors for BPF maps, programs and links.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// Commands of `bpf`.
const PROG_LOAD: libc::c_long = 5;
const OBJ_GET: libc::c_long = 7;
const PROG_ATTACH: libc::c_long = 8;
const PROG_GET_NEXT_ID: libc::c_long = 11;
const MAP_GET_NEXT_ID: libc::c_long = 12;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const MAP_GET_FD_BY_ID: libc::c_long = 14;

const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_GET_NEXT_ID: libc::c_long = 31;
const LINK_DETACH: libc::c_long = 34;

/// What `bpf` is told: numbers, and addresses as their halves.
fn bpf<const N: usize>(command: libc::c_long, attr: &mut [u32; N]) -> io::Result<i64> {
    // SAFETY: the kernel reads and writes within the size that is passed along, and whatever it is
    // pointed to lives until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Opens a pinned map.
pub(crate) fn open_pin(path: &Path) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).context("a path has no NUL")?;
    // The attribute begins with the address.
    let [low, high] = halves(path.as_ptr().addr());
    bpf(OBJ_GET, &mut [low, high, 0, 0]).context("cannot open the pin")?;
    Ok(())
}

fn halves(address: usize) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = address.to_ne_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes)
}

/// Attaches a program to a cgroup that puts one port in the place of another, as those do that
/// balance load. It goes with the cgroup.
pub(crate) fn redirect(cgroup: &Path, from: u16, to: u16) -> Result<()> {
    const SOCK_ADDR: u32 = 18;
    const INET4_CONNECT: u32 = 10;
    const ALLOW_MULTI: u32 = 2;
    let [from, to] = [from, to].map(|port| u64::from(port.to_be()) << 32);
    let instructions: [u64; 6] = [
        0x0018_1261,        // r2 = the port, at 24
        0x0002_0255 | from, // if r2 != from, skip two
        0x0000_02b7 | to,   // r2 = to
        0x0018_2163,        // the port = r2
        0x0001_0000_00b7,   // r0 = 1
        0x0000_0095,        // exit
    ];
    let mut attr = [0; 18];
    attr[..2].copy_from_slice(&[SOCK_ADDR, 6]);
    attr[2..4].copy_from_slice(&halves(instructions.as_ptr().addr()));
    attr[4..6].copy_from_slice(&halves(c"GPL".as_ptr().addr()));
    attr[17] = INET4_CONNECT;
    let program = bpf(PROG_LOAD, &mut attr).context("cannot load the program")?;
    let cgroup = File::open(cgroup).context("cannot open the cgroup")?;
    let [target, program] = [i64::from(cgroup.as_raw_fd()), program].map(u32::try_from);
    let mut attr = [target?, program?, INET4_CONNECT, ALLOW_MULTI];
    bpf(PROG_ATTACH, &mut attr).context("cannot attach the program")?;
    Ok(())
}

/// Opens every map there is.
pub(crate) fn open_maps() -> Result<()> {
    open_all(MAP_GET_NEXT_ID, MAP_GET_FD_BY_ID)
}

/// Opens every program there is.
pub(crate) fn open_programs() -> Result<()> {
    open_all(PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID)
}

/// Tries to detach every link there is; fails when one gives way.
pub(crate) fn detach_links() -> Result<()> {
    for_each(LINK_GET_NEXT_ID, |id| {
        let link = bpf(LINK_GET_FD_BY_ID, &mut [id, 0, 0, 0])?;
        match bpf(
            LINK_DETACH,
            &mut [u32::try_from(link).map_err(io::Error::other)?, 0, 0, 0],
        ) {
            // The links of most kinds of programs cannot be.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("it was detached")),
        }
    })
}

fn open_all(next: libc::c_long, open: libc::c_long) -> Result<()> {
    for_each(next, |id| bpf(open, &mut [id, 0, 0, 0]).map(drop))
}

fn for_each(next: libc::c_long, work: impl Fn(u32) -> io::Result<()>) -> Result<()> {
    let mut id = 0;
    loop {
        let mut attr = [id, 0, 0, 0];
        match bpf(next, &mut attr) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            result => result.context("cannot see what there is")?,
        };
        id = attr[1];
        match work(id) {
            // Gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            result => result.with_context(|| format!("cannot open {id}"))?,
        }
    }
}
