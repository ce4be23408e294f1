//! Workload numbers: the names the kernel knows containers by.
//!
//! A number is never given twice while kernel state lives, and a container keeps its number over
//! restarts of the daemon, because tasks carry it in their labels. The kernel's state itself tells which
//! were given: a disk that is full keeps no container from being registered. The file tells the rest.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use karmor_abi::{
    label::{HOST, SELF_TEST},
    limits::WORKLOADS,
};
use karmor_policy::alias::Aliases;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{Container, cgroup::Cgroup};
use crate::{backend::Given, file::write_atomic};

/// The numbers in use.
#[derive(Debug)]
pub struct Numbers {
    path: Option<PathBuf>,
    state: State,
    /// Whether the file says something else.
    unsaved: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
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
    #[error("cannot remember the numbers of containers in {path}")]
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
            unsaved: false,
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
            unsaved: false,
        })
    }

    /// The number of a container: the one it has, also if only the kernel knows, or a new one. Adds its
    /// cgroup to those it has, unless its first process has only moved there, and keeps the links of its
    /// root unless there are some already. To be saved.
    ///
    /// # Errors
    /// When there is none left; then nothing changed.
    pub fn assign(&mut self, container: &Container, given: Given) -> Result<Numbered, NumberError> {
        let key = container.key();
        let old = self.state.containers.get(&key);
        let mut numbered = match old {
            Some(known) => known.clone(),
            None => Numbered {
                number: self.number(given).ok_or(NumberError::Full)?,
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
        if old != Some(&numbered) {
            self.state.containers.insert(key, numbered.clone());
            self.unsaved = true;
        }
        Ok(numbered)
    }

    /// What is known of a container.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Numbered> {
        self.state.containers.get(key)
    }

    /// The number of a container that has none here: its own, else the one after the last whose entry no
    /// live workload holds. Entries are shared modulo [`WORKLOADS`].
    fn number(&self, given: Given) -> Option<u32> {
        let containers = self.state.containers.values();
        let taken: HashSet<u32> = containers.map(|c| c.number % WORKLOADS).collect();
        let is_free = |number: &u32| {
            let entry = number % WORKLOADS;
            ![HOST, SELF_TEST].contains(&entry) && !taken.contains(&entry)
        };
        let new = || (1..=WORKLOADS).map(|step| given.last.wrapping_add(step));
        given.own.filter(is_free).or_else(|| new().find(is_free))
    }

    /// Forgets a container; its number stays used. To be saved.
    pub fn release(&mut self, key: &str) {
        self.unsaved |= self.state.containers.remove(key).is_some();
    }

    /// Containers with numbers, of this or an earlier run.
    pub fn known(&self) -> impl Iterator<Item = (&str, &Numbered)> {
        let containers = self.state.containers.iter();
        containers.map(|(key, numbered)| (key.as_str(), numbered))
    }

    /// Whether there is something to be saved.
    #[must_use]
    pub const fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Writes the file, if there is anything new. Until that is done, a start finds the numbers of
    /// containers by their cgroups, and looks at their links anew.
    ///
    /// # Errors
    /// When it cannot be written; to be tried again.
    pub fn save(&mut self) -> Result<(), NumberError> {
        let Some(path) = self.path.as_ref().filter(|_| self.unsaved) else {
            return Ok(());
        };
        let write = |source| NumberError::Write {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(&self.state).map_err(|e| write(e.into()))?;
        write_atomic(path, &bytes).map_err(write)?;
        self.unsaved = false;
        Ok(())
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

    fn after(last: u32) -> Given {
        Given { own: None, last }
    }

    fn assign(numbers: &mut Numbers, id: &str, given: Given) -> u32 {
        numbers.assign(&container(id, 10), given).unwrap().number
    }

    #[test]
    fn numbers_survive_and_are_not_reused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads.json");
        let mut numbers = Numbers::open(path.clone()).unwrap();
        assert_eq!(assign(&mut numbers, "a", after(0)), 1);
        assert_eq!(assign(&mut numbers, "b", after(1)), 2);
        numbers.release("default/b");
        numbers.save().unwrap();
        let mut numbers = Numbers::open(path).unwrap();
        assert_eq!(assign(&mut numbers, "a", after(2)), 1);
        assert_eq!(assign(&mut numbers, "c", after(2)), 3);
        assert_eq!(assign(&mut numbers, "b", after(3)), 4);
        // One that the kernel was never told of is given to nobody else.
        assert_eq!(assign(&mut numbers, "d", after(3)), 5);
    }

    #[test]
    fn what_could_not_be_written_is_known_to_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone/workloads.json");
        let mut numbers = Numbers::open(path.clone()).unwrap();
        assert_eq!(assign(&mut numbers, "a", after(6)), 7);
        numbers.save().unwrap_err();
        let mut numbers = Numbers::open(path.clone()).unwrap();
        let own = |own| Given {
            own: Some(own),
            last: 9,
        };
        assert_eq!(assign(&mut numbers, "a", own(7)), 7);
        // It was started in the cgroup of another.
        assert_eq!(assign(&mut numbers, "b", own(7)), 10);
        std::fs::create_dir(dir.path().join("gone")).unwrap();
        numbers.save().unwrap();
        assert_eq!(Numbers::open(path).unwrap().known().count(), 2);
    }

    #[test]
    fn cgroups_are_added_and_the_first_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads.json");
        let mut numbers = Numbers::open(path.clone()).unwrap();
        let mut a = container("a", 10);
        a.aliases = Aliases::observed([("/sbin", "usr/sbin")]);
        let first = numbers.assign(&a, after(0)).unwrap();
        assert_eq!(first.aliases, a.aliases);
        a.aliases = Aliases::observed([("/sbin", "usr/bin")]);
        a.cgroup.path = "/host/sys/fs/cgroup/default/10".into();
        numbers.assign(&a, after(0)).unwrap();
        // The same process, elsewhere.
        numbers.assign(&container("a", 30), after(1)).unwrap();
        let mut anew = container("a", 20);
        anew.pid = 7;
        numbers.assign(&anew, after(1)).unwrap();
        numbers.save().unwrap();
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
        let known = numbers.assign(&a, after(0)).unwrap();
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
        assign(&mut numbers, "a", after(0));
        // SELF_TEST is taken, WORKLOADS itself shares the host's entry, and the one after it that
        // of the first.
        assert_eq!(
            assign(&mut numbers, "b", after(SELF_TEST - 1)),
            WORKLOADS + 2
        );
        assert_eq!(assign(&mut numbers, "c", after(u32::MAX)) % WORKLOADS, 3);
    }

    #[test]
    fn a_damaged_file_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads.json");
        for (text, told) in [
            ("", "json:1:1: "),
            ("{\"containers\":", "it ends too early; to start anew"),
            ("nonsense", "it is not JSON"),
            ("{\"containers\": 1}", "a value is missing"),
            ("{\"last\": 1}", "a value is missing"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Numbers::open(path.clone()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
            assert!(error.contains("karmor-enforcer unload"), "{error}");
        }
    }
}
