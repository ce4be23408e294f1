//! Doing what takes a capability.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::{
    fs::{CWD, Dev, FileType, Gid, Mode, Uid},
    process::{Resource, Rlimit},
};

use super::net;

/// A capability, by what is tried with it.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Capability {
    /// Gives a file away
    Chown,
    /// Opens a file that nobody may open
    DacOverride,
    /// Becomes another user
    Setuid,
    /// Becomes of another group
    Setgid,
    /// Gives a capability up
    Setpcap,
    /// Binds to a port that is not for everybody
    NetBindService,
    /// Makes a raw socket
    NetRaw,
    /// Changes the root directory
    SysChroot,
    /// Makes a device
    Mknod,
    /// Names the machine
    SysAdmin,
    /// Runs ahead of others
    SysNice,
    /// Takes more than its share
    SysResource,
    /// Lists attributes, some of which only show to who has `sys_admin`
    List,
}

/// Does it, with a file that nobody else has touched: to remove another user's would take a
/// capability.
pub(crate) fn try_it(capability: Capability) -> Result<()> {
    let name = format!("/dev/shm/capability-{}", std::process::id());
    let file = Path::new(&name);
    File::create(file).context("cannot make a file")?;
    match capability {
        Capability::Chown => {
            std::os::unix::fs::chown(file, Some(33), Some(33)).context("cannot give it away")
        }
        Capability::DacOverride => {
            fs::set_permissions(file, fs::Permissions::from_mode(0o0))
                .context("cannot change permissions")?;
            // For reading, the host's root has another capability.
            let mut options = File::options();
            options
                .write(true)
                .open(file)
                .context("cannot open the file")?;
            Ok(())
        }
        Capability::Setuid => {
            rustix::thread::set_thread_uid(Uid::from_raw(33)).context("cannot change the user")
        }
        Capability::Setgid => {
            rustix::thread::set_thread_gid(Gid::from_raw(33)).context("cannot change the group")
        }
        Capability::Setpcap => {
            let one = rustix::thread::CapabilitySet::AUDIT_WRITE;
            rustix::thread::remove_capability_from_bounding_set(one).context("cannot give it up")
        }
        Capability::NetBindService => net::bind_low(),
        Capability::NetRaw => net::raw(),
        Capability::SysChroot => rustix::process::chroot("/").context("cannot change the root"),
        Capability::Mknod => {
            fs::remove_file(file).context("cannot remove the file")?;
            let null: Dev = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(CWD, file, FileType::CharacterDevice, Mode::RUSR, null)
                .context("cannot make a device")
        }
        Capability::SysAdmin => {
            // As it is called already: it may be the one that everything runs on.
            let system = rustix::system::uname();
            rustix::system::sethostname(system.nodename().to_bytes())
                .context("cannot name the machine")
        }
        Capability::SysNice => {
            rustix::process::setpriority_process(None, -5).context("cannot run ahead")
        }
        Capability::SysResource => {
            let mut limit = rustix::process::getrlimit(Resource::Core);
            // Raising the hard limit takes it, whatever it was.
            let low = Rlimit {
                current: Some(0),
                maximum: Some(0),
            };
            rustix::process::setrlimit(Resource::Core, low).context("cannot lower a limit")?;
            limit.current = Some(1);
            limit.maximum = Some(1);
            rustix::process::setrlimit(Resource::Core, limit).context("cannot raise a limit")
        }
        Capability::List => {
            let mut names = Vec::with_capacity(4096);
            rustix::fs::listxattr(file, rustix::buffer::spare_capacity(&mut names))
                .context("cannot list attributes")?;
            Ok(())
        }
    }
}
