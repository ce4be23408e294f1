//! The event: put together only for what is refused or audited, after the verdict stands.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_uid_gid, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns,
    bpf_loop, bpf_probe_read_kernel, bpf_probe_read_user, bpf_probe_read_user_str,
    bpf_ringbuf_output,
};
use karmor_abi::{
    counters::{Class, Fault},
    event::{Header, Hook, OBJECT_WORD, TEXTS, Text},
    label::SELF_TEST,
    limits::{ARGS_BYTES, ARGS_MAX, COMM_BYTES, PATH_BYTES, PATH_COMPONENTS, TTY_BYTES},
    verdict::{Action, Verdict},
};

use crate::{
    decide::{NO_OWNER, owner_of},
    kernel::{
        atomic::{fetch_add, swap},
        memory::{read_or_zero, read_user, text_bytes},
        offsets::{MM_ARG_END, MM_ARG_START},
        path::{self, Place},
        syscall::exec_argv,
        task::Task,
    },
    maps::{
        AUDITS, Append, COUNTERS, DENIALS, EVENT_SCRATCH, EVENT_TEXT_BYTES, EventScratch, Listener,
        SELF_TESTS, Scratch,
    },
};

/// Counts a decision made for safety.
#[inline(always)]
pub(crate) fn count_fault(fault: Fault) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a map value.
        unsafe { fetch_add(&raw mut (*counters).faults[fault as usize], 1) };
    }
}

/// Counts a fault for which there is no event either.
#[inline(always)]
pub(crate) fn count_untold(fault: Fault, verdict: Verdict) {
    count_fault(fault);
    count_lost(verdict);
}

/// Counts an event that could not even be begun.
#[inline(always)]
pub(crate) fn count_lost(verdict: Verdict) {
    let class = class_of(verdict) as usize;
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a map value.
        unsafe {
            fetch_add(&raw mut (*counters).emitted[class], 1);
            fetch_add(&raw mut (*counters).lost[class], 1);
        }
    }
}

#[inline(always)]
const fn class_of(verdict: Verdict) -> Class {
    if verdict.action_bits() >= Action::Block as u8 {
        Class::Denial
    } else {
        Class::Audit
    }
}

/// Reports the refused or audited access in `scratch`. Whatever happens here, the verdict stands; a
/// record that finds no room is counted as lost.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn emit(scratch: *mut Scratch) -> i32 {
    if scratch.is_null() {
        return 0;
    }
    record(scratch, |event, sequence| {
        write_header(scratch, event, sequence);
        write_texts(scratch, event);
    });
    0
}

/// [`emit`] in the name of who listens on a socket, which may not be known.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn emit_for(scratch: *mut Scratch, listener: *const Listener) -> i32 {
    if scratch.is_null() {
        return 0;
    }
    record(scratch, |event, sequence| {
        write_common(scratch, event, sequence);
        // SAFETY: claimed by this task.
        let header = unsafe { &mut (*event).header };
        header.host_pid = 0;
        header.host_ppid = 0;
        header.pid = 0;
        header.ppid = 0;
        header.uid = 0;
        header.comm = [0; COMM_BYTES];
        header.tty = [0; TTY_BYTES];
        let end = append_word(event, scratch);
        if listener.is_null() {
            return;
        }
        // SAFETY: a map value.
        let listener = unsafe { &*listener };
        header.host_pid = listener.host_pid;
        header.host_ppid = listener.host_ppid;
        header.pid = listener.pid;
        header.ppid = listener.ppid;
        header.uid = listener.uid;
        header.comm = listener.comm;
        header.tty = listener.tty;
        let len = listener.exe_len & PATH_BYTES as u64;
        // SAFETY: both are longer than what is copied.
        unsafe {
            let at = end as usize & (EVENT_TEXT_BYTES - 1);
            bpf_probe_read_kernel(
                (&raw mut (*event).text).cast::<u8>().add(at).cast(),
                len as u32,
                (&raw const listener.exe).cast(),
            );
        }
        note(event, Text::Exe, len);
    });
    0
}

