//! The embedded kernel half: its bytes, and its programs by hook.

use aya::{include_bytes_aligned, programs::CgroupSkbAttachType};

/// The eBPF object, as the build script made it; empty when it was told to skip it.
pub(super) static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/karmor-enforcer-ebpf"));

/// When a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// As soon as anything is enforced: labels depend on it.
    Always,
    /// While a table does not allow one of these operations ([`karmor_abi::op::Op::bit`]).
    ForOps(u32),
    /// Never: it runs when it is asked to.
    OnDemand,
}

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The LSM hook of the program's name.
    Lsm,
    /// The root of the cgroups: every packet that leaves a socket, or comes in for one.
    Packets(CgroupSkbAttachType),
    /// The tracepoint of the program's name, which sees and cannot refuse.
    Tracepoint,
    /// Nothing: it is run over everything of a kind, which its name says.
    Iterator,
}

/// A program of the object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// Its name, and that of its link: that of what it is attached to, unless it is there for presets.
    pub(super) name: &'static str,
    /// The name of what it is attached to.
    pub(super) hook: &'static str,
    /// What that is.
    pub(super) place: Place,
    /// It is loaded when the daemon starts, which ends there if the kernel refuses it. The others are
    /// loaded when the first policy needs them, which is refused in that case: a kernel takes a while
    /// for each.
    pub(super) at_start: bool,
    /// When it is attached.
    pub(super) needed: Needed,
    /// The hook exists on every supported kernel; without it nothing is enforced.
    pub(super) required: bool,
}

const fn always(hook: &'static str) -> Program {
    Program {
        name: hook,
        hook,
        place: Place::Lsm,
        at_start: true,
        needed: Needed::Always,
        required: true,
    }
}

const fn for_ops(hook: &'static str, ops: u32) -> Program {
    Program {
        name: hook,
        hook,
        place: Place::Lsm,
        at_start: true,
        needed: Needed::ForOps(ops),
        required: true,
    }
}

/// What many nodes never need.
const fn rare(hook: &'static str, ops: u32) -> Program {
    Program {
        at_start: false,
        ..for_ops(hook, ops)
    }
}

const fn for_presets(name: &'static str, hook: &'static str, ops: u32) -> Program {
    beside(name, rare(hook, ops))
}

/// On a hook that another program of ours has the name of.
const fn beside(name: &'static str, program: Program) -> Program {
    Program { name, ..program }
}

/// Stands among the operations for the daemon's own protection, which no table asks for.
pub(super) const GUARD: u32 = 1 << 31;

/// Stands among the operations for descriptors that were open before a policy which forbids them.
pub(super) const HELD: u32 = 1 << 30;

/// The program that looks for those.
pub(super) const TASK_FILE: &str = "task_file";

mod ops {
    use karmor_abi::op::Op;

    /// Every hook that sees a path may see what a system call is about.
    pub(super) const AT: u32 = Op::SyscallAt.bit();
    pub(super) const SYSCALL: u32 = Op::Syscall.bit();
    pub(super) const EXEC: u32 = Op::Exec.bit();
    pub(super) const MAP: u32 = Op::Map.bit();
    pub(super) const OPEN: u32 = Op::Read.bit() | Op::Write.bit();
    pub(super) const WRITE: u32 = Op::Write.bit();
    pub(super) const RENAME: u32 = Op::Write.bit() | Op::Move.bit();
    pub(super) const CAPABLE: u32 = Op::Capable.bit();
    pub(super) const ANY: u32 = EXEC | MAP | OPEN | RENAME;
    pub(super) const SOCKET: u32 = Op::Socket.bit();
    pub(super) const EGRESS: u32 = Op::Egress.bit();
    pub(super) const INGRESS: u32 = Op::Ingress.bit();
    pub(super) const QUERY: u32 = Op::Query.bit();
    pub(super) const EXECUTED: u32 = Op::FilelessExec.bit() | Op::Drift.bit();
    pub(super) const SESSION: u32 = Op::ExecSession.bit();
    pub(super) const ANONYMOUS: u32 = Op::AnonymousMapExec.bit();
    pub(super) const ENVIRONMENT: u32 = Op::ProtectEnv.bit();
    pub(super) const PROC: u32 = Op::ProtectProc.bit();
    pub(super) const PTRACE: u32 = Op::Ptrace.bit();
    pub(super) const MOUNT: u32 = Op::Mount.bit();
    pub(super) const NAMESPACE: u32 = Op::Namespace.bit();
    pub(super) const MODULE: u32 = Op::KernelModule.bit();
    pub(super) const BPF: u32 = Op::Bpf.bit();
    pub(super) const IO_URING: u32 = Op::IoUring.bit();
    pub(super) const GUARD: u32 = super::GUARD;
    pub(super) const HELD: u32 = super::HELD;
}

