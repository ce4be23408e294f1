//! Members of a `struct file` or an inode that decisions need.

use crate::{
    kernel::{
        memory::{Ptr, load, load_u32},
        offsets::{FILE_F_INODE, FILE_F_PATH, INODE_I_NLINK, PATH_DENTRY, PATH_MNT},
        path::Place,
    },
    maps::INODE_MARKS,
};

/// `FMODE_WRITE` in `file.f_mode`.
pub(crate) const FMODE_WRITE: u32 = 2;

/// Where a file lies. `file` must be a BTF pointer.
#[inline(always)]
pub(crate) fn place_of(file: Ptr) -> Place {
    let path = FILE_F_PATH.load();
    // SAFETY: members of a BTF pointer.
    unsafe {
        Place {
            mnt: load(file, path + PATH_MNT.load()) as u64,
            dentry: load(file, path + PATH_DENTRY.load()) as u64,
        }
    }
}

/// Inode of a file. `file` must be a BTF pointer.
#[inline(always)]
pub(crate) fn inode_of(file: Ptr) -> Ptr {
    // SAFETY: a member of a BTF pointer.
    unsafe { load(file, FILE_F_INODE.load()) }
}

/// Mark of an inode, 0 for none. Only an inode with more than one name can be reached past the
/// path that a rule protects, so only those are looked up. `inode` must be a BTF pointer.
#[inline(always)]
pub(crate) fn mark_of(inode: Ptr) -> u64 {
    // SAFETY: a member of a BTF pointer.
    if inode.is_null() || unsafe { load_u32(inode, INODE_I_NLINK.load()) } <= 1 {
        return 0;
    }
    // SAFETY: the verifier knows the pointer's type; a map value lives as long as the inode.
    unsafe {
        let mark = INODE_MARKS.get_ptr_mut(inode.cast_mut().cast());
        if mark.is_null() { 0 } else { *mark }
    }
}
