//! Policies that clients sent, kept over restarts.
//!
//! One file a policy. The name of the file is for people; what the policy is called is read from
//! its text.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use karmor_policy::model::Kind;
use sha2::{Digest, Sha256};
use tracing::error;

use super::read::{Document, read, read_object};
use crate::{
    file::{private_directory, write_atomic},
    index::{PolicyId, Source},
};

/// What the diagnostics of a client's policy call its text.
pub const CLIENT: &str = "<grpc>";

/// Appended to a file that cannot be loaded.
const BROKEN: &str = ".broken";

/// The directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Opens it, and creates it if need be.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        private_directory(&directory)?;
        Ok(Self { directory })
    }

    /// Keeps a policy.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before still is.
    pub fn keep(&self, id: &PolicyId, text: &str) -> io::Result<()> {
        write_atomic(&self.path(id), text.as_bytes())
    }

    /// Forgets a policy; one that was not kept is fine.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn forget(&self, id: &PolicyId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Everything kept. A file that cannot be loaded is set aside under another name, with a
    /// message, and the others are loaded.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn restore(&self) -> io::Result<Vec<Document>> {
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.directory)?
            .filter_map(Result::ok)
            .map(|e| e.path())
            .collect();
        paths.sort();
        let mut documents = Vec::new();
        for path in paths
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        {
            match load(path) {
                Ok(document) => documents.push(document),
                Err(why) => self.quarantine(path, &why),
            }
        }
        Ok(documents)
    }

    fn quarantine(&self, path: &Path, why: &str) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(BROKEN);
        let moved = fs::rename(path, &aside);
        error!(
            file = %path.display(),
            why,
            "a stored policy cannot be loaded and is set aside{}",
            if moved.is_ok() { " with the ending .broken" } else { "; it could not be renamed" },
        );
    }

    fn path(&self, id: &PolicyId) -> PathBuf {
        self.directory.join(file_name(id))
    }
}

/// The policy that a file is named after.
fn load(path: &Path) -> Result<Document, String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let first = read(&text, CLIENT);
    let why = first.summary();
    // What a program sent may be sound only as an object.
    let objects = [Kind::Container, Kind::Cluster, Kind::Host];
    let objects = objects
        .into_iter()
        .map(|kind| read_object(kind, &text, CLIENT));
    std::iter::once(first)
        .chain(objects)
        .filter(|reading| !reading.failed())
        .flat_map(|reading| reading.documents)
        .find(|document| path.file_name() == Some(file_name(&id_of(document)).as_ref()))
        .ok_or_else(|| {
            if why.is_empty() {
                "its policy has another name than the file".into()
            } else {
                why
            }
        })
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
    let mut name = format!("{readable}-");
    for byte in &hash[..8] {
        name.push_str(&format!("{byte:02x}"));
    }
    name.push_str(".yaml");
    name
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
