//! Text that is safe to print.

use std::borrow::Cow;

/// `1 policy`, `2 policies`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Whether a character would do something to a terminal, or to the order of what it shows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line without control characters: names come from workloads, and a workload that names its
/// files after terminal commands, or with line breaks, must not forge what users read.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe.into()
}

/// Several lines, each made [`printable`].
pub(crate) fn printable_lines(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for line in text.lines() {
        safe.push_str(&printable(line));
        safe.push('\n');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(printable("/usr/bin/äpt"), "/usr/bin/äpt");
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{9b}d\u{202e}"),
            "a\\u{1b}[2Jb\\nc\\u{9b}d\\u{202e}"
        );
    }
}
