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
use karmor_policy::alias::Aliases;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{Container, cgroup::Cgroup};
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

/// A container's number, and what must be known of it as long as a task may carry that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Its number.
    pub number: u32,
    /// Its first process.
    pub pid: u32,
    /// Its cgroups. One, unless it was started anew while processes of it were left.
    pub cgroups: Vec<Cgroup>,
    /// The links of its root when it was first looked at. What it does to them later does not
    /// count: a process could widen its whitelist by them.
    pub aliases: Aliases,
}

impl Numbered {
    /// Whether this is a later start of the container: another first process, in a cgroup of its
    /// own. A process that only moves to another cgroup is still the same.
    #[must_use]
    pub fn is_before(&self, container: &Container) -> bool {
        let known = self.cgroups.iter().any(|own| own.id == container.cgroup.id);
        !known && self.pid != container.pid
    }

    /// Whether no process is left in its cgroups.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cgroups.iter().all(Cgroup::is_empty)
    }

    /// The ids of its cgroups.
    #[must_use]
    pub fn cgroup_ids(&self) -> Vec<u64> {
        self.cgroups.iter().map(|cgroup| cgroup.id).collect()
    }
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

    /// The number of a container: the one it has, or a new one. Adds its cgroup to those it has, unless
    /// its first process has only moved there, and keeps the links of its root unless there are some
    /// already.
    ///
    /// # Errors
    /// When there is none left, or it cannot be remembered; then nothing changed.
    pub fn assign(&mut self, container: &Container) -> Result<Numbered, NumberError> {
        let key = container.key();
        let old = self.state.containers.get(&key).cloned();
        let last = self.state.last;
        let mut numbered = match &old {
            Some(known) => known.clone(),
            None => Numbered {
                number: self.next_free().ok_or(NumberError::Full)?,
                pid: container.pid,
                cgroups: Vec::new(),
                aliases: container.aliases.clone(),
            },
        };
        let cgroup = container.cgroup.clone();
        match numbered.cgroups.iter_mut().find(|own| own.id == cgroup.id) {
            Some(own) => *own = cgroup,
            // Where its first process has gone since is not the container's: one that may write to the
            // host's cgroups could take those of others. Its label goes with it.
            None if old.is_some() && numbered.pid == container.pid => {}
            None => numbered.cgroups.push(cgroup),
        }
        numbered.pid = container.pid;
        if old.as_ref() == Some(&numbered) {
            return Ok(numbered);
        }
        if old.is_none() {
            self.state.last = numbered.number;
        }
        let containers = &mut self.state.containers;
        containers.insert(key.clone(), numbered.clone());
        if let Err(error) = self.save() {
            self.state.last = last;
            match old {
                Some(old) => self.state.containers.insert(key, old),
                None => self.state.containers.remove(&key),
            };
            return Err(error);
        }
        Ok(numbered)
    }

    /// What is known of a container.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Numbered> {
        self.state.containers.get(key)
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
    pub fn known(&self) -> impl Iterator<Item = (&str, &Numbered)> {
        let containers = self.state.containers.iter();
        containers.map(|(key, numbered)| (key.as_str(), numbered))
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

    fn container(id: &str, cgroup: u64) -> Container {
        let mut container = Container::new("default", id, "img", None, [].into());
        container.cgroup = Cgroup {
            id: cgroup,
            path: format!("/sys/fs/cgroup/default/{cgroup}").into(),
        };
        container
    }

    fn assign(numbers: &mut Numbers, id: &str, cgroup: u64) -> u32 {
        numbers.assign(&container(id, cgroup)).unwrap().number
    }

    #[test]
    fn numbers_survive_and_are_not_reused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads.json");
        let mut numbers = Numbers::open(path.clone()).unwrap();
        assert_eq!(assign(&mut numbers, "a", 10), 1);
        assert_eq!(assign(&mut numbers, "b", 11), 2);
        numbers.release("default/b").unwrap();
        let mut numbers = Numbers::open(path).unwrap();
        assert_eq!(assign(&mut numbers, "a", 10), 1);
        assert_eq!(assign(&mut numbers, "c", 12), 3);
        assert_eq!(assign(&mut numbers, "b", 11), 4);
    }

    #[test]
    fn cgroups_are_added_and_the_first_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads.json");
        let mut numbers = Numbers::open(path.clone()).unwrap();
        let mut a = container("a", 10);
        a.aliases = Aliases::observed([("/sbin", "usr/sbin")]);
        let first = numbers.assign(&a).unwrap();
        assert_eq!(first.aliases, a.aliases);
        a.aliases = Aliases::observed([("/sbin", "usr/bin")]);
        a.cgroup.path = "/host/sys/fs/cgroup/default/10".into();
        numbers.assign(&a).unwrap();
        // The same process, elsewhere.
        numbers.assign(&container("a", 30)).unwrap();
        let mut anew = container("a", 20);
        anew.pid = 7;
        numbers.assign(&anew).unwrap();
        let expected = Numbered {
            pid: 7,
            cgroups: vec![a.cgroup, anew.cgroup],
            ..first
        };
        assert_eq!(numbers.get("default/a"), Some(&expected));
        let again = Numbers::open(path).unwrap();
        assert_eq!(again.get("default/a"), Some(&expected));
    }

    #[test]
    fn a_later_start_has_another_process_in_another_cgroup() {
        let mut numbers = Numbers::in_memory();
        let mut a = container("a", 10);
        a.pid = 7;
        let known = numbers.assign(&a).unwrap();
        for (pid, cgroup, later) in [
            (7, 10, false),
            (7, 20, false),
            (8, 10, false),
            (8, 20, true),
        ] {
            let mut container = container("a", cgroup);
            container.pid = pid;
            assert_eq!(known.is_before(&container), later, "{pid} in {cgroup}");
        }
    }

    #[test]
    fn an_entry_is_never_shared_nor_the_hosts() {
        let mut numbers = Numbers::in_memory();
        assign(&mut numbers, "a", 1);
        numbers.state.last = SELF_TEST - 1;
        // SELF_TEST is taken, WORKLOADS itself shares the host's entry, and the one after it that
        // of the first.
        assert_eq!(assign(&mut numbers, "b", 2), WORKLOADS + 2);
        numbers.state.last = u32::MAX;
        assert_eq!(assign(&mut numbers, "c", 3) % WORKLOADS, 3);
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
