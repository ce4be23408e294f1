//! The record a hook leaves behind: a fixed header, then the texts it names, back to back.
//!
//! The kernel writes, the daemon reads. Native byte order. Texts are raw bytes without NUL, in the
//! order of [`Text`]; lengths are in [`Header::text`].

use crate::limits::{COMM_BYTES, TTY_BYTES};

/// Which hook saw the access. The value is [`Header::hook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Hook {
    /// `bprm_check_security`
    Exec = 0,
    /// `mmap_file`
    Mmap = 1,
    /// `file_open`
    Open = 2,
    /// `path_mknod`
    Mknod = 3,
    /// `path_mkdir`
    Mkdir = 4,
    /// `path_rmdir`
    Rmdir = 5,
    /// `path_unlink`
    Unlink = 6,
    /// `path_symlink`
    Symlink = 7,
    /// `path_link`
    Link = 8,
    /// `path_rename`
    Rename = 9,
    /// `path_chmod`
    Chmod = 10,
    /// `path_chown`
    Chown = 11,
    /// `path_truncate` and `file_truncate`
    Truncate = 12,
    /// `inode_setxattr`
    Setxattr = 13,
    /// `capable`
    Capable = 14,
    /// `bprm_committed_creds`
    Committed = 15,
    /// `sb_mount`
    Mount = 16,
    /// `move_mount`
    MoveMount = 17,
    /// `sb_umount`
    Umount = 18,
    /// `sb_pivotroot`
    PivotRoot = 19,
    /// `sb_statfs`: a directory that becomes a layer of an overlay
    Layer = 20,
    /// `socket_create`
    SocketCreate = 21,
    /// `socket_bind`
    SocketBind = 22,
    /// `socket_listen`
    SocketListen = 23,
    /// `socket_connect`
    SocketConnect = 24,
    /// `socket_accept`, and `inet_conn_request`: a connection that comes in.
    SocketAccept = 25,
    /// `socket_sendmsg`
    SocketSendmsg = 26,
    /// A packet that asks for a name, on its way out.
    Query = 27,
    /// The tracepoint `sys_enter`
    Syscall = 28,
    /// `file_mprotect`
    Mprotect = 29,
    /// `inode_follow_link`
    FollowLink = 30,
    /// `ptrace_access_check`
    PtraceAccess = 31,
    /// `ptrace_traceme`
    PtraceTraceme = 32,
    /// `userns_create`
    UsernsCreate = 33,
    /// `kernel_read_file`
    KernelReadFile = 34,
    /// `kernel_load_data`
    KernelLoadData = 35,
    /// `kernel_module_request`
    KernelModuleRequest = 36,
    /// `bpf`
    Bpf = 37,
    /// `inode_init_security_anon`
    InitAnon = 38,
    /// `task_kill`
    Kill = 39,
    /// `bpf_map`: a descriptor for a map
    BpfMap = 40,
    /// `bpf_prog`: a descriptor for a program
    BpfProg = 41,
    /// `file_permission`: a use of a descriptor from before the policy
    Use = 42,
    /// `file_receive`: a descriptor that another process passed on
    Receive = 43,
    /// The iterator `task_file`, which only looks: there is no event of it.
    Search = 44,
    /// `file_send_sigiotask`
    SendSigio = 45,
    /// `task_setrlimit`
    Setrlimit = 46,
    /// `task_setscheduler`
    Setscheduler = 47,
    /// `task_setnice`
    Setnice = 48,
    /// `task_setioprio`
    Setioprio = 49,
    /// `unix_stream_connect`
    UnixConnect = 50,
    /// `inode_setattr`: permissions, owner, length and times, of what the daemon owns
    Setattr = 51,
    /// `file_ioctl` of a descriptor from before the policy
    Ioctl = 52,
    /// `task_prctl`
    Prctl = 53,
    /// `inode_copy_up`: an overlay makes a file of an image one of the container's own
    CopyUp = 54,
}

