//! Characters that word processors and web pages put in the place of YAML's own.

use super::{context::Problem, source::Span};

/// Adds to an error what of this is in its line, or in the one before: YAML often finds out late.
pub(super) fn explain(mut problem: Problem, text: &str) -> Problem {
    let Some((span, what)) = find(text, problem.span()) else {
        return problem;
    };
    if problem.span().contains(span) {
        // Guessed from a text that has the character in it.
        problem = problem.without_suggestion();
    } else {
        problem = problem.related(span, what.name());
    }
    problem.help(what.help())
}

#[derive(Clone, Copy)]
enum Pasted {
    Quote,
    Space,
}

impl Pasted {
    fn of(before: char, c: char) -> Option<Self> {
        match c {
            // Behind a letter it is an apostrophe, or closes what is no quoted value of YAML.
            '\u{2018}'..='\u{201f}' if before.is_whitespace() || "[{(,".contains(before) => {
                Some(Self::Quote)
            }
            '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{3000}' => Some(Self::Space),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Quote => "a curly quote",
            Self::Space => "not an ordinary space",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Quote => "curly quotes are letters to YAML: write straight ones, \" or '",
            Self::Space => {
                "no-break spaces, which web pages have, are letters to YAML: write ordinary spaces"
            }
        }
    }
}

fn find(text: &str, problem: Span) -> Option<(Span, Pasted)> {
    let at = text.floor_char_boundary(problem.start as usize);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    let start_of_line = |end: usize| text[..end].rfind('\n').map_or(0, |i| i + 1);
    let own = start_of_line(at);
    let before = own.checked_sub(1).map(|end| (start_of_line(end), end));
    std::iter::once((own, end))
        .chain(before)
        .find_map(|(start, end)| {
            let mut last = '\n';
            for (i, c) in text[start..end].char_indices() {
                if c == '#' && last.is_whitespace() {
                    break;
                }
                if let Some(what) = Pasted::of(last, c) {
                    let at = start + i;
                    return Some((Span::new(at, at + c.len_utf8()), what));
                }
                last = c;
            }
            None
        })
}