/// Every program, labels first: a decision without a label falls back to the cgroup, so the order
/// of attaching is not a matter of safety, but of cost.
pub(super) const PROGRAMS: &[Program] = &[
    always("task_alloc"),
    always("task_free"),
    always("bprm_creds_for_exec"),
    always("bprm_committed_creds"),
    for_ops("bprm_check_security", ops::EXEC | ops::AT),
    for_ops("mmap_file", ops::MAP | ops::WRITE | ops::HELD),
    for_ops("file_open", ops::OPEN | ops::AT | ops::GUARD),
    for_ops("path_mknod", ops::WRITE | ops::AT),
    for_ops("path_mkdir", ops::WRITE | ops::AT),
    for_ops("path_rmdir", ops::RENAME | ops::AT),
    for_ops("path_unlink", ops::RENAME | ops::AT),
    for_ops("path_symlink", ops::WRITE | ops::AT),
    for_ops("path_link", ops::RENAME | ops::AT),
    for_ops("path_rename", ops::RENAME | ops::AT),
    for_ops("path_chmod", ops::WRITE | ops::AT),
    for_ops("path_chown", ops::WRITE | ops::AT),
    for_ops("path_truncate", ops::WRITE | ops::AT),
    // Since 6.2; before, `path_truncate` is called for `ftruncate` too.
    Program {
        required: false,
        ..for_ops("file_truncate", ops::WRITE | ops::AT)
    },
    for_ops("inode_setxattr", ops::WRITE),
    for_ops("inode_copy_up", ops::WRITE),
    rare("file_receive", ops::OPEN),
    Program {
        place: Place::Iterator,
        needed: Needed::OnDemand,
        ..rare(TASK_FILE, 0)
    },
    // Before anything is noted that it has to forget.
    rare("file_free_security", ops::HELD),
    rare("file_permission", ops::HELD),
    rare("file_ioctl", ops::HELD),
    // Since 6.8, and where distributions took it over; before, `file_ioctl` is called for both.
    Program {
        required: false,
        ..rare("file_ioctl_compat", ops::HELD)
    },
    rare("capable", ops::CAPABLE),
    for_ops("sb_mount", ops::ANY | ops::AT),
    for_ops("move_mount", ops::ANY | ops::AT),
    for_ops("sb_umount", ops::ANY | ops::AT | ops::GUARD),
    for_ops("sb_pivotroot", ops::ANY | ops::AT),
    for_ops("sb_statfs", ops::ANY),
    rare("socket_create", ops::SOCKET),
    rare("socket_bind", ops::SOCKET),
    // Always: who listens when a policy comes is known by then.
    always("socket_listen"),
    rare("socket_connect", ops::SOCKET | ops::EGRESS | ops::QUERY),
    rare("socket_accept", ops::SOCKET | ops::INGRESS),
    rare("socket_sendmsg", ops::SOCKET | ops::EGRESS | ops::QUERY),
    rare("inet_conn_request", ops::INGRESS),
    Program {
        place: Place::Packets(CgroupSkbAttachType::Egress),
        ..rare("cgroup_skb_egress", ops::QUERY)
    },
    Program {
        place: Place::Packets(CgroupSkbAttachType::Ingress),
        ..rare("cgroup_skb_ingress", ops::QUERY)
    },
    Program {
        place: Place::Tracepoint,
        ..rare("sys_enter", ops::SYSCALL)
    },
    for_presets(
        "preset_exec",
        "bprm_check_security",
        ops::EXECUTED | ops::SESSION,
    ),
    for_presets("preset_mmap", "mmap_file", ops::EXECUTED | ops::ANONYMOUS),
    for_presets(
        "preset_mprotect",
        "file_mprotect",
        ops::EXECUTED | ops::ANONYMOUS,
    ),
    for_presets("preset_open", "file_open", ops::ENVIRONMENT | ops::PROC),
    for_presets("preset_follow", "inode_follow_link", ops::PROC),
    for_presets("preset_ptrace", "ptrace_access_check", ops::PTRACE),
    for_presets("preset_traceme", "ptrace_traceme", ops::PTRACE),
    for_presets("preset_mount", "sb_mount", ops::MOUNT),
    for_presets("preset_move_mount", "move_mount", ops::MOUNT),
    for_presets("preset_umount", "sb_umount", ops::MOUNT),
    for_presets("preset_pivotroot", "sb_pivotroot", ops::MOUNT),
    for_presets("preset_capable", "capable", ops::MOUNT | ops::NAMESPACE),
    // Since 6.1; before, nothing sees that a user namespace is made.
    Program {
        required: false,
        ..for_presets("preset_userns", "userns_create", ops::NAMESPACE)
    },
    for_presets("preset_read_file", "kernel_read_file", ops::MODULE),
    for_presets("preset_load_data", "kernel_load_data", ops::MODULE),
    for_presets(
        "preset_module_request",
        "kernel_module_request",
        ops::MODULE,
    ),
    for_presets("preset_bpf", "bpf", ops::BPF),
    for_presets("preset_anon", "inode_init_security_anon", ops::IO_URING),
    for_ops("task_kill", ops::GUARD),
    for_ops("ptrace_access_check", ops::GUARD),
    for_ops("bpf_map", ops::GUARD),
    for_ops("bpf_prog", ops::GUARD),
    for_ops("inode_create", ops::GUARD),
    for_ops("inode_link", ops::GUARD),
    for_ops("inode_unlink", ops::GUARD),
    for_ops("inode_symlink", ops::GUARD),
    for_ops("inode_mkdir", ops::GUARD),
    for_ops("inode_rmdir", ops::GUARD),
    for_ops("inode_mknod", ops::GUARD),
    for_ops("inode_rename", ops::GUARD),
    for_ops("inode_setattr", ops::GUARD),
    beside("guard_mount", for_ops("sb_mount", ops::GUARD)),
    beside("guard_move_mount", for_ops("move_mount", ops::GUARD)),
    beside("guard_pivotroot", for_ops("sb_pivotroot", ops::GUARD)),
    for_ops("file_send_sigiotask", ops::GUARD),
    for_ops("task_setrlimit", ops::GUARD),
    for_ops("task_setscheduler", ops::GUARD),
    for_ops("task_setnice", ops::GUARD),
    for_ops("task_setioprio", ops::GUARD),
    for_ops("unix_stream_connect", ops::GUARD),
    for_ops("task_prctl", ops::GUARD),
];
