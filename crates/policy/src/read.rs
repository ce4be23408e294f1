//! Text to policies, in one step.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::{
    alias::Aliases,
    compile,
    diagnostic::{Diagnostic, Place, Severity, Style, render},
    encoding::{self, NotUtf8},
    manifest::{
        self, Manifest, Source, Span, Written,
        context::{Context, Problem},
        limits,
    },
    model::{Kind, Policy, Postures},
    select::Effective,
    validate,
};

/// What some programs write at the start of a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Policies of a text that are found not to compile before the rest is refused untried.
const UNCOMPILABLE_MAX: usize = 10;

/// What was read from a text.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The policies without errors.
    pub policies: Vec<Policy>,
    /// Where the name of each of them stands.
    pub names: Vec<Place>,
    /// The text of each of them alone, which says the same when it is read by itself: as it was
    /// written where it stands on its own, otherwise written anew.
    pub texts: Vec<String>,
    /// All problems, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Part of the text is neither YAML nor JSON; no other version could make policies of it.
    pub damaged: bool,
}

impl Report {
    /// Whether any policy was refused, or part of the text could not be read.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// How many problems of a severity there are, those that are only counted included.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let diagnostics = self.diagnostics.iter();
        diagnostics
            .filter(|diagnostic| diagnostic.severity == severity)
            .map(|diagnostic| diagnostic.stands_for)
            .sum()
    }

    /// Refuses the policies that could not be put in force even alone: those whose patterns are too
    /// complex, or whose rules need too large a table. Takes up to a second for such a policy, and
    /// therefore refuses untried what comes after ten of them.
    pub fn refuse_uncompilable(&mut self) {
        let mut refused = 0;
        let policies = std::mem::take(&mut self.policies);
        let names = std::mem::take(&mut self.names);
        let texts = std::mem::take(&mut self.texts);
        for ((policy, place), text) in policies.into_iter().zip(names).zip(texts) {
            if refused == UNCOMPILABLE_MAX {
                let message = "not tried, for too many policies before it cannot be compiled";
                let help = "mend those first".to_owned();
                self.insert(Diagnostic::not_compiled(message.to_owned(), help, place));
                continue;
            }
            let policy = Arc::new(policy);
            let alone = [Arc::clone(&policy)];
            let effective = Effective::new(alone, Postures::default(), Aliases::merged_usr());
            match compile::compile(&effective) {
                Ok(_) => {
                    drop(effective);
                    self.policies.push(Arc::unwrap_or_clone(policy));
                    self.names.push(place);
                    self.texts.push(text);
                }
                Err(error) => {
                    refused += 1;
                    let help = format!(
                        "all rules of one workload have {} states and {} MiB at most",
                        compile::STATES_MAX,
                        compile::WORDS_MAX * size_of::<u64>() / (1024 * 1024),
                    );
                    self.insert(Diagnostic::not_compiled(error.to_string(), help, place));
                }
            }
        }
    }

    /// Adds a problem at its place in the order of the text.
    pub(crate) fn insert(&mut self, diagnostic: Diagnostic) {
        let start = diagnostic.place.span.start;
        let is_behind = |other: &Diagnostic| other.stands_for > 1 || other.place.span.start > start;
        let at = self.diagnostics.iter().position(is_behind);
        let at = at.unwrap_or(self.diagnostics.len());
        self.diagnostics.insert(at, diagnostic);
    }

    /// The problems as text for people. `text` is what was read.
    #[must_use]
    pub fn render(&self, text: &str, style: Style) -> String {
        render(text, &self.diagnostics, style)
    }
}

/// Reads all policies of a text: YAML documents or JSON, single or in a `List`.
///
/// `file_name` is only told, never opened.
#[must_use]
pub fn read(file_name: &str, text: &str) -> Report {
    report(file_name, text, None)
}

/// Reads all policies of a file, whatever it holds. The text is what [`Report::render`] wants: of
/// bytes that are not UTF-8, as much as can be shown.
#[must_use]
pub fn read_bytes<'b>(file_name: &str, bytes: &'b [u8]) -> (Cow<'b, str>, Report) {
    match encoding::decode(bytes) {
        Ok(text) => (Cow::Borrowed(text), read(file_name, text)),
        Err(error) => not_utf8(file_name, bytes, &error),
    }
}

/// Reads one policy as other programs send it: a JSON object with `metadata` and `spec`, whose
/// kind is known. `kind` and `apiVersion` may be there and must then agree. Zero and empty fields,
/// which such programs write for absent ones, are taken as absent.
#[must_use]
pub fn read_object(kind: Kind, object: &[u8]) -> Report {
    match encoding::decode(object) {
        Ok(text) => report("<grpc>", text, Some(kind)),
        Err(error) => not_utf8("<grpc>", object, &error).1,
    }
}

