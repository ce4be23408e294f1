//! Exit codes. Scripts rely on them: a number never changes its meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Success = 0,
    /// Something failed that has no code of its own.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// A policy has errors.
    PolicyInvalid = 3,
    /// The daemon could not be reached.
    Unreachable = 4,
    /// Nothing can be enforced on this machine.
    NotEnforceable = 5,
    /// The daemon was reached, but a policy is not in force (not gone, not on trial) as asked.
    NotApplied = 6,
}

impl Exit {
    /// All codes, in order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::PolicyInvalid,
        Self::Unreachable,
        Self::NotEnforceable,
        Self::NotApplied,
    ];

    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, as documented.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "everything asked for was done",
            Self::Failed => "something failed that has no code of its own",
            Self::Usage => "the command line is wrong",
            Self::PolicyInvalid => "a policy has errors; nothing was sent to the daemon",
            Self::Unreachable => "the daemon could not be reached",
            Self::NotEnforceable => "nothing can be enforced on this machine",
            Self::NotApplied => {
                "the daemon was reached, but a policy is not wholly in force, not gone, or not on trial any more, as asked"
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_scripts_rely_on() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6]);
    }
}
