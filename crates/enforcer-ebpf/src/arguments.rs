//! Arguments of an exec: whether every one is in the lists of the rules that want to see them.
//!
//! ```text
//! bprm_creds_for_exec   forget             what an exec that failed has left
//! bprm_check_security   examine_arguments  program, script, interpreter: what its caller passed. Refusal
//! bprm_committed_creds  settle             what the new image got, before its first instruction. Death
//! ```
//!
//! Only the last can be relied on: until the kernel has copied them, another thread of the caller
//! can change what it passed. But then the old image is gone, and nothing can be refused any more.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user_str, bpf_send_signal};
use karmor_abi::{
    counters::Fault,
    event::{Hook, OBJECT_PATH},
    limits::ARGUMENTS,
    op::Op,
    pending::{CHUNK, CHUNKS, Check, PASSES, Pass, Pending, UNREADABLE},
    table::{self, ABSORBING},
    verdict::{Action, Verdict},
};

use crate::{
    decide::fail,
    emit,
    kernel::{
        memory::{read_user, text_bytes},
        path::{self, Place},
        syscall::exec_argv,
        task::Task,
    },
    maps::{Answer, BLANK, NO_STATE, PENDING, Scratch, Walk},
    object::{Table, Visitor, with_table},
};

/// `SIGKILL`.
const KILL: u32 = 9;

/// Forgets what a task has pending.
#[inline(always)]
pub(crate) fn forget(task: Task) {
    if let Some(pending) = PENDING.get_ptr_mut(task.0) {
        // Before 6.2 a removal may fail, when it interrupts a change of the same bucket.
        // SAFETY: a live map value, which only its task's hooks write.
        unsafe { (*pending).count = 0 };
        let _ = PENDING.remove(task.0);
    }
}

/// Looks at the arguments that the caller passed, after all else about this file has been decided:
/// refuses what is sure to be refused, and notes what is not.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn examine_arguments(scratch: *mut Scratch, argc: u32) -> i32 {
    if !scratch.is_null()
        && let Err(fault) = refuse_early(scratch, argc)
    {
        fail(scratch, fault);
    }
    0
}

#[inline(always)]
fn refuse_early(scratch: *mut Scratch, argc: u32) -> Result<(), Fault> {
    // SAFETY: claimed by this task.
    let (rules, verdict) = unsafe { ((*scratch).access.arguments, (*scratch).answer.verdict) };
    let count = argc.saturating_sub(1);
    if rules == 0 || count == 0 || verdict.action_bits() >= Action::Block as u8 {
        return Ok(());
    }
    let pending = note(scratch, count)?;
    let argv = exec_argv();
    // SAFETY: claimed by this task.
    let table = unsafe { (*scratch).access.handle };
    let check = Check {
        table,
        rules,
        left: u64::from(count),
        position: 1,
        // Of a caller whose registers say nothing, only the number is known.
        pointers: if argv == 0 { 0 } else { argv + 8 },
        ..Check::EMPTY
    };
    look(pending, check);
    // SAFETY: the entry is this task's, and lives until the task forgets it.
    let (verdict, found) = unsafe { (said(pending), (*pending).check.found) };
    let verdict = verdict.ok_or(Fault::NoTable)?;
    // SAFETY: claimed by this task.
    unsafe {
        // What is only reported is so once it is certain.
        if verdict.action_bits() >= Action::Block as u8 {
            (*scratch).answer.verdict = verdict;
            (*scratch).access.argument = found;
            forget(Task::current());
        }
    }
    Ok(())
}

/// Notes what the file in `scratch` has to show in the end.
#[inline(always)]
fn note(scratch: *mut Scratch, count: u32) -> Result<*mut Pending, Fault> {
    let task = Task::current();
    let pending = match PENDING.get_ptr_mut(task.0) {
        Some(pending) => pending,
        None => {
            let blank = BLANK.get(0).ok_or(Fault::NoPending)?;
            let _ = PENDING.insert(task.0, blank, 0);
            PENDING.get_ptr_mut(task.0).ok_or(Fault::NoPending)?
        }
    };
    // SAFETY: the scratch is claimed by this task, the entry is its own, the index below its length.
    unsafe {
        let (access, answer) = (&(*scratch).access, &(*scratch).answer);
        let index = (*pending).count;
        if index >= PASSES as u64 {
            return Err(Fault::NoPending);
        }
        if index == 0 {
            let image = task.exe();
            (*pending).image = [image.mnt, image.dentry];
            (*pending).exec_id = access.exec_id;
            (*pending).workload = access.workload;
            (*pending).source = access.source;
            (*pending).parent = access.parent;
        }
        (*pending).passes[index as usize & (PASSES - 1)] = Pass {
            table: access.handle,
            rules: access.arguments,
            verdict: answer.verdict.0,
            place: [access.place.mnt, access.place.dentry],
            inode: access.inode,
            set: answer.set,
            arguments: count,
        };
        (*pending).count = index + 1;
    }
    Ok(pending)
}

