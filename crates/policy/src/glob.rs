//! AppArmor globs: `*` `**` `?` `[...]` `{...}` and `\`.
//!
//! | text | matches |
//! |---|---|
//! | `*` | any run of bytes without `/`, also none |
//! | `**` | any run of bytes, also none |
//! | `?` | one byte, not `/` |
//! | `[abc]` `[a-z]` `[^a]` | one of, one not of these bytes; never `/` |
//! | `{a,b{c,d}}` | any of the alternatives |
//! | `\x` | `x` itself |

use std::fmt;

/// Most alternatives that the braces of one glob may expand to.
pub const ALTERNATIVES_MAX: usize = 1024;

/// Most elements that all alternatives of one glob may have together.
pub const ELEMENTS_MAX: usize = 1 << 16;

/// Deepest nesting of braces.
pub const DEPTH_MAX: usize = 16;

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    /// Every byte that a file name may contain: all but NUL and `/`.
    pub(crate) const NAME: Self = Self([!(1 | 1 << b'/'), u64::MAX, u64::MAX, u64::MAX]);

    /// Every byte that a word may contain: all but NUL.
    pub(crate) const WORD: Self = Self([!1, u64::MAX, u64::MAX, u64::MAX]);

    pub(crate) const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] >> (byte & 63) & 1 != 0
    }

    pub(crate) const fn insert(&mut self, byte: u8) {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
    }

    pub(crate) const fn remove(&mut self, byte: u8) {
        self.0[(byte >> 6) as usize] &= !(1 << (byte & 63));
    }

    /// This byte alone.
    pub(crate) const fn only(byte: u8) -> Self {
        let mut set = Self([0; 4]);
        set.insert(byte);
        set
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    /// The smallest byte.
    pub(crate) fn first(&self) -> Option<u8> {
        let mut base = 0;
        for bits in self.0 {
            if bits != 0 {
                return Some(base | u8::try_from(bits.trailing_zeros()).unwrap_or(0));
            }
            base = base.wrapping_add(64);
        }
        None
    }

    pub(crate) const fn len(&self) -> u32 {
        self.0[0].count_ones()
            + self.0[1].count_ones()
            + self.0[2].count_ones()
            + self.0[3].count_ones()
    }

    pub(crate) const fn union(&mut self, other: &Self) {
        let mut i = 0;
        while i < 4 {
            self.0[i] |= other.0[i];
            i += 1;
        }
    }

    pub(crate) const fn complement(&self) -> Self {
        Self([!self.0[0], !self.0[1], !self.0[2], !self.0[3]])
    }

    pub(crate) const fn intersection(&self, other: &Self) -> Self {
        Self([
            self.0[0] & other.0[0],
            self.0[1] & other.0[1],
            self.0[2] & other.0[2],
            self.0[3] & other.0[3],
        ])
    }

    /// The bytes, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        let words = [0, 64, 128, 192].into_iter().zip(self.0);
        words.flat_map(|(base, mut bits)| {
            std::iter::from_fn(move || {
                let at = u8::try_from(bits.trailing_zeros())
                    .ok()
                    .filter(|&at| at < 64)?;
                bits &= bits - 1;
                Some(base + at)
            })
        })
    }
}

/// One element of an alternative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Token {
    /// This byte.
    Byte(u8),
    /// One byte of a set; in a path, without `/`.
    Class(ByteSet),
    /// `*`
    Star,
    /// `**`
    DoubleStar,
}

/// A glob whose braces have been expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    alternatives: Vec<Vec<Token>>,
}

