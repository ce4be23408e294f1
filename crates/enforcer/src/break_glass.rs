//! The way back in: what disables enforcement at boot, whatever else is configured.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use tracing::warn;

/// The word on the kernel's command line.
const WORD: &str = "karmor=off";

/// The file in the state directory.
const FILE: &str = "disabled";

/// Who may disable enforcement.
const ROOT: u32 = 0;

/// Others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;

/// Why enforcement is to be off from boot on, as a sentence fragment, if it is.
#[must_use]
pub fn pulled(state_dir: &Path) -> Option<String> {
    pulled_at(Path::new("/proc/cmdline"), state_dir, ROOT)
}

fn pulled_at(command_line: &Path, state_dir: &Path, owner: u32) -> Option<String> {
    let line = fs::read_to_string(command_line).unwrap_or_default();
    if line.split_ascii_whitespace().any(|word| word == WORD) {
        return Some(format!("the kernel's command line says {WORD}"));
    }
    let file = state_dir.join(FILE);
    is_of(&file, owner).then(|| format!("there is a file {}", file.display()))
}

/// Whether the file is there, and nobody but its owner can have put it there.
fn is_of(file: &Path, owner: u32) -> bool {
    let Ok(found) = fs::symlink_metadata(file) else {
        return false;
    };
    let counts = found.is_file() && found.uid() == owner && found.mode() & OTHERS_WRITE == 0;
    if !counts {
        warn!(
            file = %file.display(),
            "does not disable enforcement: it must be a regular file of root's that nobody else may \
             write"
        );
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_word_of_the_kernel_disables() {
        let dir = tempfile::tempdir().unwrap();
        let line = dir.path().join("cmdline");
        let says = |text: &str| {
            fs::write(&line, text).unwrap();
            pulled_at(&line, dir.path(), ROOT)
        };
        assert_eq!(says("quiet karmor=offline notkarmor=off\n"), None);
        let why = says("root=/dev/vda karmor=off quiet\n").unwrap();
        assert!(why.contains("karmor=off"), "{why}");
    }

    #[test]
    fn a_file_that_only_its_owner_may_write_disables() {
        let me = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let (line, file) = (dir.path().join("cmdline"), dir.path().join(FILE));
        let pulled = |owner| pulled_at(&line, dir.path(), owner);
        assert_eq!(pulled(me), None);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(pulled(me).unwrap().contains(FILE));
        assert_eq!(pulled(me + 1), None, "somebody else's");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(pulled(me), None, "anybody may write it");
        fs::remove_file(&file).unwrap();
        symlink("/etc/passwd", &file).unwrap();
        assert_eq!(pulled(me), None, "a link");
    }
}
