//! Words for messages.

/// Longest piece of a user's text that a message repeats, in characters.
const QUOTED_CHARS: usize = 80;

/// A piece of a user's text in backquotes: shortened, control characters escaped.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(QUOTED_CHARS) + 2);
    out.push('`');
    for (i, c) in text.chars().enumerate() {
        if i == QUOTED_CHARS {
            out.push('…');
            break;
        }
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// Whether a terminal could act on the character instead of showing it: control characters, and
/// those that reorder or hide text.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// `a`, `b` or `c`.
pub(crate) fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => quote(one),
        [firsts @ .., last] => {
            let firsts: Vec<String> = firsts.iter().map(|n| quote(n)).collect();
            format!("{} or {}", firsts.join(", "), quote(last))
        }
    }
}

/// The name that was probably meant, if one is near enough to say so.
pub(crate) fn nearest<'n>(text: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Far beyond the longest name; keeps the distance of a hostile text cheap.
    if text.len() > 64 {
        return None;
    }
    let plain = fold(text);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&plain, &fold(name)), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Without case, `-` and `_`, which are what people get wrong most.
fn fold(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_would_obey_survives() {
        assert_eq!(
            quote("a\u{1b}[31m\0\u{9b}\u{202e}b"),
            "`a\\u{1b}[31m\\u{0}\\u{9b}\\u{202e}b`"
        );
        assert_eq!(quote("naïve"), "`naïve`");
        assert_eq!(
            quote(&"x".repeat(81)).chars().filter(|c| *c == 'x').count(),
            80
        );
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["matchPaths", "matchPatterns", "matchDirectories", "action"];
        assert_eq!(nearest("matchpath", names), Some("matchPaths"));
        assert_eq!(nearest("match_paths", names), Some("matchPaths"));
        assert_eq!(nearest("actoin", names), Some("action"));
        assert_eq!(nearest("severity", names), None);
    }
}