impl Hook {
    /// All hooks, in discriminant order.
    pub const ALL: [Self; 55] = [
        Self::Exec,
        Self::Mmap,
        Self::Open,
        Self::Mknod,
        Self::Mkdir,
        Self::Rmdir,
        Self::Unlink,
        Self::Symlink,
        Self::Link,
        Self::Rename,
        Self::Chmod,
        Self::Chown,
        Self::Truncate,
        Self::Setxattr,
        Self::Capable,
        Self::Committed,
        Self::Mount,
        Self::MoveMount,
        Self::Umount,
        Self::PivotRoot,
        Self::Layer,
        Self::SocketCreate,
        Self::SocketBind,
        Self::SocketListen,
        Self::SocketConnect,
        Self::SocketAccept,
        Self::SocketSendmsg,
        Self::Query,
        Self::Syscall,
        Self::Mprotect,
        Self::FollowLink,
        Self::PtraceAccess,
        Self::PtraceTraceme,
        Self::UsernsCreate,
        Self::KernelReadFile,
        Self::KernelLoadData,
        Self::KernelModuleRequest,
        Self::Bpf,
        Self::InitAnon,
        Self::Kill,
        Self::BpfMap,
        Self::BpfProg,
        Self::Use,
        Self::Receive,
        Self::Search,
        Self::SendSigio,
        Self::Setrlimit,
        Self::Setscheduler,
        Self::Setnice,
        Self::Setioprio,
        Self::UnixConnect,
        Self::Setattr,
        Self::Ioctl,
        Self::Prctl,
        Self::CopyUp,
    ];
}

/// The texts behind the header, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Text {
    /// Path of the object, or its word ([`OBJECT_WORD`]). For an object without a path, what could
    /// be read of it.
    Path = 0,
    /// Path of the acting task's image.
    Exe = 1,
    /// Path of its parent's image.
    ParentExe = 2,
    /// Arguments, each ended by NUL: of the new program for an exec, else of the acting task.
    Args = 3,
    /// Working directory of the acting task.
    Cwd = 4,
}

/// Number of texts.
pub const TEXTS: usize = 5;

/// [`Header::object`] of an object with a path.
pub const OBJECT_PATH: u8 = u8::MAX;

/// [`Header::object`] of what has a word instead of a path ([`crate::word`]).
pub const OBJECT_WORD: u8 = u8::MAX - 1;

/// Fixed part of an event. 144 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub time_ns: u64,
    /// Number of this event within its CPU and class, from 1, without gaps but for lost ones.
    pub sequence: u64,
    /// The verdict as decided ([`crate::verdict::Verdict`]).
    pub verdict: u64,
    /// [`crate::label::Label::exec_id`] of the acting task.
    pub exec_id: u64,
    /// CPU the event was written on.
    pub cpu: u32,
    /// Workload the acting task belongs to.
    pub workload: u32,
    /// Identity of the table that decided ([`crate::label::Handle::uid`]).
    pub table: u32,
    /// Set of patterns the object matched.
    pub set: u32,
    /// Class of the acting task's image.
    pub source: u32,
    /// Class of the image that forked it.
    pub parent: u32,
    /// Process id (thread group) in the initial pid namespace.
    pub host_pid: u32,
    /// Parent's process id in the initial pid namespace.
    pub host_ppid: u32,
    /// Process id in the task's own pid namespace.
    pub pid: u32,
    /// Parent's process id there, or 0 when the parent is outside.
    pub ppid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Owner of the object, in the initial user namespace; `u32::MAX` when there is none.
    pub owner: u32,
    /// The system call's word ([`crate::word::syscall`]) for [`crate::op::Op::SyscallAt`]; else `open`
    /// flags for [`Hook::Open`], protection bits for [`Hook::Mmap`] and [`Hook::Mprotect`], the command
    /// for [`Hook::Bpf`], flags of mounts; or 0.
    pub flags: u32,
    /// [`Hook`].
    pub hook: u8,
    /// [`crate::op::Op`].
    pub op: u8,
    /// [`crate::op::Object`], [`OBJECT_PATH`] or [`OBJECT_WORD`].
    pub object: u8,
    /// [`crate::counters::Class`].
    pub class: u8,
    /// `comm` of the acting task, NUL padded.
    pub comm: [u8; COMM_BYTES],
    /// Controlling terminal, NUL padded; empty when there is none.
    pub tty: [u8; TTY_BYTES],
    /// Bytes of each text, by [`Text`].
    pub text: [u16; TEXTS],
    /// The argument, from 1, that decided an exec; [`crate::pending::UNREADABLE`] when none could be
    /// read, 0 when they did not matter.
    pub argument: u16,
    /// Zero.
    pub reserved: [u16; 6],
}

/// Most bytes of one event.
pub const MAX_BYTES: usize = size_of::<Header>() + 4 * 4096 + crate::limits::ARGS_BYTES;

const _: () = assert!(size_of::<Header>() == 144 && align_of::<Header>() == 8);
