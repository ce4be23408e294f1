//! Members of a `struct file` or an inode that decisions need.

use crate::kernel::{
    memory::{Ptr, load},
    offsets::{FILE_F_INODE, FILE_F_PATH, PATH_DENTRY, PATH_MNT},
    path::BtfPlace,
};

/// `FMODE_WRITE` in `file.f_mode`.
pub(crate) const FMODE_WRITE: u32 = 2;

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
