//! What reading and checking a text share: the text, the field they are at, and the problems.

use std::{cell::RefCell, collections::HashSet, fmt::Write as _};

use super::{
    limits, pasted,
    source::{Source, Span},
};
use crate::{
    diagnostic::{Diagnostic, Related, Severity, nearest, quote},
    model::Location,
};

/// A problem that has not been given its field and file yet.
#[derive(Debug)]
#[must_use = "a problem that is not reported is lost"]
pub(crate) struct Problem {
    severity: Severity,
    span: Span,
    message: String,
    label: Option<String>,
    allowed: Vec<String>,
    suggestion: Option<String>,
    help: Vec<String>,
    related: Vec<(Span, String)>,
}

impl Problem {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message.into())
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message.into())
    }

    fn new(severity: Severity, span: Span, message: String) -> Self {
        Self {
            severity,
            span,
            message,
            label: None,
            allowed: Vec::new(),
            suggestion: None,
            help: Vec::new(),
            related: Vec::new(),
        }
    }

    /// A few words under the excerpt.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// What to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// What was probably meant.
    pub(crate) fn suggestion(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    pub(crate) fn without_suggestion(mut self) -> Self {
        self.suggestion = None;
        self
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// The names that would be right, and the one that was probably meant by `found`.
    pub(crate) fn allowed<'n>(
        mut self,
        found: &str,
        names: impl IntoIterator<Item = &'n str> + Clone,
    ) -> Self {
        self.suggestion = nearest(found, names.clone()).map(str::to_owned);
        self.allowed = names.into_iter().map(str::to_owned).collect();
        self
    }

    /// The same without listing hundreds of names.
    pub(crate) fn one_of_many<'n>(
        mut self,
        found: &str,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        self.suggestion = nearest(found, names).map(str::to_owned);
        self
    }

    /// Another place that has to do with it.
    pub(crate) fn related(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related.push((span, message.into()));
        self
    }
}

/// A step of a field path.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reading state of a text. Shared, because fields nest.
#[derive(Debug)]
pub(crate) struct Context<'t> {
    source: &'t Source<'t>,
    /// The text is an object from a program, which writes fields that a person would leave out.
    by_program: bool,
    path: RefCell<Vec<Step>>,
    found: RefCell<Found>,
}

#[derive(Debug, Default)]
struct Found {
    errors: Told,
    warnings: Told,
    no_yaml: bool,
    /// Where only part of the text could be read, which has been told.
    broken: HashSet<Span>,
    /// Errors there that follow from what is missing.
    following: usize,
}

/// Problems of one severity. Each has room of its own: what a policy is refused for must not get
/// lost behind what is only remarked.
#[derive(Debug, Default)]
struct Told {
    diagnostics: Vec<Diagnostic>,
    /// How many there are besides.
    untold: usize,
    /// Where the first of these in the text is.
    first_untold: Option<Span>,
}

impl Told {
    fn skip(&mut self, span: Span) {
        self.untold += 1;
        let is_first = |first: Span| span.start < first.start;
        if self.first_untold.is_none_or(is_first) {
            self.first_untold = Some(span);
        }
    }

    /// What stands for the problems that are not told.
    fn summary(&self, severity: Severity, source: &Source<'_>) -> Option<Diagnostic> {
        let what = match (severity, self.untold) {
            (Severity::Error, 1) => "error is",
            (Severity::Error, _) => "errors are",
            (Severity::Warning, 1) => "warning is",
            (Severity::Warning, _) => "warnings are",
        };
        Some(Diagnostic {
            severity,
            message: format!("{} more {what} not shown", self.untold),
            place: source.place(self.first_untold?),
            field: String::new(),
            label: (self.untold > 1).then(|| "the first of them is here".to_owned()),
            allowed: Vec::new(),
            suggestion: None,
            help: Vec::new(),
            related: Vec::new(),
            stands_for: self.untold,
        })
    }
}

impl<'t> Context<'t> {
    pub(crate) fn new(source: &'t Source<'t>, by_program: bool) -> Self {
        Self {
            source,
            by_program,
            path: RefCell::default(),
            found: RefCell::default(),
        }
    }

    pub(crate) fn by_program(&self) -> bool {
        self.by_program
    }

    pub(crate) fn location(&self, span: Span) -> Location {
        self.source.location(span)
    }

    /// Runs `f` one field deeper.
    pub(crate) fn at<R>(&self, key: &str, f: impl FnOnce() -> R) -> R {
        self.step(Step::Key(key.to_owned()), f)
    }

