//! Text to documents: YAML, and JSON as a part of it.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use saphyr_parser::{Event, Input, Parser, ScalarStyle, ScanError, Tag};

use super::{
    context::{Context, Problem},
    limits,
    node::{Entry, Node, NodeKind, Scalar},
    repair,
    source::{Span, Spanned},
    syntax,
};
use crate::diagnostic::quote;

/// A document.
pub(crate) struct Document {
    pub(crate) node: Arc<Node>,
    /// Something in it could not be read and is missing.
    pub(crate) failed: bool,
    /// The part of the text that says the same when it is read alone, if there is one.
    pub(crate) part: Option<Span>,
}

/// Reads all documents of a text; empty ones are left out.
///
/// A document that is not YAML is reported, and reading goes on behind the next `---`.
pub(crate) fn documents(cx: &Context<'_>, text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    if text.len() > limits::TEXT_BYTES {
        let message = format!(
            "the text has {} bytes, more than {}",
            text.len(),
            limits::TEXT_BYTES
        );
        cx.report(Problem::error(Span::default(), message).help("split it into several files"));
        return documents;
    }
    let text = yaml_of_json(text);
    let mut start = 0;
    let mut nodes = 0;
    // Each time is a new look at the rest of the text: no more of them than problems are told.
    for _ in 0..limits::DIAGNOSTICS {
        let part = repair::mended(text.get(start..).unwrap_or_default());
        let mut reader = Reader::new(cx, &text, &part, start, nodes);
        let end = reader.documents(&mut documents);
        nodes = reader.nodes;
        let Err(failed) = end else { return documents };
        if failed.fatal {
            return documents;
        }
        match next_document(&text, failed.at.saturating_sub(1).max(start)) {
            Some(next) => start = next,
            None => return documents,
        }
    }
    documents
}

/// What is right in JSON and wrong in YAML, written otherwise; every byte stays where it is.
///
/// Tabs between tokens are white space, but the YAML parser takes them for indentation. And
/// characters beyond U+FFFF may be written as two escapes, where YAML has one.
fn yaml_of_json(text: &str) -> Cow<'_, str> {
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if text.contains(['\t', '\\']) && text.trim_start().starts_with(['{', '[']) && is_json() {
        // Valid JSON has no tab inside a string, and a space takes a tab's place to the byte.
        return Cow::Owned(join_surrogates(text.replace('\t', " ")));
    }
    Cow::Borrowed(text)
}

/// `\ud83d\ude00` to a line break that YAML leaves out and `\U0001f600`, which is as long.
fn join_surrogates(mut json: String) -> String {
    let mut from = 0;
    while let Some(escape) = json[from..].find('\\').map(|i| from + i) {
        let units = [unit(&json, escape), unit(&json, escape + 6)];
        from = match units.map(|unit| unit.unwrap_or(0)) {
            [high @ 0xd800..0xdc00, low @ 0xdc00..0xe000] => {
                let character = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                let escaped = format!("\\\n\\U{character:08x}");
                json.replace_range(escape..escape + 12, &escaped);
                escape + 12
            }
            _ => escape + 2,
        };
    }
    json
}

/// The number in an escape such as `\ud83d`.
fn unit(json: &str, escape: usize) -> Option<u32> {
    let digits = json.get(escape..escape + 6)?.strip_prefix("\\u")?;
    u32::from_str_radix(digits, 16).ok()
}

/// Byte offset of the next line behind `at` that starts a document.
fn next_document(text: &str, at: usize) -> Option<usize> {
    let mut from = at;
    while let Some(newline) = text.get(from..)?.find('\n') {
        let line = from + newline + 1;
        let rest = &text[line..];
        if rest
            .strip_prefix("---")
            .is_some_and(|r| r.is_empty() || r.starts_with([' ', '\n', '\r', '\t']))
        {
            return Some(line);
        }
        from = line;
    }
    None
}

