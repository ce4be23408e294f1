//! Which presets may have a say on what is asked about. What they look at, such as the file system
//! that a program lies in, no question tells; so they are only named.

use karmor_abi::op::Op;

use super::{Asked, Query};
use crate::{model::Target, names, select::Effective};

/// Presets of the policies that may be about this.
pub(super) fn concerned(effective: &Effective, query: &Query) -> Vec<&'static str> {
    let is_there = |op: &Op| {
        effective
            .rules()
            .any(|rule| rule.target == Target::Preset(*op))
    };
    let about = about(query).into_iter();
    about.filter(is_there).filter_map(names::preset).collect()
}

fn about(query: &Query) -> Vec<Op> {
    match (query.op, &query.object) {
        (Op::Exec, _) => EXEC.to_vec(),
        (Op::Map, _) => vec![Op::FilelessExec, Op::Drift],
        (Op::Read | Op::Write, Asked::Path(path)) => of_processes(path),
        (_, Asked::Syscall(syscall, path)) => {
            let opened = path.as_ref().filter(|_| OPEN.contains(&syscall.name()));
            let mut about = opened.map_or_else(Vec::new, |path| of_processes(path));
            about.extend(by_call(syscall.name()));
            about
        }
        _ => Vec::new(),
    }
}

const EXEC: [Op; 3] = [Op::FilelessExec, Op::Drift, Op::ExecSession];

const OPEN: [&str; 4] = ["creat", "open", "openat", "openat2"];

/// Those about `/proc/PID`.
fn of_processes(path: &str) -> Vec<Op> {
    let Some(rest) = path.strip_prefix("/proc/") else {
        return Vec::new();
    };
    let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let environ = below == "environ" || below.ends_with("/environ");
    let environ = environ.then_some(Op::ProtectEnv);
    [Op::ProtectProc].into_iter().chain(environ).collect()
}

fn by_call(name: &str) -> &'static [Op] {
    match name {
        "execve" | "execveat" => &EXEC,
        "mmap" | "mprotect" | "pkey_mprotect" => {
            &[Op::AnonymousMapExec, Op::FilelessExec, Op::Drift]
        }
        "ptrace" | "process_vm_readv" | "process_vm_writev" | "pidfd_getfd" => &[Op::Ptrace],
        "mount" | "move_mount" | "umount2" | "pivot_root" | "fsopen" | "fspick" | "fsconfig"
        | "fsmount" | "mount_setattr" | "open_tree" | "open_tree_attr" => &[Op::Mount],
        "unshare" | "clone" | "clone3" | "setns" => &[Op::Namespace],
        "init_module" | "finit_module" | "kexec_load" | "kexec_file_load" | "socket" => {
            &[Op::KernelModule]
        }
        "bpf" => &[Op::Bpf],
        "io_uring_setup" => &[Op::IoUring],
        _ => &[],
    }
}