/// Leaves a record that `fill` writes, given its sequence number.
#[inline(always)]
fn record(scratch: *mut Scratch, fill: impl FnOnce(*mut EventScratch, u64)) {
    // SAFETY: claimed by this task.
    let class = class_of(unsafe { (*scratch).answer.verdict });
    let denied = matches!(class, Class::Denial);
    let Some(counters) = COUNTERS.get_ptr_mut(0) else {
        return;
    };
    let class = class as usize;
    // SAFETY: a map value.
    let sequence = unsafe { fetch_add(&raw mut (*counters).emitted[class], 1) } + 1;
    let Some(event) = claim() else {
        // SAFETY: a map value.
        unsafe { fetch_add(&raw mut (*counters).lost[class], 1) };
        return;
    };
    fill(event, sequence);
    // SAFETY: a map value this task has claimed.
    let failed = unsafe {
        let mut texts = 0;
        let mut index = 0;
        while index < TEXTS {
            texts += u64::from((*event).header.text[index]);
            index += 1;
        }
        let size = size_of::<Header>() as u64 + (texts & (EVENT_TEXT_BYTES as u64 - 1));
        let data = (&raw mut (*event).header).cast::<c_void>();
        if (*event).header.workload == SELF_TEST {
            bpf_ringbuf_output((&raw const SELF_TESTS).cast_mut().cast(), data, size, 0)
        } else if denied {
            bpf_ringbuf_output((&raw const DENIALS).cast_mut().cast(), data, size, 0)
        } else {
            bpf_ringbuf_output((&raw const AUDITS).cast_mut().cast(), data, size, 0)
        }
    };
    if failed != 0 {
        // SAFETY: a map value.
        unsafe { fetch_add(&raw mut (*counters).lost[class], 1) };
    }
    release(event);
}

/// Claims an event slot. `None` when all are taken.
#[inline(always)]
fn claim() -> Option<*mut EventScratch> {
    // SAFETY: the helper has no preconditions.
    let first = unsafe { bpf_get_smp_processor_id() };
    let mut attempt = 0;
    while attempt < 16 {
        let slot = match EVENT_SCRATCH.get_ptr_mut(first + attempt) {
            Some(slot) => slot,
            None => EVENT_SCRATCH.get_ptr_mut(attempt)?,
        };
        // SAFETY: a map value, 8-byte aligned.
        if unsafe { swap(&raw mut (*slot).claimed, 1) } == 0 {
            return Some(slot);
        }
        attempt += 1;
    }
    None
}

#[inline(always)]
fn release(slot: *mut EventScratch) {
    // SAFETY: claimed by this task.
    unsafe { swap(&raw mut (*slot).claimed, 0) };
}

#[inline(never)]
fn write_header(scratch: *mut Scratch, event: *mut EventScratch, sequence: u64) -> i32 {
    write_common(scratch, event, sequence);
    let task = Task::current();
    let parent = task.real_parent();
    let (pid, ppid) = task.namespace_pids(parent);
    // SAFETY: both slots are claimed by this task.
    unsafe {
        let header = &mut (*event).header;
        header.host_pid = task.tgid();
        header.host_ppid = parent.tgid();
        header.pid = pid;
        header.ppid = ppid;
        header.uid = bpf_get_current_uid_gid() as u32;
        header.owner = owner_of((*scratch).access.inode);
        header.tty = task.tty();
        bpf_get_current_comm((&raw mut header.comm).cast(), 16);
    }
    0
}

/// Writes what does not depend on who acts.
#[inline(always)]
fn write_common(scratch: *mut Scratch, event: *mut EventScratch, sequence: u64) {
    // SAFETY: both slots are claimed by this task.
    unsafe {
        let (access, answer) = (&(*scratch).access, &(*scratch).answer);
        let header = &mut (*event).header;
        header.time_ns = bpf_ktime_get_boot_ns();
        header.sequence = sequence;
        header.verdict = answer.verdict.0;
        header.exec_id = access.exec_id;
        header.cpu = bpf_get_smp_processor_id();
        header.workload = access.workload;
        header.table = access.handle.uid();
        header.set = answer.set;
        header.source = access.source;
        header.parent = access.parent;
        header.owner = NO_OWNER;
        header.flags = access.flags;
        header.hook = access.hook as u8;
        header.op = answer.op as u8;
        header.object = (*scratch).walk.object as u8;
        header.class = class_of(answer.verdict) as u8;
        header.text = [0; TEXTS];
        header.argument = access.argument as u16;
        header.reserved = [0; 6];
    }
}

