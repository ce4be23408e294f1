//! Text that comes from workloads, made fit for people and log files.

use std::borrow::Cow;

/// Longest name, image or label value that is kept, in bytes.
pub const NAME_BYTES: usize = 1024;

/// Bytes as text: what is not UTF-8 becomes U+FFFD, and control characters, which could forge
/// lines or move a cursor, are written as escapes.
#[must_use]
pub fn clean(bytes: &[u8]) -> String {
    escape(&String::from_utf8_lossy(bytes)).into_owned()
}

/// A name given by somebody else: without control characters, and cut at [`NAME_BYTES`].
#[must_use]
pub fn name(text: &str) -> String {
    let mut end = text.len().min(NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    escape(&text[..end]).into_owned()
}

fn escape(text: &str) -> Cow<'_, str> {
    // Besides control characters: the marks that reorder what is displayed.
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_could_forge_a_line() {
        assert_eq!(
            clean(b"/tmp/a\nPolicyName: x\x1b[2J"),
            "/tmp/a\\nPolicyName: x\\u{1b}[2J"
        );
        assert_eq!(clean(b"/tmp/\xff"), "/tmp/\u{fffd}");
        assert_eq!(clean("/tmp/ü".as_bytes()), "/tmp/ü");
    }

    #[test]
    fn cuts_on_a_character() {
        let long = "ü".repeat(NAME_BYTES);
        assert_eq!(name(&long).len(), NAME_BYTES);
    }
}
