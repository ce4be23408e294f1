//! A text and the places in it.

use std::{cell::Cell, sync::Arc};

use crate::{diagnostic::Place, model::Location};

/// A range of bytes in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Texts are limited to far less than 4 GiB before anything is read from them.
        let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: clamp(start),
            end: clamp(end.max(start)),
        }
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A text with a name.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    name: Arc<str>,
    text: &'t str,
    /// Byte offset of each line.
    lines: Vec<usize>,
    /// The place found last, as byte offset, byte offset of its line, and column: the next is
    /// mostly just behind it, which keeps long lines (JSON) from being counted again and again.
    last: Cell<(usize, usize, u32)>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(name: &str, text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1));
        Self {
            name: name.into(),
            text,
            lines: lines.collect(),
            last: Cell::new((0, 0, 1)),
        }
    }

    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// Line and column of a byte offset, from 1.
    fn line_column(&self, at: usize) -> (u32, u32) {
        let at = at.min(self.text.len());
        let line = self
            .lines
            .partition_point(|start| *start <= at)
            .saturating_sub(1);
        let line_start = self.lines.get(line).copied().unwrap_or(0);
        let (from, from_line, column) = match self.last.get() {
            (last, last_line, column) if last_line == line_start && last <= at => {
                (last, last_line, column)
            }
            _ => (line_start, line_start, 1),
        };
        let chars = self
            .text
            .get(from..at)
            .map_or(at - from, |t| t.chars().count());
        let column = column.saturating_add(u32::try_from(chars).unwrap_or(u32::MAX));
        self.last.set((at, from_line, column));
        (u32::try_from(line + 1).unwrap_or(u32::MAX), column)
    }

    pub(crate) fn location(&self, span: Span) -> Location {
        let (line, column) = self.line_column(span.start as usize);
        Location {
            file: Arc::clone(&self.name),
            line,
            column,
        }
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        let (line, column) = self.line_column(span.start as usize);
        Place {
            file: self.name.to_string(),
            line,
            column,
            span: span.start as usize..span.end as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_in_characters() {
        let source = Source::new("f", "ab\näö x\r\n");
        let at = |i| source.location(Span::new(i, i)).to_string();
        assert_eq!(at(0), "f:1:1");
        assert_eq!(at(1), "f:1:2");
        assert_eq!(at(3), "f:2:1");
        assert_eq!(at(8), "f:2:4");
        assert_eq!(at(5), "f:2:2", "going back works too");
        assert_eq!(at(99), "f:3:1");
    }
}
