//! `sys_enter`: which system calls are made.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use karmor_abi::op::Op;

use crate::{call, kernel::syscall::Call, subject::Subject};

/// `sys_enter(regs, number)`: when tracers and seccomp have had their say. Nothing is refused here.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let Some(subject) = Subject::current(Op::Syscall.bit()) else {
        return 0;
    };
    if let Some(call) = Call::new(ctx.arg(1)) {
        call::tell(&subject, call);
    }
    0
}
