//! Rules that list arguments, and their bits.
//!
//! An exec's arguments are asked for one by one: each has a word, whose set says which rules list
//! it. What a row wants to know is a mask of the same bits.

use std::{cmp::Reverse, collections::HashMap};

use karmor_abi::{limits, word};

use super::CompileError;
use crate::{glob::Token, model::Rule, select::Effective, semantics};

/// The rules of a workload that list arguments.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// By bit: those that block before those that audit, then the most specific, then the first.
    /// The lowest bit of several is the one that counts.
    rules: Vec<u32>,
    bits: HashMap<u32, u32>,
}

impl Arguments {
    /// # Errors
    /// When there are more than bits.
    pub(super) fn collect(effective: &Effective) -> Result<Self, CompileError> {
        let mut rules: Vec<_> = (0..)
            .zip(effective.rules())
            .filter_map(|(index, rule)| {
                let action = semantics::mismatch(rule)?;
                let rank = semantics::rank(rule, &effective.aliases);
                Some((Reverse(action), Reverse(rank), index))
            })
            .collect();
        if let Some(&(_, _, index)) = rules.get(limits::ARGUMENT_RULES) {
            return Err(CompileError::TooManyLists {
                rules: rules.len(),
                location: effective.rules[index as usize].rule().location.clone(),
            });
        }
        rules.sort_unstable();
        let rules: Vec<u32> = rules.into_iter().map(|(_, _, index)| index).collect();
        let bits = rules.iter().copied().zip(0..).collect();
        Ok(Self { rules, bits })
    }

    /// The rules, each with its bit.
    pub(super) fn rules(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..).zip(self.rules.iter().copied())
    }

    /// The mask of one rule; nothing for one without a list.
    pub(super) fn mask(&self, rule: u32) -> u64 {
        self.bits.get(&rule).map_or(0, |bit| 1 << bit)
    }
}

/// The words of the arguments that a rule lists.
pub(super) fn words(rule: &Rule) -> impl Iterator<Item = Vec<Token>> {
    let list = rule.arguments.iter().flat_map(|list| list.iter());
    list.map(|argument| {
        [word::ARGUMENT]
            .into_iter()
            .chain(argument.bytes())
            .map(Token::Byte)
            .collect()
    })
}

/// The word of a mismatch.
pub(super) fn mismatch(bit: u32) -> impl Iterator<Item = Token> {
    word::mismatch(bit).into_iter().map(Token::Byte)
}
