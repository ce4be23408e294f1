//! The compiled table and the one function that reads it.
//!
//! A table is a flat array of 64-bit words, native byte order, the same bytes on the host and in a
//! kernel map:
//!
//! ```text
//! ┌────────┬──────────────────────────┬──────────────┬───────────────────────┐
//! │ header │ cells: the automaton     │ sets         │ rows: the decisions   │
//! │ 8 words│ check:32 next:32 a cell  │ one a set    │ Op::COLUMNS words each│
//! └────────┴──────────────────────────┴──────────────┴───────────────────────┘
//! ```
//!
//! The automaton is a DFA over path bytes in row-displacement form. A state *is* the offset of its
//! row: its transition on byte `b` is `cells[state + b]`, valid when that cell's check half names
//! the state. Byte 0 never occurs in a path, so `cells[state + 0]` holds the transition taken by
//! every byte without a cell of its own, and `cells[state + ACCEPT]` the set of patterns matched
//! when the path ends here. A missing default leads to [`DEAD`]; a missing accept cell is set 0.
//! No live state has offset 0, since an unused cell names it, and every state's last cell lies
//! before the sets, since a set word could pass for a cell.
//!
//! A set names a group of decision rows; a row holds one [`Verdict`] an operation, and in the column
//! [`Op::ARGUMENTS`] a mask of rules. Rows exist once
//! for all sources unless a rule with `fromSource` takes part ([`SET_BY_SOURCE`]), once for owner
//! and others unless a rule with `ownerOnly` does ([`SET_BY_OWNER`]), and once with and without a
//! terminal unless a rule with `pts` does ([`SET_BY_TERMINAL`]).
//!
//! What is not a path has a word of its own ([`crate::word`]), which goes through the same
//! automaton.

use crate::{
    op::{Object, Op},
    verdict::Verdict,
    word,
};

/// First word of every table: format name and version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KARMOR\x02\x00");

/// Words of the header; cells start right behind it.
pub const HEADER_WORDS: u32 = 8;

/// Offset of a state's accept cell from the state; one past the largest byte.
pub const ACCEPT: u32 = 256;

/// State flag: every byte leads back to this state, so the walk may stop.
pub const ABSORBING: u32 = 1 << 31;

/// The state from which nothing matches any more. Absorbing; its set is 0.
pub const DEAD: u32 = ABSORBING;

/// Set flag: one row group for every source class, class 0 first.
pub const SET_BY_SOURCE: u32 = 1;

/// Set flag: two rows in a group, first for others, then for the object's owner.
pub const SET_BY_OWNER: u32 = 2;

/// Set flag: two rows for each of these, first for those without a controlling terminal, then for
/// those with one.
pub const SET_BY_TERMINAL: u32 = 4;

/// Set flag: some row refuses reading, whoever asks; a descriptor for it is worth another look.
pub const SET_REFUSES_READ: u32 = 8;

/// Set flag: some row refuses writing.
pub const SET_REFUSES_WRITE: u32 = 16;

/// Table sizes, as powers of two of words: 32 KiB, 256 KiB, 1 MiB, 4 MiB.
///
/// A kernel map value has a fixed size, and a masked index needs a constant power of two; a table
/// goes into the smallest class that holds it.
pub const CLASS_WORDS_LOG2: [u32; 4] = [12, 15, 17, 19];

/// Words that a table is read from.
///
/// Implementations return 0 for an index outside the table: no check half is 0 for a live state,
/// so such a word never matches.
pub trait Words {
    /// The word at `index`.
    fn word(&self, index: u32) -> u64;
}

