//! Where the rig keeps what it downloads and builds, and where the repository is.
//!
//! ```text
//! $KARMOR_CACHE, else ${XDG_CACHE_HOME:-~/.cache}/karmor-dev
//!   apt/<suite>/     private apt state: its own sources, lists, archives
//!   kernels/         dl/*.deb and one unpacked directory per package
//!   guest/           initramfs bases and container images, named by what is in them
//!   tools/bin/       bpf-linker
//!   accel            what the KVM probe found on this machine
//! ```

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

/// The rig's cache directory.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the directory the environment asks for; creates nothing.
    pub(crate) fn from_env() -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let root = match (set("KARMOR_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
            (Some(root), _, _) => PathBuf::from(root),
            (None, Some(xdg), _) => Path::new(&xdg).join("karmor-dev"),
            (None, None, Some(home)) => Path::new(&home).join(".cache/karmor-dev"),
            (None, None, None) => {
                anyhow::bail!("no cache directory: set KARMOR_CACHE, XDG_CACHE_HOME or HOME")
            }
        };
        let root = std::path::absolute(&root)
            .with_context(|| format!("cannot make {} absolute", root.display()))?;
        Ok(Self { root })
    }

    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// A directory in the cache, created when missing.
    pub(crate) fn directory(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.root.join(path);
        create_dir_all(&path)?;
        Ok(path)
    }

    /// Programs the rig built for itself.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }
}

/// The workspace's root.
pub(crate) fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

pub(crate) fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn std::io::Write) -> Result<()>,
) -> Result<()> {
    let directory = path.parent().context("a file has a directory")?;
    create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)
        .with_context(|| format!("cannot create a file in {}", directory.display()))?;
    {
        let mut buffered = std::io::BufWriter::with_capacity(1 << 20, file.as_file_mut());
        write(&mut buffered)?;
        buffered
            .flush()
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    file.persist(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    Ok(())
}

/// A short name for a list of things that decide what a cached file holds.
pub(crate) fn key(parts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_ref().as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())[..16].to_owned()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_where_the_parts_end() {
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_eq!(key(["a"]), key([String::from("a")]));
        assert_eq!(key(["a"]).len(), 16);
    }

    #[test]
    fn an_unfinished_file_is_not_left_behind() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        write_atomically(&path, |_| anyhow::bail!("no")).expect_err("the writer failed");
        assert_eq!(directory.path().read_dir().expect("readable").count(), 0);
        write_atomically(&path, |file| Ok(file.write_all(b"yes")?)).expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"yes");
    }
}
