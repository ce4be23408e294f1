//! Rules of host policies about what these spare.

use karmor_abi::op::Op;

use crate::{
    diagnostic::quote,
    essential,
    manifest::{Span, context::Problem},
    model::{Action, Rule},
    semantics,
};

/// What is wrong with a rule that would block something about an essential program, in a policy that
/// spares these. Rules about whole directories and patterns mean other programs as well.
pub(super) fn problem(rule: &Rule, span: Span) -> Option<Problem> {
    if semantics::strictest(rule) != Action::Block {
        return None;
    }
    let refused = [(Op::Exec, "execute"), (Op::Read, "read")]
        .into_iter()
        .find(|&(op, _)| semantics::may(rule, op, Action::Block));
    let target = refused.and_then(|(_, what)| {
        let program = essential::named(&rule.target)?;
        let program = quote(program);
        Some(format!(
            "host policies spare {program}: to {what} it is audited, not blocked"
        ))
    });
    let source = || {
        let mut sources = rule.sources.iter();
        let program = sources.find_map(essential::source)?;
        let program = quote(program);
        Some(format!(
            "host policies spare {program}: what it does as root is audited, not blocked"
        ))
    };
    let message = target.or_else(source)?;
    Some(
        Problem::warning(span, message)
            .help("with `includeEssential: true` in `spec`, the policy is about such programs too"),
    )
}
