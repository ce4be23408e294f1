//! `capable`: what a task is privileged to do.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use karmor_abi::{event::Hook, op::Op, verdict::Action, word};

use crate::{
    decide_word::{Report, Who as _, ask, settle},
    kernel::task::Task,
    subject::Subject,
};

/// `CAP_OPT_NOAUDIT`: the kernel asks what would be, for instance which attributes it may show, and
/// nobody has tried anything.
const CAP_OPT_NOAUDIT: u64 = 2;

/// `capable(cred, ns, cap, opts)`: only asked once the credentials have the capability.
#[lsm(hook = "capable")]
pub(crate) fn capable(ctx: LsmContext) -> i32 {
    let capability: u64 = ctx.arg(2);
    let options: u64 = ctx.arg(3);
    let Some(subject) = Subject::current(Op::Capable.bit()) else {
        return 0;
    };
    let word = word::capability(capability as u8);
    let source = subject.source();
    let answer = ask(&subject, source, &word, word.len(), Op::Capable);
    if answer.verdict.action_bits() != Action::Allow as u8 && Task::current().acts_for_the_kernel()
    {
        // A stacked file system copies a file up with its own privileges, not with the task's.
        return 0;
    }
    let report = if options & CAP_OPT_NOAUDIT == 0 {
        Report::Always
    } else {
        Report::Never
    };
    settle(
        &subject,
        source,
        &word,
        word.len(),
        answer,
        Hook::Capable,
        report,
    )
}
