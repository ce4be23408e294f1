//! System calls that policies are told of. Nothing is refused for the sake of it: what cannot be
//! told is counted, as a fault and as a lost event.

use karmor_abi::{
    counters::Fault,
    event::{Hook, OBJECT_PATH},
    label::Handle,
    op::Op,
    table::{self, ABSORBING, Asker, DEAD},
    verdict::{Action, Reason, Verdict},
    word,
};

use crate::{
    decide::identify,
    decide_word::{Report, Who as _, ask, settle},
    emit,
    kernel::{
        path::{self, BtfPlace},
        syscall::{self, Call},
    },
    maps::{Answer, NO_STATE, Scratch},
    object::{Table, Visitor, with_table},
    subject::Subject,
};

/// What an event that is lost would have been.
const TOLD: Verdict = Verdict::new(Action::Audit, Reason::Fault, 0, 0);

/// What hooks that see paths ask for besides their own operations.
pub(crate) const AT: u32 = Op::SyscallAt.bit();

/// Tells of a system call, whatever it is about.
#[inline(always)]
pub(crate) fn tell(subject: &Subject, call: Call) {
    let word = call.word();
    let source = subject.source();
    let answer = ask(subject, source, &word, word.len(), Op::Syscall);
    if answer.verdict.action_bits() >= Action::Block as u8 {
        // It is counted as a fault already.
        emit::count_lost(TOLD);
        return;
    }
    let (len, hook) = (word.len(), Hook::Syscall);
    settle(subject, source, &word, len, answer, hook, Report::Always);
}

/// Tells of the system call that the running task is in, when that is about `place`.
#[inline(always)]
pub(crate) fn tell_at(subject: &Subject, place: BtfPlace, hook: Hook) {
    if subject.ops & AT == 0 {
        return;
    }
    let Some(call) = syscall::current() else {
        return;
    };
    if !is_about(call, hook) {
        return;
    }
    let word = u32::from_ne_bytes(call.word());
    let state = begin(subject.handle.0, word);
    if state == DEAD {
        return;
    }
    let Some(scratch) = path::claim() else {
        emit::count_untold(Fault::NoScratch, TOLD);
        return;
    };
    // SAFETY: claimed by this task.
    unsafe {
        let access = &raw mut (*scratch).access;
        (*access).place = place.place();
        (*access).inode = 0;
        (*access).handle = subject.handle;
        (*access).workload = subject.workload;
        (*access).hook = hook as u32;
        (*access).flags = word;
        (*access).argument = 0;
    }
    match identify(subject, scratch) {
        Ok(()) => {
            judge_call(scratch, state);
        }
        Err(fault) => {
            emit::count_untold(fault, TOLD);
        }
    }
    path::release(scratch);
}

/// Whether a hook looks at what a system call is about, and not only at what it does on its way: an
/// exec opens the program, and opening may make a file or empty it.
#[inline(always)]
fn is_about(call: Call, hook: Hook) -> bool {
    match hook {
        Hook::Open => !call.is_exec(),
        Hook::Mknod | Hook::Truncate => !call.is_open(),
        _ => true,
    }
}

/// The automaton's state before the path of a call whose word this is; [`DEAD`] when no rule is about
/// such a call and a path.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin(handle: u64, word: u32) -> u32 {
    let word = word.to_ne_bytes();
    with_table(Handle(handle), Begin { word }).unwrap_or(DEAD)
}

struct Begin {
    word: [u8; 4],
}

impl Visitor for Begin {
    type Output = u32;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> u32 {
        let mut state = table::start(&table);
        let mut index = 0;
        while index < 4 && state & ABSORBING == 0 {
            state = table::step(&table, state, self.word[index]);
            index += 1;
        }
        state
    }
}

/// Decides the call in `scratch` by the path of its place, and tells of it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_call(scratch: *mut Scratch, state: u32) -> i32 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: claimed by this task.
    let (place, handle) = unsafe { ((*scratch).access.place, (*scratch).access.handle) };
    if !path::walk(scratch, place.mnt, place.dentry) {
        emit::count_untold(Fault::Read, TOLD);
        return 0;
    }
    // SAFETY: as above.
    if unsafe { (*scratch).walk.object } != u64::from(OBJECT_PATH) {
        // No rule can name it.
        return 0;
    }
    let answer = match with_table(handle, Ask { scratch, state }) {
        Some(Some(answer)) => answer,
        Some(None) => {
            emit::count_untold(Fault::Read, TOLD);
            return 0;
        }
        None => {
            emit::count_untold(Fault::NoTable, TOLD);
            return 0;
        }
    };
    if answer.verdict.action_bits() == Action::Audit as u8 {
        // SAFETY: as above.
        unsafe { (*scratch).answer = answer };
        emit::emit(scratch);
    }
    0
}

struct Ask {
    scratch: *mut Scratch,
    state: u32,
}

impl Visitor for Ask {
    type Output = Option<Answer>;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Option<Answer> {
        let state = table.state_from(self.scratch, self.state);
        if state == NO_STATE {
            return None;
        }
        let number = table::accept(&table, state);
        if number == 0 {
            return Some(Answer::ALLOW);
        }
        let set = table::set(&table, number);
        // SAFETY: claimed by this task.
        let source = unsafe { (*self.scratch).access.source };
        Some(Answer {
            verdict: table::verdict(&table, set, Op::SyscallAt, source, Asker::default()),
            set: number,
            op: Op::SyscallAt as u32,
        })
    }
}

const _: () = assert!(word::SYSCALLS < 1 << 12);