/// Holds what the new image got against what its files were allowed to. `top` is where its
/// arguments begin, `argc` their number.
#[inline(always)]
pub(crate) fn settle(top: u64, argc: u32) {
    let Some(pending) = PENDING.get_ptr_mut(Task::current().0) else {
        return;
    };
    let step: unsafe extern "C" fn(u64, *mut Settler) -> i64 = settle_pass;
    let mut settler = Settler { pending, top, argc };
    // SAFETY: the callback gets `settler`, which outlives the call; see `kernel::path::walk`.
    unsafe {
        bpf_loop(
            PASSES as u32,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Settler) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut settler).cast(),
            0,
        );
    }
    forget(Task::current());
}

/// What the look at one file after the other needs to know.
#[repr(C)]
struct Settler {
    pending: *mut Pending,
    top: u64,
    argc: u32,
}

/// [`settle`] for one file.
unsafe extern "C" fn settle_pass(index: u64, settler: *mut Settler) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame.
    let Settler { pending, top, argc } = unsafe { settler.read() };
    // SAFETY: the entry is this task's, and lives until the task forgets it.
    if index >= unsafe { (*pending).count } {
        return 1;
    }
    // SAFETY: as above; the index is masked below the length.
    let pass = unsafe { (*pending).passes[index as usize & (PASSES - 1)] };
    let check = Check {
        table: pass.table,
        rules: pass.rules,
        address: top,
        skipped: u64::from(argc.saturating_sub(pass.arguments)),
        left: u64::from(pass.arguments),
        position: 1,
        ..Check::EMPTY
    };
    look(pending, check);
    // SAFETY: as above.
    let verdict = unsafe {
        let check = &raw mut (*pending).check;
        if (*check).left != 0 && (*check).missing & lowest(pass.rules) == 0 {
            // What could not be read is in no list.
            (*check).missing = pass.rules;
            (*check).found = UNREADABLE;
        }
        match said(pending) {
            Some(verdict) => verdict,
            None => {
                emit::count_fault(Fault::NoTable);
                Verdict::FAULT
            }
        }
    };
    if verdict.action_bits() <= Verdict(pass.verdict).action_bits() {
        return 0;
    }
    let mut verdict = verdict;
    if verdict.action_bits() >= Action::Block as u8 {
        // SAFETY: the helper has no preconditions.
        let failed = unsafe { bpf_send_signal(KILL) } != 0;
        if failed {
            // The first process of the machine: nobody may kill that.
            verdict = Verdict(verdict.0 & !0xff | Action::Audit as u64);
        }
    }
    tell(pending, &pass, verdict, top, argc);
    0
}

/// What the look at the arguments comes to; nothing without its table.
///
/// # Safety
/// The entry must be the running task's.
#[inline(always)]
unsafe fn said(pending: *mut Pending) -> Option<Verdict> {
    // SAFETY: see above.
    let (table, missing) = unsafe { ((*pending).check.table, (*pending).check.missing) };
    with_table(table, Said { missing })
}

struct Said {
    missing: u64,
}

impl Visitor for Said {
    type Output = Verdict;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Verdict {
        table::mismatch(&table, self.missing)
    }
}

/// Leaves the event. Whatever happens here, the verdict stands.
#[inline(always)]
fn tell(pending: *mut Pending, pass: &Pass, verdict: Verdict, top: u64, argc: u32) {
    let Some(scratch) = path::claim() else {
        emit::count_untold(Fault::NoScratch, verdict);
        return;
    };
    // SAFETY: claimed by this task; the entry is its own.
    unsafe {
        let access = &raw mut (*scratch).access;
        let [mnt, dentry] = (*pending).image;
        (*access).image = Place { mnt, dentry };
        (*access).inode = pass.inode;
        (*access).handle = pass.table;
        (*access).exec_id = (*pending).exec_id;
        (*access).workload = (*pending).workload;
        (*access).source = (*pending).source;
        (*access).parent = (*pending).parent;
        (*access).hook = Hook::Committed as u32;
        (*access).flags = 0;
        (*access).state = NO_STATE;
        (*access).argument = (*pending).check.found;
        (*access).argv = top;
        (*access).argc = u64::from(argc.min(ARGUMENTS));
        let [mnt, dentry] = pass.place;
        // The kernel lets go of an exec's files when it goes back to user space.
        if !path::walk(scratch, mnt, dentry) {
            (*scratch).walk = Walk {
                count: 0,
                object: OBJECT_PATH as u64,
            };
        }
        (*scratch).answer = Answer {
            verdict,
            set: pass.set,
            op: Op::Exec as u32,
        };
    }
    emit::emit(scratch);
    path::release(scratch);
}

