//! The decision about what is no path: its word through the workload's automaton.

use karmor_abi::{
    counters::Fault,
    event::{Hook, OBJECT_WORD},
    label::Handle,
    op::Op,
    table::{self, ABSORBING, Asker, SET_BY_TERMINAL},
    verdict::{Action, Verdict},
};

use crate::{
    decide::{ALLOWED, DENIED, refresh_sources},
    emit,
    kernel::{path, task::Task},
    maps::{Access, Answer, NO_STATE, Scratch, Walk},
    object::{Table, Visitor, with_table},
    subject::Subject,
};

/// Whether what is refused or audited leaves an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// It does.
    Always,
    /// It does not: the kernel only asks what would be.
    Never,
}

/// Who makes an access.
pub(crate) trait Who {
    /// The table that decides.
    fn handle(&self) -> Handle;
    /// Class of the image that acts.
    fn source(&self) -> Result<u32, Fault>;
    /// Whether it has a controlling terminal.
    fn has_terminal(&self) -> bool;
    /// Notes for the event who it is.
    fn note(&self, access: &mut Access);
    /// Leaves the event that `scratch` describes.
    fn emit(&self, scratch: *mut Scratch);
}

/// The running task.
impl Who for Subject {
    #[inline(always)]
    fn handle(&self) -> Handle {
        self.handle
    }

    #[inline(always)]
    fn source(&self) -> Result<u32, Fault> {
        if self.label.is_null() {
            return Err(Fault::NoLabel);
        }
        if self.handle.sourced() {
            // SAFETY: not null, and only this task writes its label.
            if unsafe { (*self.label).table } != self.handle.uid() {
                let scratch = path::claim().ok_or(Fault::NoScratch)?;
                refresh_sources(self, scratch);
                path::release(scratch);
            }
        }
        // SAFETY: as above.
        Ok(unsafe { (*self.label).source })
    }

    #[inline(always)]
    fn has_terminal(&self) -> bool {
        Task::current().has_terminal()
    }

    #[inline(always)]
    fn note(&self, access: &mut Access) {
        access.workload = self.workload;
        access.parent = 0;
        access.exec_id = 0;
        if !self.label.is_null() {
            // SAFETY: not null, and only this task writes its label.
            unsafe {
                access.parent = (*self.label).parent;
                access.exec_id = (*self.label).exec_id;
            }
        }
    }

    #[inline(always)]
    fn emit(&self, scratch: *mut Scratch) {
        emit::emit(scratch);
    }
}

/// Decides an access to what `word[..len]` names. What comes back is what the hook returns.
#[inline(always)]
pub(crate) fn decide_word<W: Who, const N: usize>(
    who: &W,
    word: &[u8; N],
    len: usize,
    op: Op,
    hook: Hook,
    report: Report,
) -> i32 {
    let source = who.source();
    let answer = ask(who, source, word, len, op);
    settle(who, source, word, len, answer, hook, report)
}

/// Leaves the event of an answer, if one is due, and returns what the hook returns.
#[inline(always)]
pub(crate) fn settle<W: Who, const N: usize>(
    who: &W,
    source: Result<u32, Fault>,
    word: &[u8; N],
    len: usize,
    answer: Answer,
    hook: Hook,
    report: Report,
) -> i32 {
    let action = answer.verdict.action_bits();
    if action == Action::Allow as u8 {
        return ALLOWED;
    }
    if report == Report::Always {
        match path::claim() {
            Some(scratch) => {
                // SAFETY: claimed by this task.
                unsafe {
                    (*scratch).access.word = len as u64;
                    (*scratch).answer = answer;
                }
                copy(scratch, word);
                tell(who, source, scratch, hook);
                path::release(scratch);
            }
            None => {
                emit::count_untold(Fault::NoScratch, answer.verdict);
            }
        }
    }
    outcome(action)
}

/// What the table says to an access to what `word[..len]` names.
#[inline(always)]
pub(crate) fn ask<W: Who, const N: usize>(
    who: &W,
    source: Result<u32, Fault>,
    word: &[u8; N],
    len: usize,
    op: Op,
) -> Answer {
    answer(who, source, OnStack(word, len), op)
}

/// What the table says to an access to what the word in `scratch` names.
#[inline(always)]
pub(crate) fn ask_noted<W: Who>(
    who: &W,
    source: Result<u32, Fault>,
    scratch: *mut Scratch,
    op: Op,
) -> Answer {
    answer(who, source, InScratch(scratch), op)
}