/// Reading stopped, for a reason that has been reported.
struct Failed {
    at: usize,
    /// Reading on would not be worth it.
    fatal: bool,
}

/// The text of a document, without the markers around it.
struct Part {
    start: usize,
    end: usize,
    /// Which document it is, if it is not empty.
    document: Option<usize>,
}

impl Part {
    const fn new(start: usize) -> Self {
        Self {
            start,
            end: start,
            document: None,
        }
    }

    fn tell(self, documents: &mut [Document]) {
        let document = self.document.and_then(|index| documents.get_mut(index));
        if let Some(document) = document {
            document.part = Some(Span::new(self.start, self.end));
        }
    }
}

fn break_length(text: &str) -> usize {
    match text.as_bytes() {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    }
}

struct Reader<'c, 't, T: Input> {
    cx: &'c Context<'c>,
    text: &'t str,
    parser: Parser<'t, T>,
    /// Where the parser's text starts in the whole text.
    start: usize,
    /// Byte offset of each character, unless all are one byte long.
    offsets: Option<Vec<u32>>,
    /// Values of the document that have an anchor.
    anchors: HashMap<usize, Arc<Node>>,
    /// Anchors of values that have been begun and not ended.
    open: HashSet<usize>,
    nodes: usize,
}

impl<'c, 't> Reader<'c, 't, saphyr_parser::StrInput<'t>> {
    fn new(cx: &'c Context<'c>, text: &'t str, part: &'t str, start: usize, nodes: usize) -> Self {
        let offsets = (!part.is_ascii()).then(|| {
            part.char_indices()
                .filter_map(|(i, _)| u32::try_from(i).ok())
                .collect()
        });
        Self {
            cx,
            text,
            parser: Parser::new_from_str(part),
            start,
            offsets,
            anchors: HashMap::new(),
            open: HashSet::new(),
            nodes,
        }
    }
}

