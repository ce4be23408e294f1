//! Whether a pattern can compile, and where it stops being one.

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// As a fragment.
    pub(crate) message: &'static str,
    /// Byte offset in the pattern.
    pub(crate) at: usize,
}

/// Checks the syntax of a glob: `*`, `**`, `?`, `[…]`, `[^…]`, `{…,…}`, and `\` before a character
/// that is to be taken as it is.
///
/// # Errors
/// The first fault.
pub(crate) fn check(pattern: &str) -> Result<(), Fault> {
    let fault = |message, at| Err(Fault { message, at });
    let mut open: Vec<usize> = Vec::new();
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if chars.next().is_none() => {
                return fault("a backslash at the end escapes nothing", at);
            }
            '[' => class(&mut chars, at)?,
            ']' => return fault("this `]` has no `[` before it", at),
            '{' => open.push(at),
            '}' => match open.pop() {
                None => return fault("this `}` has no `{` before it", at),
                Some(start) if start + 1 == at => {
                    return fault("these braces hold no alternative", start);
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    match open.pop() {
        Some(at) => fault("this `{` is never closed", at),
        None => Ok(()),
    }
}

/// A character class, behind its `[`.
fn class(
    chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
    start: usize,
) -> Result<(), Fault> {
    let fault = |message, at| Err(Fault { message, at });
    if chars.peek().is_some_and(|(_, c)| matches!(c, '^' | '!')) {
        chars.next();
    }
    let mut empty = true;
    let mut last: Option<char> = None;
    while let Some((at, c)) = chars.next() {
        match c {
            ']' if empty => return fault("this character class is empty", start),
            ']' => return Ok(()),
            '/' => return fault("a character class never matches `/`", at),
            '-' if last.is_some() && chars.peek().is_some_and(|(_, c)| *c != ']') => {
                let Some((_, mut to)) = chars.next() else {
                    break;
                };
                if to == '\\' {
                    let Some((_, escaped)) = chars.next() else {
                        break;
                    };
                    to = escaped;
                }
                if last > Some(to) {
                    return fault("this range ends before it starts", at);
                }
                last = None;
            }
            c => {
                let c = if c == '\\' {
                    let Some((_, escaped)) = chars.next() else {
                        break;
                    };
                    escaped
                } else {
                    c
                };
                last = Some(c);
            }
        }
        empty = false;
    }
    fault("this `[` is never closed", start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_that_can_compile() {
        for glob in [
            "/usr/bin/*",
            "/**/foo",
            "/a/{b,c}/d",
            "/a/{b{c,d},e}",
            "/[abc]",
            "/[^a-z]x",
            "/[!a]",
            "/\\[x",
            "/[a-]",
            "/[\\]]",
            "/a,b",
            "/{a,}",
            "/?",
        ] {
            assert_eq!(check(glob), Ok(()), "{glob}");
        }
    }

    #[test]
    fn globs_that_cannot() {
        for (glob, at) in [
            ("/a[", 2),
            ("/a]", 2),
            ("/[]", 1),
            ("/[^]", 1),
            ("/{a", 1),
            ("/a}", 2),
            ("/{}", 1),
            ("/a\\", 2),
            ("/[z-a]", 3),
            ("/{a,{b}", 1),
            ("/[a\\", 1),
            ("/[a-", 1),
            ("/[a/b]", 3),
        ] {
            assert_eq!(check(glob).map_err(|f| f.at), Err(at), "{glob}");
        }
    }
}
