//! Descriptors that are kept from one attempt to the next, and what can be done with them.

use std::{
    collections::BTreeMap,
    io::{IoSlice, IoSliceMut, PipeReader, PipeWriter, Write as _, pipe},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    ptr,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rustix::{
    fs::{Mode, OFlags, copy_file_range, open, sendfile},
    io::{Errno, pread, pwrite, read, write},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

use super::{memory, ring};

/// What is kept, by the path it was opened by.
static KEPT: Mutex<BTreeMap<PathBuf, OwnedFd>> = Mutex::new(BTreeMap::new());

/// Descriptors on their way, likewise, and the end they come out at.
static SENT: Mutex<BTreeMap<PathBuf, UnixStream>> = Mutex::new(BTreeMap::new());

/// What is done with a descriptor.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Use {
    /// `read`
    Read,
    /// `pread`
    Pread,
    /// `write`
    Write,
    /// `pwrite`
    Pwrite,
    /// `splice` into a pipe
    SpliceFrom,
    /// `splice` out of one
    SpliceInto,
    /// `sendfile` into a pipe
    SendfileFrom,
    /// `sendfile` out of another file
    SendfileInto,
    /// `copy_file_range` to another file
    CopyFrom,
    /// `copy_file_range` out of one
    CopyInto,
    /// Read by way of io_uring
    RingRead,
    /// Write by way of io_uring
    RingWrite,
    /// Map it, and read the memory
    Map,
    /// `ioctl`
    Control,
    /// `getdents64`
    List,
    /// Open it anew, through `/proc/self/fd`
    Reopen,
    /// Execute a program that reads it
    Inherit,
    /// Pass it to another process, which reads it
    Pass,
    /// Put it on its way; it stays there
    Send,
    /// Take what is on its way
    Take,
    /// Close it
    Close,
}

/// Opens a file, for writing too unless it is a directory, and keeps it; or keeps what was inherited.
pub(crate) fn keep(file: &Path, inherited: Option<i32>) -> Result<()> {
    let fd = match inherited {
        // SAFETY: whoever started this process opened it for this.
        Some(number) => unsafe { OwnedFd::from_raw_fd(number) },
        None if file.is_dir() => open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("cannot open {}", file.display()))?,
        None => super::open(file)?.into(),
    };
    lock(&KEPT).insert(file.to_owned(), fd);
    Ok(())
}

/// Uses what is kept.
pub(crate) fn make(how: Use, file: &Path) -> Result<()> {
    let mut kept = lock(&KEPT);
    match how {
        Use::Close => {
            kept.remove(file);
            return Ok(());
        }
        Use::Take => {
            let far = lock(&SENT).remove(file).context("it is not on its way")?;
            read(receive(far.as_fd())?, &mut [0; 4])?;
            return Ok(());
        }
        _ => {}
    }
    let fd = kept.get(file).context("it is not kept")?.as_fd();
    match how {
        Use::Read => read(fd, &mut [0; 4]).map(drop)?,
        Use::Pread => pread(fd, &mut [0; 4], 0).map(drop)?,
        Use::Write => write(fd, b"x").map(drop)?,
        Use::Pwrite => pwrite(fd, b"x", 0).map(drop)?,
        Use::SpliceFrom => splice(fd, pipe()?.1.as_fd())?,
        Use::SpliceInto => splice(filled()?.0.as_fd(), fd)?,
        Use::SendfileFrom => sendfile(pipe_in()?, fd, Some(&mut 0), 4).map(drop)?,
        Use::SendfileInto => sendfile(fd, scratch()?, Some(&mut 0), 4).map(drop)?,
        Use::CopyFrom => {
            copy_file_range(fd, Some(&mut 0), scratch()?, Some(&mut 0), 4).map(drop)?;
        }
        Use::CopyInto => {
            copy_file_range(scratch()?, Some(&mut 0), fd, Some(&mut 0), 4).map(drop)?;
        }
        Use::RingRead => ring::move_bytes(fd, false)?,
        Use::RingWrite => ring::move_bytes(fd, true)?,
        Use::Map => memory::read(fd)?,
        Use::Control => control(fd)?,
        Use::List => list(fd)?,
        Use::Reopen => drop(super::open(Path::new(&format!(
            "/proc/self/fd/{}",
            fd.as_raw_fd()
        )))?),
        Use::Inherit => child(Command::new("cat").stdin(fd.try_clone_to_owned()?))?,
        Use::Pass => {
            let (near, far) = UnixStream::pair()?;
            send(&near, fd)?;
            let tries = std::env::current_exe()?;
            child(Command::new(tries).arg("receive").stdin(OwnedFd::from(far)))?;
        }
        Use::Send => {
            let (near, far) = UnixStream::pair()?;
            send(&near, fd)?;
            lock(&SENT).insert(file.to_owned(), far);
        }
        Use::Take | Use::Close => {}
    }
    Ok(())
}

/// Takes a descriptor from standard input, a socket, and reads it.
pub(crate) fn receive_and_read() -> Result<()> {
    let fd = receive(std::io::stdin().as_fd())?;
    pread(fd, &mut [0; 4], 0).map(drop)?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: no memory is passed.
    let moved = unsafe {
        let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
        libc::splice(
            from,
            ptr::null_mut(),
            to,
            ptr::null_mut(),
            1,
            libc::SPLICE_F_NONBLOCK,
        )
    };
    if moved < 0 {
        Err(std::io::Error::last_os_error()).context("cannot splice")?;
    }
    Ok(())
}

/// A pipe with something in it.
fn filled() -> Result<(PipeReader, PipeWriter)> {
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"x")?;
    Ok((reader, writer))
}

/// A pipe that somebody may yet read.
fn pipe_in() -> Result<OwnedFd> {
    let (reader, writer) = pipe()?;
    // It is read by nobody, and must not be closed.
    std::mem::forget(reader);
    Ok(writer.into())
}

/// Another file, to copy from or to.
fn scratch() -> Result<OwnedFd> {
    let path = Path::new("/srv/scratch");
    std::fs::write(path, "scratch").context("cannot write to /srv/scratch")?;
    Ok(super::open(path)?.into())
}

fn control(fd: BorrowedFd<'_>) -> Result<()> {
    let mut left: libc::c_int = 0;
    // SAFETY: memory for a number.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut left) };
    if result != 0 {
        Err(std::io::Error::last_os_error()).context("cannot control")?;
    }
    Ok(())
}

fn list(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(1024);
    let mut entries = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
    entries.next().context("not even itself is in it")??;
    Ok(())
}

fn child(command: &mut Command) -> Result<()> {
    let output = command.stdout(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}

fn send(socket: &UnixStream, fd: BorrowedFd<'_>) -> Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        socket,
        &[IoSlice::new(b"x")],
        &mut ancillary,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        flags,
    )?;
    let mut fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match fds.next() {
        Some(fd) => Ok(fd),
        // The kernel leaves out what may not be received, and says that something was left out.
        None if message.flags.contains(ReturnFlags::CTRUNC) => {
            Err(Errno::ACCESS).context("no descriptor came")
        }
        None => Err(Errno::NOMSG).context("no descriptor came"),
    }
}