/// Writes the object's path, which `scratch` still holds, then the others through it.
#[inline(never)]
fn write_texts(scratch: *mut Scratch, event: *mut EventScratch) -> i32 {
    let task = Task::current();
    // SAFETY: claimed by this task.
    let (hook, image) = unsafe { ((*scratch).access.hook, (*scratch).access.image) };
    let exe = if hook == Hook::Committed as u32 {
        // The task has another by now.
        image
    } else {
        task.exe()
    };
    // SAFETY: claimed by this task.
    let mut end = if unsafe { (*scratch).walk.object } == u64::from(OBJECT_WORD) {
        append_word(event, scratch)
    } else {
        append_path(event, Text::Path, 0, scratch)
    };
    end = append_place(event, Text::Exe, end, scratch, exe);
    end = append_place(
        event,
        Text::ParentExe,
        end,
        scratch,
        task.real_parent().exe(),
    );
    end = append_args(event, scratch, end);
    append_place(event, Text::Cwd, end, scratch, task.cwd());
    0
}

/// Writes the word that stands for the object, and returns its end.
#[inline(never)]
fn append_word(event: *mut EventScratch, scratch: *mut Scratch) -> u64 {
    // SAFETY: both slots are claimed by this task; the text buffer is longer than a word may be.
    unsafe {
        let len = (*scratch).access.word & 0xff;
        bpf_probe_read_kernel(
            (&raw mut (*event).text).cast(),
            len as u32,
            (&raw const (*scratch).bytes).cast(),
        );
        note(event, Text::Path, len);
        len
    }
}

/// Copies the path of the running task's image, and returns its length; 0 when that cannot be told.
/// `None` without memory.
#[inline(always)]
pub(crate) fn copy_exe(scratch: *mut Scratch, to: *mut [u8; PATH_BYTES + 1]) -> Option<u64> {
    let event = claim()?;
    let len = append_place(event, Text::Exe, 0, scratch, Task::current().exe()) & PATH_BYTES as u64;
    // SAFETY: both are longer than what is copied, which this task has claimed.
    unsafe {
        bpf_probe_read_kernel(to.cast(), len as u32, (&raw const (*event).text).cast());
    }
    release(event);
    Some(len)
}

#[inline(always)]
fn append_place(
    event: *mut EventScratch,
    text: Text,
    start: u64,
    scratch: *mut Scratch,
    place: Place,
) -> u64 {
    if place.is_somewhere() && path::walk(scratch, place.mnt, place.dentry) {
        append_path(event, text, start, scratch)
    } else {
        start
    }
}

/// What a step of the writing needs to know. What changes is in [`EventScratch::append`], for the
/// reason told at `kernel::path::Climber`.
#[repr(C)]
struct Writer {
    event: *mut EventScratch,
    scratch: *mut Scratch,
}

unsafe extern "C" fn append_component(_index: u64, writer: *mut Writer) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; both
    // slots are claimed by this task.
    let (scratch, event, append) = unsafe {
        let event = (*writer).event;
        ((*writer).scratch, event, &mut (*event).append)
    };
    append.left = append.left.wrapping_sub(1);
    // SAFETY: both slots are claimed by this task; every index is masked below its length, and the
    // text buffer has room for one component past the mask.
    unsafe {
        let name = (*scratch).names[append.left as usize & (PATH_COMPONENTS - 1)];
        let len = name.len & 0xff;
        let text = (&raw mut (*event).text).cast::<u8>();
        let at = append.end as usize & (EVENT_TEXT_BYTES - 1);
        *text.add(at) = b'/';
        bpf_probe_read_kernel(
            text.add(at + 1).cast(),
            len as u32,
            name.text as *const c_void,
        );
        append.end = (at as u64) + 1 + len;
    }
    0
}

/// Writes the walked path behind `start`, notes its length, and returns the new end.
#[inline(never)]
fn append_path(event: *mut EventScratch, text: Text, start: u64, scratch: *mut Scratch) -> u64 {
    // SAFETY: claimed by this task.
    let walk = unsafe { (*scratch).walk };
    // SAFETY: claimed by this task.
    let append = unsafe {
        (*event).append = Append {
            left: walk.count,
            argv: 0,
            start,
            end: start,
        };
        &mut (*event).append
    };
    if walk.count == 0 {
        // SAFETY: claimed, masked.
        unsafe {
            let bytes = (&raw mut (*event).text).cast::<u8>();
            *bytes.add(start as usize & (EVENT_TEXT_BYTES - 1)) = b'/';
        }
        append.end = start + 1;
    } else {
        let step: unsafe extern "C" fn(u64, *mut Writer) -> i64 = append_component;
        let mut writer = Writer { event, scratch };
        // SAFETY: the callback gets `writer`, which outlives the call; see `kernel::path::walk`.
        unsafe {
            bpf_loop(
                walk.count as u32,
                core::mem::transmute::<unsafe extern "C" fn(u64, *mut Writer) -> i64, *mut c_void>(
                    step,
                ),
                (&raw mut writer).cast(),
                0,
            );
        }
    }
    note(event, text, append.end.wrapping_sub(start));
    append.end
}