#[inline(always)]
fn answer<W: Who, B: Bytes>(who: &W, source: Result<u32, Fault>, word: B, op: Op) -> Answer {
    let answer = match source {
        Ok(source) => {
            let question = Ask {
                who,
                word,
                op,
                source,
            };
            with_table(who.handle(), question).ok_or(Fault::NoTable)
        }
        Err(fault) => Err(fault),
    };
    match answer {
        Ok(answer) => answer,
        Err(fault) => refused(fault, op),
    }
}

/// The answer where none can be worked out.
#[inline(always)]
pub(crate) fn refused(fault: Fault, op: Op) -> Answer {
    emit::count_fault(fault);
    Answer {
        verdict: Verdict::FAULT,
        set: 0,
        op: op as u32,
    }
}

/// Leaves the event of the answer in `scratch`, if one is due, and returns what the hook returns.
#[inline(always)]
pub(crate) fn conclude<W: Who>(
    who: &W,
    source: Result<u32, Fault>,
    scratch: *mut Scratch,
    hook: Hook,
) -> i32 {
    // SAFETY: claimed by this task.
    let action = unsafe { (*scratch).answer.verdict.action_bits() };
    if action != Action::Allow as u8 {
        tell(who, source, scratch, hook);
    }
    outcome(action)
}

#[inline(always)]
const fn outcome(action: u8) -> i32 {
    if action >= Action::Block as u8 {
        DENIED
    } else {
        ALLOWED
    }
}

/// Puts a word where its event is made of.
#[inline(always)]
pub(crate) fn copy<const N: usize>(scratch: *mut Scratch, word: &[u8; N]) {
    let mut index = 0;
    while index < N {
        // SAFETY: claimed by this task.
        unsafe { (*scratch).bytes[index] = word[index] };
        index += 1;
    }
}

/// A word that is asked about.
trait Bytes {
    /// The state of a table's automaton after it.
    fn follow<T: Table>(&self, table: T) -> u32;
}

/// A word on the stack.
struct OnStack<'a, const N: usize>(&'a [u8; N], usize);

impl<const N: usize> Bytes for OnStack<'_, N> {
    #[inline(always)]
    fn follow<T: Table>(&self, table: T) -> u32 {
        let mut state = table::start(&table);
        let mut index = 0;
        while index < N && index < self.1 && state & ABSORBING == 0 {
            state = table::step(&table, state, self.0[index]);
            index += 1;
        }
        state
    }
}

/// A word in [`Scratch::bytes`], of [`Access::word`] bytes.
struct InScratch(*mut Scratch);

impl Bytes for InScratch {
    #[inline(always)]
    fn follow<T: Table>(&self, table: T) -> u32 {
        table.state_of_word(self.0)
    }
}

struct Ask<'a, W, B> {
    who: &'a W,
    word: B,
    op: Op,
    source: u32,
}

impl<W: Who, B: Bytes> Visitor for Ask<'_, W, B> {
    type Output = Answer;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Answer {
        let number = table::accept(&table, self.word.follow(table));
        if number == 0 {
            // No rule of the workload and no posture speaks of such words.
            return Answer::ALLOW;
        }
        let set = table::set(&table, number);
        let asker = Asker {
            owner: false,
            terminal: set.flags() & SET_BY_TERMINAL != 0 && self.who.has_terminal(),
        };
        Answer {
            verdict: table::verdict(&table, set, self.op, self.source, asker),
            set: number,
            op: self.op as u32,
        }
    }
}

/// Leaves the event of word and answer in `scratch`. Whatever happens here, the verdict stands.
#[inline(always)]
fn tell<W: Who>(who: &W, source: Result<u32, Fault>, scratch: *mut Scratch, hook: Hook) {
    // SAFETY: claimed by this task.
    unsafe {
        let access = &mut (*scratch).access;
        access.inode = 0;
        access.handle = who.handle();
        access.hook = hook as u32;
        access.flags = 0;
        access.state = NO_STATE;
        // That of an exec may have been there.
        access.argument = 0;
        access.source = source.unwrap_or(0);
        who.note(access);
        (*scratch).walk = Walk {
            count: 0,
            object: u64::from(OBJECT_WORD),
        };
    }
    who.emit(scratch);
}
