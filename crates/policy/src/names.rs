//! Names that the kernel and the policy language know.

use karmor_abi::{
    op::{Object, Op},
    word::{
        IPPROTO_TCP, Protocol, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
        SOCK_SEQPACKET, SOCK_STREAM,
    },
};

use crate::model::SocketKind;

/// Capabilities, in the order of their numbers; policies may also write them with `cap_`.
pub(crate) const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Objects without a path.
pub(crate) const OBJECTS: [(&str, Object); 3] = [
    ("@anonymous", Object::Anonymous),
    ("@unreachable", Object::Unreachable),
    ("@too-long", Object::TooLong),
];

/// Protocols and kinds of sockets.
pub(crate) const PROTOCOLS: [(&str, SocketKind); 13] = [
    ("tcp", SocketKind::Protocol(Protocol::Tcp)),
    ("udp", SocketKind::Protocol(Protocol::Udp)),
    ("raw", SocketKind::Type(SOCK_RAW)),
    ("icmp", SocketKind::Protocol(Protocol::Icmp)),
    ("icmpv6", SocketKind::Protocol(Protocol::Icmpv6)),
    ("sctp", SocketKind::Protocol(Protocol::Sctp)),
    ("stream", SocketKind::Type(SOCK_STREAM)),
    ("dgram", SocketKind::Type(SOCK_DGRAM)),
    ("rdm", SocketKind::Type(SOCK_RDM)),
    ("seqpacket", SocketKind::Type(SOCK_SEQPACKET)),
    ("dccp", SocketKind::Type(SOCK_DCCP)),
    ("packet", SocketKind::Packet),
    ("all", SocketKind::All),
];

/// Protocols that have addresses and can be told apart there, with their `IPPROTO_*`.
pub(crate) const IP_PROTOCOLS: [(&str, u8); 5] = [
    ("tcp", 6),
    ("udp", 17),
    ("sctp", 132),
    ("icmp", 1),
    ("icmpv6", 58),
];

/// Types that sockets can have.
pub(crate) const SOCKET_TYPES: [u32; 7] = [
    SOCK_STREAM,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_RDM,
    SOCK_SEQPACKET,
    SOCK_DCCP,
    SOCK_PACKET,
];

/// Ready-made protections, those of KubeArmor first.
pub(crate) const PRESETS: [(&str, Op); 12] = [
    ("anonymousMapExec", Op::AnonymousMapExec),
    ("filelessExec", Op::FilelessExec),
    ("protectEnv", Op::ProtectEnv),
    ("exec", Op::ExecSession),
    ("protectProc", Op::ProtectProc),
    ("drift", Op::Drift),
    ("ptrace", Op::Ptrace),
    ("mount", Op::Mount),
    ("namespace", Op::Namespace),
    ("kernelModule", Op::KernelModule),
    ("bpf", Op::Bpf),
    ("ioUring", Op::IoUring),
];

/// The name of something in such a table; nothing for what is not in it.
fn name_of<T: PartialEq>(table: &[(&'static str, T)], wanted: &T) -> Option<&'static str> {
    let mut entries = table.iter();
    entries
        .find(|(_, entry)| entry == wanted)
        .map(|&(name, _)| name)
}

/// The name of a class of objects without a path.
#[must_use]
pub fn object(object: Object) -> &'static str {
    name_of(&OBJECTS, &object).unwrap_or("@")
}

/// The class of objects of this name.
#[must_use]
pub fn object_named(name: &str) -> Option<Object> {
    entry(&OBJECTS, name)
}

/// What a rule calls a kind of socket.
#[must_use]
pub fn socket_kind(kind: SocketKind) -> Option<&'static str> {
    name_of(&PROTOCOLS, &kind)
}

/// What a rule calls an IP protocol.
#[must_use]
pub fn ip_protocol(number: u8) -> Option<&'static str> {
    name_of(&IP_PROTOCOLS, &number)
}

/// Whether connections over this `IPPROTO_*` are decided when they come in.
#[must_use]
pub fn comes_in(protocol: u8) -> bool {
    u32::from(protocol) == IPPROTO_TCP
}

/// Whether this `IPPROTO_*` has ports.
#[must_use]
pub fn has_ports(protocol: u8) -> bool {
    !matches!(ip_protocol(protocol), Some("icmp" | "icmpv6"))
}

/// Whether there can be a socket of this `SOCK_*` type that has this protocol to a rule.
#[must_use]
pub fn is_socket(kind: u32, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Other => true,
        Protocol::Tcp => kind == SOCK_STREAM,
        Protocol::Udp => kind == SOCK_DGRAM,
        Protocol::Icmp | Protocol::Icmpv6 => matches!(kind, SOCK_RAW | SOCK_DGRAM),
        Protocol::Sctp => matches!(kind, SOCK_STREAM | SOCK_SEQPACKET),
        Protocol::Packet => matches!(kind, SOCK_RAW | SOCK_DGRAM | SOCK_PACKET),
    }
}