impl Glob {
    /// Reads a glob.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        let mut parser = Parser {
            text: text.as_bytes(),
            at: 0,
        };
        let mut alternatives = parser.sequence(0)?;
        if let Some(kind) = parser.peek().map(|_| GlobErrorKind::StrayBrace) {
            return Err(GlobError {
                offset: parser.at,
                kind,
            });
        }
        for alternative in &mut alternatives {
            // `*` beside `**` and a second `**` add nothing.
            alternative.dedup_by(|next, kept| match (*kept, *next) {
                (Token::DoubleStar, Token::Star | Token::DoubleStar) => true,
                (Token::Star, Token::DoubleStar) => {
                    *kept = Token::DoubleStar;
                    true
                }
                (Token::Star, Token::Star) => true,
                _ => false,
            });
        }
        alternatives.sort_unstable();
        alternatives.dedup();
        Ok(Self { alternatives })
    }

    /// Number of `*` and `**`, over all alternatives: what makes an automaton large.
    #[must_use]
    pub fn unbounded(&self) -> usize {
        let unbounded = |token: &&Token| matches!(token, Token::Star | Token::DoubleStar);
        self.alternatives.iter().flatten().filter(unbounded).count()
    }

    pub(crate) fn alternatives(&self) -> &[Vec<Token>] {
        &self.alternatives
    }
}

/// Why a text is not a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobError {
    /// Where, in bytes from the start.
    pub offset: usize,
    /// What.
    pub kind: GlobErrorKind,
}

/// What is wrong with a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GlobErrorKind {
    /// `[` without `]`.
    UnclosedClass,
    /// `{` without `}`.
    UnclosedBrace,
    /// `}` without `{`.
    StrayBrace,
    /// `\` at the end.
    TrailingBackslash,
    /// `[]` or `[^]`, or a class that leaves no byte.
    EmptyClass,
    /// `[z-a]`.
    BackwardRange,
    /// A character of more than one byte in `[...]`.
    ClassNotAscii,
    /// A NUL byte.
    Nul,
    /// Braces expand to more than [`ALTERNATIVES_MAX`] alternatives or [`ELEMENTS_MAX`] elements.
    TooManyAlternatives,
    /// Braces nest deeper than [`DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for GlobErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnclosedClass => {
                f.write_str("`[` is never closed; write `\\[` for the character")
            }
            Self::UnclosedBrace => {
                f.write_str("`{` is never closed; write `\\{` for the character")
            }
            Self::StrayBrace => f.write_str("`}` closes nothing; write `\\}` for the character"),
            Self::TrailingBackslash => f.write_str("`\\` has nothing to escape; write `\\\\`"),
            Self::EmptyClass => {
                f.write_str("the class matches nothing; write `\\]` for the character")
            }
            Self::BackwardRange => f.write_str("the range runs backwards"),
            Self::ClassNotAscii => {
                f.write_str("a class may only name ASCII characters; use `{...}` for others")
            }
            Self::Nul => f.write_str("a path cannot contain a NUL byte"),
            Self::TooManyAlternatives => write!(
                f,
                "the braces expand to more than {ALTERNATIVES_MAX} alternatives or {ELEMENTS_MAX} \
                 elements; split the pattern"
            ),
            Self::TooDeep => write!(f, "braces nest deeper than {DEPTH_MAX}"),
        }
    }
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {})", self.kind, self.offset + 1)
    }
}