#[inline(always)]
fn note(event: *mut EventScratch, text: Text, bytes: u64) {
    // SAFETY: claimed; `text` is below `TEXTS`.
    unsafe { (*event).header.text[text as usize] = bytes as u16 };
}

unsafe extern "C" fn append_argument(_index: u64, writer: *mut Writer) -> i64 {
    // SAFETY: as in `append_component`.
    let (event, append) = unsafe {
        let event = (*writer).event;
        (event, &mut (*event).append)
    };
    let used = append.end.wrapping_sub(append.start);
    if used >= ARGS_BYTES as u64 - 1 {
        return 1;
    }
    let argument = if append.argv == 0 {
        append.left
    } else {
        match read_user::<u64>(append.argv) {
            Ok(argument) => argument,
            Err(_) => 0,
        }
    };
    if argument == 0 {
        return 1;
    }
    append.argv = if append.argv == 0 { 0 } else { append.argv + 8 };
    // At least 1; the mask says nothing new but to the verifier.
    let room = (ARGS_BYTES as u64 - 1 - used) & (ARGS_BYTES as u64 - 1);
    let at = append.end as usize & (EVENT_TEXT_BYTES - 1);
    // SAFETY: `room` is below the text buffer's margin past the mask.
    let copied = unsafe {
        bpf_probe_read_user_str(
            (&raw mut (*event).text).cast::<u8>().add(at).cast(),
            room as u32,
            argument as *const c_void,
        )
    };
    if copied < 0 {
        return 1;
    }
    let copied = text_bytes(copied) & (ARGS_BYTES as u64 - 1);
    append.left = argument + copied;
    append.end = at as u64 + copied;
    0
}

/// Arguments of the program about to run, as its caller passed them or, once it is there, as it has
/// them; or of the running one.
///
/// Best effort: memory that is paged out is not faulted in. Nothing is decided by it.
#[inline(never)]
fn append_args(event: *mut EventScratch, scratch: *mut Scratch, start: u64) -> u64 {
    let mut end = start;
    // SAFETY: claimed by this task.
    let (hook, top, argc) = unsafe {
        let access = &(*scratch).access;
        (access.hook, access.argv, access.argc)
    };
    let committed = hook == Hook::Committed as u32;
    if committed || hook == Hook::Exec as u32 {
        let (argv, count) = if committed {
            (0, argc & (2 * ARGS_MAX as u64 - 1))
        } else {
            (exec_argv(), ARGS_MAX as u64)
        };
        if committed || argv != 0 {
            // SAFETY: claimed by this task.
            unsafe {
                (*event).append = Append {
                    left: top,
                    argv,
                    start,
                    end: start,
                }
            };
            let mut writer = Writer {
                event,
                scratch: core::ptr::null_mut(),
            };
            let step: unsafe extern "C" fn(u64, *mut Writer) -> i64 = append_argument;
            // SAFETY: as in `append_path`.
            unsafe {
                bpf_loop(
                    count as u32,
                    core::mem::transmute::<
                        unsafe extern "C" fn(u64, *mut Writer) -> i64,
                        *mut c_void,
                    >(step),
                    (&raw mut writer).cast(),
                    0,
                );
                end = (*event).append.end;
            }
        }
    } else {
        let mm = Task::current().mm();
        if mm != 0 {
            let from = read_or_zero(mm + u64::from(MM_ARG_START.load()));
            let to = read_or_zero(mm + u64::from(MM_ARG_END.load()));
            let mut len = to.wrapping_sub(from);
            if len >= ARGS_BYTES as u64 {
                len = ARGS_BYTES as u64 - 1;
            }
            let at = start as usize & (EVENT_TEXT_BYTES - 1);
            // SAFETY: claimed, masked; `len` is below the margin past the mask.
            let failed = unsafe {
                bpf_probe_read_user(
                    (&raw mut (*event).text).cast::<u8>().add(at).cast(),
                    len as u32,
                    from as *const c_void,
                )
            };
            if failed == 0 {
                end = start + len;
            }
        }
    }
    note(event, Text::Args, end.wrapping_sub(start));
    end
}
