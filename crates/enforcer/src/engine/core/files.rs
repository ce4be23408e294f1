//! Policies from files of the watched directory.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use super::{Core, POLICIES, set};
use crate::{
    index::{Change, IndexError, PolicyId, Source, error_text},
    source::{
        directory::{FileChange, Sound},
        last_good::LastGood,
        read::{Document, read},
    },
};

/// Why what a file says is not in force.
enum Unfit {
    /// It is nothing to put in force.
    Text(String),
    /// It is not possible beside the other policies.
    Others(String),
    /// The backend refused.
    Backend(String),
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self::Text(why)
    }
}

impl From<IndexError> for Unfit {
    fn from(error: IndexError) -> Self {
        let why = error_text(&error);
        match error {
            IndexError::Compile { .. } => Self::Others(why),
            IndexError::Backend { .. } => Self::Backend(why),
        }
    }
}

impl Core {
    /// What files of the watched directory said when they were last good.
    pub(super) fn last_good_files(&mut self) -> io::Result<Vec<Change>> {
        let kept = self.last_good.as_ref().map(LastGood::restore).transpose()?;
        let mut changes = Vec::new();
        for (path, text, since) in kept.unwrap_or_default() {
            let reading = read(&text, &path.display().to_string());
            if reading.failed() {
                let why = format!(
                    "this version does not take what it last said: {}",
                    reading.summary()
                );
                self.complaints.insert(path, why);
                continue;
            }
            changes.extend(reading.documents.into_iter().map(|mut document| {
                document.since = since;
                set(id_in(&path, &document), document)
            }));
        }
        Ok(changes)
    }

    /// Files that policies or complaints are of.
    #[must_use]
    pub fn known_files(&self) -> BTreeSet<PathBuf> {
        let of_policies = self
            .index
            .policies()
            .filter_map(|(id, _)| match &id.source {
                Source::File(path) => Some(path),
                Source::Grpc => None,
            });
        of_policies.chain(self.complaints.keys()).cloned().collect()
    }

    /// Takes over what changed in the watched directory.
    pub fn files(&mut self, changes: Vec<FileChange<Sound>>) {
        for change in changes {
            let outcome = match &change.content {
                None => self.file_gone(&change.path),
                Some(Err(error)) => Err(Unfit::Text(error.clone())),
                Some(Ok(sound)) => self.file_changed(&change.path, sound),
            };
            self.unfinished.remove(&change.path);
            let Err(unfit) = outcome else {
                self.complaints.remove(&change.path);
                continue;
            };
            let path = change.path.clone();
            let (mut why, again) = match unfit {
                Unfit::Text(why) => (why, None),
                Unfit::Others(why) => (why, Some(Some(self.index.version()))),
                Unfit::Backend(why) => (why, Some(None)),
            };
            if let Some(version) = again {
                self.unfinished.insert(path.clone(), (change, version));
            }
            if !self.ids_of(&path).is_empty() {
                why.push_str("; its last good version stays in force");
            }
            if self.complaints.get(&path) != Some(&why) {
                warn!(file = %path.display(), why, "policy file is not in force");
                self.complaints.insert(path, why);
            }
        }
    }

    /// Tries again what the backend refused, and files that other policies were in the way of, if
    /// those have changed since.
    pub fn retry(&mut self) {
        self.index.heal(&mut *self.backend);
        if self.numbers.is_unsaved() && self.numbers.save().is_ok() {
            info!("the numbers of containers are written");
        }
        let version = self.index.version();
        let due = |(_, in_the_way): &(FileChange<Sound>, Option<u64>)| *in_the_way != Some(version);
        let unfinished = self.unfinished.extract_if(.., |_, entry| due(entry));
        let changes = unfinished.map(|(_, (change, _))| change).collect();
        self.files(changes);
    }

    fn file_gone(&mut self, path: &PathBuf) -> Result<(), Unfit> {
        let gone = self.ids_of(path).into_iter().map(Change::Remove).collect();
        self.change(gone)?;
        self.forget_file(path);
        Ok(())
    }

    /// Should this fail, the next start finds once more that the file is gone.
    fn forget_file(&self, path: &Path) {
        if let Some(last_good) = &self.last_good
            && let Err(error) = last_good.forget(path)
        {
            warn!(%error, file = %path.display(), "what a policy file said is not forgotten");
        }
    }

    fn keep_file(&self, path: &Path, text: &str) {
        if let Some(last_good) = &self.last_good
            && let Err(error) = last_good.keep(path, text)
        {
            warn!(
                %error,
                file = %path.display(),
                "should this policy file be damaged when the daemon starts again, it is not in force"
            );
        }
    }

    fn file_changed(&mut self, path: &PathBuf, sound: &Sound) -> Result<(), Unfit> {
        let old = self.ids_of(path);
        if sound.documents.is_empty() && !old.is_empty() {
            // Most often a writer that has emptied it first, or whose disk is full.
            let why = "there is no policy in it; remove the file to remove its policies";
            return Err(why.to_owned().into());
        }
        let added = sound.documents.len().saturating_sub(old.len());
        if self.index.policies().len() + added > POLICIES {
            let why = format!("there are {POLICIES} policies already");
            return Err(Unfit::Others(why));
        }
        let mut kept = BTreeSet::new();
        let mut changes = Vec::new();
        for mut document in sound.documents.iter().cloned() {
            let id = id_in(path, &document);
            if !kept.insert(id.clone()) {
                let why = format!("{} {} is in this file twice", id.kind.as_str(), id.name);
                return Err(why.into());
            }
            if let Some(old) = self.index.policy(&id).filter(|p| p.text == document.text) {
                if old.policy == document.policy {
                    continue;
                }
                // It has moved within the file: what points at its lines has to know.
                document.since = Some(old.updated);
            }
            changes.push(set(id, document));
        }
        changes.extend(
            old.into_iter()
                .filter(|id| !kept.contains(id))
                .map(Change::Remove),
        );
        self.change(changes)?;
        if kept.is_empty() {
            self.forget_file(path);
        } else {
            self.keep_file(path, &sound.text);
        }
        Ok(())
    }

    fn ids_of(&self, path: &PathBuf) -> Vec<PolicyId> {
        self.index
            .policies()
            .map(|(id, _)| id)
            .filter(|id| matches!(&id.source, Source::File(p) if p == path))
            .cloned()
            .collect()
    }
}

/// The id of a policy in a file.
fn id_in(path: &Path, document: &Document) -> PolicyId {
    PolicyId::of(&document.policy, Source::File(path.to_owned()))
}
