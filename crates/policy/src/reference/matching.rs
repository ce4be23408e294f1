//! Does this path match that target, by looking at the text.

use crate::{alias::Aliases, model::Target};

/// Whether `path` is what `target` names, by its written or its real name.
#[must_use]
pub fn matches(target: &Target, aliases: &Aliases, path: &[u8]) -> bool {
    if !path.starts_with(b"/") {
        return false;
    }
    match target {
        Target::Path(text) => aliases
            .names(text)
            .iter()
            .any(|name| name.as_bytes() == path),
        Target::ExecName(name) => path.rsplit(|&b| b == b'/').next() == Some(name.as_bytes()),
        Target::Directory {
            path: dir,
            recursive,
        } => aliases
            .names(dir)
            .iter()
            .any(|dir| in_directory(dir.as_bytes(), *recursive, path)),
        Target::Glob(text) => globs(text, aliases)
            .iter()
            .any(|glob| reached(glob, path).contains(&glob.len())),
        _ => false,
    }
}

/// Whether `path` is a directory that must stay where it is, because what `target` names lies in
/// it (or, for a directory, is it).
#[must_use]
pub fn guards_directory(target: &Target, aliases: &Aliases, path: &[u8]) -> bool {
    if !path.starts_with(b"/") || path == b"/" {
        return false;
    }
    let inside = [path, b"/"].concat();
    match target {
        Target::Path(text) => aliases
            .names(text)
            .iter()
            .any(|name| name.len() > inside.len() && name.as_bytes().starts_with(&inside)),
        // With its trailing slash, a directory lies in itself.
        Target::Directory { path: dir, .. } => aliases
            .names(dir)
            .iter()
            .any(|name| name.as_bytes().starts_with(&inside)),
        // Some element is left over, and every element can match at least one byte.
        Target::Glob(text) => globs(text, aliases)
            .iter()
            .any(|glob| reached(glob, &inside).iter().any(|&at| at < glob.len())),
        _ => false,
    }
}

/// `dir` ends in a slash, `path` only when it is `/`.
fn in_directory(dir: &[u8], recursive: bool, path: &[u8]) -> bool {
    if path == dir || dir.strip_suffix(b"/") == Some(path) {
        return true;
    }
    match path.strip_prefix(dir) {
        Some(rest) => recursive || !rest.contains(&b'/'),
        None => false,
    }
}

/// An element of a glob without braces.
#[derive(Clone, Debug)]
enum Element {
    Byte(u8),
    /// Bytes listed, and whether the class is negated.
    Class(Vec<u8>, bool),
    /// Any run without `/`.
    Run,
    /// Any run.
    LongRun,
}

/// All globs without braces that `text` stands for, under all their names.
fn globs(text: &str, aliases: &Aliases) -> Vec<Vec<Element>> {
    let mut at = 0;
    let bytes = text.as_bytes();
    alternatives(bytes, &mut at, false)
        .iter()
        .flat_map(|glob| renamed(glob, aliases))
        .collect()
}

/// Reads up to the end, or to the end of one branch of a brace.
fn alternatives(text: &[u8], at: &mut usize, nested: bool) -> Vec<Vec<Element>> {
    let mut all = vec![Vec::new()];
    while *at < text.len() {
        let byte = text[*at];
        if nested && (byte == b',' || byte == b'}') {
            break;
        }
        *at += 1;
        let element = match byte {
            b'{' => {
                let mut branches = Vec::new();
                loop {
                    branches.extend(alternatives(text, at, true));
                    let end = text.get(*at).copied();
                    *at += 1;
                    if end != Some(b',') {
                        break;
                    }
                }
                let mut joined = Vec::new();
                for head in &all {
                    for branch in &branches {
                        let mut glob: Vec<Element> = head.clone();
                        glob.extend(branch.iter().cloned());
                        joined.push(glob);
                    }
                }
                all = joined;
                continue;
            }
            b'*' if text.get(*at) == Some(&b'*') => {
                *at += 1;
                Element::LongRun
            }
            b'*' => Element::Run,
            b'?' => Element::Class(Vec::new(), true),
            b'[' => class(text, at),
            b'\\' => {
                let escaped = text.get(*at).copied().unwrap_or(b'\\');
                *at += 1;
                Element::Byte(escaped)
            }
            other => Element::Byte(other),
        };
        for glob in &mut all {
            glob.push(element.clone());
        }
    }
    all
}

fn class(text: &[u8], at: &mut usize) -> Element {
    let negated = text.get(*at) == Some(&b'^');
    if negated {
        *at += 1;
    }
    // Bytes with a note whether they were escaped: an escaped `-` makes no range.
    let mut read = Vec::new();
    while let Some(&byte) = text.get(*at) {
        *at += 1;
        match byte {
            b']' => break,
            b'\\' => {
                read.push((text.get(*at).copied().unwrap_or(0), true));
                *at += 1;
            }
            _ => read.push((byte, false)),
        }
    }
    let mut listed = Vec::new();
    let mut index = 0;
    while index < read.len() {
        let low = read[index].0;
        match (read.get(index + 1), read.get(index + 2)) {
            (Some((b'-', false)), Some(&(high, _))) => {
                listed.extend(low..=high);
                index += 3;
            }
            _ => {
                listed.push(low);
                index += 1;
            }
        }
    }
    Element::Class(listed, negated)
}

/// The glob, and the same with the real name of the directories it begins with.
fn renamed(glob: &[Element], aliases: &Aliases) -> Vec<Vec<Element>> {
    let literal: Vec<u8> = glob
        .iter()
        .map_while(|element| {
            if let Element::Byte(byte) = element {
                Some(*byte)
            } else {
                None
            }
        })
        .collect();
    // Only whole components of the beginning are names of directories.
    let names = if literal.len() == glob.len() {
        literal.as_slice()
    } else {
        &literal[..literal
            .iter()
            .rposition(|&b| b == b'/')
            .map_or(0, |slash| slash + 1)]
    };
    let Ok(text) = std::str::from_utf8(names) else {
        return vec![glob.to_vec()];
    };
    aliases
        .names(text)
        .iter()
        .map(|name| {
            let mut renamed: Vec<Element> = name.bytes().map(Element::Byte).collect();
            renamed.extend_from_slice(&glob[names.len()..]);
            renamed
        })
        .collect()
}

/// How many elements can have been used up when all of `text` has been read.
fn reached(glob: &[Element], text: &[u8]) -> Vec<usize> {
    let mut reached = skip_runs(glob, vec![0]);
    for &byte in text {
        let mut next = Vec::new();
        for at in reached {
            match glob.get(at) {
                Some(Element::Byte(b)) if *b == byte => next.push(at + 1),
                Some(Element::Class(listed, negated))
                    if byte != b'/' && listed.contains(&byte) != *negated =>
                {
                    next.push(at + 1);
                }
                Some(Element::Run) if byte != b'/' => next.push(at),
                Some(Element::LongRun) => next.push(at),
                _ => {}
            }
        }
        reached = skip_runs(glob, next);
    }
    reached
}

/// Adds the places reached by letting a run match nothing.
fn skip_runs(glob: &[Element], mut places: Vec<usize>) -> Vec<usize> {
    let mut index = 0;
    while index < places.len() {
        let at = places[index];
        if matches!(glob.get(at), Some(Element::Run | Element::LongRun)) {
            places.push(at + 1);
        }
        index += 1;
    }
    places.sort_unstable();
    places.dedup();
    places
}