impl std::error::Error for GlobError {}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    const fn fail<T>(offset: usize, kind: GlobErrorKind) -> Result<T, GlobError> {
        Err(GlobError { offset, kind })
    }

    /// Reads up to the end, or inside braces up to `,` or `}`.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Vec<Token>>, GlobError> {
        let mut all: Vec<Vec<Token>> = vec![Vec::new()];
        while let Some(byte) = self.peek() {
            let offset = self.at;
            let token = match byte {
                b'}' => break,
                b',' if depth > 0 => break,
                b'{' => {
                    let group = self.group(depth + 1)?;
                    all = product(&all, &group).ok_or(GlobError {
                        offset,
                        kind: GlobErrorKind::TooManyAlternatives,
                    })?;
                    continue;
                }
                b'[' => self.class()?,
                b'*' => {
                    self.at += 1;
                    if self.peek() == Some(b'*') {
                        self.at += 1;
                        Token::DoubleStar
                    } else {
                        Token::Star
                    }
                }
                b'?' => {
                    self.at += 1;
                    Token::Class(ByteSet::NAME)
                }
                b'\\' => {
                    self.at += 1;
                    let Some(escaped) = self.peek() else {
                        return Self::fail(offset, GlobErrorKind::TrailingBackslash);
                    };
                    self.at += 1;
                    literal(escaped, offset)?
                }
                other => {
                    self.at += 1;
                    literal(other, offset)?
                }
            };
            for alternative in &mut all {
                alternative.push(token);
            }
            if all.len() * all[0].len() > ELEMENTS_MAX {
                return Self::fail(offset, GlobErrorKind::TooManyAlternatives);
            }
        }
        Ok(all)
    }

    /// Reads `{...}`; `self.at` is at the brace.
    fn group(&mut self, depth: usize) -> Result<Vec<Vec<Token>>, GlobError> {
        let open = self.at;
        if depth > DEPTH_MAX {
            return Self::fail(open, GlobErrorKind::TooDeep);
        }
        let mut all = Vec::new();
        loop {
            self.at += 1;
            all.append(&mut self.sequence(depth)?);
            if all.len() > ALTERNATIVES_MAX || elements(&all) > ELEMENTS_MAX {
                return Self::fail(open, GlobErrorKind::TooManyAlternatives);
            }
            match self.peek() {
                Some(b',') => {}
                Some(_) => {
                    self.at += 1;
                    return Ok(all);
                }
                None => return Self::fail(open, GlobErrorKind::UnclosedBrace),
            }
        }
    }

    /// Reads `[...]`; `self.at` is at the bracket.
    fn class(&mut self) -> Result<Token, GlobError> {
        let open = self.at;
        self.at += 1;
        let negated = self.peek() == Some(b'^');
        if negated {
            self.at += 1;
        }
        let mut set = ByteSet::default();
        let mut empty = true;
        loop {
            let from = self.at;
            if self.peek() == Some(b']') {
                self.at += 1;
                break;
            }
            let first = self.class_byte(open)?;
            let is_range =
                self.peek() == Some(b'-') && self.text.get(self.at + 1).is_some_and(|&b| b != b']');
            let last = if is_range {
                self.at += 1;
                self.class_byte(open)?
            } else {
                first
            };
            if last < first {
                return Self::fail(from, GlobErrorKind::BackwardRange);
            }
            (first..=last).for_each(|byte| set.insert(byte));
            empty = false;
        }
        let set = if negated { set.complement() } else { set }.intersection(&ByteSet::NAME);
        if empty || set.is_empty() {
            return Self::fail(open, GlobErrorKind::EmptyClass);
        }
        Ok(Token::Class(set))
    }

    fn class_byte(&mut self, open: usize) -> Result<u8, GlobError> {
        let offset = self.at;
        if self.peek() == Some(b'\\') {
            self.at += 1;
        }
        let Some(byte) = self.peek() else {
            return Self::fail(open, GlobErrorKind::UnclosedClass);
        };
        self.at += 1;
        match byte {
            0 => Self::fail(offset, GlobErrorKind::Nul),
            0x80.. => Self::fail(offset, GlobErrorKind::ClassNotAscii),
            _ => Ok(byte),
        }
    }
}

const fn literal(byte: u8, offset: usize) -> Result<Token, GlobError> {
    if byte == 0 {
        Err(GlobError {
            offset,
            kind: GlobErrorKind::Nul,
        })
    } else {
        Ok(Token::Byte(byte))
    }
}

fn elements(all: &[Vec<Token>]) -> usize {
    all.iter().map(Vec::len).sum()
}

