//! The event: put together only for what is refused or audited, after the verdict stands.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_uid_gid, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns,
    bpf_loop, bpf_probe_read_kernel, bpf_probe_read_user, bpf_probe_read_user_str,
    bpf_ringbuf_output,
};
use karmor_abi::{
    counters::{Class, Fault},
    event::{Header, Hook, TEXTS, Text},
    label::SELF_TEST,
    limits::{ARGS_BYTES, ARGS_MAX, PATH_COMPONENTS},
    verdict::Action,
};

use crate::{
    decide::owner_of,
    kernel::{
        atomic::{fetch_add, swap},
        memory::{read_or_zero, read_user},
        offsets::{MM_ARG_END, MM_ARG_START},
        path::{self, Place},
        task::Task,
    },
    maps::{
        AUDITS, Append, COUNTERS, DENIALS, EVENT_SCRATCH, EVENT_TEXT_BYTES, EventScratch,
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

/// Counts a refusal whose event could not even be begun.
#[inline(always)]
pub(crate) fn count_lost_denial() {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a map value.
        unsafe {
            fetch_add(&raw mut (*counters).emitted[Class::Denial as usize], 1);
            fetch_add(&raw mut (*counters).lost[Class::Denial as usize], 1);
        }
    }
}

/// Reports the refused or audited access in `scratch`. Whatever happens here, the verdict stands; a
/// record that finds no room is counted as lost.
#[inline(never)]
pub(crate) fn emit(scratch: *mut Scratch) -> i32 {
    // SAFETY: claimed by this task.
    let denied = unsafe { (*scratch).answer.verdict.action_bits() } >= Action::Block as u8;
    let Some(counters) = COUNTERS.get_ptr_mut(0) else {
        return 0;
    };
    let class = if denied { Class::Denial } else { Class::Audit } as usize;
    // SAFETY: a map value.
    let sequence = unsafe { fetch_add(&raw mut (*counters).emitted[class], 1) } + 1;
    let Some(event) = claim() else {
        // SAFETY: a map value.
        unsafe { fetch_add(&raw mut (*counters).lost[class], 1) };
        return 0;
    };
    write_header(scratch, event, sequence);
    write_texts(scratch, event);
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
    0
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
    let task = Task::current();
    let parent = task.real_parent();
    let (pid, ppid) = task.namespace_pids(parent);
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
        header.host_pid = task.tgid();
        header.host_ppid = parent.tgid();
        header.pid = pid;
        header.ppid = ppid;
        header.uid = bpf_get_current_uid_gid() as u32;
        header.owner = owner_of(access.inode);
        header.flags = access.flags;
        header.hook = access.hook as u8;
        header.op = answer.op as u8;
        header.object = (*scratch).walk.object as u8;
        header.class = u8::from(answer.verdict.action_bits() < Action::Block as u8);
        header.tty = task.tty();
        header.text = [0; TEXTS];
        header.reserved = [0; 7];
        bpf_get_current_comm((&raw mut header.comm).cast(), 16);
    }
    0
}

/// Writes the object's path, which `scratch` still holds, then the others through it.
#[inline(never)]
fn write_texts(scratch: *mut Scratch, event: *mut EventScratch) -> i32 {
    let task = Task::current();
    // SAFETY: claimed by this task.
    let exec = unsafe { (*scratch).access.hook } == Hook::Exec as u32;
    let mut end = append_path(event, Text::Path, 0, scratch);
    end = append_place(event, Text::Exe, end, scratch, task.exe());
    end = append_place(
        event,
        Text::ParentExe,
        end,
        scratch,
        task.real_parent().exe(),
    );
    end = append_args(event, end, exec);
    append_place(event, Text::Cwd, end, scratch, task.cwd());
    0
}

#[inline(always)]
fn append_place(
    event: *mut EventScratch,
    text: Text,
    start: u64,
    scratch: *mut Scratch,
    place: Option<Place>,
) -> u64 {
    match place {
        Some(place) if path::walk(scratch, place.mnt, place.dentry) => {
            append_path(event, text, start, scratch)
        }
        _ => start,
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
    let Ok(argument) = read_user::<u64>(append.argv) else {
        return 1;
    };
    if argument == 0 {
        return 1;
    }
    append.argv += 8;
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
    if copied <= 0 {
        return 1;
    }
    append.end = at as u64 + (copied as u64 & (ARGS_BYTES as u64 - 1));
    0
}

/// Arguments of the program about to run, as its caller passed them, or of the running one.
///
/// Best effort: memory that is paged out is not faulted in. Nothing is decided by it.
#[inline(never)]
fn append_args(event: *mut EventScratch, start: u64, exec: bool) -> u64 {
    let mut end = start;
    if exec {
        let argv = exec_argv();
        if argv != 0 {
            // SAFETY: claimed by this task.
            unsafe {
                (*event).append = Append {
                    left: 0,
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
                    ARGS_MAX as u32,
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

/// The `argv` pointer of the `execve` or `execveat` the task is in, or 0.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn exec_argv() -> u64 {
    /// `struct pt_regs`: offsets are ABI.
    const SI: u64 = 104;
    const DX: u64 = 96;
    const ORIG_AX: u64 = 120;
    match registers() {
        0 => 0,
        regs => match read_or_zero(regs + ORIG_AX) {
            59 => read_or_zero(regs + SI),
            322 => read_or_zero(regs + DX),
            _ => 0,
        },
    }
}

/// The `argv` pointer of the `execve` or `execveat` the task is in, or 0.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn exec_argv() -> u64 {
    /// `struct pt_regs`: 31 registers, sp, pc, pstate, orig_x0, then the system call's number.
    const X1: u64 = 8;
    const X2: u64 = 16;
    const SYSCALL: u64 = 280;
    match registers() {
        0 => 0,
        regs => match read_or_zero(regs + SYSCALL) as u32 {
            221 => read_or_zero(regs + X1),
            281 => read_or_zero(regs + X2),
            _ => 0,
        },
    }
}

/// Address of the user registers of the running task.
#[inline(always)]
fn registers() -> u64 {
    use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
    // SAFETY: the helper takes the running task.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
}