/// The name of a preset.
#[must_use]
pub fn preset(op: Op) -> Option<&'static str> {
    name_of(&PRESETS, &op)
}

/// The name of a capability, without `cap_`.
#[must_use]
pub fn capability(number: u8) -> Option<&'static str> {
    CAPABILITIES.get(usize::from(number)).copied()
}

/// The kind of socket of this name, in lower case.
#[must_use]
pub fn socket_kind_named(name: &str) -> Option<SocketKind> {
    entry(&PROTOCOLS, name)
}

/// The IP protocol of this name, in lower case.
#[must_use]
pub fn ip_protocol_named(name: &str) -> Option<u8> {
    entry(&IP_PROTOCOLS, name)
}

/// The preset of this name.
#[must_use]
pub fn preset_named(name: &str) -> Option<Op> {
    entry(&PRESETS, name)
}

/// The capability of this name, with or without `cap_`, in lower case.
#[must_use]
pub fn capability_named(name: &str) -> Option<u8> {
    let name = name.strip_prefix("cap_").unwrap_or(name);
    let number = CAPABILITIES.iter().position(|&known| known == name)?;
    u8::try_from(number).ok()
}

fn entry<T: Copy>(table: &[(&'static str, T)], name: &str) -> Option<T> {
    let mut entries = table.iter();
    entries
        .find(|(known, _)| *known == name)
        .map(|&(_, entry)| entry)
}

/// USB device classes.
pub(crate) const DEVICE_CLASSES: [&str; 25] = [
    "AUDIO",
    "COMMUNICATION-CDC",
    "HID",
    "PHYSICAL",
    "IMAGE",
    "PRINTER",
    "MASS-STORAGE",
    "HUB",
    "CDC-DATA",
    "SMART-CARD",
    "CONTENT-SECURITY",
    "VIDEO",
    "PERSONAL-HEALTHCARE",
    "AUDIO/VIDEO",
    "BILLBOARD",
    "TYPE-C-BRIDGE",
    "BULK-DISPLAY",
    "MCTP",
    "I3C",
    "DIAGNOSTIC",
    "WIRELESS-CONTROLLER",
    "MISCELLANEOUS",
    "APPLICATION-SPECIFIC",
    "VENDOR-SPECIFIC",
    "ALL",
];

/// System calls of x86-64, in the order of their numbers.
pub(crate) const SYSCALLS: [&str; 384] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "fstat",
    "lstat",
    "poll",
    "lseek",
    "mmap",
    "mprotect",
    "munmap",
    "brk",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "ioctl",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "access",
    "pipe",
    "select",
    "sched_yield",
    "mremap",
    "msync",
    "mincore",
    "madvise",
    "shmget",
    "shmat",
    "shmctl",
    "dup",
    "dup2",
    "pause",
    "nanosleep",
    "getitimer",
    "alarm",
    "setitimer",
    "getpid",
    "sendfile",
    "socket",
    "connect",
    "accept",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "shutdown",
    "bind",
    "listen",
    "getsockname",
    "getpeername",
    "socketpair",
    "setsockopt",
    "getsockopt",
    "clone",
    "fork",
    "vfork",
    "execve",
    "exit",
    "wait4",
    "kill",
    "uname",
    "semget",
    "semop",
    "semctl",
    "shmdt",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "fcntl",
    "flock",
    "fsync",
    "fdatasync",
    "truncate",
    "ftruncate",
    "getdents",
    "getcwd",
    "chdir",
    "fchdir",
    "rename",
    "mkdir",
    "rmdir",
    "creat",
    "link",
    "unlink",
    "symlink",
    "readlink",
    "chmod",
    "fchmod",
    "chown",
    "fchown",
    "lchown",
    "umask",
    "gettimeofday",
    "getrlimit",
    "getrusage",
    "sysinfo",
    "times",
    "ptrace",
    "getuid",
    "syslog",
    "getgid",
    "setuid",
    "setgid",
    "geteuid",
    "getegid",
    "setpgid",
    "getppid",
    "getpgrp",
    "setsid",
    "setreuid",
    "setregid",
    "getgroups",
    "setgroups",
    "setresuid",
    "getresuid",
    "setresgid",
    "getresgid",
    "getpgid",
    "setfsuid",
    "setfsgid",
    "getsid",
    "capget",
    "capset",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "rt_sigsuspend",
    "sigaltstack",
    "utime",
    "mknod",
    "uselib",
    "personality",
    "ustat",
    "statfs",
    "fstatfs",
    "sysfs",
    "getpriority",
    "setpriority",
    "sched_setparam",
    "sched_getparam",
    "sched_setscheduler",
    "sched_getscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_rr_get_interval",
    "mlock",
    "munlock",
    "mlockall",
    "munlockall",
    "vhangup",
    "modify_ldt",
    "pivot_root",
    "_sysctl",
    "prctl",
    "arch_prctl",
    "adjtimex",
    "setrlimit",
    "chroot",
    "sync",
    "acct",
    "settimeofday",
    "mount",
    "umount2",
    "swapon",
    "swapoff",
    "reboot",
    "sethostname",
    "setdomainname",
    "iopl",
    "ioperm",
    "create_module",
    "init_module",
    "delete_module",
    "get_kernel_syms",
    "query_module",
    "quotactl",
    "nfsservctl",
    "getpmsg",
    "putpmsg",
    "afs_syscall",
    "tuxcall",
    "security",
    "gettid",
    "readahead",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "tkill",
    "time",
    "futex",
    "sched_setaffinity",
    "sched_getaffinity",
    "set_thread_area",
    "io_setup",
    "io_destroy",
    "io_getevents",
    "io_submit",
    "io_cancel",
    "get_thread_area",
    "lookup_dcookie",
    "epoll_create",
    "epoll_ctl_old",
    "epoll_wait_old",
    "remap_file_pages",
    "getdents64",
    "set_tid_address",
    "restart_syscall",
    "semtimedop",
    "fadvise64",
    "timer_create",
    "timer_settime",
    "timer_gettime",
    "timer_getoverrun",
    "timer_delete",
    "clock_settime",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "exit_group",
    "epoll_wait",
    "epoll_ctl",
    "tgkill",
    "utimes",
    "vserver",
    "mbind",
    "set_mempolicy",
    "get_mempolicy",
    "mq_open",
    "mq_unlink",
    "mq_timedsend",
    "mq_timedreceive",
    "mq_notify",
    "mq_getsetattr",
    "kexec_load",
    "waitid",
    "add_key",
    "request_key",
    "keyctl",
    "ioprio_set",
    "ioprio_get",
    "inotify_init",
    "inotify_add_watch",
    "inotify_rm_watch",
    "migrate_pages",
    "openat",
    "mkdirat",
    "mknodat",
    "fchownat",
    "futimesat",
    "newfstatat",
    "unlinkat",
    "renameat",
    "linkat",
    "symlinkat",
    "readlinkat",
    "fchmodat",
    "faccessat",
    "pselect6",
    "ppoll",
    "unshare",
    "set_robust_list",
    "get_robust_list",
    "splice",
    "tee",
    "sync_file_range",
    "vmsplice",
    "move_pages",
    "utimensat",
    "epoll_pwait",
    "signalfd",
    "timerfd_create",
    "eventfd",
    "fallocate",
    "timerfd_settime",
    "timerfd_gettime",
    "accept4",
    "signalfd4",
    "eventfd2",
    "epoll_create1",
    "dup3",
    "pipe2",
    "inotify_init1",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "perf_event_open",
    "recvmmsg",
    "fanotify_init",
    "fanotify_mark",
    "prlimit64",
    "name_to_handle_at",
    "open_by_handle_at",
    "clock_adjtime",
    "syncfs",
    "sendmmsg",
    "setns",
    "getcpu",
    "process_vm_readv",
    "process_vm_writev",
    "kcmp",
    "finit_module",
    "sched_setattr",
    "sched_getattr",
    "renameat2",
    "seccomp",
    "getrandom",
    "memfd_create",
    "kexec_file_load",
    "bpf",
    "execveat",
    "userfaultfd",
    "membarrier",
    "mlock2",
    "copy_file_range",
    "preadv2",
    "pwritev2",
    "pkey_mprotect",
    "pkey_alloc",
    "pkey_free",
    "statx",
    "io_pgetevents",
    "rseq",
    "uretprobe",
    "uprobe",
    "pidfd_send_signal",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "pidfd_open",
    "clone3",
    "close_range",
    "openat2",
    "pidfd_getfd",
    "faccessat2",
    "process_madvise",
    "epoll_pwait2",
    "mount_setattr",
    "quotactl_fd",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "memfd_secret",
    "process_mrelease",
    "futex_waitv",
    "set_mempolicy_home_node",
    "cachestat",
    "fchmodat2",
    "map_shadow_stack",
    "futex_wake",
    "futex_wait",
    "futex_requeue",
    "statmount",
    "listmount",
    "lsm_get_self_attr",
    "lsm_set_self_attr",
    "lsm_list_modules",
    "mseal",
    "setxattrat",
    "getxattrat",
    "listxattrat",
    "removexattrat",
    "open_tree_attr",
    "file_getattr",
    "file_setattr",
    "listns",
];
