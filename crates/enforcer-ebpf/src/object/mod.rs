//! Which patterns an object matches: its path through the workload's automaton.

pub(crate) mod file;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use karmor_abi::{
    label::Handle,
    limits::{PATH_BYTES, PATH_COMPONENTS},
    op::Object,
    table::{self, ABSORBING, CLASS_WORDS_LOG2, Words},
    word::ENDPOINT_BYTES,
};

use crate::{
    decide::consider,
    dns::{Query, TEXT_BYTES},
    maps::{Feed, NO_STATE, Scratch, TABLES_1M, TABLES_4M, TABLES_32K, TABLES_256K},
};

/// A table in a kernel map, of `WORDS` words, a power of two.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct KernelTable<const WORDS: usize>(*const [u64; WORDS]);

impl<const WORDS: usize> Words for KernelTable<WORDS> {
    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        // The mask is what proves the access to the verifier. A checked table never needs it.
        // SAFETY: the index is below the length of the array the pointer leads to.
        unsafe { *self.0.cast::<u64>().add(index as usize & (WORDS - 1)) }
    }
}

/// A table of any size class. Each has global functions of its own for what takes long.
pub(crate) trait Table: Words + Copy {
    /// The automaton's state after the walked path, or [`NO_STATE`] when that cannot be read.
    #[inline(always)]
    fn state_of(self, scratch: *mut Scratch) -> u32 {
        self.state_from(scratch, table::start(&self))
    }
    /// The same, from the state before the path on.
    fn state_from(self, scratch: *mut Scratch, state: u32) -> u32;
    /// The automaton's state after the word in [`Scratch::bytes`].
    fn state_of_word(self, scratch: *mut Scratch) -> u32;
    /// The automaton's state after the word of the name in [`Query`].
    fn state_of_name(self, scratch: *mut Scratch) -> u32;
    /// Takes the verdicts of the operations asked about, where they are stricter than the answer so
    /// far.
    fn consider(self, scratch: *mut Scratch, set: u32);
}

/// What is done with a table, whatever its size.
pub(crate) trait Visitor {
    /// The answer.
    type Output;
    /// Works on the table.
    fn visit<T: Table>(self, table: T) -> Self::Output;
}

