//! Doing what presets are about.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::Path,
    ptr,
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use rustix::{
    fs::MemfdFlags,
    mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect},
};

use super::mounts;

/// Something that a preset is about, or nearly.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Feat {
    /// Maps memory executable
    Anonymous,
    /// Makes memory executable that was writable
    Later,
    /// Maps a file in memory executable
    Memfd,
    /// Makes a mapped file executable that was written to in memory
    Written,
    /// Maps a file writable and executable
    Both,
    /// Maps zeroes executable
    Zeroes,
    /// Maps a file executable, as libraries are
    File,
    /// Makes a mapped file executable that was only read
    FileLater,
    /// Reads the environment that a thread of its own shows
    OwnThread,
    /// Attaches to a child
    Attach,
    /// Writes to a child's memory
    Write,
    /// Opens a child's memory
    Memory,
    /// Has a child ask to be traced
    Traceme,
    /// Mounts something, and unmounts it
    Mount,
    /// Makes a child in a namespace of its own
    Clone,
    /// The same by the newer system call
    Clone3,
    /// Enters a namespace, its own
    Setns,
    /// Has the kernel read a module that is none
    ModuleFile,
    /// Gives the kernel a module that is none
    ModuleMemory,
    /// Has the kernel look for a module
    ModuleRequest,
    /// Makes a map
    Bpf,
    /// Makes a ring
    IoUring,
}

/// Bytes of what is mapped.
const PAGE: usize = 4096;

pub(crate) fn try_it(feat: Feat) -> Result<()> {
    match feat {
        Feat::Anonymous => drop(anonymous(ProtFlags::READ | ProtFlags::EXEC)?),
        Feat::Later => {
            let start = anonymous(ProtFlags::READ | ProtFlags::WRITE)?;
            executable(start)?;
        }
        Feat::Memfd => {
            let fd = rustix::fs::memfd_create("nothing", MemfdFlags::empty())
                .context("cannot create a file in memory")?;
            let mut file = File::from(fd);
            file.write_all(&[0; PAGE]).context("cannot fill it")?;
            map(&file, ProtFlags::READ | ProtFlags::EXEC, MapFlags::SHARED)?;
        }
        Feat::Written => {
            let start = map(
                &own()?,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?;
            // SAFETY: the mapping is ours, writable and of a page.
            unsafe { start.cast::<u8>().write_volatile(0xc3) };
            executable(start)?;
        }
        Feat::Both => {
            let prot = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
            map(&own()?, prot, MapFlags::PRIVATE)?;
        }
        Feat::Zeroes => {
            let zeroes = File::open("/dev/zero").context("cannot open /dev/zero")?;
            let prot = ProtFlags::READ | ProtFlags::EXEC;
            map(&zeroes, prot, MapFlags::PRIVATE)?;
        }
        Feat::File => {
            let prot = ProtFlags::READ | ProtFlags::EXEC;
            map(&own()?, prot, MapFlags::PRIVATE)?;
        }
        Feat::FileLater => executable(map(&own()?, ProtFlags::READ, MapFlags::PRIVATE)?)?,
        Feat::OwnThread => own_thread()?,
        Feat::Attach => with_child(attach)?,
        Feat::Write => with_child(write)?,
        Feat::Memory => with_child(|child| {
            let path = format!("/proc/{child}/mem");
            let opened = File::options().read(true).write(true).open(&path);
            opened
                .map(drop)
                .with_context(|| format!("cannot open {path}"))
        })?,
        Feat::Traceme => traceme()?,
        Feat::Mount => {
            let target = Path::new("/tmp/mounted");
            fs::create_dir_all(target).context("cannot make a directory")?;
            mounts::mount("tmpfs", "size=1m", target)?;
            mounts::unmount(target)?;
        }
        Feat::Clone => clone()?,
        Feat::Clone3 => clone3()?,
        Feat::Setns => {
            let own = File::open("/proc/self/ns/uts").context("cannot open a namespace")?;
            // SAFETY: an open file and a number.
            let entered = unsafe { libc::setns(own.as_raw_fd(), libc::CLONE_NEWUTS) };
            done(libc::c_long::from(entered)).context("cannot enter it")?;
        }
        Feat::ModuleFile => {
            let (number, none) = (libc::SYS_finit_module, CString::default());
            let file = own()?;
            // SAFETY: an open file and an empty text.
            refused_as_none(unsafe { libc::syscall(number, file.as_raw_fd(), none.as_ptr(), 0) })?;
        }
        Feat::ModuleMemory => {
            let (bytes, none) = ([0_u8; PAGE], CString::default());
            // SAFETY: as many bytes as said, and an empty text.
            refused_as_none(unsafe {
                libc::syscall(libc::SYS_init_module, bytes.as_ptr(), PAGE, none.as_ptr())
            })?;
        }
        Feat::ModuleRequest => {
            // SAFETY: numbers only.
            let made = unsafe { libc::socket(libc::AF_APPLETALK, libc::SOCK_DGRAM, 0) };
            ensure!(made < 0, "there is such a socket");
        }
        Feat::Bpf => bpf()?,
        Feat::IoUring => {
            // Longer than the parameters of any version.
            let mut parameters = [0_u64; 64];
            // SAFETY: memory that is longer than what is read and written.
            done(unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) })
                .context("cannot make a ring")?;
        }
    }
    Ok(())
}

