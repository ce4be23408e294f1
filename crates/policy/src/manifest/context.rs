//! What reading and checking a text share: the text, the field they are at, and the problems.

use std::{cell::RefCell, fmt::Write as _};

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
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    untold_errors: usize,
    untold_warnings: usize,
    no_yaml: bool,
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
        self.found.borrow().errors
    }

    pub(crate) fn report(&self, mut problem: Problem) {
        let mut found = self.found.borrow_mut();
        let error = problem.severity == Severity::Error;
        if error {
            problem = pasted::explain(problem, self.source.text());
        }
        found.errors += usize::from(error);
        if found.diagnostics.len() >= limits::DIAGNOSTICS {
            if error {
                found.untold_errors += 1;
            } else {
                found.untold_warnings += 1;
            }
            return;
        }
        let related = problem.related.into_iter().map(|(span, message)| Related {
            message,
            place: self.source.place(span),
        });
        found.diagnostics.push(Diagnostic {
            severity: problem.severity,
            message: problem.message,
            place: self.source.place(problem.span),
            field: self.field(),
            label: problem.label,
            allowed: problem.allowed,
            suggestion: problem.suggestion,
            help: problem.help,
            related: related.collect(),
        });
    }

    /// All problems, in the order of the text.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let found = self.found.into_inner();
        let mut diagnostics = found.diagnostics;
        diagnostics.sort_by_key(|d| d.place.span.start);
        if let Some(last) = diagnostics.last() {
            let untold = [
                (Severity::Error, found.untold_errors, "errors"),
                (Severity::Warning, found.untold_warnings, "warnings"),
            ];
            let place = last.place.clone();
            for (severity, count, what) in untold.into_iter().filter(|(_, count, _)| *count > 0) {
                diagnostics.push(Diagnostic {
                    severity,
                    message: format!("{count} more {what} are not shown"),
                    place: place.clone(),
                    field: String::new(),
                    label: None,
                    allowed: Vec::new(),
                    suggestion: None,
                    help: Vec::new(),
                    related: Vec::new(),
                });
            }
        }
        diagnostics
    }
}
