//! Policies from the files of a directory, as long as they are there.
//!
//! A file that cannot be read as policies keeps what its last good version said, so that an editor
//! in the middle of writing takes nothing out of force; the error is in the status. So does a
//! directory that cannot be read, or that is gone with all its files: only one that is there says
//! that it has none. What an earlier daemon read is in [`super::last_good`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;
use tracing::info;

use super::{
    read::{Document, MAX_BYTES, read_new, too_large},
    watch::Watch,
};

/// A file that changed, or is gone.
#[derive(Debug)]
pub struct FileChange<T = String> {
    /// Which; the directory itself while that cannot be read.
    pub path: PathBuf,
    /// What it says now, or why that cannot be told; `None` when it is gone.
    pub content: Option<Result<T, String>>,
}

/// Text that says something sound.
#[derive(Debug)]
pub struct Sound {
    /// As it was written.
    pub text: String,
    /// What it says.
    pub documents: Vec<Document>,
}

impl FileChange {
    /// Reads the text, and refuses it where its policies are wrong or could not be put in force even
    /// alone. May take seconds, which nobody should wait for who has containers to protect.
    #[must_use]
    pub fn checked(self) -> FileChange<Sound> {
        let check = |text: String| {
            let reading = read_new(&text, &self.path.display().to_string());
            if reading.failed() {
                return Err(reading.summary());
            }
            let documents = reading.documents;
            Ok(Sound { text, documents })
        };
        FileChange {
            content: self.content.map(|content| content.and_then(check)),
            path: self.path,
        }
    }
}

/// Files as they were last seen.
#[derive(Debug, Default)]
pub struct Directory {
    path: PathBuf,
    /// With nothing to compare with, when only an earlier daemon saw them.
    seen: BTreeMap<PathBuf, Option<Result<String, String>>>,
    /// Device of the directory when its files were last seen.
    device: Option<u64>,
}

/// The files of a directory, and its device.
struct Present {
    files: BTreeSet<PathBuf>,
    device: u64,
}

impl Directory {
    /// A directory, not looked at yet. Of the `known` files the first scan tells in any case,
    /// whether they are there or gone.
    #[must_use]
    pub fn new(path: PathBuf, known: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            path,
            seen: known.into_iter().map(|file| (file, None)).collect(),
            device: None,
        }
    }

    /// What changed since the last scan, in the order of names, what is gone last.
    ///
    /// When the directory cannot be read, or is not there and had files, nothing is taken for gone,
    /// and the trouble is told as if the directory were a file that cannot be read.
    pub fn scan(&mut self) -> Vec<FileChange> {
        let present = match self.present() {
            Ok(present) => present,
            Err(why) => {
                let why = format!("{why}; what its files said last stays in force");
                return self
                    .changed(self.path.clone(), Err(why))
                    .into_iter()
                    .collect();
            }
        };
        let mut changes = Vec::new();
        let gone: Vec<PathBuf> = self
            .seen
            .keys()
            .filter(|p| !present.contains(*p))
            .cloned()
            .collect();
        for path in present {
            let content = read_file(&path);
            changes.extend(self.changed(path, content));
        }
        // Last, so that a policy whose file was renamed is never out of force.
        for path in gone {
            self.seen.remove(&path);
            changes.push(FileChange {
                path,
                content: None,
            });
        }
        changes
    }

    /// The policy files that are there, or why that cannot be told.
    fn present(&mut self) -> Result<BTreeSet<PathBuf>, String> {
        let had_files = self.seen.keys().any(|path| *path != self.path);
        match read_directory(&self.path) {
            // Most often what is mounted there is not mounted yet, or something else is.
            Ok(Present { files, device })
                if had_files
                    && files.is_empty()
                    && self.device.is_some_and(|old| old != device) =>
            {
                Err("another file system is in the place of the directory, with no policy".into())
            }
            Ok(Present { files, device }) => {
                self.device = Some(device);
                Ok(files)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && had_files => Err(
                "the directory is not there; one that is there and empty has no policies".into(),
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(format!("the directory cannot be read: {error}")),
        }
    }

    fn changed(&mut self, path: PathBuf, content: Result<String, String>) -> Option<FileChange> {
        if self.seen.get(&path).and_then(Option::as_ref) == Some(&content) {
            return None;
        }
        self.seen.insert(path.clone(), Some(content.clone()));
        Some(FileChange {
            path,
            content: Some(content),
        })
    }
}

fn read_directory(path: &Path) -> io::Result<Present> {
    let device = fs::metadata(path)?.dev();
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if is_policy_file(&path) && may_be_file(&path) {
            files.insert(path);
        }
    }
    Ok(Present { files, device })
}

