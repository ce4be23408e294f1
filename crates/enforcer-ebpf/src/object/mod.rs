//! Which patterns an object matches: its path through the workload's automaton.

pub(crate) mod file;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use karmor_abi::{
    label::Handle,
    limits::{PATH_BYTES, PATH_COMPONENTS},
    op::Object,
    table::{self, ABSORBING, CLASS_WORDS_LOG2, Words},
};

use crate::maps::{Feed, NO_STATE, Scratch, TABLES_1M, TABLES_4M, TABLES_32K, TABLES_256K};

/// A table in a kernel map, of `WORDS` words, a power of two.
#[derive(Clone, Copy)]
pub(crate) struct KernelTable<const WORDS: usize>(*const u64);

impl<const WORDS: usize> Words for KernelTable<WORDS> {
    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        // The mask is what proves the access to the verifier. A checked table never needs it.
        // SAFETY: the index is below the length of the array the pointer leads to.
        unsafe { *self.0.add(index as usize & (WORDS - 1)) }
    }
}

/// What is done with a table, once for each size class.
pub(crate) trait Visitor {
    /// The answer.
    type Output;
    /// Works on the table.
    fn visit<const WORDS: usize>(self, table: KernelTable<WORDS>) -> Self::Output;
}

/// Finds the table a handle names. `None` when it is gone.
#[inline(always)]
pub(crate) fn with_table<V: Visitor>(handle: Handle, visitor: V) -> Option<V::Output> {
    macro_rules! visit {
        ($map:ident, $class:literal) => {{
            const WORDS: usize = 1 << CLASS_WORDS_LOG2[$class];
            let words: Option<*mut [u64; WORDS]> = $map.get_value_ptr_mut(handle.slot(), &0);
            Some(visitor.visit(KernelTable::<WORDS>(words?.cast_const().cast())))
        }};
    }
    match handle.class() {
        0 => visit!(TABLES_32K, 0),
        1 => visit!(TABLES_256K, 1),
        2 => visit!(TABLES_1M, 2),
        3 => visit!(TABLES_4M, 3),
        _ => None,
    }
}

/// Bytes of a component fed in one go. The verifier follows every one of them, in every size class;
/// most names are shorter.
const CHUNK: u64 = 16;

/// Most chunks of a path: every component may end in one that is not full.
const CHUNKS: u32 = (PATH_COMPONENTS + PATH_BYTES / CHUNK as usize) as u32;

/// What a step of the feeding needs to know.
///
/// What changes from step to step is in [`Scratch::feed`]: to the verifier, map memory holds unknown
/// numbers, so that it sees one state and not one for each step.
#[repr(C)]
struct Feeder {
    table: *const u64,
    scratch: *mut Scratch,
}

/// Feeds the next chunk: a slash and the first bytes of a name, or more of it.
unsafe extern "C" fn feed_chunk<const WORDS: usize>(_index: u64, feeder: *mut Feeder) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task.
    let (table, scratch, feed) = unsafe {
        let scratch = (*feeder).scratch;
        (
            KernelTable::<WORDS>((*feeder).table),
            scratch,
            &mut (*scratch).feed,
        )
    };
    let mut state = feed.state as u32;
    if feed.fed == 0 {
        state = table::step(&table, state, b'/');
        if state & ABSORBING != 0 {
            feed.state = u64::from(state);
            return 1;
        }
        // SAFETY: the index is masked below the length.
        let read = unsafe {
            let left = feed.left - 1;
            let name = (*scratch).names[left as usize & (PATH_COMPONENTS - 1)];
            feed.left = left;
            feed.len = name.len & 0xff;
            bpf_probe_read_kernel(
                (&raw mut (*scratch).bytes).cast(),
                (name.len & 0xff) as u32,
                name.text as *const c_void,
            )
        };
        if read != 0 {
            feed.state = u64::from(NO_STATE);
            return 1;
        }
    }
    // Names have at most 255 bytes, so that the last chunk ends inside the buffer.
    let (fed, len) = (feed.fed & (256 - CHUNK), feed.len);
    let mut index = 0;
    while index < CHUNK && fed + index < len {
        // SAFETY: `fed + index` is below 256.
        let byte = unsafe {
            *(&raw const (*scratch).bytes)
                .cast::<u8>()
                .add((fed + index) as usize)
        };
        state = table::step(&table, state, byte);
        if state & ABSORBING != 0 {
            feed.state = u64::from(state);
            return 1;
        }
        index += 1;
    }
    feed.state = u64::from(state);
    if fed + CHUNK < len {
        feed.fed = fed + CHUNK;
        return 0;
    }
    feed.fed = 0;
    i64::from(feed.left == 0)
}

/// The set of patterns that the walked object matches. `None` when its path cannot be read.
#[inline(always)]
pub(crate) fn set_of<const WORDS: usize>(
    table: KernelTable<WORDS>,
    scratch: *mut Scratch,
) -> Option<u32> {
    // SAFETY: claimed by this task.
    let object = match unsafe { (*scratch).walk.object } {
        0 => Object::Anonymous,
        1 => Object::Unreachable,
        2 => Object::TooLong,
        _ => {
            let state = state_of(table, scratch);
            // SAFETY: as above.
            unsafe { (*scratch).access.state = state };
            return (state != NO_STATE).then(|| table::accept(&table, state));
        }
    };
    Some(table::object_set(&table, object))
}

/// The automaton's state after the walked path, or [`NO_STATE`] when that cannot be read.
#[inline(always)]
pub(crate) fn state_of<const WORDS: usize>(
    table: KernelTable<WORDS>,
    scratch: *mut Scratch,
) -> u32 {
    // SAFETY: claimed by this task.
    let count = unsafe { (*scratch).walk.count };
    if count == 0 {
        // The root directory: the slash alone.
        return table::step(&table, table::start(&table), b'/');
    }
    // SAFETY: claimed by this task.
    unsafe {
        (*scratch).feed = Feed {
            left: count,
            fed: 0,
            len: 0,
            state: table::start(&table).into(),
        };
    }
    let mut feeder = Feeder {
        table: table.0,
        scratch,
    };
    let step: unsafe extern "C" fn(u64, *mut Feeder) -> i64 = feed_chunk::<WORDS>;
    // SAFETY: the callback gets `feeder`, which outlives the call; see `kernel::path::walk`.
    unsafe {
        bpf_loop(
            CHUNKS,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Feeder) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut feeder).cast(),
            0,
        );
        (*scratch).feed.state as u32
    }
}
