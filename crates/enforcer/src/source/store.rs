//! Policies that clients sent, kept over restarts.
//!
//! One file a policy. The name of the file is for people; what the policy is called is read from
//! its text.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use karmor_policy::model::Kind;
use sha2::{Digest, Sha256};
use tracing::error;

use super::read::{Document, Reading, read, read_object};
use crate::{
    file::{at, changed, hex, private_directory, remove, write_atomic},
    index::{PolicyId, Source},
};

/// What the diagnostics of a client's policy call its text.
pub const CLIENT: &str = "<grpc>";

/// Appended to a file that is no policy at all.
const BROKEN: &str = ".broken";

/// The directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Files that are not in force, and why.
    complaints: BTreeMap<PathBuf, String>,
}

impl Store {
    /// Opens it, and creates it if need be.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        private_directory(&directory)?;
        Ok(Self {
            directory,
            complaints: BTreeMap::new(),
        })
    }

    /// Keeps a policy.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before still is.
    pub fn keep(&mut self, id: &PolicyId, text: &str) -> io::Result<()> {
        let path = self.path(id);
        write_atomic(&path, text.as_bytes())?;
        // What could not be loaded has a successor.
        self.complaints.remove(&path);
        let aside = aside(&path);
        if self.complaints.contains_key(&aside) && fs::remove_file(&aside).is_ok() {
            self.complaints.remove(&aside);
        }
        Ok(())
    }

    /// Forgets a policy; one that was not kept is fine.
    ///
    /// # Errors
    /// When it is there and cannot be removed, or might be there again after a power failure.
    pub fn forget(&self, id: &PolicyId) -> io::Result<()> {
        remove(&self.path(id))?;
        fs::File::open(&self.directory)?.sync_all()
    }

    /// Everything kept. What is no policy at all is set aside under another name. What this version
    /// does not take stays where it is: another one may. [`Store::complaints`] tells of both.
    ///
    /// # Errors
    /// When something cannot be read: to go on without would take policies out of force that may be
    /// as sound as ever.
    pub fn restore(&mut self) -> io::Result<Vec<Document>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(at(&self.directory))? {
            paths.push(entry.map_err(at(&self.directory))?.path());
        }
        paths.sort();
        let mut documents = Vec::new();
        for path in paths {
            let ending = path.extension().and_then(OsStr::to_str);
            if ending == Some("yaml") {
                match load(&path, &fs::read(&path).map_err(at(&path))?) {
                    Ok(mut document) => {
                        document.since = changed(&path);
                        documents.push(document);
                    }
                    Err(Unfit::Refused(why)) => self.complain(
                        path,
                        &format!("{why}; this version does not take it, so it is not in force"),
                    ),
                    Err(Unfit::Broken(why)) => self.quarantine(path, &why),
                }
            } else if ending == BROKEN.strip_prefix('.') {
                self.complain(
                    path,
                    "an earlier start set it aside as damaged; it is not in force",
                );
            }
        }
        Ok(documents)
    }

    fn quarantine(&mut self, path: PathBuf, why: &str) {
        let aside = aside(&path);
        match fs::rename(&path, &aside) {
            Ok(()) => {
                let why = format!("{why}; it is damaged and set aside, and is not in force");
                self.complain(aside, &why);
            }
            Err(error) => {
                let why = format!(
                    "{why}; it is damaged and not in force, and cannot be set aside: {error}"
                );
                self.complain(path, &why);
            }
        }
    }

    fn complain(&mut self, path: PathBuf, why: &str) {
        error!(file = %path.display(), why, "a stored policy is not in force");
        let what = "; add the policy again, or remove this file";
        self.complaints.insert(path, format!("{why}{what}"));
    }

    /// Files that are not in force, and why; as long as nobody removes them.
    pub fn complaints(&self) -> impl Iterator<Item = (&Path, &str)> {
        let files = self.complaints.iter().map(|(p, why)| (&**p, &**why));
        files.filter(|(path, _)| path.exists())
    }

    fn path(&self, id: &PolicyId) -> PathBuf {
        self.directory.join(file_name(id))
    }
}

/// Where a file is set aside.
fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(BROKEN);
    aside.into()
}

/// Why a file is not loaded.
enum Unfit {
    /// It is no policy at all.
    Broken(String),
    /// It is one that is not valid, or not the one it is named after.
    Refused(String),
}

impl Unfit {
    fn of(reading: &Reading) -> Self {
        let why = reading.summary();
        if why.is_empty() {
            return Self::Refused("its policy has another name than the file".into());
        }
        if reading.damaged {
            Self::Broken(why)
        } else {
            Self::Refused(why)
        }
    }
}

/// The policy that a file is named after.
fn load(path: &Path, bytes: &[u8]) -> Result<Document, Unfit> {
    let text = std::str::from_utf8(bytes).map_err(|e| Unfit::Broken(e.to_string()))?;
    let is_named = |id: &PolicyId| path.file_name() == Some(file_name(id).as_ref());
    document(text, is_named).map_err(|reading| Unfit::of(&reading))
}

/// The policy of a kept text.
///
/// # Errors
/// Why this version does not take it.
pub fn reread(id: &PolicyId, text: &str) -> Result<Document, String> {
    document(text, |of| of == id).map_err(|reading| reading.summary())
}

/// The policy of a text with the right id; else what is wrong with the text.
fn document(text: &str, is_right: impl Fn(&PolicyId) -> bool) -> Result<Document, Box<Reading>> {
    let first = read(text, CLIENT);
    let unfit = Box::new(first.clone());
    // What a program sent may be sound only as an object.
    let objects = [Kind::Container, Kind::Cluster, Kind::Host];
    let objects = objects
        .into_iter()
        .map(|kind| read_object(kind, text, CLIENT));
    std::iter::once(first)
        .chain(objects)
        .filter(|reading| !reading.failed())
        .flat_map(|reading| reading.documents)
        .find(|document| is_right(&id_of(document)))
        .ok_or(unfit)
}

/// A file name for people, made unique and harmless: names are chosen by clients.
fn file_name(id: &PolicyId) -> String {
    let mut hash = Sha256::new();
    for part in [id.kind.as_str(), &id.namespace, &id.name] {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    let readable: String = id
        .name
        .chars()
        .take(64)
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!("{readable}-{}.yaml", hex(&hash[..8]))
}

/// The id under which a client's policy is kept.
#[must_use]
pub fn id_of(document: &Document) -> PolicyId {
    PolicyId::of(&document.policy, Source::Grpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PolicyId {
        PolicyId {
            source: Source::Grpc,
            kind: Kind::Container,
            namespace: "default".into(),
            name: name.into(),
        }
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        for name in ["../../etc/passwd", "/abs", "a\0b", ".hidden", "", "x\n"] {
            let file = file_name(&id(name));
            assert!(
                !file.contains(['/', '\0', '\n', '.']) || file.matches('.').count() == 1,
                "{file}"
            );
            assert!(file.ends_with(".yaml") && !file.starts_with('.'), "{file}");
        }
    }

    #[test]
    fn similar_names_get_different_files() {
        assert_ne!(file_name(&id("a/b")), file_name(&id("a_b")));
        let mut cluster = id("a");
        cluster.kind = Kind::Cluster;
        assert_ne!(file_name(&id("a")), file_name(&cluster));
    }
}
