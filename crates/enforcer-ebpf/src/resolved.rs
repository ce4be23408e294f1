//! Which names an address was an answer about: who may not ask for a name may not speak to its
//! addresses either, wherever they come from.
//!
//! A workload learns from what it is answered itself: what one is told decides nothing for another.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_boot_ns, bpf_loop, bpf_map_update_elem, bpf_probe_read_kernel,
};
use karmor_abi::{label::Handle, verdict::Action};

use crate::{
    dns::{self, Query},
    maps::{RESOLVED, Resolved, ResolvedKey, Scratch},
    name::{self, ANYBODY},
    object::{Table, Visitor, with_table},
};

/// Most parts of records that are read of a message.
const PARTS: u32 = 512;

/// Shortest and longest that an answer holds, in seconds: who was answered needs some time to connect,
/// and numbers for longer than a day are mistakes.
const SHORTEST: u64 = 10;
/// As above.
const LONGEST: u64 = 24 * 60 * 60;

const SECOND: u64 = 1_000_000_000;

/// Learns the addresses of the answer in `scratch`, whose question has been read.
///
/// Not a global function: 6.1 takes no entries of maps from memory that such a one was given.
#[inline(always)]
pub(crate) fn learn(scratch: *mut Scratch, handle: Handle, workload: u32) {
    if !dns::begin_answer(scratch) {
        return;
    }
    let strictest = with_table(handle, Strictest { scratch }).unwrap_or(Action::Block as u8);
    let query = Query::of(scratch);
    // SAFETY: claimed by this task.
    unsafe {
        (*query).learned.workload = workload;
        (*query).learned.strictest = strictest.into();
        let step: unsafe extern "C" fn(u64, *mut Reader) -> i64 = take_part;
        let mut reader = Reader { query };
        bpf_loop(
            PARTS,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Reader) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut reader).cast(),
            0,
        );
    }
}

/// What a table says of the name in `scratch` to whom it allows least.
struct Strictest {
    scratch: *mut Scratch,
}

impl Visitor for Strictest {
    type Output = u8;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> u8 {
        name::strictest(table, self.scratch).verdict.action_bits()
    }
}

/// See `dns::Reader`.
#[repr(C)]
struct Reader {
    query: *mut Query,
}

unsafe extern "C" fn take_part(_index: u64, reader: *mut Reader) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task.
    unsafe {
        let query = (*reader).query;
        let ttl = match dns::next_address(&mut *query) {
            dns::LAST => return 1,
            dns::PASSED => return 0,
            ttl => ttl.clamp(SHORTEST, LONGEST),
        };
        let until = bpf_ktime_get_boot_ns() + ttl * SECOND;
        (*query).name.until = until;
        (*query).name.until_again = until;
        bpf_map_update_elem(
            (&raw const RESOLVED).cast_mut().cast(),
            (&raw const (*query).learned).cast(),
            (&raw const (*query).name).cast(),
            0,
        );
    }
    0
}

/// Decides speaking to the address in [`Scratch::remote`] by the names it was an answer about. What is stricter than the
/// answer in `scratch` takes its place, with the name as the word.
#[inline(always)]
pub(crate) fn consider(scratch: *mut Scratch, handle: Handle, workload: u32, source: Option<u32>) {
    // SAFETY: claimed by this task. It is what an event would say.
    unsafe { (*scratch).access.workload = workload };
    let source = source.unwrap_or(ANYBODY);
    // One each, so that an answer about a name which may be asked for hides none about one which may
    // not. Names of the two others count as well: policies change.
    for action in [Action::Block, Action::Audit, Action::Allow] {
        consider_name(scratch, handle.0, source, action as u32);
    }
}

/// [`consider`] for one of the names an address may have; `strictest` as in [`ResolvedKey`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn consider_name(
    scratch: *mut Scratch,
    handle: u64,
    source: u32,
    strictest: u32,
) -> i32 {
    if scratch.is_null() {
        return 0;
    }
    let key = ResolvedKey {
        // SAFETY: claimed by this task.
        workload: unsafe { (*scratch).access.workload },
        strictest,
        // SAFETY: as above.
        address: unsafe { (*scratch).remote },
    };
    if !recall(scratch, &key) {
        return 0;
    }
    let answer = name::ask(Handle(handle), scratch, source);
    // SAFETY: claimed by this task.
    unsafe {
        if answer.verdict.action_bits() > (*scratch).answer.verdict.action_bits() {
            dns::note_name(scratch);
            (*scratch).answer = answer;
        }
    }
    0
}

/// Puts the name of an address in `scratch`. `false` when there is none, or none any more.
#[inline(always)]
fn recall(scratch: *mut Scratch, key: &ResolvedKey) -> bool {
    let Some(resolved) = RESOLVED.get_ptr(key) else {
        return false;
    };
    let query = Query::of(scratch);
    // SAFETY: claimed by this task; a map value, and as many bytes as it has.
    unsafe {
        let name = &raw mut (*query).name;
        let error =
            bpf_probe_read_kernel(name.cast(), size_of::<Resolved>() as u32, resolved.cast());
        error == 0
            && (*name).until == (*name).until_again
            && (*name).until > bpf_ktime_get_boot_ns()
    }
}
