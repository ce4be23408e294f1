//! Descriptors that were open before the policy that forbids them: the search, and what it found.
//!
//! ```text
//! tables changed ─▶ count ─ none ─▶ nothing is attached
//!                     └─ some ─▶ attach ─▶ note ─▶ forget what is refused no more
//! every second ─▶ what was being opened meanwhile; detach when the last is gone
//! ```

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap as BpfHashMap, MapData},
};
use karmor_abi::{
    descriptor::{Search, Suspect},
    names,
};
use tracing::{debug, warn};

use super::{forget, load::Loaded, take};

/// Searches after a change of tables, a second apart: a file that was decided by the table before is
/// found only once it has its descriptor.
const MORE: u32 = 2;

/// What the searches found.
pub(super) struct Descriptors {
    suspects: BpfHashMap<MapData, u64, Suspect>,
    search: Array<MapData, Search>,
    /// Searches still to come.
    due: u32,
}

impl Descriptors {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            suspects: BpfHashMap::try_from(take(ebpf, names::SUSPECTS)?)?,
            search: Array::try_from(take(ebpf, names::SEARCH)?)?,
            due: 0,
        })
    }

    /// Whether a descriptor is suspect, or all are.
    pub(super) fn any(&self) -> Result<bool> {
        if self.state()?.all != 0 {
            return Ok(true);
        }
        let first = self.suspects.keys().next().transpose();
        Ok(first.context("read the suspect descriptors")?.is_some())
    }

    /// Tables have changed.
    pub(super) const fn expect_more(&mut self) {
        self.due = MORE;
    }

    /// Searches again if that is due, and detaches what has nothing left to decide. Whether anything
    /// was done.
    pub(super) fn tick(&mut self, loaded: &mut Loaded, ops: u32) -> Result<bool> {
        let is_full = loaded.is_held() && self.state()?.all != 0;
        if self.due > 0 || is_full {
            self.due = self.due.saturating_sub(1);
            self.search(loaded, ops)?;
            return Ok(true);
        }
        let is_over = loaded.is_held() && !self.any()?;
        if is_over {
            loaded.hold(false, ops)?;
        }
        Ok(is_over)
    }

    /// Finds the descriptors that tables about `ops` refuse to somebody, or that the daemon's own
    /// protection refuses to whoever is under one, and forgets the others.
    pub(super) fn search(&mut self, loaded: &mut Loaded, ops: u32) -> Result<()> {
        if ops == 0 {
            self.due = 0;
            return self.forget_all(loaded, ops);
        }
        if !loaded.is_held() {
            if self.run(loaded, false)?.found == 0 {
                return Ok(());
            }
            loaded.hold(true, ops)?;
        }
        let done = self.run(loaded, true)?;
        if done.unnoted > 0 {
            warn!(
                unnoted = done.unnoted,
                "there is no room for all descriptors from before a policy: every open file is decided at each use"
            );
        }
        self.sweep(done.number)?;
        debug!(found = done.found, "descriptors from before a policy");
        if !self.any()? {
            loaded.hold(false, ops)?;
        }
        Ok(())
    }

    fn state(&self) -> Result<Search> {
        self.search.get(&0, 0).context("read the search")
    }

    fn run(&mut self, loaded: &mut Loaded, notes: bool) -> Result<Search> {
        let before = self.state()?;
        let search = Search {
            number: before.number.wrapping_add(1),
            notes: u32::from(notes),
            found: 0,
            unnoted: 0,
            all: before.all,
        };
        self.search.set(0, search, 0).context("begin a search")?;
        loaded.look_at_descriptors()?;
        let mut done = self.state()?;
        if notes && done.all != 0 && done.unnoted == 0 {
            done.all = 0;
            self.search.set(0, done, 0).context("end a search")?;
        }
        Ok(done)
    }

    /// Forgets what a search met and nothing refuses. What it did not meet, such as what is on its way
    /// between processes, stays until it is closed.
    fn sweep(&mut self, number: u32) -> Result<()> {
        for file in self.files()? {
            // It may have been closed meanwhile.
            let Ok(suspect) = self.suspects.get(&file, 0) else {
                continue;
            };
            if is_cleared(suspect, number) {
                forget(&mut self.suspects, &file).context("forget a descriptor")?;
            }
        }
        Ok(())
    }

    fn forget_all(&mut self, loaded: &mut Loaded, ops: u32) -> Result<()> {
        if !loaded.is_held() {
            return Ok(());
        }
        for file in self.files()? {
            forget(&mut self.suspects, &file).context("forget a descriptor")?;
        }
        let state = Search {
            all: 0,
            ..self.state()?
        };
        self.search.set(0, state, 0).context("end a search")?;
        loaded.hold(false, ops)
    }

    fn files(&self) -> Result<Vec<u64>> {
        let files: Result<_, _> = self.suspects.keys().collect();
        files.context("read the suspect descriptors")
    }
}

/// Whether a search met a file and found that nobody is refused it.
const fn is_cleared(suspect: Suspect, number: u32) -> bool {
    suspect.seen == number && suspect.refused != number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_met_and_is_not_refused_is_forgotten() {
        let suspect = |seen, refused| Suspect {
            inode: 1,
            seen,
            refused,
        };
        assert!(is_cleared(suspect(7, 6), 7));
        assert!(!is_cleared(suspect(7, 7), 7));
        // On its way between processes.
        assert!(!is_cleared(suspect(6, 6), 7));
    }
}