fn done(outcome: libc::c_long) -> io::Result<libc::c_long> {
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(outcome)
    }
}

/// A file that lies on the file system of the root.
fn own() -> Result<File> {
    let path = "/usr/bin/true";
    File::open(path).with_context(|| format!("cannot open {path}"))
}

type Start = *mut std::ffi::c_void;

fn anonymous(prot: ProtFlags) -> Result<Start> {
    // SAFETY: the kernel chooses the address, so that no other mapping is replaced.
    unsafe { mmap_anonymous(ptr::null_mut(), PAGE, prot, MapFlags::PRIVATE) }
        .context("cannot map memory")
}

fn map(file: &File, prot: ProtFlags, flags: MapFlags) -> Result<Start> {
    // SAFETY: the kernel chooses the address, so that no other mapping is replaced.
    unsafe { mmap(ptr::null_mut(), PAGE, prot, flags, file, 0) }.context("cannot map the file")
}

fn executable(start: Start) -> Result<()> {
    // SAFETY: a mapping of ours that nothing points into.
    unsafe { mprotect(start, PAGE, MprotectFlags::READ | MprotectFlags::EXEC) }
        .context("cannot make it executable")
}

fn own_thread() -> Result<()> {
    let (told, tid) = mpsc::channel();
    let (ended, end) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let _ = told.send(rustix::thread::gettid());
        let _ = end.recv();
    });
    let tid = tid.recv().context("the thread tells nothing")?;
    let path = format!("/proc/self/task/{}/environ", tid.as_raw_nonzero());
    let read = fs::read(&path).with_context(|| format!("cannot read {path}"));
    drop(ended);
    let _ = other.join();
    read.map(drop)
}

/// Does something to a child that does nothing.
fn with_child(work: impl FnOnce(libc::pid_t) -> Result<()>) -> Result<()> {
    // SAFETY: there is one thread, and the child calls nothing that could need another.
    let child = match unsafe { libc::fork() } {
        // SAFETY: waits for a signal.
        0 => loop {
            // SAFETY: waits for a signal and touches nothing.
            unsafe { libc::pause() };
        },
        child => child,
    };
    ensure!(child > 0, "cannot fork");
    let outcome = work(child);
    // SAFETY: a child of ours that has not been waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    outcome
}

fn attach(child: libc::pid_t) -> Result<()> {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: attaching takes no memory.
    let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, child, nothing, nothing) };
    done(attached).context("cannot attach")?;
    Ok(())
}

/// What a child has at the same place.
static WRITTEN: [u8; 8] = [0; 8];

fn write(child: libc::pid_t) -> Result<()> {
    let mut bytes = [0_u8; 8];
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: (&raw const WRITTEN).cast_mut().cast(),
        iov_len: WRITTEN.len(),
    };
    // SAFETY: memory of ours; what the child has at the address is checked by the kernel.
    let read =
        unsafe { libc::process_vm_readv(child, &raw const local, 1, &raw const remote, 1, 0) };
    done(read as libc::c_long).context("cannot reach its memory")?;
    Ok(())
}

/// What a child's exit code says.
fn code_of(child: libc::pid_t) -> Result<i32> {
    let mut status = 0;
    // SAFETY: a child of ours and a number.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(waited == child, "cannot wait for the child");
    Ok(libc::WEXITSTATUS(status))
}

fn errno(code: i32) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code)).context("the child was refused")
    }
}

fn traceme() -> Result<()> {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: the child makes one system call and ends.
    let child = match unsafe { libc::fork() } {
        0 => {
            // SAFETY: takes no memory.
            let asked = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, nothing, nothing) };
            let code = done(asked).err().and_then(|error| error.raw_os_error());
            // SAFETY: ends this process.
            unsafe { libc::_exit(code.unwrap_or(0)) }
        }
        child => child,
    };
    ensure!(child > 0, "cannot fork");
    errno(code_of(child)?)
}

fn ended(child: libc::c_long) -> Result<()> {
    match done(child).context("cannot make a child")? {
        // SAFETY: ends this process, which is the child.
        0 => unsafe { libc::_exit(0) },
        child => errno(code_of(libc::pid_t::try_from(child)?)?),
    }
}

fn clone() -> Result<()> {
    let flags = libc::c_long::from(libc::CLONE_NEWUTS | libc::SIGCHLD);
    // SAFETY: as `fork`, since no stack is given.
    ended(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

fn clone3() -> Result<()> {
    // SAFETY: integers, for which zeroes are values.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(libc::CLONE_NEWUTS.cast_unsigned());
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: as above, with arguments that are as long as said.
    ended(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    })
}

/// The kernel must have looked at what is no module.
fn refused_as_none(outcome: libc::c_long) -> Result<()> {
    match done(outcome) {
        Ok(_) => bail!("it is a module"),
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => Ok(()),
        Err(error) => Err(error).context("the kernel has not looked"),
    }
}

fn bpf() -> Result<()> {
    const MAP_CREATE: libc::c_long = 0;
    /// An array of one entry.
    const ARRAY: [u32; 4] = [2, 4, 8, 1];
    let mut attributes = [0_u32; 32];
    attributes[..ARRAY.len()].copy_from_slice(&ARRAY);
    // SAFETY: attributes that are as long as said.
    done(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    })
    .context("cannot make a map")?;
    Ok(())
}
