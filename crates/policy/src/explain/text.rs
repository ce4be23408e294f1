//! An explanation as text for people.

use std::fmt;

use karmor_abi::limits;

use super::{DecidedBy, Explanation, RuleView, Unlisted, besides};
use crate::diagnostic::quote;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.action, self.operation, self.object)?;
        if let Some(real) = &self.real_object {
            write!(f, " (that is, {real})")?;
        }
        if let Some(arguments) = self.arguments.as_ref().filter(|list| !list.is_empty()) {
            write!(f, " with {}", quoted(arguments))?;
        }
        if let Some(source) = &self.source {
            write!(f, " from {source}")?;
        }
        if let Some(parent) = &self.parent {
            write!(f, " started by {parent}")?;
        }
        let user = match self.is_owner {
            Some(true) => ", as its owner",
            Some(false) => ", as somebody else",
            None => "",
        };
        let terminal = if self.has_terminal {
            ", at a terminal"
        } else {
            ""
        };
        let host = if self.workload == "host" {
            ", on the host"
        } else {
            ""
        };
        writeln!(f, "{user}{terminal}{host}")?;
        if self.links_assumed {
            writeln!(f, "where /bin and the like are links, as on most systems")?;
        }
        self.reason(f)?;
        for (heading, beaten) in [("beaten:", true), ("did not apply:", false)] {
            let mut others = self
                .others
                .iter()
                .filter(|other| other.beaten == beaten)
                .peekable();
            if others.peek().is_some() {
                writeln!(f, "{heading}")?;
            }
            for other in others {
                writeln!(f, "  {}", other.rule)?;
                writeln!(f, "    {}", other.why)?;
            }
        }
        if self.decided_by != DecidedBy::Besides {
            self.besides(f, "no stricter")?;
        }
        for preset in &self.presets {
            writeln!(
                f,
                "preset {preset} may have a say as well: explain --preset {preset}"
            )?;
        }
        for (kind, policies) in &self.left_out {
            let about = self.workload;
            writeln!(f, "left out, as not about a {about}: {kind} ({policies})")?;
        }
        Ok(())
    }
}

/// Texts of which any byte may matter.
fn quoted(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quote(text)).collect();
    quoted.join(" ")
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(
                f,
                "argument {} is not allowed: {}",
                self.position,
                quote(text)
            ),
            None => write!(
                f,
                "more than {} arguments are not allowed",
                limits::ARGUMENTS
            ),
        }
    }
}

impl Explanation {
    fn reason(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decided_by {
            DecidedBy::Nothing => {
                writeln!(f, "no rule decides, and no Allow rule restricts the rest")
            }
            DecidedBy::Rule => writeln!(f, "decided by:"),
            DecidedBy::Posture => {
                writeln!(f, "no rule decides; the default posture does, because of:")
            }
            DecidedBy::Object => writeln!(
                f,
                "the object's path cannot be told, and rules restrict what it might be"
            ),
            DecidedBy::Move => writeln!(f, "another name would take it out of reach of:"),
            DecidedBy::Besides => self.besides(f, "stricter"),
        }?;
        for rule in self.rule.iter().chain(&self.whitelisted_by) {
            writeln!(f, "  {rule}")?;
        }
        match &self.unlisted {
            Some(unlisted) => writeln!(f, "    {unlisted}")?,
            None if self.arguments_assumed => {
                writeln!(f, "    if every argument is in its list; none were given")?;
            }
            None => {}
        }
        Ok(())
    }

    fn besides(&self, f: &mut fmt::Formatter<'_>, how: &str) -> fmt::Result {
        let Some(besides) = &self.besides else {
            return Ok(());
        };
        writeln!(f, "{}, and that is {how}:", besides::why(self.operation))?;
        for line in besides.to_string().lines() {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        write!(f, "{} {} {}", self.action, self.family, self.target)?;
        for modifier in &self.modifiers {
            write!(f, ", {modifier}")?;
        }
        if let Some(arguments) = &self.allowed_args {
            write!(f, ", allowedArgs {}", quoted(arguments))?;
        }
        if !self.from_source.is_empty() {
            write!(f, ", from {}", self.from_source.join(" "))?;
        }
        write!(f, " [{}]", self.policy)
    }
}