/// Low half of a word.
#[inline(always)]
const fn lo(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

/// High half of a word.
#[inline(always)]
const fn hi(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Word 1, low half: the state before the first byte.
#[inline(always)]
pub fn start<T: Words>(table: &T) -> u32 {
    lo(table.word(1))
}

/// The set that stands for an object without a decidable path (words 4 and 5).
#[inline(always)]
pub fn object_set<T: Words>(table: &T, object: Object) -> u32 {
    match object {
        Object::Anonymous => lo(table.word(4)),
        Object::Unreachable => hi(table.word(4)),
        Object::TooLong => lo(table.word(5)),
    }
}

/// The state after `byte` in `state`. `byte` must not be 0.
#[inline(always)]
pub fn step<T: Words>(table: &T, state: u32, byte: u8) -> u32 {
    let base = HEADER_WORDS + (state & !ABSORBING);
    let cell = table.word(base + byte as u32);
    if hi(cell) == state {
        return lo(cell);
    }
    let default = table.word(base);
    if hi(default) == state {
        lo(default)
    } else {
        DEAD
    }
}

/// The set of patterns matched when the path ends in `state`.
#[inline(always)]
pub fn accept<T: Words>(table: &T, state: u32) -> u32 {
    if state == DEAD {
        return 0;
    }
    let cell = table.word(HEADER_WORDS + (state & !ABSORBING) + ACCEPT);
    if hi(cell) == state { lo(cell) } else { 0 }
}

/// A decoded set word: bits from the lowest 32 row, 8 flags, 24 source class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Set(pub u64);

impl Set {
    /// Packs a set. `source` must fit 24 bits.
    #[must_use]
    pub const fn new(row: u32, flags: u32, source: u32) -> Self {
        Self(row as u64 | ((flags & 0xff) as u64) << 32 | (source as u64) << 40)
    }

    /// Index of the first row of the group, in rows.
    #[must_use]
    #[inline(always)]
    pub const fn row(self) -> u32 {
        lo(self.0)
    }

    /// [`SET_BY_SOURCE`], [`SET_BY_OWNER`], [`SET_BY_TERMINAL`], and what is refused to anybody:
    /// [`SET_REFUSES_READ`] and [`SET_REFUSES_WRITE`].
    #[must_use]
    #[inline(always)]
    pub const fn flags(self) -> u32 {
        hi(self.0) & 0xff
    }

    /// The source class of an executable with this path: what `fromSource` rules see. 0 is an
    /// executable that no rule names.
    #[must_use]
    #[inline(always)]
    pub const fn source(self) -> u32 {
        hi(self.0) >> 8
    }
}

/// Loads a set.
#[inline(always)]
pub fn set<T: Words>(table: &T, set: u32) -> Set {
    Set(table.word(lo(table.word(2)) + set))
}

/// Who asks, besides the image: what rows may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Its user owns the object. Only looked at in a set with [`SET_BY_OWNER`].
    pub owner: bool,
    /// It has a controlling terminal. Only looked at in a set with [`SET_BY_TERMINAL`].
    pub terminal: bool,
}

/// The first word of the row for who asks about an object in `set`.
#[inline(always)]
fn row<T: Words>(table: &T, set: Set, source: u32, asker: Asker) -> u32 {
    let flags = set.flags();
    let mut row = 0;
    if flags & SET_BY_SOURCE != 0 {
        row = source;
    }
    if flags & SET_BY_OWNER != 0 {
        row = row << 1 | asker.owner as u32;
    }
    if flags & SET_BY_TERMINAL != 0 {
        row = row << 1 | asker.terminal as u32;
    }
    lo(table.word(3)) + (set.row() + row) * Op::COLUMNS
}

/// The verdict about `op` on an object in `set`, asked by an executable of class `source`.
#[inline(always)]
pub fn verdict<T: Words>(table: &T, set: Set, op: Op, source: u32, asker: Asker) -> Verdict {
    verdict_at(table, row(table, set, source, asker), op)
}

/// Whether somebody is refused one of `ops`, of reading and writing, on an object in `set`.
#[inline(always)]
pub const fn refuses_anybody(set: Set, ops: u32) -> bool {
    let flags = set.flags();
    flags & SET_REFUSES_READ != 0 && ops & Op::Read.bit() != 0
        || flags & SET_REFUSES_WRITE != 0 && ops & Op::Write.bit() != 0
}

/// Source classes that [`strictest`] looks at.
pub const SOURCES_LOOKED_AT: u32 = 16;

/// The strictest verdict about `op` on an object in `set`, whichever executable asks. Refused where
/// there are more of them than can be looked at.
#[inline(always)]
pub fn strictest<T: Words>(table: &T, set: Set, op: Op) -> Verdict {
    let asker = Asker::default();
    if set.flags() & SET_BY_SOURCE == 0 {
        return verdict(table, set, op, 0, asker);
    }
    let sources = hi(table.word(5));
    if sources > SOURCES_LOOKED_AT {
        return Verdict::FAULT;
    }
    let mut strictest = Verdict::ALLOW;
    let mut source = 0;
    while source < SOURCES_LOOKED_AT {
        if source < sources {
            strictest = strictest.stricter(verdict(table, set, op, source, asker));
        }
        source += 1;
    }
    strictest
}

/// The verdict about `op` in a row.
#[inline(always)]
pub fn verdict_at<T: Words>(table: &T, row: u32, op: Op) -> Verdict {
    Verdict(table.word(row + op.column()))
}

/// Where the answers to one question stand: offsets of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// By the image that acts.
    pub own: u32,
    /// By its parent's, to the process family; the same where that has nothing else to say.
    pub parent: u32,
}

