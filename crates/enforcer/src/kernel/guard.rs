//! The daemon's own protection: tells the kernel who the daemon is, and what is its own.

use std::{
    collections::HashMap,
    fs,
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap as BpfHashMap, MapData},
};
use karmor_abi::{
    guard::{DEPTH, Guard, Own, PLACE},
    names,
};

use super::{forget, load::Loaded, sys, take};
use crate::{backend::FileId, config::SelfProtection};

/// Who must not touch the daemon, and which files are its own.
#[derive(Clone, Debug)]
pub struct Protection {
    /// From whom.
    pub from: SelfProtection,
    /// What is the daemon's own; what does not exist is left out.
    pub files: Vec<OwnFile>,
}

/// A file or directory of the daemon's own.
#[derive(Clone, Debug)]
pub struct OwnFile {
    /// Where it is.
    pub path: PathBuf,
    /// How many levels of a directory go along, up to [`DEPTH`]: 1 is what lies in it.
    pub depth: u32,
}

/// What is the daemon's own, in the kernel.
pub(super) struct Owned {
    own: BpfHashMap<MapData, Own, u32>,
}

/// Tells the kernel which daemon is to be protected, before it makes anything more.
///
/// # Errors
/// When the process cannot be told from others, or the map cannot be written.
pub(super) fn announce(ebpf: &mut Ebpf, protection: &Protection) -> Result<()> {
    let from = match protection.from {
        SelfProtection::Off => Guard::NOBODY,
        SelfProtection::Containers => Guard::CONTAINERS,
        SelfProtection::Host => Guard::EVERYBODY,
    };
    let guard = Guard {
        tgid: std::process::id(),
        from,
        started: started().context("when was this process started?")?,
        image: inode(Path::new("/proc/self/exe")).context("find the own program")?,
        namespace: namespace().context("find the own mount namespace")?,
        reserved: 0,
    };
    let map = ebpf
        .map_mut(names::GUARD)
        .with_context(|| format!("the object has no map {}", names::GUARD))?;
    let mut map = Array::<_, Guard>::try_from(map)?;
    map.set(0, guard, 0).context("write who is protected")
}

impl Owned {
    /// Attaches the programs that protect, and notes what there is to protect by now. What the
    /// daemon makes later, they note themselves.
    ///
    /// # Errors
    /// When a program cannot be attached, or something cannot be noted.
    pub(super) fn protect(loaded: &mut Loaded, protection: &Protection) -> Result<Self> {
        let mut owned = Self {
            own: BpfHashMap::try_from(take(&mut loaded.ebpf, names::OWN)?)?,
        };
        let is_wanted = protection.from != SelfProtection::Off;
        loaded.protect(is_wanted)?;
        if !is_wanted {
            return Ok(owned);
        }
        let mut now = HashMap::new();
        for id in loaded.program_ids()? {
            now.insert(Own::program(id), 0);
        }
        for pin in loaded.pins.maps() {
            let map = MapData::from_pin(&pin).with_context(|| format!("open {}", pin.display()))?;
            now.insert(Own::map(map.info()?.id()), 0);
        }
        let (root, pinned) = loaded.pins.directories();
        let files = protection.files.iter().map(|own| (&*own.path, own.depth));
        for (path, depth) in files.chain([(root, 0), (pinned, DEPTH)]) {
            let own = present(inode(path))
                .with_context(|| format!("look at {}, to protect it", path.display()))?;
            if let Some(own) = own {
                now.extend([(own, depth), (Own::device(own.space), 0)]);
            }
            for above in above(path) {
                let place = present(fs::symlink_metadata(&above).map(|found| own_of(&found)))
                    .with_context(|| format!("look at {}, to protect it", above.display()))?;
                if let Some(place) = place {
                    now.entry(place).or_insert(PLACE);
                }
            }
        }
        for (own, depth) in &now {
            let noted = owned.own.insert(own, depth, 0);
            noted.context("note what is karmor's own")?;
        }
        owned.sweep(&now)?;
        Ok(owned)
    }

    /// Forgets maps that are gone.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(super) fn forget(&mut self, maps: &[u32]) -> Result<()> {
        maps.iter().try_for_each(|id| self.remove(Own::map(*id)))
    }

    /// Forgets what an earlier daemon noted and what is no more.
    fn sweep(&mut self, now: &HashMap<Own, u32>) -> Result<()> {
        let keys = self.own.keys().collect::<Result<Vec<_>, _>>();
        for own in keys.context("read what is karmor's own")? {
            let id = u32::try_from(own.number).unwrap_or(0);
            let lives = match own.space {
                Own::MAP => sys::map_exists(id),
                Own::PROGRAM => sys::program_exists(id),
                _ => now.contains_key(&own),
            };
            if !lives {
                self.remove(own)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, own: Own) -> Result<()> {
        forget(&mut self.own, &own).context("forget what was karmor's own")
    }
}

/// When this process was started, in clock ticks since boot.
fn started() -> Result<u64> {
    /// Counted from the state, the first field behind the name.
    const STARTTIME: usize = 19;
    let stat = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    // The name may hold anything.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let field = fields.and_then(|fields| fields.split_ascii_whitespace().nth(STARTTIME));
    field
        .and_then(|ticks| ticks.parse().ok())
        .with_context(|| format!("/proc/self/stat says {stat:?}"))
}

/// What is above a path, as it is written and as it is without links.
fn above(path: &Path) -> Vec<PathBuf> {
    // The files of /proc are nobody's.
    let written = Some(path.to_owned()).filter(|path| !path.starts_with("/proc"));
    let real = path.canonicalize().ok();
    let paths = [written, real].into_iter().flatten();
    paths
        .flat_map(|path| {
            path.ancestors()
                .skip(1)
                .map(Path::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|above| above.is_absolute())
        .collect()
}

/// Inode number of this process's mount namespace.
fn namespace() -> Result<u32> {
    let found = fs::metadata("/proc/self/ns/mnt")?;
    Ok(u32::try_from(found.st_ino())?)
}

/// The inode of a path, as the kernel numbers it.
fn inode(path: &Path) -> std::io::Result<Own> {
    Ok(own_of(&fs::metadata(path)?))
}

fn own_of(found: &fs::Metadata) -> Own {
    let id = FileId::new(found.st_dev(), found.st_ino());
    Own::inode(id.device, id.inode)
}

/// Something, unless it is not there.
fn present<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_was_started_since_boot() {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let started = started().unwrap();
        let ticks = seconds * 100.0;
        assert!(
            started > 0 && (started as f64) <= ticks,
            "{started} of {ticks}"
        );
    }

    #[test]
    fn what_is_above_counts_with_links_and_without() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir(real.join("real")).unwrap();
        fs::write(real.join("real/file"), "").unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        let found = above(&real.join("link/file"));
        for expected in [real.join("link"), real.join("real"), real, "/".into()] {
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
        assert!(above(Path::new("/proc/self/exe")).contains(&"/".into()));
        assert!(!above(Path::new("/proc/self/exe")).contains(&"/proc".into()));
    }

    #[test]
    fn what_is_not_there_has_no_inode() {
        let dir = tempfile::tempdir().unwrap();
        assert!(present(inode(&dir.path().join("none"))).unwrap().is_none());
        let own = present(inode(dir.path())).unwrap().unwrap();
        assert_eq!(own.number, fs::metadata(dir.path()).unwrap().st_ino());
    }
}
