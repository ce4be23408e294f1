//! The answer: one 64-bit word per cell of a decision row.

/// What happens. Ordered by strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// Goes ahead, silently.
    Allow = 0,
    /// Goes ahead, with an alert.
    Audit = 1,
    /// Refused with `EACCES`, with an alert.
    Block = 2,
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No rule and no posture has a say.
    None = 0,
    /// A rule matched; [`Verdict::rule`] names it.
    Rule = 1,
    /// No rule matched, and the family's allow rules make the default posture decide.
    Posture = 2,
    /// The object has no decidable path ([`crate::op::Object`]) and a policy restricts its family.
    Object = 3,
    /// The new name would take a protected object out of a rule's reach ([`crate::op::Op::Move`]).
    Move = 4,
    /// The kernel half could not decide and chose safety (see [`crate::counters::Fault`]).
    Fault = 5,
    /// It was about the enforcer itself ([`crate::guard`]).
    Guard = 6,
}

/// A decided cell.
///
/// Bits, from the lowest: 8 action, 8 reason, 16 rank, 32 rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Verdict(pub u64);

/// [`Verdict::rule`] when no rule decided.
pub const NO_RULE: u32 = u32::MAX;

impl Verdict {
    /// Nothing to say: allowed, no reason, no rule. Zero in all but the rule.
    pub const ALLOW: Self = Self::new(Action::Allow, Reason::None, 0, NO_RULE);

    /// Refused because the kernel half could not decide.
    pub const FAULT: Self = Self::new(Action::Block, Reason::Fault, 0, NO_RULE);

    /// Refused because it was about the enforcer itself.
    pub const GUARD: Self = Self::new(Action::Block, Reason::Guard, 0, NO_RULE);

    /// Packs a verdict. `rank` orders verdicts by how specific the deciding rule is.
    #[must_use]
    pub const fn new(action: Action, reason: Reason, rank: u16, rule: u32) -> Self {
        Self(action as u64 | (reason as u64) << 8 | (rank as u64) << 16 | (rule as u64) << 32)
    }

    /// The action byte, compared without decoding: a value above `Block` is treated as `Block`.
    #[must_use]
    pub const fn action_bits(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// The action.
    #[must_use]
    pub const fn action(self) -> Action {
        match self.action_bits() {
            0 => Action::Allow,
            1 => Action::Audit,
            _ => Action::Block,
        }
    }

    /// The reason.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self.0.to_le_bytes()[1] {
            0 => Reason::None,
            1 => Reason::Rule,
            2 => Reason::Posture,
            3 => Reason::Object,
            4 => Reason::Move,
            6 => Reason::Guard,
            _ => Reason::Fault,
        }
    }

    /// How specific the deciding rule is; higher wins.
    #[must_use]
    pub const fn rank(self) -> u16 {
        let b = self.0.to_le_bytes();
        u16::from_le_bytes([b[2], b[3]])
    }

    /// Index of the deciding rule in the compiled rule list, or [`NO_RULE`].
    #[must_use]
    pub const fn rule(self) -> u32 {
        let b = self.0.to_le_bytes();
        u32::from_le_bytes([b[4], b[5], b[6], b[7]])
    }

    /// Of two verdicts about one access by two possible sources, the one that counts: the more
    /// specific, and on a tie the stricter.
    #[must_use]
    #[inline(always)]
    pub const fn more_specific(self, other: Self) -> Self {
        let a = (self.0 >> 16 & 0xffff) << 8 | (self.0 & 0xff);
        let b = (other.0 >> 16 & 0xffff) << 8 | (other.0 & 0xff);
        if b > a { other } else { self }
    }

    /// Of two verdicts that must both hold, the stricter; `self` on a tie.
    #[must_use]
    #[inline(always)]
    pub const fn stricter(self, other: Self) -> Self {
        if other.0 & 0xff > self.0 & 0xff {
            other
        } else {
            self
        }
    }
}

impl core::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Verdict")
            .field("action", &self.action())
            .field("reason", &self.reason())
            .field("rank", &self.rank())
            .field("rule", &self.rule())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_unpacks() {
        let v = Verdict::new(Action::Audit, Reason::Posture, 0x7fff, 123_456);
        assert_eq!(v.action(), Action::Audit);
        assert_eq!(v.reason(), Reason::Posture);
        assert_eq!(v.rank(), 0x7fff);
        assert_eq!(v.rule(), 123_456);
        assert_eq!(Verdict::ALLOW.rule(), NO_RULE);
    }

    #[test]
    fn specific_beats_strict_and_strict_breaks_ties() {
        let allow = Verdict::new(Action::Allow, Reason::Rule, 5, 0);
        let block = Verdict::new(Action::Block, Reason::Rule, 4, 1);
        assert_eq!(block.more_specific(allow), allow);
        assert_eq!(allow.more_specific(block), allow);
        let block = Verdict::new(Action::Block, Reason::Rule, 5, 1);
        assert_eq!(allow.more_specific(block), block);
        assert_eq!(block.stricter(allow), block);
        assert_eq!(allow.stricter(block), block);
    }
}