macro_rules! size_classes {
    ($($class:literal: $map:ident, $path:ident, $word:ident, $name:ident, $consider:ident;)*) => {
        $(
            impl Table for KernelTable<{ 1 << CLASS_WORDS_LOG2[$class] }> {
                #[inline(always)]
                fn state_from(self, scratch: *mut Scratch, state: u32) -> u32 {
                    $path(self.0, scratch, state)
                }

                #[inline(always)]
                fn state_of_word(self, scratch: *mut Scratch) -> u32 {
                    $word(self.0, scratch)
                }

                #[inline(always)]
                fn state_of_name(self, scratch: *mut Scratch) -> u32 {
                    $name(self.0, scratch)
                }

                #[inline(always)]
                fn consider(self, scratch: *mut Scratch, set: u32) {
                    $consider(self.0, scratch, set);
                }
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $path(
                table: *const [u64; 1 << CLASS_WORDS_LOG2[$class]],
                scratch: *mut Scratch,
                state: u32,
            ) -> u32 {
                if table.is_null() || scratch.is_null() {
                    return NO_STATE;
                }
                feed_path(KernelTable(table), scratch, state)
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $word(
                table: *const [u64; 1 << CLASS_WORDS_LOG2[$class]],
                scratch: *mut Scratch,
            ) -> u32 {
                if table.is_null() || scratch.is_null() {
                    return NO_STATE;
                }
                feed_word(KernelTable(table), scratch)
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $name(
                table: *const [u64; 1 << CLASS_WORDS_LOG2[$class]],
                scratch: *mut Scratch,
            ) -> u32 {
                if table.is_null() || scratch.is_null() {
                    return NO_STATE;
                }
                feed_name(KernelTable(table), scratch)
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $consider(
                table: *const [u64; 1 << CLASS_WORDS_LOG2[$class]],
                scratch: *mut Scratch,
                set: u32,
            ) -> i32 {
                if !table.is_null() && !scratch.is_null() {
                    consider(&KernelTable(table), scratch, set);
                }
                0
            }
        )*

        /// Finds the table a handle names. `None` when it is gone.
        #[inline(always)]
        pub(crate) fn with_table<V: Visitor>(handle: Handle, visitor: V) -> Option<V::Output> {
            match handle.class() {
                $($class => {
                    let words = $map.get_value_ptr_mut(handle.slot(), &0)?;
                    Some(visitor.visit(KernelTable::<{ 1 << CLASS_WORDS_LOG2[$class] }>(
                        words.cast_const().cast(),
                    )))
                })*
                _ => None,
            }
        }
    };
}

size_classes! {
    0: TABLES_32K, path_32k, word_32k, name_32k, consider_32k;
    1: TABLES_256K, path_256k, word_256k, name_256k, consider_256k;
    2: TABLES_1M, path_1m, word_1m, name_1m, consider_1m;
    3: TABLES_4M, path_4m, word_4m, name_4m, consider_4m;
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
struct Feeder<const WORDS: usize> {
    table: KernelTable<WORDS>,
    scratch: *mut Scratch,
}

/// Feeds the next chunk: a slash and the first bytes of a name, or more of it.
unsafe extern "C" fn feed_chunk<const WORDS: usize>(
    _index: u64,
    feeder: *mut Feeder<WORDS>,
) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task.
    let (table, scratch, feed) = unsafe {
        let scratch = (*feeder).scratch;
        ((*feeder).table, scratch, &mut (*scratch).feed)
    };
    let mut state = feed.state as u32;
    if feed.fed == 0 {
        state = table::step(&table, state, b'/');
        if state & ABSORBING != 0 {
            feed.state = u64::from(state);
            return 1;
        }
        if !next_name(scratch, feed) {
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

/// Reads the next component's name.
#[inline(always)]
fn next_name(scratch: *mut Scratch, feed: &mut Feed) -> bool {
    // SAFETY: claimed by this task; the index is masked below the length.
    unsafe {
        let left = feed.left - 1;
        let name = (*scratch).names[left as usize & (PATH_COMPONENTS - 1)];
        feed.left = left;
        feed.len = name.len & 0xff;
        bpf_probe_read_kernel(
            (&raw mut (*scratch).bytes).cast(),
            (name.len & 0xff) as u32,
            name.text as *const c_void,
        ) == 0
    }
}

/// The set of patterns that the walked object matches. `None` when its path cannot be read.
#[inline(always)]
pub(crate) fn set_of<T: Table>(table: T, scratch: *mut Scratch) -> Option<u32> {
    // SAFETY: claimed by this task.
    let object = match unsafe { (*scratch).walk.object } {
        0 => Object::Anonymous,
        1 => Object::Unreachable,
        2 => Object::TooLong,
        _ => {
            let state = table.state_of(scratch);
            // SAFETY: as above.
            unsafe { (*scratch).access.state = state };
            return (state != NO_STATE).then(|| table::accept(&table, state));
        }
    };
    Some(table::object_set(&table, object))
}

#[inline(always)]
fn feed_path<const WORDS: usize>(
    table: KernelTable<WORDS>,
    scratch: *mut Scratch,
    state: u32,
) -> u32 {
    // SAFETY: claimed by this task.
    let count = unsafe { (*scratch).walk.count };
    if count == 0 {
        // The root directory: the slash alone.
        return table::step(&table, state, b'/');
    }
    // SAFETY: claimed by this task.
    unsafe {
        (*scratch).feed = Feed {
            left: count,
            fed: 0,
            len: 0,
            state: state.into(),
        };
    }
    let mut feeder = Feeder { table, scratch };
    let step: unsafe extern "C" fn(u64, *mut Feeder<WORDS>) -> i64 = feed_chunk::<WORDS>;
    // SAFETY: the callback gets `feeder`, which outlives the call; see `kernel::path::walk`.
    unsafe {
        bpf_loop(
            CHUNKS,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Feeder<WORDS>) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut feeder).cast(),
            0,
        );
        (*scratch).feed.state as u32
    }
}

/// To the verifier the word is unknown numbers, so that it sees one state and not one for each way
/// to write it.
#[inline(always)]
fn feed_word<const WORDS: usize>(table: KernelTable<WORDS>, scratch: *mut Scratch) -> u32 {
    // SAFETY: claimed by this task.
    let len = unsafe { (*scratch).access.word as usize };
    let mut state = table::start(&table);
    let mut index = 0;
    while index < ENDPOINT_BYTES && index < len && state & ABSORBING == 0 {
        // SAFETY: as above; the index is below the length.
        let byte = unsafe { *(&raw const (*scratch).bytes).cast::<u8>().add(index) };
        state = table::step(&table, state, byte);
        index += 1;
    }
    state
}

#[inline(always)]
fn feed_name<const WORDS: usize>(table: KernelTable<WORDS>, scratch: *mut Scratch) -> u32 {
    // SAFETY: claimed by this task.
    unsafe {
        (*scratch).feed = Feed {
            left: 0,
            fed: (*Query::of(scratch)).word_start(),
            len: TEXT_BYTES as u64,
            state: table::start(&table).into(),
        };
    }
    let mut feeder = Feeder { table, scratch };
    let step: unsafe extern "C" fn(u64, *mut Feeder<WORDS>) -> i64 = feed_byte::<WORDS>;
    // SAFETY: the callback gets `feeder`, which outlives the call; see `kernel::path::walk`.
    unsafe {
        bpf_loop(
            TEXT_BYTES as u32,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Feeder<WORDS>) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut feeder).cast(),
            0,
        );
        (*scratch).feed.state as u32
    }
}

/// Feeds the next byte of a name.
unsafe extern "C" fn feed_byte<const WORDS: usize>(_index: u64, feeder: *mut Feeder<WORDS>) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task, and the index masked below the length.
    unsafe {
        let (table, scratch) = ((*feeder).table, (*feeder).scratch);
        let feed = &mut (*scratch).feed;
        if feed.fed >= feed.len {
            return 1;
        }
        let text: *const u8 = (&raw const (*Query::of(scratch)).name.text).cast();
        let byte = *text.add(feed.fed as usize & (TEXT_BYTES - 1));
        feed.fed += 1;
        let state = table::step(&table, feed.state as u32, byte);
        feed.state = u64::from(state);
        i64::from(state & ABSORBING != 0)
    }
}
