//! Which names a message asks for (RFC 1035).
//!
//! ```text
//! datagram   header:12 question…
//! stream     length:2 header:12 question… rest, and so on
//! question   name type:2 class:2
//! name       length:1 bytes… and so on, 0
//! ```
//!
//! What is read has been copied from the packet first. What cannot be read, as told at [`next_name`], is
//! never taken for something else.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_loop, bpf_probe_read_kernel, bpf_skb_load_bytes},
};
use karmor_abi::word::DOMAIN;

use crate::{
    kernel::socket::Remote,
    maps::{Name, Resolved, ResolvedKey, Scratch},
};

/// Bytes of [`Query::message`]; a power of two, and one more than are read.
pub(crate) const MESSAGE_BYTES: usize = 2048;

/// Bytes of [`Resolved::text`].
pub(crate) const TEXT_BYTES: usize = 256;

/// Longest name as text.
const NAME_BYTES: u64 = 253;

/// Where in [`Resolved::text`] a name's first byte goes: in front of the dot at its end.
const FIRST_BYTE: u64 = TEXT_BYTES as u64 - 2;

/// Longest name as sent.
const SENT_BYTES: u32 = 255;

/// Bytes of a message's header.
const HEADER_BYTES: u64 = 12;

/// Of a header's third and fourth byte: an answer.
const ANSWER: u64 = 0x8000;

/// Bytes of a record between its owner and its data.
const RECORD_BYTES: u64 = 10;

const TYPE_A: u64 = 1;
const TYPE_AAAA: u64 = 28;
const CLASS_IN: u64 = 1;

/// [`next_address`]: it was none.
pub(crate) const PASSED: u64 = u64::MAX;
/// [`next_address`]: that was all.
pub(crate) const LAST: u64 = u64::MAX - 1;

/// Most messages of one packet of a stream.
const MESSAGES: u64 = 4;

/// Most steps through a packet: messages and questions.
pub(crate) const STEPS: u32 = 12;

/// [`next_name`]: a name is in [`Query::name`].
pub(crate) const NAMED: i32 = 0;
/// [`next_name`]: a message begins.
pub(crate) const BEGUN: i32 = 1;
/// [`next_name`]: that was all.
pub(crate) const END: i32 = 2;
/// [`next_name`]: what follows cannot be read.
pub(crate) const UNREADABLE: i32 = 3;

/// Where the reading of a packet stands. It lies in [`Scratch::names`], since what is asked for has no
/// path.
#[repr(C)]
pub(crate) struct Query {
    /// The next byte.
    at: u64,
    /// Bytes of the packet in `message`.
    end: u64,
    /// Where the current message ends.
    message_end: u64,
    /// Questions of it not yet read.
    questions: u64,
    /// Messages that may follow.
    messages: u64,
    /// Not zero for a stream.
    stream: u64,
    /// Bytes left of the current label.
    label: u64,
    /// How the reading of the name ended.
    outcome: i64,
    /// Where the current message begins.
    start: u64,
    /// Records of its answer not yet read.
    records: u64,
    /// Not zero behind the name of a record.
    named: u64,
    /// What is learned from the answer, and of whom.
    pub(crate) learned: ResolvedKey,
    /// The name.
    pub(crate) name: Resolved,
    /// What is read.
    pub(crate) message: [u8; MESSAGE_BYTES],
}

const _: () = {
    let names = size_of::<[Name; karmor_abi::limits::PATH_COMPONENTS]>();
    assert!(size_of::<Query>() <= names && align_of::<Query>() <= align_of::<Name>());
};

impl Query {
    /// That of a scratch slot.
    #[inline(always)]
    pub(crate) const fn of(scratch: *mut Scratch) -> *mut Self {
        // SAFETY: the caller has claimed the slot.
        unsafe { (&raw mut (*scratch).names).cast() }
    }

    /// Where in `text` the word begins: its first byte, the name from its end, a dot.
    #[inline(always)]
    pub(crate) const fn word_start(&self) -> u64 {
        self.name.next & (TEXT_BYTES as u64 - 1)
    }

    /// [`Self::end`], of which the compiler believes nothing.
    #[inline(always)]
    fn end_read(&self) -> u64 {
        // SAFETY: a reference.
        unsafe { (&raw const self.end).read_volatile() }
    }

    /// Two bytes of the message.
    #[inline(always)]
    fn number_at(&self, at: u64) -> u64 {
        let byte = |at: u64| {
            let message: *const u8 = (&raw const self.message).cast();
            // SAFETY: masked below the length.
            u64::from(unsafe { *message.add(at as usize & (MESSAGE_BYTES - 1)) })
        };
        byte(at) << 8 | byte(at + 1)
    }