/// What cannot be looked at may be a file, and must not be taken for gone; nor a link whose file is.
fn may_be_file(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.is_file(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.is_symlink(),
        Err(_) => true,
    }
}

/// Hidden files are editors' temporary ones.
fn is_policy_file(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
    let ending = path.extension().and_then(|e| e.to_str());
    !hidden && matches!(ending, Some("yaml" | "yml" | "json"))
}

fn read_file(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > MAX_BYTES as u64 {
        return Err(too_large(usize::try_from(length).unwrap_or(usize::MAX)));
    }
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    match karmor_policy::encoding::decode(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; {}", error.help())),
    }
}

/// Follows a directory until nobody listens.
pub async fn follow(mut directory: Directory, changes: mpsc::Sender<Vec<FileChange>>) {
    let mut watch = Watch::on(&directory.path);
    loop {
        // At once too: what changed before the watch stood is told by nobody.
        let found = directory.scan();
        if !found.is_empty() {
            info!(files = found.len(), directory = %directory.path.display(), "policy files changed");
            if changes.send(found).await.is_err() {
                return;
            }
        }
        if watch.renew(&directory.path) {
            continue;
        }
        watch.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(changes: &[FileChange]) -> Vec<(String, bool)> {
        changes
            .iter()
            .map(|c| {
                (
                    c.path.file_name().unwrap().to_string_lossy().into_owned(),
                    c.content.is_some(),
                )
            })
            .collect()
    }

    #[test]
    fn a_scan_tells_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(dir.path().to_owned(), []);
        assert!(directory.scan().is_empty());
        fs::write(dir.path().join("a.yaml"), "1").unwrap();
        fs::write(dir.path().join(".a.yaml.swp"), "1").unwrap();
        fs::write(dir.path().join("notes.txt"), "1").unwrap();
        assert_eq!(names(&directory.scan()), [("a.yaml".to_owned(), true)]);
        assert!(directory.scan().is_empty());
        fs::rename(dir.path().join("a.yaml"), dir.path().join("b.yaml")).unwrap();
        assert_eq!(
            names(&directory.scan()),
            [("b.yaml".to_owned(), true), ("a.yaml".to_owned(), false)]
        );
    }

    #[test]
    fn files_an_earlier_daemon_knew_are_told_of_in_any_case() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "1").unwrap();
        let known = ["a.yaml", "b.yaml"].map(|name| dir.path().join(name));
        let mut directory = Directory::new(dir.path().to_owned(), known);
        assert_eq!(
            names(&directory.scan()),
            [("a.yaml".to_owned(), true), ("b.yaml".to_owned(), false)]
        );
        assert!(directory.scan().is_empty());
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        let watched = dir.path().join("policies");
        fs::create_dir(&watched).unwrap();
        fs::write(watched.join("a.yaml"), "1").unwrap();
        let mut directory = Directory::new(watched.clone(), []);
        assert_eq!(names(&directory.scan()), [("a.yaml".to_owned(), true)]);
        fs::remove_file(watched.join("a.yaml")).unwrap();
        std::os::unix::fs::symlink("a.yaml", watched.join("a.yaml")).unwrap();
        let changes = directory.scan();
        assert!(matches!(&changes[..], [one] if matches!(one.content, Some(Err(_)))));

        fs::rename(&watched, dir.path().join("away")).unwrap();
        fs::write(&watched, "no directory").unwrap();
        let changes = directory.scan();
        assert!(
            matches!(&changes[..], [FileChange { path, content: Some(Err(why)) }]
                if *path == watched && why.contains("cannot be read"))
        );
        assert!(directory.scan().is_empty(), "told once");
        fs::remove_file(&watched).unwrap();
        fs::rename(dir.path().join("away"), &watched).unwrap();
        assert_eq!(names(&directory.scan()), [("policies".to_owned(), false)]);
    }

    #[test]
    fn a_directory_that_is_gone_says_nothing_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let watched = dir.path().join("policies");
        let mut directory = Directory::new(watched.clone(), []);
        assert!(directory.scan().is_empty(), "it need not be there");
        fs::create_dir(&watched).unwrap();
        fs::write(watched.join("a.yaml"), "1").unwrap();
        assert_eq!(names(&directory.scan()), [("a.yaml".to_owned(), true)]);
        let told = |changes: &[FileChange], what: &str| {
            matches!(changes, [FileChange { path, content: Some(Err(why)) }]
                if *path == watched && why.contains(what) && why.contains("stays in force"))
        };

        fs::rename(&watched, dir.path().join("away")).unwrap();
        assert!(told(&directory.scan(), "not there"));
        assert!(directory.scan().is_empty(), "told once");
        fs::rename(dir.path().join("away"), &watched).unwrap();
        assert_eq!(names(&directory.scan()), [("policies".to_owned(), false)]);

        // Another file system in its place, first without and then with policies.
        fs::rename(watched.join("a.yaml"), dir.path().join("a.yaml")).unwrap();
        let device = directory.device.replace(u64::MAX);
        assert!(told(&directory.scan(), "another file system"));
        assert!(directory.scan().is_empty(), "told once");
        fs::write(watched.join("b.yaml"), "2").unwrap();
        let gone = [("a.yaml", false), ("policies", false)];
        let gone = gone.map(|(name, there)| (name.to_owned(), there));
        let mut changes = names(&directory.scan());
        assert_eq!(changes.remove(0), ("b.yaml".to_owned(), true));
        changes.sort();
        assert_eq!(changes, gone);
        assert_eq!(directory.device, device);

        fs::remove_file(watched.join("b.yaml")).unwrap();
        assert_eq!(names(&directory.scan()), [("b.yaml".to_owned(), false)]);

        // What an earlier daemon knew is not gone either.
        fs::remove_dir(&watched).unwrap();
        let mut directory = Directory::new(watched.clone(), [watched.join("a.yaml")]);
        assert!(told(&directory.scan(), "not there"));
        fs::create_dir(&watched).unwrap();
        let mut changes = names(&directory.scan());
        changes.sort();
        assert_eq!(changes, gone);
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("big.yaml")).unwrap();
        file.set_len(MAX_BYTES as u64 + 1).unwrap();
        let mut directory = Directory::new(dir.path().to_owned(), []);
        let changes = directory.scan();
        assert!(matches!(&changes[0].content, Some(Err(why)) if why.contains("1 MiB")));
    }

    #[test]
    fn a_file_that_is_not_utf8_says_so() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), b"\xff\xfek\0").unwrap();
        let mut directory = Directory::new(dir.path().to_owned(), []);
        let changes = directory.scan();
        assert!(matches!(&changes[0].content, Some(Err(why)) if why.contains("UTF-16")));
    }

    #[tokio::test]
    async fn follows_writes_renames_and_removals() {
        let dir = tempfile::tempdir().unwrap();
        let (tx, mut rx) = mpsc::channel(4);
        let mut directory = Directory::new(dir.path().to_owned(), []);
        assert!(directory.scan().is_empty());
        // After the first scan, before anybody watches.
        fs::write(dir.path().join("early.yaml"), "kind: x").unwrap();
        let task = tokio::spawn(follow(directory, tx));
        let wait = Duration::from_secs(5);
        let changes = tokio::time::timeout(wait, rx.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(names(&changes), [("early.yaml".to_owned(), true)]);
        fs::write(dir.path().join("new"), "kind: x").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("a.yaml")).unwrap();
        let changes = tokio::time::timeout(wait, rx.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(names(&changes), [("a.yaml".to_owned(), true)]);
        fs::remove_file(dir.path().join("a.yaml")).unwrap();
        let changes = tokio::time::timeout(wait, rx.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(names(&changes), [("a.yaml".to_owned(), false)]);
        task.abort();
    }
}
