//! The decision about a preset: a hook has noticed what it is about, and its word is asked.
//!
//! No rule about a preset names a source, so that neither the image that acts nor the label matters, but
//! on the host, where some programs are spared.

use karmor_abi::{
    counters::Fault,
    event::{Hook, OBJECT_WORD},
    label::{HOST, Handle},
    op::Op,
    table::{self, Asker},
    verdict::{Action, Verdict},
    word,
};

use crate::{
    decide::{ALLOWED, DENIED},
    decide_word::{Report, Who as _},
    emit, guard,
    kernel::{
        memory::read_or_zero,
        offsets::DENTRY_D_SB,
        path::{self, Place},
        task::Task,
    },
    maps::{Answer, NO_STATE, Scratch, Walk},
    object::{Table, Visitor, with_table},
    subject::Subject,
};

/// How a hook tells what it has noticed.
#[derive(Clone, Copy)]
pub(crate) struct Notice {
    /// Which hook.
    pub(crate) hook: Hook,
    /// What the event has as flags.
    pub(crate) flags: u32,
    /// What the event names: a place, a dentry of /proc without a mount, or [`Place::NOWHERE`].
    pub(crate) object: Place,
    /// Whether there is an event.
    pub(crate) report: Report,
}

impl Notice {
    /// What names no object.
    #[inline(always)]
    pub(crate) const fn by(hook: Hook) -> Self {
        Self {
            hook,
            flags: 0,
            object: Place::NOWHERE,
            report: Report::Always,
        }
    }

    /// What is about a place.
    #[inline(always)]
    pub(crate) const fn at(hook: Hook, object: Place) -> Self {
        Self {
            object,
            ..Self::by(hook)
        }
    }
}

/// Decides what the preset `op` is about. What comes back is what the hook returns.
#[inline(always)]
pub(crate) fn decide(subject: &Subject, op: Op, notice: Notice) -> i32 {
    if subject.ops & op.bit() == 0 {
        return ALLOWED;
    }
    // Without it the verdict stands, and only the event is lost.
    let scratch = path::claim().unwrap_or(core::ptr::null_mut());
    if !scratch.is_null() {
        // SAFETY: claimed by this task.
        unsafe {
            let access = &mut (*scratch).access;
            access.place = notice.object;
            access.inode = 0;
            access.handle = subject.handle;
            access.hook = notice.hook as u32;
            access.flags = notice.flags;
            access.source = 0;
            if !subject.label.is_null() {
                access.source = (*subject.label).source;
            }
            access.state = NO_STATE;
            access.argument = 0;
            subject.note(access);
        }
    }
    let report = u32::from(matches!(notice.report, Report::Always));
    let refused = decide_preset(
        subject.handle.0,
        subject.workload,
        op as u32,
        report,
        scratch,
    );
    if !scratch.is_null() {
        path::release(scratch);
    }
    if refused != 0 { DENIED } else { ALLOWED }
}

/// [`decide`], with what the event needs in `scratch`, if there is any. Not 0 for a refusal.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decide_preset(
    handle: u64,
    workload: u32,
    op: u32,
    report: u32,
    scratch: *mut Scratch,
) -> i32 {
    if workload == HOST && guard::is_daemon(Task::current()) {
        // The enforcer looks after the host's processes and containers itself.
        return 0;
    }
    let source = if workload == HOST {
        source_on_the_host(handle)
    } else {
        0
    };
    let answer = with_table(Handle(handle), Ask { op, source }).unwrap_or_else(|| {
        emit::count_fault(Fault::NoTable);
        Answer {
            verdict: Verdict::FAULT,
            set: 0,
            op,
        }
    });
    let action = answer.verdict.action_bits();
    if action != Action::Allow as u8 && report != 0 {
        if scratch.is_null() {
            emit::count_untold(Fault::NoScratch, answer.verdict);
        } else {
            // SAFETY: claimed by this task.
            unsafe { (*scratch).answer = answer };
            tell(scratch, op);
        }
    }
    i32::from(action >= Action::Block as u8)
}

/// Class of the running task's image, a process of the host, in its table; that of an image that no rule
/// names when it cannot be told.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn source_on_the_host(handle: u64) -> u32 {
    match Subject::current(u32::MAX) {
        Some(subject) if subject.handle.0 == handle => subject.source().unwrap_or(0),
        _ => 0,
    }
}

struct Ask {
    op: u32,
    source: u32,
}

impl Visitor for Ask {
    type Output = Answer;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Answer {
        let [first, _] = word::preset(Op::Exec);
        let state = table::step(&table, table::start(&table), first);
        let number = table::accept(&table, table::step(&table, state, self.op as u8));
        if number == 0 {
            // No rule of the workload is about it.
            return Answer::ALLOW;
        }
        let asker = Asker {
            owner: false,
            terminal: false,
        };
        let set = table::set(&table, number);
        Answer {
            // All presets have the same column.
            verdict: table::verdict(&table, set, Op::FilelessExec, self.source, asker),
            set: number,
            op: self.op,
        }
    }
}

/// Leaves the event. Whatever happens here, the verdict stands.
#[inline(always)]
fn tell(scratch: *mut Scratch, op: u32) {
    // SAFETY: claimed by this task.
    let place = unsafe { (*scratch).access.place };
    if !walk(scratch, place) {
        // SAFETY: claimed by this task.
        unsafe {
            (*scratch).bytes[0] = word::PRESET;
            (*scratch).bytes[1] = op as u8;
            (*scratch).access.word = 2;
            (*scratch).walk = Walk {
                count: 0,
                object: u64::from(OBJECT_WORD),
            };
        }
    }
    emit::emit(scratch);
}

/// Notes the path that the event names. `false` when there is none.
#[inline(always)]
fn walk(scratch: *mut Scratch, place: Place) -> bool {
    if place.is_somewhere() {
        return path::walk(scratch, place.mnt, place.dentry)
            // SAFETY: claimed by this task.
            && unsafe { (*scratch).walk.object } != path::BENEATH;
    }
    if place.dentry == 0 {
        return false;
    }
    let super_block = read_or_zero(place.dentry + u64::from(DENTRY_D_SB.load()));
    path::walk_as_usual(scratch, place.dentry, super_block, "proc".len() as u64)
}