/// Every head followed by every tail, unless that is too much.
fn product(heads: &[Vec<Token>], tails: &[Vec<Token>]) -> Option<Vec<Vec<Token>>> {
    let joined = elements(heads) * tails.len() + elements(tails) * heads.len();
    if heads.len() * tails.len() > ALTERNATIVES_MAX || joined > ELEMENTS_MAX {
        return None;
    }
    let join = |head: &Vec<Token>, tail: &Vec<Token>| [head.as_slice(), tail.as_slice()].concat();
    Some(
        heads
            .iter()
            .flat_map(|head| tails.iter().map(move |tail| join(head, tail)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> GlobErrorKind {
        Glob::parse(text).expect_err(text).kind
    }

    #[test]
    fn braces_expand() {
        let glob = Glob::parse("/{a,b{c,d},}x").expect("valid");
        let texts: Vec<String> = glob
            .alternatives()
            .iter()
            .map(|tokens| {
                let byte = |t: &Token| {
                    if let Token::Byte(b) = t {
                        char::from(*b)
                    } else {
                        '~'
                    }
                };
                tokens.iter().map(byte).collect()
            })
            .collect();
        assert_eq!(texts, ["/ax", "/bcx", "/bdx", "/x"]);
    }

    #[test]
    fn runs_of_stars_collapse() {
        let tokens = |text| Glob::parse(text).expect("valid").alternatives()[0].clone();
        assert_eq!(tokens("***"), [Token::DoubleStar]);
        assert_eq!(tokens("****"), [Token::DoubleStar]);
        assert_eq!(tokens("*{**}"), [Token::DoubleStar]);
        // Two neighbours are still one `*`: a brace does not glue them into `**`.
        assert_eq!(tokens("*{*}"), [Token::Star]);
    }

    #[test]
    fn classes() {
        let class = |text: &str| match Glob::parse(text).expect("valid").alternatives()[0][0] {
            Token::Class(set) => set,
            other => panic!("{other:?}"),
        };
        assert!(class("[a-c]").contains(b'b') && !class("[a-c]").contains(b'd'));
        assert!(class("[a-]").contains(b'-'));
        assert!(class("[\\]]").contains(b']'));
        let not_a = class("[^a]");
        assert!(!not_a.contains(b'a') && not_a.contains(b'b'));
        assert!(!not_a.contains(b'/') && !not_a.contains(0) && not_a.contains(0xff));
    }

    #[test]
    fn sets_of_bytes() {
        let mut set = ByteSet::default();
        assert!(set.is_empty() && set.first().is_none());
        let bytes = [0, 1, 63, 64, 127, 128, 254, 255];
        bytes.into_iter().for_each(|byte| set.insert(byte));
        assert!(set.iter().eq(bytes));
        set.remove(0);
        set.remove(255);
        assert!(set.iter().eq(bytes[1..7].iter().copied()));
        assert_eq!(set.first(), Some(1));
        assert!(ByteSet::only(b'a').iter().eq([b'a']));
        assert_eq!(ByteSet::default().complement().iter().count(), 256);
    }

    #[test]
    fn errors_name_the_place() {
        assert_eq!(Glob::parse("/a[b").expect_err("open").offset, 2);
        assert_eq!(kind("[b"), GlobErrorKind::UnclosedClass);
        assert_eq!(kind("{a,b"), GlobErrorKind::UnclosedBrace);
        assert_eq!(kind("a}"), GlobErrorKind::StrayBrace);
        assert_eq!(kind("a\\"), GlobErrorKind::TrailingBackslash);
        assert_eq!(kind("[]"), GlobErrorKind::EmptyClass);
        assert_eq!(kind("[^]"), GlobErrorKind::EmptyClass);
        assert_eq!(kind("[/]"), GlobErrorKind::EmptyClass);
        assert_eq!(kind("[z-a]"), GlobErrorKind::BackwardRange);
        assert_eq!(kind("[é]"), GlobErrorKind::ClassNotAscii);
        assert_eq!(kind("a\0"), GlobErrorKind::Nul);
        assert_eq!(
            kind(&"{a,b}".repeat(11)),
            GlobErrorKind::TooManyAlternatives
        );
        assert_eq!(kind(&"{".repeat(40)), GlobErrorKind::TooDeep);
    }
}