/// The lowest bit, which is that of the rule that counts.
#[inline(always)]
const fn lowest(rules: u64) -> u64 {
    rules & rules.wrapping_neg()
}

/// What a step of the look needs to know. What changes is in [`Pending::check`], for the reason told
/// at `kernel::path::Climber`.
#[repr(C)]
struct Looker {
    pending: *mut Pending,
}

/// Looks at arguments until it is clear what comes of them, or one cannot be read. What is left then
/// is in [`Check::left`].
#[inline(always)]
fn look(pending: *mut Pending, check: Check) {
    // SAFETY: the entry is this task's.
    unsafe { (*pending).check = check };
    look_at_arguments(pending);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_arguments(pending: *mut Pending) -> i32 {
    if pending.is_null() {
        return 0;
    }
    // SAFETY: the entry is this task's.
    let check = unsafe { &mut (*pending).check };
    let too_many = check.left > u64::from(ARGUMENTS);
    if too_many {
        check.missing = check.rules;
        check.found = u64::from(ARGUMENTS) + 1;
    }
    let somewhere = check.pointers != 0 || check.address != 0;
    if too_many || !somewhere {
        return 0;
    }
    let step: unsafe extern "C" fn(u64, *mut Looker) -> i64 = look_on;
    let mut looker = Looker { pending };
    // SAFETY: the callback gets `looker`, which outlives the call; see `kernel::path::walk`.
    unsafe {
        bpf_loop(
            CHUNKS,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Looker) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut looker).cast(),
            0,
        );
    }
    0
}

unsafe extern "C" fn look_on(_index: u64, looker: *mut Looker) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // entry is this task's.
    let check = unsafe { &mut (*(*looker).pending).check };
    if check.left == 0 {
        return 1;
    }
    if check.begun == 0 && check.pointers != 0 {
        match read_user::<u64>(check.pointers) {
            Ok(argument) => check.address = argument,
            Err(_) => return 1,
        }
        check.pointers += 8;
    }
    // SAFETY: as above; the helper writes no more than it is told to.
    let copied = unsafe {
        bpf_probe_read_user_str(
            (&raw mut check.bytes).cast(),
            CHUNK as u32,
            check.address as *const c_void,
        )
    };
    if copied < 0 {
        return 1;
    }
    // A text of just this length is followed by a chunk of its NUL alone.
    let ends = copied < CHUNK as i64;
    let bytes = if ends {
        text_bytes(copied)
    } else {
        CHUNK as u64 - 1
    };
    check.address += bytes;
    if check.skipped != 0 {
        check.skipped -= u64::from(ends);
        return 0;
    }
    let fed = if ends { bytes - 1 } else { bytes };
    let begins = check.begun == 0;
    let feed = Feed {
        check: &raw mut *check,
        fed,
        begins,
    };
    let Some(listing) = with_table(check.table, feed) else {
        return 1;
    };
    let dead = check.state == u64::from(table::DEAD);
    check.begun = u64::from(!ends);
    if !ends && !dead {
        return 0;
    }
    let missing = check.rules & !listing;
    if missing != 0 && (check.missing == 0 || lowest(missing) < lowest(check.missing)) {
        check.found = check.position;
    }
    check.missing |= missing;
    if check.missing & lowest(check.rules) != 0 {
        return 1;
    }
    check.position += 1;
    check.left -= 1;
    0
}

/// Feeds a chunk to the automaton; the rules that list what it has made of the argument.
struct Feed {
    check: *mut Check,
    fed: u64,
    begins: bool,
}

impl Visitor for Feed {
    type Output = u64;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> u64 {
        // SAFETY: the entry is this task's.
        let check = unsafe { &mut *self.check };
        let mut state = if self.begins {
            table::argument_start(&table)
        } else {
            check.state as u32
        };
        let mut index = 0;
        while index < CHUNK as u64 - 1 && index < self.fed {
            if state & ABSORBING != 0 {
                break;
            }
            state = table::step(&table, state, check.bytes[index as usize & (CHUNK - 1)]);
            index += 1;
        }
        check.state = u64::from(state);
        table::listing(&table, state)
    }
}
