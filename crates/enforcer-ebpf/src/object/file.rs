//! Members of a `struct file` or an inode that decisions need.

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
pub(crate) const FMODE_READ: u32 = 1;

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
