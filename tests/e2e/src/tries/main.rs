//! What no shell can try: run by the cases inside a container, as whoever tries to get around a
//! policy.

mod arguments;
mod batch;
mod calls;
mod capability;
mod dns;
mod harm;
mod kept;
mod memory;
mod mounts;
mod net;
mod obey;
mod objects;
mod pose;
mod preset;
mod ring;
mod terminal;

use std::{
    ffi::{CString, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{ffi::OsStrExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, RenameFlags, XattrFlags},
    mm::MapFlags,
};

/// Try something and say how it went
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    attempt: Attempt,
}

#[derive(Debug, Subcommand)]
enum Attempt {
    /// Execute a copy of a program that lies in memory alone
    Memfd {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
    /// Empty a file by opening it for reading
    Truncate { file: PathBuf },
    /// Open a file neither for reading nor for writing, as for `ioctl`
    OpenToControl { file: PathBuf },
    /// `truncate` a file to the length that it has
    Resize { file: PathBuf },
    /// Change a file's first byte through a shared mapping
    Map { file: PathBuf },
    /// Map a file executable and shared
    MapShared { file: PathBuf },
    /// Give a file an extended attribute
    Mark { file: PathBuf },
    /// Open a file for writing, and change it when told
    Hold {
        change: Change,
        file: PathBuf,
        /// Appears in this directory when the file is open: `ready`; what to wait for: `go`
        signals: PathBuf,
    },
    /// Open a file and keep it open
    Keep {
        file: PathBuf,
        /// It is open already, as this number
        #[arg(long)]
        inherited: Option<i32>,
    },
    /// Use a file that is kept open
    Use {
        #[arg(value_enum)]
        how: kept::Use,
        file: PathBuf,
    },
    /// Take a descriptor from standard input, a socket, and read it
    Receive,
    /// Make the system calls that a file lists, and write what became of each to another
    Batch { input: PathBuf, output: PathBuf },
    /// Execute a program by its descriptor alone
    Descriptor {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
    /// Execute a program again and again while another thread changes its only argument; say how
    /// often that was refused, killed and went ahead
    Race {
        program: PathBuf,
        rounds: u32,
        /// Seven bytes
        good: String,
        /// As many
        evil: String,
    },
    /// Execute two programs in turn; the first must always run, the second never
    Storm {
        good: PathBuf,
        evil: PathBuf,
        /// Appears when the storm is to end
        stop: PathBuf,
    },
    /// Mount, the way that says all at once
    Mount {
        /// Type of the file system
        kind: String,
        options: String,
        target: PathBuf,
    },
    /// Mount an overlay, the way that says one thing after another
    Overlay { lower: String, target: PathBuf },
    /// Copy a mount and what is below it, and mount the copy
    Attach { source: PathBuf, target: PathBuf },
    /// Copy a mount and read a file in it, without mounting it
    Detached { source: PathBuf, file: PathBuf },
    /// Move a mount, by the call that says what moves
    Move { source: PathBuf, target: PathBuf },
    /// Move a mount, by the call that does not
    MoveByName { source: PathBuf, target: PathBuf },
    /// Execute a program in a mount namespace of its own; mounts are propagated as before
    Away {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
    /// Unmount
    Unmount { target: PathBuf },
    /// Make a directory the root of the mount namespace
    Pivot { root: PathBuf, put_old: PathBuf },
    /// Read a file by its handle, through a mount
    Handle { file: PathBuf, mount: PathBuf },
    /// Make a socket and use it
    Socket {
        #[arg(value_enum)]
        how: net::Use,
        #[command(flatten)]
        kind: net::Kind,
    },
    /// Speak to an address
    Speak {
        #[arg(value_enum)]
        how: net::Speech,
        address: std::net::SocketAddr,
        /// `IPPROTO_*`
        protocol: u32,
    },
    /// Make sockets, and use them when told
    HoldSockets {
        /// As for `hold`
        signals: PathBuf,
    },
    /// Listen until told to end
    Serve {
        port: u16,
        /// Gets `ready-PORT`; what to wait for: `go`
        signals: PathBuf,
    },
    /// Connect from an address to one
    Knock {
        from: std::net::IpAddr,
        to: std::net::SocketAddr,
    },
    /// Answer who asks for names, until told to end
    Resolve {
        port: u16,
        /// Gets `ready-PORT`; what to wait for: `go`
        signals: PathBuf,
    },
    /// Have whoever is in a cgroup connect to one port when another one is named, over IPv4
    Redirect { cgroup: PathBuf, from: u16, to: u16 },
    /// Ask a resolver for names
    Ask {
        #[arg(value_enum)]
        how: dns::How,
        resolver: std::net::SocketAddr,
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Do what takes a capability
    Capability {
        #[arg(value_enum)]
        capability: capability::Capability,
    },
    /// Make a system call
    Call {
        #[arg(value_enum)]
        call: calls::Call,
        path: Option<PathBuf>,
    },
    /// Make a system call as a 32-bit program does
    CallCompat {
        /// By its number
        number: u32,
    },
    /// Do what a preset is about, or nearly
    Preset {
        #[arg(value_enum)]
        feat: preset::Feat,
    },
    /// Do something to a file by way of io_uring
    Ring {
        #[arg(value_enum)]
        how: ring::How,
        file: PathBuf,
        /// Its new name
        to: Option<PathBuf>,
        /// Have a thread of the kernel's do it
        #[arg(long)]
        by_worker: bool,
    },
    /// Open a pinned BPF map
    OpenPin { pin: PathBuf },
    /// Open every BPF map there is
    OpenMaps,
    /// Open every BPF program there is
    OpenPrograms,
    /// Detach every BPF link there is that can be detached
    DetachLinks,
    /// Connect to a unix socket
    Connect { socket: PathBuf },
    /// Have another file count as the image of this process
    Image { file: PathBuf },
    /// Have two files or directories change names
    Exchange { one: PathBuf, other: PathBuf },
    /// Execute a program in the mount namespace of a process
    Enter { process: i32, program: PathBuf },
    /// Do something to a process
    Harm {
        #[arg(value_enum)]
        how: harm::How,
        process: i32,
    },
    /// Read a file as somebody who is nobody, by a program in the place of another
    Pose {
        /// Who is posed as
        program: PathBuf,
        file: PathBuf,
    },
    /// Make the attempts that come in, and say how each went
    Obey,
    /// Do something to a file
    Act {
        #[arg(value_enum)]
        how: obey::How,
        file: PathBuf,
        /// Of a program
        arguments: Vec<OsString>,
    },
    /// Do something to a program that has no path
    ActOn {
        #[arg(value_enum)]
        object: obey::Object,
        #[arg(value_enum)]
        how: obey::How,
        /// What is copied to be attached nowhere, and the file in it
        tree: PathBuf,
        file: PathBuf,
    },
    /// Execute a program with a controlling terminal of its own
    Terminal {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Change {
    /// `ftruncate`
    Truncate,
    /// A shared mapping
    Map,
}

fn main() -> Result<()> {
    attempt(Args::parse().attempt)
}

fn attempt(attempt: Attempt) -> Result<()> {
    match attempt {
        Attempt::Exchange { one, other } => {
            rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
                .context("cannot exchange them")
        }
        Attempt::Enter { process, program } => enter(process, &program),
        Attempt::Memfd { program, arguments } => memfd(&program, &arguments),
        Attempt::Truncate { file } => truncate(&file),
        Attempt::OpenToControl { file } => open_to_control(&file),
        Attempt::Resize { file } => resize(&file),
        Attempt::Map { file } => memory::change(&open(&file)?),
        Attempt::MapShared { file } => memory::map_executable(&file, MapFlags::SHARED),
        Attempt::Mark { file } => mark(&file),
        Attempt::Hold {
            change,
            file,
            signals,
        } => hold(change, &file, &signals),
        Attempt::Keep { file, inherited } => kept::keep(&file, inherited),
        Attempt::Use { how, file } => kept::make(how, &file),
        Attempt::Receive => kept::receive_and_read(),
        Attempt::Batch { input, output } => batch::run(&input, &output),
        Attempt::Descriptor { program, arguments } => arguments::descriptor(&program, &arguments),
        Attempt::Race {
            program,
            rounds,
            good,
            evil,
        } => arguments::race(&program, [&good, &evil], rounds),
        Attempt::Storm { good, evil, stop } => arguments::storm(&good, &evil, &stop),
        Attempt::Mount {
            kind,
            options,
            target,
        } => mounts::mount(&kind, &options, &target),
        Attempt::Overlay { lower, target } => mounts::overlay(&lower, &target),
        Attempt::Attach { source, target } => mounts::attach(&source, &target),
        Attempt::Detached { source, file } => mounts::detached(&source, &file),
        Attempt::Move { source, target } => mounts::move_mount(&source, &target),
        Attempt::MoveByName { source, target } => mounts::move_by_name(&source, &target),
        Attempt::Away { program, arguments } => mounts::away(&program, &arguments),
        Attempt::Unmount { target } => mounts::unmount(&target),
        Attempt::Pivot { root, put_old } => mounts::pivot(&root, &put_old),
        Attempt::Handle { file, mount } => mounts::handle(&file, &mount),
        Attempt::Socket { how, kind } => net::use_socket(kind, how),
        Attempt::Speak {
            how,
            address,
            protocol,
        } => net::speak(how, address, protocol),
        Attempt::HoldSockets { signals } => net::hold(&signals),
        Attempt::Serve { port, signals } => net::serve(port, &signals),
        Attempt::Knock { from, to } => net::knock(from, to),
        Attempt::Resolve { port, signals } => dns::resolve(port, &signals),
        Attempt::Redirect { cgroup, from, to } => objects::redirect(&cgroup, from, to),
        Attempt::Ask {
            how,
            resolver,
            names,
        } => dns::ask(how, resolver, &names),
        Attempt::Capability { capability } => capability::try_it(capability),
        Attempt::Call { call, path } => calls::make(call, path.as_deref()),
        Attempt::CallCompat { number } => calls::make_compat(number),
        Attempt::Preset { feat } => preset::try_it(feat),
        Attempt::Ring {
            how,
            file,
            to,
            by_worker,
        } => ring::act(how, &file, to.as_deref(), by_worker),
        Attempt::OpenPin { pin } => objects::open_pin(&pin),
        Attempt::OpenMaps => objects::open_maps(),
        Attempt::OpenPrograms => objects::open_programs(),
        Attempt::DetachLinks => objects::detach_links(),
        Attempt::Connect { socket } => connect(&socket),
        Attempt::Image { file } => harm::take_image(&file),
        Attempt::Harm { how, process } => harm::try_it(how, process),
        Attempt::Pose { program, file } => pose::read_as(&program, &file),
        Attempt::Obey => obey::run(),
        Attempt::Act {
            how,
            file,
            arguments,
        } => obey::act(how, &file, &arguments),
        Attempt::ActOn {
            object,
            how,
            tree,
            file,
        } => obey::act_on(object, how, &tree, &file),
        Attempt::Terminal { program, arguments } => terminal::run(&program, &arguments),
    }
}

fn enter(process: i32, program: &Path) -> Result<()> {
    let namespace = File::open(format!("/proc/{process}/ns/mnt")).context("cannot open it")?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), None)
        .context("cannot enter it")?;
    Err(Command::new(program).exec())
        .with_context(|| format!("cannot execute {}", program.display()))
}

fn memfd(program: &Path, arguments: &[OsString]) -> Result<()> {
    // Open over the exec, too, for the sake of interpreters.
    let fd = rustix::fs::memfd_create("nothing", MemfdFlags::empty())
        .context("cannot create a file in memory")?;
    let mut file = File::from(fd);
    let mut source =
        File::open(program).with_context(|| format!("cannot read {}", program.display()))?;
    io::copy(&mut source, &mut file).context("cannot fill the file in memory")?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Err(Command::new(path).args(arguments).exec()).context("cannot execute the file in memory")
}

fn truncate(file: &Path) -> Result<()> {
    rustix::fs::open(file, OFlags::RDONLY | OFlags::TRUNC, Mode::empty())
        .with_context(|| format!("cannot empty {}", file.display()))?;
    Ok(())
}

fn open_to_control(file: &Path) -> Result<()> {
    rustix::fs::open(file, OFlags::from_bits_retain(3), Mode::empty())
        .with_context(|| format!("cannot open {}", file.display()))?;
    Ok(())
}

fn connect(socket: &Path) -> Result<()> {
    UnixStream::connect(socket)
        .map(drop)
        .with_context(|| format!("cannot connect to {}", socket.display()))
}

fn resize(file: &Path) -> Result<()> {
    let length =
        fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?;
    let path = CString::new(file.as_os_str().as_bytes())?;
    // SAFETY: a text that outlives the call.
    let done = unsafe { libc::truncate(path.as_ptr(), length.len().try_into()?) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error())
            .with_context(|| format!("cannot resize {}", file.display())),
    }
}

fn mark(file: &Path) -> Result<()> {
    // Of a kind that every file system of the cases keeps.
    rustix::fs::setxattr(file, "trusted.karmor", b"1", XattrFlags::empty())
        .with_context(|| format!("cannot mark {}", file.display()))
}

fn open(file: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open(file)
        .with_context(|| format!("cannot open {}", file.display()))
}

fn hold(change: Change, file: &Path, signals: &Path) -> Result<()> {
    let file = open(file)?;
    fs::write(signals.join("ready"), "").context("cannot say that the file is open")?;
    while !signals.join("go").exists() {
        thread::sleep(Duration::from_millis(20));
    }
    match change {
        Change::Truncate => file.set_len(0).context("cannot empty the open file"),
        Change::Map => memory::change(&file),
    }
}
