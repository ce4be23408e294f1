//! Which system calls are looked at: all others are let go before it is asked who makes them.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use karmor_abi::{
    names,
    op::Op,
    table::{self, View},
    word::{self, CALL_WORDS, Convention, SYSCALLS},
};

/// A set of system calls, as the kernel half reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calls([u64; CALL_WORDS as usize]);

impl Calls {
    pub(super) const NONE: Self = Self([0; CALL_WORDS as usize]);

    /// Those that a table asks about.
    pub(super) fn of(table: &View<'_>) -> Self {
        let mut calls = Self::NONE;
        if table.header().ops & Op::Syscall.bit() == 0 {
            return calls;
        }
        for convention in [Convention::Native, Convention::Compat] {
            for number in 0..SYSCALLS {
                let (index, bit) = word::call_bit(convention, number);
                if table::walk(table, &word::syscall(convention, number)) != 0
                    && let Some(word) = calls.0.get_mut(index as usize)
                {
                    *word |= bit;
                }
            }
        }
        calls
    }

    /// These and others.
    pub(super) fn and(mut self, others: &Self) -> Self {
        for (word, more) in self.0.iter_mut().zip(others.0) {
            *word |= more;
        }
        self
    }
}

/// The set that the kernel half reads.
pub(super) struct Asked {
    map: Array<MapData, u64>,
    /// What is in it; `None` while that is not known.
    known: Option<Calls>,
}

impl Asked {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            map: Array::try_from(super::take(ebpf, names::CALLS)?)?,
            known: None,
        })
    }

    /// Has these looked at, and no others.
    pub(super) fn set(&mut self, calls: &Calls) -> Result<()> {
        let known = self.known.take();
        for (index, &word) in (0..).zip(&calls.0) {
            let is_known =
                known.as_ref().and_then(|known| known.0.get(index as usize)) == Some(&word);
            if !is_known {
                self.map
                    .set(index, word, 0)
                    .context("write the system calls")?;
            }
        }
        self.known = Some(calls.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use karmor_policy::{alias::Aliases, compile::compile, model::Postures, select::Effective};

    use super::*;
    use crate::source::read::read;

    #[test]
    fn are_those_that_rules_name() {
        let calls = |rules: &str| {
            let text = format!(
                "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\n\
                 spec:\n{rules}"
            );
            let reading = read(&text, "p.yaml");
            assert!(!reading.failed(), "{}", reading.rendered);
            let policies = reading.documents.into_iter().map(|d| d.policy);
            let effective = Effective::new(policies, Postures::default(), Aliases::merged_usr());
            Calls::of(&View::parse(&compile(&effective).unwrap().words).unwrap())
        };
        let found = calls("  syscalls:\n    matchSyscalls:\n    - syscall: [unlink, setns]\n");
        let mut wanted = Calls::NONE;
        for (convention, number) in [
            (Convention::Native, libc::SYS_unlink),
            (Convention::Native, libc::SYS_setns),
            (Convention::Compat, 10),
            (Convention::Compat, 346),
        ] {
            let (index, bit) = word::call_bit(convention, u32::try_from(number).unwrap());
            wanted.0[index as usize] |= bit;
        }
        assert_eq!(found, wanted);
        // What is about a path is looked at where the path is.
        let found = calls(
            "  syscalls:\n    matchPaths:\n    - {path: /etc/x, syscall: [unlink]}\n  file:\n    \
             matchPaths:\n    - path: /etc/y\n  action: Block\n",
        );
        assert_eq!(found, Calls::NONE);
        assert_eq!(wanted.clone().and(&Calls::NONE), wanted);
    }
}
