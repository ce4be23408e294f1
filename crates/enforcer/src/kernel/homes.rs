//! What workloads were started with, above all the mount namespace in which their files have the names
//! that policies mean.
//!
//! A namespace that everybody has left ends, and its number goes to the next one that is made: by the
//! workload itself, if it likes. So each is kept for as long as its workload is known.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
};

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use karmor_abi::{
    label::{HOST, Home},
    limits,
};
use tracing::{debug, warn};

use crate::backend::Origin;

/// The kernel's list of them, and what keeps the namespaces.
pub(super) struct Homes {
    map: Array<MapData, Home>,
    kept: HashMap<u32, File>,
}

impl Homes {
    pub(super) fn new(map: Array<MapData, Home>) -> Self {
        Self {
            map,
            kept: HashMap::new(),
        }
    }

    /// Notes what a workload was started with, unless that is known from an earlier daemon.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(super) fn set(&mut self, workload: u32, origin: Origin) -> Result<()> {
        let index = workload % limits::WORKLOADS;
        let known = self.map.get(&index, 0).context("read a namespace")?;
        let known = (known.workload == workload).then_some(known);
        let mut home = match known {
            Some(known) if known.namespace != 0 => known,
            _ => Home {
                workload,
                namespace: origin.namespace,
                mounted: known.map_or(0, |known| known.mounted),
                init: origin.init,
                root: origin.root,
                event: 0,
            },
        };
        // The host's lives as long as the host, and what is kept needs nobody in it.
        let is_safe = workload == HOST || self.kept.contains_key(&workload);
        if !is_safe && home.namespace != 0 && home.namespace != Home::LOST {
            match keeper(home.namespace, home.init) {
                Ok(Some(keeper)) => {
                    self.kept.insert(workload, keeper);
                }
                Ok(None) => {
                    warn!(
                        workload,
                        "everybody has left the mount namespace that a container was started in: \
                         its policies do not know its files any more, and refuse what they could mean"
                    );
                    home.namespace = Home::LOST;
                }
                Err(error) => warn!(
                    workload,
                    error = error.to_string(),
                    "the mount namespace of a container is not kept"
                ),
            }
        }
        debug!(workload, ?home, "what a workload was started with");
        if known == Some(home) {
            return Ok(());
        }
        self.map.set(index, home, 0).context("write a namespace")
    }

    /// Lets the namespace of a workload go, which is no more.
    pub(super) fn forget(&mut self, workload: u32) {
        self.kept.remove(&workload);
    }

    /// Has every object of a workload decided under all its names, as if it had mounted something.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(super) fn seek_other_names(&mut self, workload: u32) -> Result<()> {
        let home = Home {
            workload,
            mounted: 1,
            ..Home::default()
        };
        self.map
            .set(workload % limits::WORKLOADS, home, 0)
            .context("write a namespace")
    }
}

/// What keeps a mount namespace alive, by way of a process in it: `likely`, or any other. `None` when
/// nobody is.
///
/// # Errors
/// When it is in none of the processes that may be looked at, and others may not.
fn keeper(namespace: u32, likely: u32) -> io::Result<Option<File>> {
    if let Some(file) = of_process(&likely.to_string(), namespace)? {
        return Ok(Some(file));
    }
    let mut hidden = None;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        match of_process(pid, namespace) {
            Ok(Some(file)) => return Ok(Some(file)),
            Ok(None) => {}
            Err(error) => hidden = Some(error),
        }
    }
    hidden.map_or(Ok(None), Err)
}

/// The mount namespace of a process, if it has this number.
fn of_process(pid: &str, namespace: u32) -> io::Result<Option<File>> {
    let file = match File::open(format!("/proc/{pid}/ns/mnt")) {
        Ok(file) => file,
        // It ended, or is about to.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok((file.metadata()?.ino() == u64::from(namespace)).then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_kept_by_whoever_is_in_it() {
        let own = u32::try_from(fs::metadata("/proc/self/ns/mnt").unwrap().ino()).unwrap();
        let likely = keeper(own, std::process::id()).unwrap().unwrap();
        // No process has this number.
        let other = keeper(own, 0).unwrap().unwrap();
        for file in [likely, other] {
            assert_eq!(file.metadata().unwrap().ino(), u64::from(own));
        }
    }

    #[test]
    fn nobody_keeps_a_namespace_that_is_none() {
        // Who is not root may not look at all processes.
        let kept = keeper(Home::LOST, std::process::id());
        assert!(!matches!(kept, Ok(Some(_))), "{kept:?}");
    }
}