/// The rows about an object in `set`, where the image that acts and its parent's both count as
/// source.
#[inline(always)]
pub fn rows<T: Words>(table: &T, set: Set, source: u32, parent: u32, asker: Asker) -> Rows {
    let own = row(table, set, source, asker);
    let alone =
        set.flags() & SET_BY_SOURCE == 0 || source == parent || essential(table, source, parent);
    Rows {
        own,
        parent: if alone {
            own
        } else {
            row(table, set, parent, asker)
        },
    }
}

/// The verdict of the process family: the more specific of the two.
#[inline(always)]
pub fn verdict_of_both<T: Words>(table: &T, rows: Rows, op: Op) -> Verdict {
    verdict_at(table, rows.own, op).more_specific(verdict_at(table, rows.parent, op))
}

/// The class by which an image counts. That of an essential program counts as long as it is `trusted`,
/// which is to say run by root of the host; else the class does that has the same rules and is of no such
/// program. These come first, in the order of the essential ones.
#[inline(always)]
pub fn class_of<T: Words>(table: &T, class: u32, trusted: bool) -> u32 {
    let first = lo(table.word(7));
    if trusted || class < first {
        class
    } else {
        class - first
    }
}

/// The class of an essential program that no rule names; 0 in a table that spares none.
#[inline(always)]
pub fn essential_class<T: Words>(table: &T) -> u32 {
    let (first, classes) = (lo(table.word(7)), hi(table.word(5)));
    if first < classes { first } else { 0 }
}

/// Whether a class is that of an essential program.
#[inline(always)]
pub fn is_essential<T: Words>(table: &T, class: u32) -> bool {
    class >= lo(table.word(7))
}

/// Whether one of the two is an essential program: it is not held back by who started it, and lends
/// nothing to what it starts.
#[inline(always)]
fn essential<T: Words>(table: &T, source: u32, parent: u32) -> bool {
    is_essential(table, source) || is_essential(table, parent)
}

/// What is decided about an exec before its arguments are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The verdict if every argument is in every list.
    pub verdict: Verdict,
    /// The rules that have a say otherwise, one bit each: those at least as specific as the one that
    /// decided. The lowest bit that an argument is missing from the list of counts ([`mismatch`]).
    pub arguments: u64,
}

impl Execution {
    #[inline(always)]
    fn at<T: Words>(table: &T, row: u32) -> Self {
        Self {
            verdict: verdict_at(table, row, Op::Exec),
            arguments: table.word(row + Op::ARGUMENTS),
        }
    }

    /// The more specific of two answers; of equally specific ones both lists of rules.
    #[inline(always)]
    fn joined(self, other: Self) -> Self {
        let (own, others) = (self.verdict.rank(), other.verdict.rank());
        let mut arguments = 0;
        if own >= others {
            arguments |= self.arguments;
        }
        if others >= own {
            arguments |= other.arguments;
        }
        Self {
            verdict: self.verdict.more_specific(other.verdict),
            arguments,
        }
    }
}

/// [`verdict_of_both`] about an exec, and which rules want to see its arguments.
#[inline(always)]
pub fn execution<T: Words>(table: &T, rows: Rows) -> Execution {
    Execution::at(table, rows.own).joined(Execution::at(table, rows.parent))
}

/// The state before an argument's first byte.
#[inline(always)]
pub fn argument_start<T: Words>(table: &T) -> u32 {
    step(table, start(table), word::ARGUMENT)
}

/// The rules that list the argument which ends in `state`.
#[inline(always)]
pub fn listing<T: Words>(table: &T, state: u32) -> u64 {
    let row = row(table, set(table, accept(table, state)), 0, Asker::default());
    table.word(row + Op::ARGUMENTS)
}