fn not_utf8<'b>(file_name: &str, bytes: &'b [u8], error: &NotUtf8) -> (Cow<'b, str>, Report) {
    let (text, at) = match error {
        NotUtf8::Utf16 => (Cow::Borrowed(""), 0),
        NotUtf8::Byte { at, .. } => (String::from_utf8_lossy(bytes), *at),
    };
    let body = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    let start = at.saturating_sub(text.len() - body.len());
    let length = body[start..].chars().next().map_or(0, char::len_utf8);
    let source = Source::new(file_name, body);
    let cx = Context::new(&source, false);
    let span = Span::new(start, start + length);
    cx.report(Problem::error(span, error.to_string()).help(error.help()));
    let diagnostics = cx.finish();
    let report = Report {
        diagnostics,
        damaged: true,
        ..Report::default()
    };
    (text, report)
}

fn report(file_name: &str, text: &str, kind: Option<Kind>) -> Report {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let source = Source::new(file_name, text);
    let cx = Context::new(&source, kind.is_some());
    let manifests = manifest::read(source.text(), kind, &cx);
    let mut policies = Vec::with_capacity(manifests.len());
    let mut names = Vec::with_capacity(manifests.len());
    let mut texts = Vec::with_capacity(manifests.len());
    let mut room = limits::WRITTEN_BYTES;
    let mut known = HashMap::new();
    for manifest in &manifests {
        let policy = validate::policy(manifest, &cx);
        if is_first(manifest, &mut known, &cx)
            && let Some(policy) = policy
            && let Some(text) = alone(manifest, &source, &mut room, &cx)
        {
            policies.push(policy);
            texts.push(text);
            names.push(source.place(manifest.metadata.name.span));
        }
    }
    if manifests.is_empty() && cx.errors() == 0 {
        let problem = if kind.is_some() {
            Problem::error(Span::default(), "there is no policy in this object")
        } else {
            Problem::warning(Span::default(), "there is no policy in this text")
        };
        cx.report(problem);
    }
    Report {
        policies,
        names,
        texts,
        damaged: cx.has_no_yaml(),
        diagnostics: cx.finish(),
    }
}

/// The text of a policy alone, if there is room for it.
fn alone(
    manifest: &Manifest,
    source: &Source<'_>,
    room: &mut usize,
    cx: &Context<'_>,
) -> Option<String> {
    let node = match &manifest.written {
        Written::Part(part) => {
            let part = source.text().get(part.start as usize..part.end as usize);
            return part.map(str::to_owned);
        }
        Written::Tree(node) => node,
    };
    let text = node.write(limits::TEXT_BYTES.min(*room));
    if let Some(text) = &text {
        *room -= text.len();
    } else {
        let (whose, most) = if *room < limits::TEXT_BYTES {
            ("the policies of this text have", limits::WRITTEN_BYTES)
        } else {
            ("this policy has", limits::TEXT_BYTES)
        };
        let message = format!("with all aliases written out, {whose} more than {most} bytes");
        let problem = Problem::error(manifest.metadata.name.span, message);
        cx.item(manifest.item, || cx.report(problem));
    }
    text
}

/// What is told of a file that gave no text, for the reason `message`.
#[must_use]
pub fn unreadable(file_name: &str, message: impl Into<String>) -> Report {
    let source = Source::new(file_name, "");
    let cx = Context::new(&source, false);
    cx.report(Problem::error(Span::default(), message));
    Report {
        diagnostics: cx.finish(),
        ..Report::default()
    }
}

/// Refuses the policies that an earlier one of some texts is already: of the same kind, namespace
/// and name.
pub fn refuse_repeated<'r>(reports: impl IntoIterator<Item = &'r mut Report>) {
    let mut known: HashMap<(Kind, String, String), Place> = HashMap::new();
    for report in reports {
        let policies = std::mem::take(&mut report.policies);
        let names = std::mem::take(&mut report.names);
        let texts = std::mem::take(&mut report.texts);
        for ((policy, place), text) in policies.into_iter().zip(names).zip(texts) {
            let key = (policy.kind, policy.namespace.clone(), policy.name.clone());
            match known.entry(key) {
                Entry::Vacant(vacant) => {
                    vacant.insert(place.clone());
                    report.policies.push(policy);
                    report.names.push(place);
                    report.texts.push(text);
                }
                Entry::Occupied(first) => {
                    let message = repeated(policy.kind);
                    let diagnostic = Diagnostic::repeated(message, place, first.get().clone());
                    report.insert(diagnostic);
                }
            }
        }
    }
}

fn repeated(kind: Kind) -> String {
    format!("there is more than one {} of this name", kind.as_str())
}

/// Whether a manifest is the first of its kind, namespace and name; reports it if not.
fn is_first<'m>(
    manifest: &'m Manifest,
    names: &mut HashMap<(Kind, &'m str, &'m str), Span>,
    cx: &Context<'_>,
) -> bool {
    let name = &manifest.metadata.name;
    let key = (
        manifest.kind(),
        validate::namespace(manifest),
        name.as_str(),
    );
    let first = match names.entry(key) {
        Entry::Occupied(first) if !name.is_empty() => *first.get(),
        Entry::Occupied(_) => return true,
        Entry::Vacant(vacant) => {
            vacant.insert(name.span);
            return true;
        }
    };
    let problem = Problem::error(name.span, repeated(manifest.kind())).related(first, "first here");
    cx.item(manifest.item, || {
        cx.at("metadata", || cx.at("name", || cx.report(problem)))
    });
    false
}
