//! What is read at most, so that no text can cost more than it is worth.

/// Longest text, in bytes.
pub const TEXT_BYTES: usize = 1 << 20;

/// Most bytes of all policies of a text that do not stand on their own in it, each written out with
/// what its aliases stand for. A single one may have [`TEXT_BYTES`].
pub const WRITTEN_BYTES: usize = 8 * TEXT_BYTES;

/// Most documents of a text, items of lists included.
pub const DOCUMENTS: usize = 1_000;

/// Most levels of lists and mappings inside one another. A policy needs 9, `managedFields` about 20.
pub const DEPTH: usize = 64;

/// Most values of a text, aliases counted as often as they are used: more than 1 MiB of ordinary
/// text holds, and the end of an alias bomb.
pub const NODES: usize = 1_000_000;

/// Most rules of a policy, comma lists expanded.
pub const RULES: usize = 10_000;

/// Most errors that are told of one text, and most warnings; the rest is counted.
pub const DIAGNOSTICS: usize = 100;

/// Most places of a text that are mended; each is a new look at the rest of it.
pub const REPAIRS: usize = 50;
