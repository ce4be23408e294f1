//! Rules written in a line each, and questions asked of both evaluators.

use karmor_abi::{
    op::{Object, Op},
    table::Asker,
    verdict::{Reason, Verdict},
};
use karmor_policy::{
    alias::Aliases,
    compile::compile,
    model::{Action, Family, Posture, Postures, Rule, Target},
    reference::{self, Access, AccessObject},
    select::Effective,
};

use Action::{Allow, Block};
use Op::Read;

pub(crate) fn process(target: Target, action: Action) -> Rule {
    super::rule(Family::Process, target, action)
}

pub(crate) fn file(target: Target, action: Action) -> Rule {
    super::rule(Family::File, target, action)
}

pub(crate) fn path(text: &str) -> Target {
    Target::Path(text.into())
}

pub(crate) fn name(text: &str) -> Target {
    Target::ExecName(text.into())
}

pub(crate) fn flat(text: &str) -> Target {
    Target::Directory {
        path: text.into(),
        recursive: false,
    }
}

pub(crate) fn deep(text: &str) -> Target {
    Target::Directory {
        path: text.into(),
        recursive: true,
    }
}

pub(crate) fn glob(text: &str) -> Target {
    Target::Glob(text.into())
}

pub(crate) fn from(rule: Rule, sources: &[&str]) -> Rule {
    Rule {
        sources: sources.iter().map(|&s| s.into()).collect(),
        ..rule
    }
}

pub(crate) fn read_only(rule: Rule) -> Rule {
    Rule {
        read_only: true,
        ..rule
    }
}

pub(crate) fn owner_only(rule: Rule) -> Rule {
    Rule {
        owner_only: true,
        ..rule
    }
}

/// Rules in force, and questions about them.
pub(crate) struct Case(pub(crate) Effective);

pub(crate) fn given(rules: Vec<Rule>) -> Case {
    Case(super::effective(rules, Posture::Block, Aliases::none()))
}

impl Case {
    pub(crate) fn posture(mut self, posture: Posture) -> Self {
        self.0.postures = Postures::all(posture);
        self
    }

    pub(crate) fn aliases(mut self, aliases: Aliases) -> Self {
        self.0.aliases = aliases;
        self
    }

    pub(crate) fn decide(&self, access: &Access<'_>) -> Verdict {
        let expected = reference::decide(&self.0, access);
        let compiled = compile(&self.0).expect("compiles");
        assert_eq!(
            super::matcher(&compiled, access),
            expected,
            "matcher, {access:?}"
        );
        expected
    }

    /// Asks as a stranger whose image no rule names.
    #[track_caller]
    pub(crate) fn is(self, op: Op, path: &str, action: Action, reason: Reason) -> Self {
        self.by(None, false, op, path, action, reason)
    }

    #[track_caller]
    pub(crate) fn by(
        self,
        source: Option<&str>,
        owner: bool,
        op: Op,
        path: &str,
        action: Action,
        reason: Reason,
    ) -> Self {
        let object = AccessObject::Path(path.as_bytes());
        let source = source.map(str::as_bytes);
        let verdict = self.decide(&Access {
            op,
            object,
            source,
            parent: None,
            asker: Asker {
                owner,
                terminal: false,
            },
            trusted: true,
            arguments: None,
        });
        assert_eq!(
            (verdict.action(), verdict.reason()),
            (action, reason),
            "{op:?} {path}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn rule(self, op: Op, path: &str, rule: u32) -> Self {
        let object = AccessObject::Path(path.as_bytes());
        let access = Access {
            op,
            object,
            source: Some(b"/s"),
            parent: None,
            asker: Asker::default(),
            trusted: true,
            arguments: None,
        };
        assert_eq!(self.decide(&access).rule(), rule, "{op:?} {path}");
        self
    }

    #[track_caller]
    pub(crate) fn object(self, op: Op, object: Object, action: Action, reason: Reason) -> Self {
        let object = AccessObject::Class(object);
        let verdict = self.decide(&Access {
            op,
            object,
            source: None,
            parent: None,
            asker: Asker::default(),
            trusted: true,
            arguments: None,
        });
        assert_eq!(
            (verdict.action(), verdict.reason()),
            (action, reason),
            "{op:?} {object:?}"
        );
        self
    }

    /// Which of these paths a Block rule at index 0 matches.
    #[track_caller]
    pub(crate) fn matches(self, yes: &[&str], no: &[&str]) -> Self {
        let case = yes
            .iter()
            .fold(self, |case, path| case.is(Read, path, Block, Reason::Rule));
        no.iter()
            .fold(case, |case, path| case.is(Read, path, Allow, Reason::None))
    }
}
