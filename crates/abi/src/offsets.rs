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
    /// The member, at any depth of anonymous structs and unions. Of several names, divided by `|`,
    /// the first that the kernel has.
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
            DENTRY_D_FLAGS = "dentry"."d_flags";
            DENTRY_D_ALIAS = "dentry"."d_alias|d_u";
            VFSMOUNT_MNT_ROOT = "vfsmount"."mnt_root";
            VFSMOUNT_MNT_SB = "vfsmount"."mnt_sb";
            VFSMOUNT_MNT_FLAGS = "vfsmount"."mnt_flags";
            MOUNT_MNT = "mount"."mnt";
            MOUNT_MNT_PARENT = "mount"."mnt_parent";
            MOUNT_MNT_MOUNTPOINT = "mount"."mnt_mountpoint";
            MOUNT_MNT_NS = "mount"."mnt_ns";
            MOUNT_NEXT = "mount"."mnt_instance|mnt_next_for_sb";
            MNT_NS_EVENT = "mnt_namespace"."event";
            MNT_NS_NS = "mnt_namespace"."ns";
            MNT_NS_ROOT = "mnt_namespace"."root";
            MNT_NS_USER_NS = "mnt_namespace"."user_ns";
            USER_NS_LEVEL = "user_namespace"."level";
            CRED_EUID = "cred"."euid";
            NS_COMMON_INUM = "ns_common"."inum";
            INODE_I_UID = "inode"."i_uid";
            INODE_I_INO = "inode"."i_ino";
            INODE_I_SB = "inode"."i_sb";
            INODE_I_MODE = "inode"."i_mode";
            INODE_I_RDEV = "inode"."i_rdev";
            INODE_I_NLINK = "inode"."i_nlink";
            INODE_I_DENTRY = "inode"."i_dentry";
            SUPER_BLOCK_S_MOUNTS = "super_block"."s_mounts";
            SUPER_BLOCK_S_MAGIC = "super_block"."s_magic";
            SUPER_BLOCK_S_ROOT = "super_block"."s_root";
            SUPER_BLOCK_S_TYPE = "super_block"."s_type";
            FILE_SYSTEM_TYPE_NAME = "file_system_type"."name";
            SUPER_BLOCK_S_DEV = "super_block"."s_dev";
            TASK_MM = "task_struct"."mm";
            TASK_FS = "task_struct"."fs";
            TASK_REAL_PARENT = "task_struct"."real_parent";
            TASK_SELF_EXEC_ID = "task_struct"."self_exec_id";
            TASK_TGID = "task_struct"."tgid";
            TASK_GROUP_LEADER = "task_struct"."group_leader";
            TASK_START_BOOTTIME = "task_struct"."start_boottime";
            TASK_SIGNAL = "task_struct"."signal";
            TASK_NSPROXY = "task_struct"."nsproxy";
            TASK_FLAGS = "task_struct"."flags";
            TASK_CRED = "task_struct"."cred";
            TASK_REAL_CRED = "task_struct"."real_cred";
            TASK_IO_URING = "task_struct"."io_uring";
            TASK_THREAD_INFO = "task_struct"."thread_info";
            THREAD_INFO_STATUS = "thread_info"."status|flags";
            TASK_CGROUPS = "task_struct"."cgroups";
            CSS_SET_DFL_CGRP = "css_set"."dfl_cgrp";
            TASK_PID_LINKS = "task_struct"."pid_links";
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
            PID_TASKS = "pid"."tasks";
            PROC_INODE_PID = "proc_inode"."pid";
            PROC_INODE_VFS = "proc_inode"."vfs_inode";
            QSTR_NAME = "qstr"."name";
            VMA_FILE = "vm_area_struct"."vm_file";
            VMA_FLAGS = "vm_area_struct"."vm_flags";
            VMA_ANON = "vm_area_struct"."anon_vma";
            BPRM_FILE = "linux_binprm"."file";
            BPRM_P = "linux_binprm"."p";
            BPRM_ARGC = "linux_binprm"."argc";
            SOCKET_TYPE = "socket"."type";
            SOCKET_FILE = "socket"."file";
            SOCKET_SK = "socket"."sk";
            SOCK_COMMON = "sock"."__sk_common";
            SOCK_TYPE = "sock"."sk_type";
            SOCK_PROTOCOL = "sock"."sk_protocol";
            SOCK_CGRP_DATA = "sock"."sk_cgrp_data";
            SKC_FAMILY = "sock_common"."skc_family";
            SKC_NUM = "sock_common"."skc_num";
            SKC_DPORT = "sock_common"."skc_dport";
            SKC_DADDR = "sock_common"."skc_daddr";
            SKC_RCV_SADDR = "sock_common"."skc_rcv_saddr";
            SKC_V6_DADDR = "sock_common"."skc_v6_daddr";
            SKC_V6_RCV_SADDR = "sock_common"."skc_v6_rcv_saddr";
            UNIX_SOCK_PATH = "unix_sock"."path";
            REQUEST_COMMON = "request_sock"."__req_common";
            MSGHDR_NAME = "msghdr"."msg_name";
            MSGHDR_NAMELEN = "msghdr"."msg_namelen";
            MSGHDR_FLAGS = "msghdr"."msg_flags";
            SOCK_CGROUP_DATA_CGROUP = "sock_cgroup_data"."cgroup";
            CGROUP_SELF = "cgroup"."self";
            CGROUP_KN = "cgroup"."kn";
            CSS_PARENT = "cgroup_subsys_state"."parent";
            KERNFS_NODE_ID = "kernfs_node"."id";
            SKB_HEAD = "sk_buff"."head";
            SKB_END = "sk_buff"."end";
            SKB_DATA_LEN = "sk_buff"."data_len";
            SHARED_INFO_FLAGS = "skb_shared_info"."flags";
            BPF_MAP_ID = "bpf_map"."id";
            BPF_PROG_AUX = "bpf_prog"."aux";
            BPF_PROG_AUX_ID = "bpf_prog_aux"."id";
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

/// Global that says how far into a `struct mount` the pointer to the next mount of a super block
/// leads: to the link within it up to 6.17 (`mnt_instance`), to its beginning since.
pub const MOUNT_LINK: &str = "MOUNT_LINK";
/// Global that says how many bytes a `struct inode` has. In an overlay's own inode, it is followed by
/// the dentry of what was written, if anything was.
pub const INODE_BYTES: &str = "INODE_BYTES";
/// Global that says which argument of `inode_setattr` is the dentry: the first up to 6.8, then the
/// second, behind how the mount maps ids.
pub const SETATTR_DENTRY: &str = "SETATTR_DENTRY";
/// Globals of members that a kernel may be built without.
pub const OPTIONAL: &[&str] = &["TASK_IO_URING"];

/// The offset of such a member where it does not exist.
pub const ABSENT: u32 = u32::MAX;
