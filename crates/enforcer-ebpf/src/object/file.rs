//! Members of a `struct file` or an inode that decisions need.

use karmor_abi::op::Op;

use crate::kernel::{
    memory::{Ptr, load, read},
    offsets::{
        FILE_F_INODE, FILE_F_PATH, INODE_I_INO, INODE_I_SB, PATH_DENTRY, PATH_MNT,
        SUPER_BLOCK_S_DEV,
    },
    path::BtfPlace,
};

/// `FMODE_WRITE` in `file.f_mode`.
pub(crate) const FMODE_WRITE: u32 = 2;

/// `FMODE_READ`.
const FMODE_READ: u32 = 1;
/// `FMODE_PATH`: `O_PATH`.
const FMODE_PATH: u32 = 1 << 14;

/// `MINORBITS` of the kernel's own device numbers.
const MINOR_BITS: u32 = 20;
/// Type bits of `i_mode`, a character device's, and a directory's.
const S_IFMT: u16 = 0o170_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;

/// What a file of this `f_mode` is open for; nothing for one that is only a place. The access mode 3 is
/// neither reading nor writing, for who wants to control a device: that takes both.
#[inline(always)]
pub(crate) const fn open_for(mode: u32) -> u32 {
    let mut ops = 0;
    if mode & FMODE_READ != 0 {
        ops |= Op::Read.bit();
    }
    if mode & FMODE_WRITE != 0 {
        ops |= Op::Write.bit();
    }
    if mode & (FMODE_READ | FMODE_WRITE | FMODE_PATH) == 0 {
        ops = Op::Read.bit() | Op::Write.bit();
    }
    ops
}

/// Whether an inode of this `i_mode` is a character device.
#[inline(always)]
pub(crate) const fn is_character_device(mode: u16) -> bool {
    mode & S_IFMT == S_IFCHR
}

/// Whether an inode of this `i_mode` and `i_rdev` is a device that programs are started with or that
/// runtimes hide files behind: terminals by their major numbers, serial and virtual ones and consoles too;
/// `null`, `zero`, `full`, `random` and `urandom`.
#[inline(always)]
pub(crate) const fn is_standard_device(mode: u16, device: u32) -> bool {
    let minor = device & ((1 << MINOR_BITS) - 1);
    is_character_device(mode)
        && match device >> MINOR_BITS {
            1 => matches!(minor, 3 | 5 | 7 | 8 | 9),
            4 | 5 | 128..=143 | 204 | 229 => true,
            _ => false,
        }
}

/// Whether an inode of this `i_mode` is a directory.
#[inline(always)]
pub(crate) const fn is_directory(mode: u16) -> bool {
    mode & S_IFMT == S_IFDIR
}

/// Where a file lies. `file` must be a BTF pointer.
#[inline(always)]
pub(crate) fn place_of(file: Ptr) -> BtfPlace {
    let path = FILE_F_PATH.load();
    // SAFETY: members of a BTF pointer.
    unsafe {
        BtfPlace {
            mnt: load(file, path + PATH_MNT.load()),
            dentry: load(file, path + PATH_DENTRY.load()),
        }
    }
}

/// Inode of a file. `file` must be a BTF pointer.
#[inline(always)]
pub(crate) fn inode_of(file: Ptr) -> Ptr {
    // SAFETY: a member of a BTF pointer.
    unsafe { load(file, FILE_F_INODE.load()) }
}

/// Device and number of the inode at an address, which user space knows it by.
#[inline(always)]
pub(crate) fn number_of(inode: u64) -> Result<(u32, u64), i64> {
    let number = read::<u64>(inode + u64::from(INODE_I_INO.load()))?;
    let super_block = read::<u64>(inode + u64::from(INODE_I_SB.load()))?;
    let device = read::<u32>(super_block + u64::from(SUPER_BLOCK_S_DEV.load()))?;
    Ok((device, number))
}
