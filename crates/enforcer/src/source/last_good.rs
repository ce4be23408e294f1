//! What files of the watched directory said when they last could be read as policies, kept over
//! restarts: a daemon that starts finds only what they say now, which may be nothing it can read.
//!
//! One file for each: the path it speaks of, a NUL, the text.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::file::{at, changed, hex, private_directory, remove, write_atomic};

/// Of the files here; others are leftovers of a crash.
const ENDING: &str = "good";

/// The texts of one watched directory.
#[derive(Debug)]
pub struct LastGood {
    directory: PathBuf,
    /// The directory whose files they are of.
    watched: PathBuf,
}

impl LastGood {
    /// Opens the place they are kept in, and creates it if need be.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(directory: PathBuf, watched: PathBuf) -> io::Result<Self> {
        private_directory(&directory)?;
        Ok(Self { directory, watched })
    }

    /// Keeps the text of a file.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before still is.
    pub fn keep(&self, file: &Path, text: &str) -> io::Result<()> {
        let mut bytes = file.as_os_str().as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(text.as_bytes());
        let place = self.place(file);
        // At every start it is there already.
        if fs::read(&place).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        write_atomic(&place, &bytes)
    }

    /// Forgets the text of a file; one that was not kept is fine.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn forget(&self, file: &Path) -> io::Result<()> {
        remove(&self.place(file))
    }

    /// Every file with its text, and since when it says so. Those of a directory that is watched no more are forgotten.
    ///
    /// # Errors
    /// When something cannot be read: to go on without would take policies out of force.
    pub fn restore(&self) -> io::Result<Vec<(PathBuf, String, Option<Timestamp>)>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(at(&self.directory))? {
            let place = entry.map_err(at(&self.directory))?.path();
            if place.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            let Some((file, text)) = parse(fs::read(&place).map_err(at(&place))?) else {
                warn!(file = %place.display(), "what a policy file last said is damaged");
                continue;
            };
            if file.parent() == Some(&self.watched) {
                kept.push((file, text, changed(&place)));
            } else {
                remove(&place).map_err(at(&place))?;
            }
        }
        kept.sort();
        Ok(kept)
    }

    fn place(&self, file: &Path) -> PathBuf {
        let hash = Sha256::digest(file.as_os_str().as_bytes());
        let name = hex(&hash[..16]);
        self.directory.join(name).with_extension(ENDING)
    }
}

fn parse(bytes: Vec<u8>) -> Option<(PathBuf, String)> {
    let mut path = bytes;
    let end = path.iter().position(|byte| *byte == 0)?;
    let text = String::from_utf8(path.split_off(end + 1)).ok()?;
    path.truncate(end);
    Some((OsString::from_vec(path).into(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_by_the_path_of_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let open = |watched: &str| LastGood::open(dir.path().to_owned(), watched.into()).unwrap();
        let kept = open("/p");
        let odd = PathBuf::from(OsString::from_vec(b"/p/\xff\n.yaml".to_vec()));
        kept.keep(&odd, "1").unwrap();
        kept.keep(Path::new("/p/b.yaml"), "2").unwrap();
        kept.keep(Path::new("/p/b.yaml"), "3").unwrap();
        let both = [
            (PathBuf::from("/p/b.yaml"), "3".to_owned()),
            (odd.clone(), "1".to_owned()),
        ];
        let texts = |watched: &str| -> Vec<(PathBuf, String)> {
            let kept = open(watched).restore().unwrap().into_iter();
            kept.map(|(file, text, _)| (file, text)).collect()
        };
        assert_eq!(texts("/p/"), both);
        kept.forget(&odd).unwrap();
        kept.forget(&odd).unwrap();
        assert_eq!(texts("/p"), both[..1]);
        assert!(texts("/other").is_empty());
        assert!(texts("/p").is_empty(), "forgotten");
    }

    #[test]
    fn a_text_that_cannot_be_read_is_not_done_without() {
        let dir = tempfile::tempdir().unwrap();
        let kept = LastGood::open(dir.path().to_owned(), "/p".into()).unwrap();
        let place = kept.place(Path::new("/p/a.yaml"));
        fs::create_dir(&place).unwrap();
        let error = kept.restore().unwrap_err().to_string();
        assert!(error.contains(place.to_str().unwrap()), "{error}");
    }
}
