//! `sys_enter`: which system calls are made.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use karmor_abi::op::Op;

use crate::{call, kernel::syscall::Call, subject::Subject};

/// `sys_enter(regs, number)`: when tracers and seccomp have had their say. Nothing is refused here.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter(ctx: RawTracePointContext) -> i32 {
    // Nearly every system call is one that nobody asks about; who makes it takes longer to find out.
    if let Some(call) = Call::new(ctx.arg(1))
        && call.is_asked_about()
        && let Some(subject) = Subject::current(Op::Syscall.bit())
    {
        call::tell(&subject, call);
    }
    0
}
