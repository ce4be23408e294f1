//! Changing mounts, and reading by ways that mounts open.

use std::{
    ffi::{CString, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_move, open_tree,
    },
};

pub(crate) fn mount(kind: &str, options: &str, target: &Path) -> Result<()> {
    let options = CString::new(options)?;
    rustix::mount::mount(
        "none",
        target,
        kind,
        MountFlags::empty(),
        options.as_c_str(),
    )
    .with_context(|| format!("cannot mount on {}", target.display()))
}

pub(crate) fn overlay(lower: &str, target: &Path) -> Result<()> {
    let context = fsopen("overlay", FsOpenFlags::empty()).context("cannot open an overlay")?;
    fsconfig_set_string(&context, "lowerdir", lower).context("cannot name its layers")?;
    fsconfig_create(&context).context("cannot make an overlay")?;
    let mount = fsmount(&context, FsMountFlags::empty(), MountAttrFlags::empty())
        .context("cannot make a mount of it")?;
    put(&mount, target)
}

fn put(mount: &OwnedFd, target: &Path) -> Result<()> {
    let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, target, from_descriptor)
        .with_context(|| format!("cannot mount on {}", target.display()))
}

pub(crate) fn copy(source: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, source, flags).with_context(|| format!("cannot copy {}", source.display()))
}

pub(crate) fn attach(source: &Path, target: &Path) -> Result<()> {
    put(&copy(source)?, target)
}

pub(crate) fn detached(source: &Path, file: &Path) -> Result<()> {
    let tree = copy(source)?;
    let file = openat(&tree, file, OFlags::RDONLY, Mode::empty()).context("cannot open it")?;
    read(file.into())
}

fn read(mut file: File) -> Result<()> {
    let mut text = String::new();
    file.read_to_string(&mut text).context("cannot read it")?;
    ensure!(!text.is_empty(), "there is nothing in it");
    Ok(())
}

pub(crate) fn move_mount(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::move_mount(CWD, source, CWD, target, MoveMountFlags::empty())
        .with_context(|| format!("cannot move to {}", target.display()))
}

pub(crate) fn move_by_name(source: &Path, target: &Path) -> Result<()> {
    mount_move(source, target).with_context(|| format!("cannot move to {}", target.display()))
}

pub(crate) fn away(program: &Path, arguments: &[OsString]) -> Result<()> {
    // SAFETY: a flag.
    let made = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    ensure!(
        made == 0,
        "cannot make a mount namespace: {}",
        io::Error::last_os_error()
    );
    Err(Command::new(program).args(arguments).exec())
        .with_context(|| format!("cannot execute {}", program.display()))
}

pub(crate) fn unmount(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::DETACH)
        .with_context(|| format!("cannot unmount {}", target.display()))
}

pub(crate) fn pivot(root: &Path, put_old: &Path) -> Result<()> {
    rustix::process::pivot_root(root, put_old)
        .with_context(|| format!("cannot make {} the root", root.display()))
}

/// Room for any file system's handle.
const HANDLE_BYTES: u32 = 128;

#[repr(C)]
struct Handle {
    head: libc::file_handle,
    bytes: [u8; HANDLE_BYTES as usize],
}

pub(crate) fn handle(file: &Path, mount: &Path) -> Result<()> {
    let path = CString::new(file.as_os_str().as_bytes())?;
    let mount = File::open(mount).context("cannot open the mount")?;
    // SAFETY: integers and bytes, for which zeroes are values.
    let mut handle: Handle = unsafe { std::mem::zeroed() };
    handle.head.handle_bytes = HANDLE_BYTES;
    let mut id = 0;
    // SAFETY: a path that ends in NUL, a handle with as much room as it says, and a number.
    let named = unsafe {
        let handle = (&raw mut handle).cast();
        libc::name_to_handle_at(libc::AT_FDCWD, path.as_ptr(), handle, &raw mut id, 0)
    };
    ensure!(named == 0, "no handle: {}", io::Error::last_os_error());
    // SAFETY: the handle that the call before has filled in.
    let opened = unsafe {
        let handle = (&raw mut handle).cast();
        libc::open_by_handle_at(mount.as_raw_fd(), handle, libc::O_RDONLY)
    };
    ensure!(
        opened >= 0,
        "cannot open it: {}",
        io::Error::last_os_error()
    );
    // SAFETY: a descriptor that nobody else has.
    read(unsafe { File::from_raw_fd(opened) })
}
