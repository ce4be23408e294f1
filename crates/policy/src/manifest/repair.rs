//! What is right and the parser refuses nevertheless.

use std::borrow::Cow;

use saphyr_parser::{Parser, ScanError};

use super::limits;

/// The rest of a text as the parser takes it, up to the first problem that is the text's own.
/// Every byte stays where it is.
pub(super) fn mended(part: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(part);
    for _ in 0..limits::REPAIRS {
        let is_mended = first_error(&text).is_some_and(|error| tab_behind_colon(&mut text, &error));
        if !is_mended {
            break;
        }
    }
    text
}

/// `severity:⇥5`: tabs are white space behind a colon, but the parser wants a space among them.
fn tab_behind_colon(text: &mut Cow<'_, str>, error: &ScanError) -> bool {
    if !error.info().contains("':' must be followed by") {
        return false;
    }
    let end = byte(text, error);
    let before = text[..end].trim_end_matches('\t');
    let start = before.len();
    if start == end || !before.ends_with(':') {
        return false;
    }
    let spaces = " ".repeat(end - start);
    text.to_mut().replace_range(start..end, &spaces);
    true
}

fn first_error(text: &str) -> Option<ScanError> {
    let mut parser = Parser::new_from_str(text);
    std::iter::from_fn(|| parser.next_event()).find_map(Result::err)
}

/// Byte offset of an error.
fn byte(text: &str, error: &ScanError) -> usize {
    let mut chars = text.char_indices().skip(error.marker().index());
    chars.next().map_or(text.len(), |(at, _)| at)
}