/// What the rules in a mask say of an argument that is in none of their lists: the lowest bit's
/// verdict, which is the strictest. Nothing for no rule.
#[inline(always)]
pub fn mismatch<T: Words>(table: &T, rules: u64) -> Verdict {
    if rules == 0 {
        return Verdict::ALLOW;
    }
    let [domain, rule] = word::mismatch(rules.trailing_zeros());
    let state = step(table, step(table, start(table), domain), rule);
    let set = set(table, accept(table, state));
    verdict(table, set, Op::Exec, 0, Asker::default())
}

/// The set of patterns that the whole of a path or word matches.
///
/// The kernel feeds [`step`] a component at a time instead and stops early on [`ABSORBING`]; the
/// result is the same.
pub fn walk<T: Words>(table: &T, word: &[u8]) -> u32 {
    accept(table, walk_on(table, start(table), word))
}

/// The state after some more bytes.
pub fn walk_on<T: Words>(table: &T, state: u32, bytes: &[u8]) -> u32 {
    let mut state = state;
    for &byte in bytes {
        if state & ABSORBING != 0 {
            break;
        }
        state = step(table, state, byte);
    }
    state
}

/// A table whose every offset has been checked, on the host.
#[derive(Clone, Copy)]
pub struct View<'a> {
    words: &'a [u64],
    header: Header,
}

/// The decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Word 1, low: start state. High: words in use.
    pub start: u32,
    /// Words in use, header included; what follows is padding.
    pub len: u32,
    /// Word 2: offset of the sets, and their number.
    pub sets: (u32, u32),
    /// Word 3: offset of the rows, and their number.
    pub rows: (u32, u32),
    /// Words 4 and 5: sets of the objects without a path.
    pub class_sets: [u32; 3],
    /// Word 5, high: number of source classes, class 0 included.
    pub sources: u32,
    /// Word 6, low: mask of the operations that some row does not allow ([`Op::bit`]).
    pub ops: u32,
    /// Word 6, high: number of rules that rows may name.
    pub rules: u32,
    /// Word 7, low: the first source class of essential programs, which are numbered last;
    /// [`Header::sources`] when there are none. See [`class_of`].
    pub essential: u32,
}

impl Header {
    /// The header as its eight words.
    #[must_use]
    pub const fn to_words(&self) -> [u64; HEADER_WORDS as usize] {
        const fn pair(low: u32, high: u32) -> u64 {
            low as u64 | (high as u64) << 32
        }
        [
            MAGIC,
            pair(self.start, self.len),
            pair(self.sets.0, self.sets.1),
            pair(self.rows.0, self.rows.1),
            pair(self.class_sets[0], self.class_sets[1]),
            pair(self.class_sets[2], self.sources),
            pair(self.ops, self.rules),
            pair(self.essential, 0),
        ]
    }
}

/// Why words are not a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// Shorter than a header, or longer than the largest class.
    Size,
    /// Another format or version.
    Magic,
    /// A region does not lie inside the words in use.
    Bounds,
    /// A cell leads to a state outside the cells, or names a set that does not exist.
    Cell(u32),
    /// A set's rows lie outside the rows.
    Set(u32),
}

impl core::fmt::Display for TableError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Size => f.write_str("compiled table has an impossible size"),
            Self::Magic => f.write_str("not a compiled table of this version"),
            Self::Bounds => f.write_str("compiled table has a region outside its words"),
            Self::Cell(i) => write!(f, "compiled table: cell {i} leads outside the automaton"),
            Self::Set(i) => write!(f, "compiled table: set {i} names rows that do not exist"),
        }
    }
}

impl core::error::Error for TableError {}

impl<'a> View<'a> {
    /// Checks untrusted words.
    ///
    /// # Errors
    /// The first thing found wrong; a returned view never reads outside `words`.
    pub fn parse(words: &'a [u64]) -> Result<Self, TableError> {
        let largest = 1usize << CLASS_WORDS_LOG2[CLASS_WORDS_LOG2.len() - 1];
        if words.len() < HEADER_WORDS as usize || words.len() > largest {
            return Err(TableError::Size);
        }
        if words[0] != MAGIC {
            return Err(TableError::Magic);
        }
        let header = Header {
            start: lo(words[1]),
            len: hi(words[1]),
            sets: (lo(words[2]), hi(words[2])),
            rows: (lo(words[3]), hi(words[3])),
            class_sets: [lo(words[4]), hi(words[4]), lo(words[5])],
            sources: hi(words[5]),
            ops: lo(words[6]),
            rules: hi(words[6]),
            essential: lo(words[7]),
        };
        let len = u64::from(header.len);
        let region =
            |offset: u32, count: u64| offset >= HEADER_WORDS && u64::from(offset) + count <= len;
        let row_words = u64::from(header.rows.1) * u64::from(Op::COLUMNS);
        if len > words.len() as u64
            || header.sets.1 == 0
            || header.sources == 0
            || header.essential > header.sources
            || header.sources - header.essential > header.essential
            || header.rows.0 < header.sets.0
            || !region(header.sets.0, u64::from(header.sets.1))
            || !region(header.rows.0, row_words)
            || header.class_sets.iter().any(|&s| s >= header.sets.1)
        {
            return Err(TableError::Bounds);
        }
        let view = Self { words, header };
        view.check_cells()?;
        view.check_sets()?;
        Ok(view)
    }

