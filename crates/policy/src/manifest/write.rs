//! A document as text again: YAML that reads back to the same tree.

use std::{fmt::Write as _, sync::Arc};

use super::{
    node::{Entry, Node, NodeKind, Scalar, ScalarType},
    source::Span,
};

/// Longest key on the line of its value; YAML allows 1,024 characters, quotes and escapes included.
const KEY_BYTES: usize = 128;

/// Where the text of one policy alone is to be had from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Written {
    /// This part of the text.
    Part(Span),
    /// Nowhere: it is an item of a list, or needs directives.
    Tree(Arc<Node>),
}

impl Node {
    /// Text that reads back to this tree, aliases written out; nothing if it has more than `most`
    /// bytes.
    pub(crate) fn write(&self, most: usize) -> Option<String> {
        let mut writer = Writer::new(most);
        let block = match &self.kind {
            NodeKind::Mapping(entries) if !entries.is_empty() => writer.mapping(entries, 0, false),
            NodeKind::Mapping(_) | NodeKind::Sequence(_) | NodeKind::Scalar(_) => {
                writer.flow(self).and_then(|()| writer.push("\n"))
            }
        };
        if block.is_none() {
            // Indentation can be most of a text that is nested deeply.
            writer = Writer::new(most);
            writer.flow(self)?;
            writer.push("\n")?;
        }
        Some(writer.out)
    }
}

/// Every method returns nothing when there is no more room.
struct Writer {
    out: String,
    most: usize,
}

impl Writer {
    const fn new(most: usize) -> Self {
        Self {
            out: String::new(),
            most,
        }
    }

    fn push(&mut self, text: &str) -> Option<()> {
        if text.len() > self.most - self.out.len() {
            return None;
        }
        self.out.push_str(text);
        Some(())
    }

    fn indent(&mut self, columns: usize) -> Option<()> {
        (0..columns).try_for_each(|_| self.push(" "))
    }

    /// One line an entry. `inline`: the first goes on in the line of a dash.
    fn mapping(&mut self, entries: &[Entry], indent: usize, inline: bool) -> Option<()> {
        for (index, Entry { key, value }) in entries.iter().enumerate() {
            if index > 0 || !inline {
                self.indent(indent)?;
            }
            if key.len() > KEY_BYTES {
                self.push("? ")?;
                self.text(key)?;
                self.push("\n")?;
                self.indent(indent)?;
                self.push(": ")?;
                self.flow(value)?;
                self.push("\n")?;
                continue;
            }
            self.text(key)?;
            self.push(":")?;
            match &value.kind {
                NodeKind::Mapping(entries) if !entries.is_empty() => {
                    self.push("\n")?;
                    self.mapping(entries, indent + 2, false)?;
                }
                NodeKind::Sequence(items) if !items.is_empty() => {
                    self.push("\n")?;
                    self.sequence(items, indent, false)?;
                }
                NodeKind::Mapping(_) | NodeKind::Sequence(_) | NodeKind::Scalar(_) => {
                    self.push(" ")?;
                    self.flow(value)?;
                    self.push("\n")?;
                }
            }
        }
        Some(())
    }

    fn sequence(&mut self, items: &[Arc<Node>], indent: usize, inline: bool) -> Option<()> {
        for (index, item) in items.iter().enumerate() {
            if index > 0 || !inline {
                self.indent(indent)?;
            }
            self.push("- ")?;
            match &item.kind {
                NodeKind::Mapping(entries) if !entries.is_empty() => {
                    self.mapping(entries, indent + 2, true)?;
                }
                NodeKind::Sequence(items) if !items.is_empty() => {
                    self.sequence(items, indent + 2, true)?;
                }
                NodeKind::Mapping(_) | NodeKind::Sequence(_) | NodeKind::Scalar(_) => {
                    self.flow(item)?;
                    self.push("\n")?;
                }
            }
        }
        Some(())
    }

    /// In brackets, on one line.
    fn flow(&mut self, node: &Node) -> Option<()> {
        match &node.kind {
            NodeKind::Scalar(scalar) => self.scalar(scalar),
            NodeKind::Sequence(items) => {
                self.push("[")?;
                for (index, item) in items.iter().enumerate() {
                    self.push(if index > 0 { ", " } else { "" })?;
                    self.flow(item)?;
                }
                self.push("]")
            }
            NodeKind::Mapping(entries) => {
                self.push("{")?;
                for (index, Entry { key, value }) in entries.iter().enumerate() {
                    self.push(if index > 0 { ", " } else { "" })?;
                    self.push(if key.len() > KEY_BYTES { "? " } else { "" })?;
                    self.text(key)?;
                    self.push(": ")?;
                    self.flow(value)?;
                }
                self.push("}")
            }
        }
    }

    fn scalar(&mut self, scalar: &Scalar) -> Option<()> {
        match scalar.kind() {
            ScalarType::Null => self.push("null"),
            // A number as it is written: how many digits it has is for others to judge.
            ScalarType::Bool(_) | ScalarType::Number => self.push(&scalar.text),
            ScalarType::Text => self.text(&scalar.text),
        }
    }