    /// Runs `f` one list item deeper.
    pub(crate) fn index<R>(&self, index: usize, f: impl FnOnce() -> R) -> R {
        self.step(Step::Index(index), f)
    }

    /// Runs `f` at the item of a `List`, or where it is.
    pub(crate) fn item<R>(&self, item: Option<usize>, f: impl FnOnce() -> R) -> R {
        match item {
            Some(index) => self.at("items", || self.index(index, f)),
            None => f(),
        }
    }

    fn step<R>(&self, step: Step, f: impl FnOnce() -> R) -> R {
        self.path.borrow_mut().push(step);
        let result = f();
        self.path.borrow_mut().pop();
        result
    }

    /// The field that is being read, such as `spec.process.matchPaths[1]`.
    pub(crate) fn field(&self) -> String {
        let mut out = String::new();
        for step in self.path.borrow().iter() {
            match step {
                Step::Key(key) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(quote(key).trim_matches('`'));
                }
                Step::Index(index) => {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "[{index}]");
                }
            }
        }
        out
    }

    /// Whether the field that is being read is this one of a policy.
    pub(crate) fn is_at(&self, keys: &[&str]) -> bool {
        let path = self.path.borrow();
        // Policies of a list stand at `items[1]`.
        let policy = match path.as_slice() {
            [Step::Key(items), Step::Index(_), rest @ ..] if items == "items" => rest,
            path => path,
        };
        let is = |step: &Step, key: &&str| matches!(step, Step::Key(k) if k == key);
        policy.len() == keys.len() && policy.iter().zip(keys).all(|(step, key)| is(step, key))
    }

    /// Whether it is one of the items of this list.
    pub(crate) fn is_below(&self, list: &str) -> bool {
        let path = self.path.borrow();
        matches!(path.as_slice(), [.., Step::Key(key), Step::Index(_), _] if key == list)
    }

    /// Notes that part of the text is no YAML at all.
    pub(crate) fn note_no_yaml(&self) {
        self.found.borrow_mut().no_yaml = true;
    }

    /// Whether part of the text is no YAML at all.
    pub(crate) fn has_no_yaml(&self) -> bool {
        self.found.borrow().no_yaml
    }

    /// Errors so far, told or not.
    pub(crate) fn errors(&self) -> usize {
        let found = self.found.borrow();
        found.errors.diagnostics.len() + found.errors.untold + found.following
    }

    /// Notes that a value is only there in part, or stands in for one. Its parts are still checked;
    /// what is wrong with the whole has been told.
    pub(crate) fn note_broken(&self, span: Span) {
        self.found.borrow_mut().broken.insert(span);
    }

    /// Whether a value is only there in part.
    pub(crate) fn is_broken(&self, span: Span) -> bool {
        self.found.borrow().broken.contains(&span)
    }

    pub(crate) fn report(&self, mut problem: Problem) {
        let mut found = self.found.borrow_mut();
        if found.broken.contains(&problem.span) {
            found.following += usize::from(problem.severity == Severity::Error);
            return;
        }
        let told = match problem.severity {
            Severity::Error => {
                problem = pasted::explain(problem, self.source.text());
                &mut found.errors
            }
            Severity::Warning => &mut found.warnings,
        };
        if told.diagnostics.len() >= limits::DIAGNOSTICS {
            told.skip(problem.span);
            return;
        }
        let related = problem.related.into_iter().map(|(span, message)| Related {
            message,
            place: self.source.place(span),
        });
        told.diagnostics.push(Diagnostic {
            severity: problem.severity,
            message: problem.message,
            place: self.source.place(problem.span),
            field: self.field(),
            label: problem.label,
            allowed: problem.allowed,
            suggestion: problem.suggestion,
            help: problem.help,
            related: related.collect(),
            stands_for: 1,
        });
    }

    /// All problems, in the order of the text; at the end, how many more there are.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let Found {
            errors, warnings, ..
        } = self.found.into_inner();
        let summaries = [
            errors.summary(Severity::Error, self.source),
            warnings.summary(Severity::Warning, self.source),
        ];
        let mut diagnostics = errors.diagnostics;
        diagnostics.extend(warnings.diagnostics);
        diagnostics.sort_by_key(|d| d.place.span.start);
        diagnostics.extend(summaries.into_iter().flatten());
        diagnostics
    }
}
