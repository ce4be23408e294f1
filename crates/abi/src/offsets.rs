//! Offsets of the kernel struct members the hooks read.
//!
//! User space takes them from the running kernel's BTF and writes them into read-only globals of
//! the same name before the load; a member that does not exist is an error there, never a guess.

/// One member: the global's name, the struct, the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the `static` in the eBPF object.
    pub global: &'static str,
    /// The kernel struct.
    pub strukt: &'static str,
    /// The member, at any depth of anonymous structs and unions.
    pub member: &'static str,
}

/// Calls `$callback!` with every member the hooks need, so that the list exists once: here it
/// becomes [`MEMBERS`], in the kernel half the globals themselves.
#[macro_export]
macro_rules! for_each_member {
    ($callback:ident) => {
        $callback! {
            FILE_F_PATH = "file"."f_path";
            FILE_F_INODE = "file"."f_inode";
            FILE_F_MODE = "file"."f_mode";
            FILE_F_FLAGS = "file"."f_flags";
            PATH_MNT = "path"."mnt";
            PATH_DENTRY = "path"."dentry";
            DENTRY_D_PARENT = "dentry"."d_parent";
            DENTRY_D_NAME = "dentry"."d_name";
            DENTRY_D_INODE = "dentry"."d_inode";
            DENTRY_D_SB = "dentry"."d_sb";
            VFSMOUNT_MNT_ROOT = "vfsmount"."mnt_root";
            VFSMOUNT_MNT_SB = "vfsmount"."mnt_sb";
            VFSMOUNT_MNT_FLAGS = "vfsmount"."mnt_flags";
            MOUNT_MNT = "mount"."mnt";
            MOUNT_MNT_PARENT = "mount"."mnt_parent";
            MOUNT_MNT_MOUNTPOINT = "mount"."mnt_mountpoint";
            MOUNT_MNT_NS = "mount"."mnt_ns";
            MNT_NS_NS = "mnt_namespace"."ns";
            MNT_NS_ROOT = "mnt_namespace"."root";
            NS_COMMON_INUM = "ns_common"."inum";
            INODE_I_UID = "inode"."i_uid";
            INODE_I_INO = "inode"."i_ino";
            INODE_I_SB = "inode"."i_sb";
            SUPER_BLOCK_S_DEV = "super_block"."s_dev";
            TASK_MM = "task_struct"."mm";
            TASK_FS = "task_struct"."fs";
            TASK_REAL_PARENT = "task_struct"."real_parent";
            TASK_TGID = "task_struct"."tgid";
            TASK_SIGNAL = "task_struct"."signal";
            TASK_NSPROXY = "task_struct"."nsproxy";
            TASK_FLAGS = "task_struct"."flags";
            TASK_CRED = "task_struct"."cred";
            TASK_REAL_CRED = "task_struct"."real_cred";
            NSPROXY_MNT_NS = "nsproxy"."mnt_ns";
            MM_EXE_FILE = "mm_struct"."exe_file";
            MM_ARG_START = "mm_struct"."arg_start";
            MM_ARG_END = "mm_struct"."arg_end";
            FS_PWD = "fs_struct"."pwd";
            FS_ROOT = "fs_struct"."root";
            SIGNAL_TTY = "signal_struct"."tty";
            SIGNAL_PIDS = "signal_struct"."pids";
            TTY_NAME = "tty_struct"."name";
            PID_LEVEL = "pid"."level";
            PID_NUMBERS = "pid"."numbers";
            BPRM_FILE = "linux_binprm"."file";
        }
    };
}

macro_rules! list {
    ($($global:ident = $strukt:literal . $member:literal;)*) => {
        /// Every member the hooks need.
        pub const MEMBERS: &[Member] = &[
            $(Member { global: stringify!($global), strukt: $strukt, member: $member },)*
        ];
    };
}

for_each_member!(list);