    fn check_cells(&self) -> Result<(), TableError> {
        let cells = self.header.sets.0 - HEADER_WORDS;
        let inside = |state: u32| {
            let offset = state & !ABSORBING;
            state == DEAD || (offset > 0 && offset < cells && cells - offset > ACCEPT)
        };
        if !inside(self.header.start) {
            return Err(TableError::Bounds);
        }
        for index in 0..cells {
            let cell = self.words[(HEADER_WORDS + index) as usize];
            if cell == 0 {
                continue;
            }
            let column = index.wrapping_sub(hi(cell) & !ABSORBING);
            let ok = match column {
                ACCEPT => lo(cell) < self.header.sets.1,
                0..ACCEPT => inside(lo(cell)),
                _ => false,
            };
            if !ok {
                return Err(TableError::Cell(index));
            }
        }
        Ok(())
    }

    fn check_sets(&self) -> Result<(), TableError> {
        for index in 0..self.header.sets.1 {
            let set = Set(self.words[(self.header.sets.0 + index) as usize]);
            let has = |flag: u32| set.flags() & flag != 0;
            let sources = if has(SET_BY_SOURCE) {
                u64::from(self.header.sources)
            } else {
                1
            };
            let pairs = u32::from(has(SET_BY_OWNER)) + u32::from(has(SET_BY_TERMINAL));
            let end = u64::from(set.row()) + (sources << pairs);
            if end > u64::from(self.header.rows.1) || set.source() >= self.header.sources {
                return Err(TableError::Set(index));
            }
        }
        Ok(())
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }
}

impl Words for View<'_> {
    #[inline]
    fn word(&self, index: u32) -> u64 {
        self.words.get(index as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::NO_RULE;

    /// Cells of the table below.
    const CELLS: u32 = 600;

    /// A table of one state at `offset` that accepts set 1 and nothing else.
    fn table(offset: u32) -> [u64; 8 + CELLS as usize + 2 + 16] {
        let mut words = [0; 8 + CELLS as usize + 2 + 16];
        let sets = HEADER_WORDS + CELLS;
        let header = Header {
            start: offset,
            len: sets + 2 + 16,
            sets: (sets, 2),
            rows: (sets + 2, 2),
            class_sets: [0; 3],
            sources: 1,
            ops: 0,
            rules: 1,
            essential: 1,
        };
        words[..8].copy_from_slice(&header.to_words());
        words[(HEADER_WORDS + offset + ACCEPT) as usize] = 1 | u64::from(offset) << 32;
        words[sets as usize] = Set::new(0, 0, 0).0;
        words[sets as usize + 1] = Set::new(1, 0, 0).0;
        for word in &mut words[sets as usize + 2..] {
            *word = Verdict::ALLOW.0;
        }
        words
    }

    #[test]
    fn reads_what_it_wrote() {
        let words = table(5);
        let view = View::parse(&words).expect("valid");
        assert_eq!(walk(&view, b""), 1);
        assert_eq!(walk(&view, b"x"), 0);
        assert_eq!(set(&view, 1).row(), 1);
        assert_eq!(
            verdict(&view, set(&view, 1), Op::Read, 0, Asker::default()).rule(),
            NO_RULE
        );
    }

    #[test]
    fn refuses_states_whose_look_ups_leave_the_cells() {
        let last = CELLS - ACCEPT - 1;
        assert!(View::parse(&table(last)).is_ok());
        assert_eq!(
            View::parse(&table(last + 1)).err(),
            Some(TableError::Bounds)
        );
        assert_eq!(View::parse(&table(0)).err(), Some(TableError::Bounds));
    }
}