    /// Without quotes only what needs them in no YAML.
    fn text(&mut self, text: &str) -> Option<()> {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
            && text.chars().all(is_safe)
            && !is_reserved(text)
        {
            return self.push(text);
        }
        self.push("\"")?;
        for c in text.chars() {
            match c {
                '"' => self.push("\\\"")?,
                '\\' => self.push("\\\\")?,
                '\n' => self.push("\\n")?,
                '\t' => self.push("\\t")?,
                c if needs_escape(c) => {
                    let mut escaped = String::new();
                    // Writing to a string cannot fail.
                    let _ = write!(escaped, "\\u{:04x}", u32::from(c));
                    self.push(&escaped)?;
                }
                c => self.push(c.encode_utf8(&mut [0; 4]))?,
            }
        }
        self.push("\"")
    }
}

/// Words that are no text to some YAML: of version 1.1 too, which other programs read.
fn is_reserved(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    matches!(
        word.as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    )
}

/// Line breaks, and what YAML takes for unprintable.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Source, context::Context, parse};

    fn tree(text: &str) -> Arc<Node> {
        let source = Source::new("t.yaml", text);
        let cx = Context::new(&source, false);
        let documents = parse::documents(&cx, text);
        assert_eq!(cx.errors(), 0, "{text}\n{:?}", cx.finish());
        assert_eq!(documents.len(), 1, "{text}");
        Arc::clone(&documents[0].node)
    }

    /// A tree without its spans, quotes reduced to what they mean.
    fn meaning(node: &Node) -> String {
        match &node.kind {
            NodeKind::Scalar(scalar) => match scalar.kind() {
                ScalarType::Null => "null".into(),
                kind => format!("{kind:?} {:?}", scalar.text),
            },
            NodeKind::Sequence(items) => {
                let items: Vec<_> = items.iter().map(|i| meaning(i)).collect();
                format!("[{}]", items.join(", "))
            }
            NodeKind::Mapping(entries) => {
                let entries = entries.iter();
                let entries: Vec<_> = entries
                    .map(|e| format!("{:?}: {}", e.key.value, meaning(&e.value)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    #[test]
    fn what_is_written_reads_back_to_the_same() {
        let long = "k".repeat(2_000);
        let texts = [
            "a: 1".to_owned(),
            "{}".into(),
            "[]".into(),
            "a:\nb: ~\nc: \"\"\nd: ''\ne: !!str\nf: !!str 5\ng: [null, Null]".into(),
            "a: [0x1F, 0o17, +5, .5, 5., -.inf, .nan, 1e3, \"1\", '0x1F']".into(),
            "a: [yes, \"true\", true, on, e3, 1.2.3, --, \"-\", \"?\", \"- a\", \"a: b\"]".into(),
            "a: [[], [[]], [[1, [2]], {}], {b: [], c: {d: {}}}]".into(),
            "- [{a: 1, b: [{c: 2}]}]\n- - - x\n- y:\n  - z".into(),
            "\"<<\": 1\n\"\": 2\n\"a b\": 3\n\"#\": 4\n\"%Y\": 5\n5: 6\n~: 7\n\"---\": 8".into(),
            "a: \"\\0\\a\\t\\n\\r\\x7f\\N\\L\\P\\ufeff\\uffff\\\\\\\" \\U0001f600 \u{e4}\"".into(),
            "a: \"  lead\\n\\n trail  \"\nb: |\n  x\n   y\n\n  z\nc: >-\n  folded\n  text".into(),
            "a: \"#no\"\nb: \"x #no\"\nc: '*no'\nd: '&no'\ne: '!no'\nf: '@'\ng: '`'\nh: '|'".into(),
            "a: &x {b: 1, c: &y [2]}\nd: *x\ne: {<<: *x, b: 3}\nf: *y\n*y : 1"
                .replace("\n*y : 1", ""),
            format!("{long}: 1")
                .replacen("k", "? k", 1)
                .replace(": 1", "\n: {a: [1]}"),
            format!("x:\n- ? {long}\n  : [a]\n  b: 1\n- {{? {long} : 1}}"),
        ];
        for text in texts {
            let before = tree(&text);
            let written = before.write(1 << 20).unwrap();
            let after = tree(&written);
            assert_eq!(meaning(&before), meaning(&after), "{text}\n{written}");
            assert_eq!(after.write(1 << 20).unwrap(), written, "{text}");
            let mut flow = Writer::new(1 << 20);
            flow.flow(&before).unwrap();
            assert_eq!(meaning(&before), meaning(&tree(&flow.out)), "{}", flow.out);
        }
    }

    #[test]
    fn it_looks_as_people_write_it() {
        let text = "apiVersion: security.kubearmor.com/v1\nspec:\n  process:\n    matchPaths:\n    \
                    - path: /bin/a\n      fromSource:\n      - path: \"/b c\"\n    - path: /b\n  \
                    severity: 5\n";
        assert_eq!(tree(text).write(1 << 20).unwrap(), text);
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let text = format!("a: &a {:?}\nb: [{}]", "x".repeat(500), "*a,".repeat(500));
        assert_eq!(tree(&text).write(100_000), None);
        let deep = format!(
            "a: {}{}{}",
            "[".repeat(60),
            "1,".repeat(5_000),
            "]".repeat(60)
        );
        let written = tree(&deep).write(2 * deep.len()).unwrap();
        assert_eq!(meaning(&tree(&deep)), meaning(&tree(&written)));
    }
}
