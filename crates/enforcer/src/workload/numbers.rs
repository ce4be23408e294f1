//! Workload numbers: the names the kernel knows containers by.
//!
//! A number is never given twice while kernel state lives, and a container keeps its number over
//! restarts of the daemon, because tasks carry it in their labels. So the file is written before a
//! number is used.

use std::{collections::BTreeMap, path::PathBuf};

use karmor_abi::{
    label::{HOST, SELF_TEST},
    limits::WORKLOADS,
};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::file::write_atomic;

/// The numbers in use, and the next one.
#[derive(Debug)]
pub struct Numbers {
    path: Option<PathBuf>,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    last: u32,
    containers: BTreeMap<String, Numbered>,
}

/// A container's number, and the cgroup it is registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbered {
    /// Its number.
    pub number: u32,
    /// Id of its cgroup.
    pub cgroup_id: u64,
}

/// Why a container gets no number.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// Too many live ones.
    #[error("more than {} containers at a time", WORKLOADS - 2)]
    Full,
    /// The file could not be written.
    #[error("cannot remember the number of a container in {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file could not be read.
    #[error("cannot read {path}, which has the numbers that the kernel knows containers by")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{path}:{line}:{column}: this file has the numbers that the kernel knows containers by, and \
         is damaged: {what}; to start anew, run `karmor-enforcer unload`, which ends all \
         enforcement, and remove the file"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl Numbers {
    /// Numbers that are forgotten with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            path: None,
            state: State::default(),
        }
    }

    /// Numbers kept in a file.
    ///
    /// # Errors
    /// When it exists and cannot be read: guessing could give a number a second time.
    pub fn open(path: PathBuf) -> Result<Self, NumberError> {
        let damaged = |error: serde_json::Error| NumberError::Damaged {
            path: path.clone(),
            line: error.line().max(1),
            column: error.column().max(1),
            what: match error.classify() {
                Category::Eof => "it ends too early",
                Category::Syntax | Category::Io => "it is not JSON",
                Category::Data => "a value is missing or of the wrong type",
            },
        };
        let state = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(damaged)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(NumberError::Read { path, source }),
        };
        Ok(Self {
            path: Some(path),
            state,
        })
    }

    /// The number of a container: the one it has, or a new one.
    ///
    /// A container that came back under another cgroup (it was restarted) gets a new number, so
    /// that nothing left of the old one is taken for it.
    ///
    /// # Errors
    /// When there is none left, or it cannot be remembered.
    pub fn assign(&mut self, key: &str, cgroup_id: u64) -> Result<u32, NumberError> {
        if let Some(known) = self.state.containers.get(key)
            && known.cgroup_id == cgroup_id
        {
            return Ok(known.number);
        }
        let number = self.next_free().ok_or(NumberError::Full)?;
        let last = std::mem::replace(&mut self.state.last, number);
        let old = self
            .state
            .containers
            .insert(key.to_owned(), Numbered { number, cgroup_id });
        if let Err(error) = self.save() {
            self.state.last = last;
            match old {
                Some(old) => self.state.containers.insert(key.to_owned(), old),
                None => self.state.containers.remove(key),
            };
            return Err(error);
        }
        Ok(number)
    }

    /// The number after the last whose entry no live workload holds: entries are shared modulo
    /// [`WORKLOADS`].
    fn next_free(&self) -> Option<u32> {
        let taken: std::collections::HashSet<u32> = self
            .state
            .containers
            .values()
            .map(|c| c.number % WORKLOADS)
            .collect();
        (1..=WORKLOADS)
            .map(|step| self.state.last.wrapping_add(step))
            .find(|n| {
                ![HOST, SELF_TEST].contains(&(n % WORKLOADS)) && !taken.contains(&(n % WORKLOADS))
            })
    }

    /// Forgets a container; its number stays used.
    ///
    /// # Errors
    /// When that cannot be remembered; the container is forgotten until the next start.
    pub fn release(&mut self, key: &str) -> Result<(), NumberError> {
        if self.state.containers.remove(key).is_some() {
            self.save()
        } else {
            Ok(())
        }
    }

    /// Containers with numbers, of this or an earlier run.
    pub fn known(&self) -> impl Iterator<Item = (&str, Numbered)> {
        self.state
            .containers
            .iter()
            .map(|(key, numbered)| (key.as_str(), *numbered))
    }

    fn save(&self) -> Result<(), NumberError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let write = |source| NumberError::Write {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(&self.state).map_err(|e| write(e.into()))?;
        write_atomic(path, &bytes).map_err(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_and_are_not_reused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads.json");
        let mut numbers = Numbers::open(path.clone()).unwrap();
        assert_eq!(numbers.assign("default/a", 10).unwrap(), 1);
        assert_eq!(numbers.assign("default/b", 11).unwrap(), 2);
        numbers.release("default/b").unwrap();
        let mut numbers = Numbers::open(path).unwrap();
        assert_eq!(numbers.assign("default/a", 10).unwrap(), 1);
        assert_eq!(numbers.assign("default/c", 12).unwrap(), 3);
        assert_eq!(numbers.assign("default/a", 20).unwrap(), 4, "restarted");
    }

    #[test]
    fn an_entry_is_never_shared_nor_the_hosts() {
        let mut numbers = Numbers::in_memory();
        numbers.assign("default/a", 1).unwrap();
        numbers.state.last = SELF_TEST - 1;
        // SELF_TEST is taken, WORKLOADS itself shares the host's entry, and the one after it that
        // of the first.
        assert_eq!(numbers.assign("default/b", 2).unwrap(), WORKLOADS + 2);
        numbers.state.last = u32::MAX;
        assert_eq!(numbers.assign("default/c", 3).unwrap() % WORKLOADS, 3);
    }

    #[test]
    fn a_damaged_file_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads.json");
        for (text, told) in [
            ("", "json:1:1: "),
            ("{\"last\":", "it ends too early; to start anew"),
            ("nonsense", "it is not JSON"),
            ("{\"last\": \"1\"}", "a value is missing"),
            ("{\"last\": 1}", "a value is missing"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Numbers::open(path.clone()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
            assert!(error.contains("karmor-enforcer unload"), "{error}");
        }
    }
}