    /// Four bytes of the message, as they lie there.
    #[inline(always)]
    fn word_at(&self, at: u64) -> u32 {
        let number = self.number_at(at) << 16 | self.number_at(at + 2);
        (number as u32).to_be()
    }

    /// Adds a byte to the name. `false` when it is too long.
    #[inline(always)]
    fn push(&mut self, byte: u8) -> bool {
        let next = self.name.next;
        if next <= FIRST_BYTE - NAME_BYTES {
            return false;
        }
        self.name.next = next - 1;
        let text: *mut u8 = (&raw mut self.name.text).cast();
        // SAFETY: masked below the length.
        unsafe { *text.add(next as usize & (TEXT_BYTES - 1)) = byte };
        true
    }
}

/// Copies `len` bytes of a packet, from 1 to less than [`MESSAGE_BYTES`], and begins to read them.
/// `false` when that fails.
#[inline(always)]
pub(crate) fn load(
    skb: *mut __sk_buff,
    at: u32,
    len: u32,
    stream: bool,
    scratch: *mut Scratch,
) -> bool {
    let query = Query::of(scratch);
    begin(scratch, len.into(), stream);
    // The verifier follows what comes out of a map better than the compiler's way of comparing.
    // SAFETY: claimed by this task; at least 1 and below the length of the message.
    let error = unsafe {
        let len = ((*query).end_read().wrapping_sub(1) & (MESSAGE_BYTES as u64 - 1)) + 1;
        bpf_skb_load_bytes(
            skb.cast(),
            at,
            (&raw mut (*query).message).cast(),
            len as u32,
        )
    };
    if error == 0 {
        read_header(scratch);
    }
    error == 0
}

/// Notes that `end` bytes will be there to be read.
#[inline(always)]
fn begin(scratch: *mut Scratch, end: u64, stream: bool) {
    let query = Query::of(scratch);
    // SAFETY: claimed by this task.
    unsafe {
        (&raw mut (*query).end).write_volatile(end);
        (*query).stream = stream.into();
        (*query).messages = MESSAGES;
        // A stream begins with the length of its first message.
        (*query).at = 0;
        (*query).message_end = 0;
        (*query).questions = 0;
    }
}

/// Reads the header of a datagram.
#[inline(always)]
fn read_header(scratch: *mut Scratch) {
    let query = Query::of(scratch);
    // SAFETY: claimed by this task.
    unsafe {
        if (*query).stream != 0 {
            return;
        }
        let end = (*query).end;
        (*query).at = HEADER_BYTES;
        (*query).start = 0;
        (*query).message_end = end;
        // Less than a header asks for nothing that could be read.
        (*query).questions = if end < HEADER_BYTES {
            1
        } else {
            (*query).number_at(4)
        };
    }
}

/// Reads on. Unreadable is what ends within a question or, in a stream, within a message; a name that
/// refers to another place or is longer than names may be; a dot or a zero in a label; and more
/// messages than are looked at.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn next_name(scratch: *mut Scratch) -> i32 {
    if scratch.is_null() {
        return UNREADABLE;
    }
    let query = Query::of(scratch);
    // SAFETY: claimed by this task.
    unsafe {
        if (*query).questions == 0 {
            return next_message(&mut *query);
        }
        (*query).questions -= 1;
        (*query).label = 0;
        (*query).name.next = FIRST_BYTE;
        (*query).outcome = UNREADABLE.into();
        let step: unsafe extern "C" fn(u64, *mut Reader) -> i64 = take_byte;
        let mut reader = Reader { query };
        bpf_loop(
            SENT_BYTES,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Reader) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut reader).cast(),
            0,
        );
        // Type and class.
        (*query).at += 4;
        if (*query).outcome != NAMED.into() || (*query).at > (*query).message_end {
            return UNREADABLE;
        }
        let text: *mut u8 = (&raw mut (*query).name.text).cast();
        *text.add(TEXT_BYTES - 1) = b'.';
        *text.add((*query).word_start() as usize & (TEXT_BYTES - 1)) = DOMAIN;
    }
    NAMED
}

#[inline(always)]
fn next_message(query: &mut Query) -> i32 {
    if query.stream == 0 || query.message_end == query.end {
        return END;
    }
    if query.messages == 0 {
        return UNREADABLE;
    }
    query.messages -= 1;
    let len = query.number_at(query.message_end);
    let start = query.message_end + 2;
    if len < HEADER_BYTES || start + len > query.end {
        return UNREADABLE;
    }
    query.start = start;
    query.message_end = start + len;
    query.questions = query.number_at(start + 4);
    query.at = start + HEADER_BYTES;
    BEGUN
}