impl<'t, T: Input> Reader<'_, 't, T> {
    fn documents(&mut self, documents: &mut Vec<Document>) -> Result<(), Failed> {
        let mut part: Option<Part> = None;
        let mut behind = self.start;
        while let Some((event, span)) = self.next()? {
            match event {
                // Not before: what is wrong behind a document is wrong with its part.
                Event::StreamEnd | Event::DocumentStart(_) => {
                    if let Some(part) = part.take() {
                        part.tell(documents);
                    }
                    let Event::DocumentStart(explicit) = event else {
                        break;
                    };
                    self.anchors.clear();
                    self.open.clear();
                    part = if explicit {
                        self.part(behind, span)
                    } else {
                        Some(Part::new(behind))
                    };
                }
                Event::DocumentEnd => {
                    let end = span.start as usize;
                    let dots = (self.text.get(end..)).is_some_and(|rest| rest.starts_with("..."));
                    behind = if dots { span.end as usize } else { end };
                    if let Some(part) = &mut part {
                        part.end = end;
                    }
                }
                Event::Nothing | Event::StreamStart => {}
                event @ (Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd) => {
                    let errors = self.cx.errors();
                    let node = self.node(event, span, 0)?;
                    if node.is_null() {
                        continue;
                    }
                    if documents.len() == limits::DOCUMENTS {
                        let message =
                            format!("the text has more than {} documents", limits::DOCUMENTS);
                        return Err(self.fatal(node.span, message));
                    }
                    if let Some(part) = &mut part {
                        part.document = Some(documents.len());
                    }
                    documents.push(Document {
                        node,
                        failed: self.cx.errors() > errors,
                        part: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// The part of a document that starts with this `---`, unless there are directives between it
    /// and what is before: without them the part may say something else.
    fn part(&self, behind: usize, dashes: Span) -> Option<Part> {
        let (start, end) = (dashes.start as usize, dashes.end as usize);
        let before = self.text.get(behind..start)?;
        if before.split(['\n', '\r']).any(|line| line.starts_with('%')) {
            return None;
        }
        let rest = self.text.get(end..)?;
        let line = rest.split(['\n', '\r']).next().unwrap_or_default();
        Some(Part::new(match line.trim() {
            "" => end + line.len() + break_length(&rest[line.len()..]),
            comment if comment.starts_with('#') => end,
            // What stands there would be read otherwise at the start of a line.
            _ => start,
        }))
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Failed> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let span = Span::new(self.byte(span.start.index()), self.byte(span.end.index()));
                Ok(Some((event, span)))
            }
            Some(Err(error)) => Err(self.invalid(&error)),
        }
    }

    fn invalid(&self, error: &ScanError) -> Failed {
        let at = self.byte(error.marker().index());
        self.cx.note_no_yaml();
        self.cx.report(syntax::explain(self.text, at, error.info()));
        Failed { at, fatal: false }
    }

    fn fatal(&self, span: Span, message: impl Into<String>) -> Failed {
        self.cx.report(Problem::error(span, message));
        Failed {
            at: span.start as usize,
            fatal: true,
        }
    }

    fn byte(&self, character: usize) -> usize {
        let offset = match &self.offsets {
            None => character,
            Some(offsets) => offsets
                .get(character)
                .map_or(self.text.len(), |at| *at as usize),
        };
        (self.start + offset).min(self.text.len())
    }

    fn expect(&mut self) -> Result<(Event<'t>, Span), Failed> {
        let end = Span::new(self.text.len(), self.text.len());
        self.next()?
            .ok_or_else(|| self.fatal(end, "the text ends in the middle of a document"))
    }

    /// Reads the node that an event starts.
    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Arc<Node>, Failed> {
        if depth > limits::DEPTH {
            let message = format!(
                "lists and mappings are nested more than {} deep",
                limits::DEPTH
            );
            return Err(self.fatal(span, message));
        }
        let (anchor, kind, end) = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, anchor, tag) => {
                let string = self.tag(tag.as_deref(), span);
                let plain = style == ScalarStyle::Plain && !string;
                (
                    anchor,
                    NodeKind::Scalar(Scalar {
                        text: text.into_owned(),
                        plain,
                    }),
                    span.end,
                )
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.open.insert(anchor);
                let (items, end) = self.sequence(depth)?;
                (anchor, NodeKind::Sequence(items), end)
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.open.insert(anchor);
                let (entries, end) = self.mapping(depth)?;
                (anchor, NodeKind::Mapping(entries), end)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(self.fatal(span, "the document ends where a value should be"));
            }
        };
        let size = 1 + match &kind {
            NodeKind::Scalar(_) => 0,
            NodeKind::Sequence(items) => items.iter().map(|n| n.size).sum(),
            NodeKind::Mapping(entries) => entries.iter().map(|e| e.value.size).sum::<usize>(),
        };
        self.count(1, span)?;
        let span = Span {
            start: span.start,
            end: end.max(span.end),
        };
        let node = Arc::new(Node { span, kind, size });
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Failed> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > limits::NODES {
            let message = format!(
                "with all aliases written out, the text has more than {} values",
                limits::NODES
            );
            return Err(self.fatal(span, message));
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Arc<Node>, Failed> {
        let Some(node) = self.anchors.get(&id).map(Arc::clone) else {
            let problem = if self.open.contains(&id) {
                Problem::error(span, "this alias refers to a value that contains it")
            } else {
                let name = self.text.get(span.start as usize..span.end as usize);
                let name = name.unwrap_or_default().trim_start_matches('*');
                let message = format!("no anchor of this document is named {}", quote(name));
                Problem::error(span, message).help("anchors hold up to the next `---`")
            };
            self.cx.report(problem);
            return Err(Failed {
                at: span.start as usize,
                fatal: false,
            });
        };
        self.count(node.size, span)?;
        // Its value is that of the anchor, its place is here: two rules that are one value are
        // still two.
        let (kind, size) = (node.kind.clone(), node.size);
        Ok(Arc::new(Node { span, kind, size }))
    }

    /// Whether a tag makes its value text.
    fn tag(&self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        if !tag.is_yaml_core_schema() {
            let name = format!("{}{}", tag.handle, tag.suffix);
            let problem = Problem::error(
                span,
                format!("the tag {} has no meaning here", quote(&name)),
            );
            self.cx.report(
                problem.help("remove it, or put the value in quotes if it starts with `!`"),
            );
        }
        tag.is_yaml_core_schema() && tag.suffix == "str"
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Arc<Node>>, u32), Failed> {
        let mut items: Vec<Arc<Node>> = Vec::new();
        loop {
            let (event, span) = self.expect()?;
            if event == Event::SequenceEnd {
                // A block list ends nowhere; then its last item's end is the best there is.
                let bracket = if span.start == span.end { 0 } else { span.end };
                let end = items.last().map_or(0, |n| n.span.end).max(bracket);
                return Ok((items, end));
            }
            let cx = self.cx;
            items.push(cx.index(items.len(), || self.node(event, span, depth + 1))?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<(Vec<Entry>, u32), Failed> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Option<(Span, Arc<Node>)> = None;
        let mut known: HashMap<String, Span> = HashMap::new();
        let mut end = 0;
        loop {
            let (event, span) = self.expect()?;
            if event == Event::MappingEnd {
                if span.start != span.end {
                    end = span.end;
                }
                break;
            }
            let merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.expect()?;
            let cx = self.cx;
            let value = cx.at(key.text(), || self.node(event, span, depth + 1))?;
            end = end.max(value.span.end).max(key.span.end);
            let NodeKind::Scalar(scalar) = &key.kind else {
                let found = key.describe();
                self.cx.report(
                    Problem::error(key.span, format!("a key must be text, not {found}"))
                        .help("a value that starts with `{` or `[` needs quotes"),
                );
                continue;
            };
            if merge {
                if let Some((first, _)) = &merged {
                    let problem = Problem::error(key.span, "`<<` is given twice")
                        .label("again here")
                        .related(*first, "first here")
                        .help("one of them merges several mappings: `<<: [*a, *b]`");
                    cx.at(key.text(), || cx.report(problem));
                } else {
                    merged = Some((key.span, value));
                }
                continue;
            }
            if let Some(first) = known.insert(scalar.text.clone(), key.span) {
                let name = quote(&scalar.text);
                let problem = Problem::error(key.span, format!("{name} is given twice"))
                    .label("again here")
                    .related(first, "first here")
                    .help("keep one of them; for several rules, make them items of one list");
                cx.at(key.text(), || cx.report(problem));
                continue;
            }
            entries.push(Entry {
                key: Spanned {
                    value: scalar.text.clone(),
                    span: key.span,
                },
                value,
            });
        }
        if let Some((_, node)) = merged {
            self.merge(&node, &mut entries, &mut known);
        }
        Ok((entries, end))
    }

    /// Adds what a merge key (`<<`) brings and the mapping itself does not have.
    fn merge(&self, node: &Arc<Node>, entries: &mut Vec<Entry>, known: &mut HashMap<String, Span>) {
        match &node.kind {
            NodeKind::Mapping(others) => {
                for entry in others {
                    if !known.contains_key(&entry.key.value) {
                        known.insert(entry.key.value.clone(), entry.key.span);
                        entries.push(entry.clone());
                    }
                }
            }
            NodeKind::Sequence(items)
                if items.iter().all(|i| matches!(i.kind, NodeKind::Mapping(_))) =>
            {
                for item in items {
                    self.merge(item, entries, known);
                }
            }
            NodeKind::Sequence(_) | NodeKind::Scalar(_) => self.cx.report(Problem::error(
                node.span,
                format!("`<<` merges mappings, not {}", node.describe()),
            )),
        }
    }
}