/// What a step of the reading needs to know. What changes is in [`Query`], for the reason told at
/// `kernel::path::Climber`.
#[repr(C)]
struct Reader {
    query: *mut Query,
}

/// Takes the next byte of a name.
unsafe extern "C" fn take_byte(_index: u64, reader: *mut Reader) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task.
    let query = unsafe { &mut *(*reader).query };
    if query.at >= query.message_end {
        return 1;
    }
    let byte = (query.number_at(query.at) >> 8) as u8;
    query.at += 1;
    if query.label == 0 {
        if byte == 0 {
            query.outcome = NAMED.into();
            return 1;
        }
        if byte > 63 {
            // It goes on elsewhere.
            return 1;
        }
        query.label = byte.into();
        return i64::from(query.name.next != FIRST_BYTE && !query.push(b'.'));
    }
    query.label -= 1;
    if matches!(byte, 0 | b'.') {
        return 1;
    }
    i64::from(!query.push(byte.to_ascii_lowercase()))
}

/// Whether the message is an answer to the one question that has been read, whose records follow.
#[inline(always)]
pub(crate) fn begin_answer(scratch: *mut Scratch) -> bool {
    let query = Query::of(scratch);
    // SAFETY: claimed by this task.
    unsafe {
        let start = (*query).start;
        (*query).records = (*query).number_at(start + 6);
        (*query).named = 0;
        (*query).number_at(start + 2) & ANSWER != 0 && (*query).questions == 0
    }
}

/// Takes the next part of a record: a label of its owner's name, which is that of the question or an
/// alias of it, or what follows that. An address is put in [`Query::learned`] and its TTL, in seconds,
/// comes back; else [`PASSED`], or [`LAST`] when nothing follows that can be read.
#[inline(always)]
pub(crate) fn next_address(query: &mut Query) -> u64 {
    let at = query.at;
    if query.records == 0 || at >= query.message_end {
        return LAST;
    }
    if query.named == 0 {
        let first = query.number_at(at) >> 8;
        query.at = match first {
            // It goes on elsewhere, and ends here.
            0xc0.. => at + 2,
            64.. => return LAST,
            label => at + 1 + label,
        };
        query.named = u64::from(first == 0 || first >= 0xc0);
        return PASSED;
    }
    let (kind, class) = (query.number_at(at), query.number_at(at + 2));
    let ttl = query.number_at(at + 4) << 16 | query.number_at(at + 6);
    let len = query.number_at(at + 8);
    let data = at + RECORD_BYTES;
    if data + len > query.message_end {
        return LAST;
    }
    query.at = data + len;
    query.records -= 1;
    query.named = 0;
    match (kind, class, len) {
        (TYPE_A, CLASS_IN, 4) => {
            query.learned.address = Remote::V4(query.word_at(data)).mapped();
        }
        (TYPE_AAAA, CLASS_IN, 16) => {
            query.learned.address = [
                query.word_at(data),
                query.word_at(data + 4),
                query.word_at(data + 8),
                query.word_at(data + 12),
            ];
        }
        _ => return PASSED,
    }
    ttl
}

/// Puts the word of the name where its event is made of.
#[inline(always)]
pub(crate) fn note_name(scratch: *mut Scratch) {
    let query = Query::of(scratch);
    // SAFETY: claimed by this task; both are longer than what is copied.
    unsafe {
        let start = (*query).word_start();
        let len = (TEXT_BYTES as u64 - start) & 0xff;
        bpf_probe_read_kernel(
            (&raw mut (*scratch).bytes).cast(),
            len as u32,
            (&raw const (*query).name.text)
                .cast::<u8>()
                .add(start as usize & (TEXT_BYTES - 1))
                .cast(),
        );
        (*scratch).access.word = len;
    }
}

/// Takes the name for one that cannot be read, which has a word that no name has.
#[inline(always)]
pub(crate) fn take_for_unreadable(scratch: *mut Scratch) {
    let query = Query::of(scratch);
    let word = karmor_abi::word::UNREADABLE;
    // SAFETY: claimed by this task.
    unsafe {
        (*query).name.next = (TEXT_BYTES - word.len()) as u64;
        (*query).name.text[TEXT_BYTES - 3] = word[0];
        (*query).name.text[TEXT_BYTES - 2] = word[1];
        (*query).name.text[TEXT_BYTES - 1] = word[2];
    }
}

/// Has nothing of a packet read.
#[inline(always)]
pub(crate) fn nothing_readable(scratch: *mut Scratch) {
    let query = Query::of(scratch);
    // SAFETY: claimed by this task.
    unsafe {
        (*query).questions = 1;
        (*query).at = 0;
        (*query).message_end = 0;
    }
}
