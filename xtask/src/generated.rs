//! Files in the repository that a program of ours writes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    cache::{self, Cache},
    programs, shell,
};

/// A directory whose files all come from a program.
#[derive(Clone, Copy, Debug)]
enum Set {
    Crds,
    Completions,
}

const SETS: [Set; 2] = [Set::Crds, Set::Completions];

/// Shells and the file names under which they look for completions.
const SHELLS: [(&str, &str); 5] = [
    ("bash", "karmor.bash"),
    ("elvish", "karmor.elv"),
    ("fish", "karmor.fish"),
    ("powershell", "_karmor.ps1"),
    ("zsh", "_karmor"),
];

impl Set {
    fn directory(self) -> PathBuf {
        cache::repository().join(match self {
            Self::Crds => "deploy/crds",
            Self::Completions => "completions",
        })
    }

    fn write(self, cache: &Cache, directory: &Path) -> Result<()> {
        match self {
            Self::Crds => {
                let mut command = programs::cargo(cache);
                command.args([
                    "run",
                    "--quiet",
                    "--package",
                    "karmor-policy",
                    "--features",
                    "crd",
                    "--bin",
                    "crdgen",
                    "--",
                ]);
                shell::capture(command.arg(directory))?;
            }
            Self::Completions => {
                for (shell, file) in SHELLS {
                    let mut command = programs::cargo(cache);
                    command.args([
                        "run",
                        "--quiet",
                        "--package",
                        "karmor-cli",
                        "--bin",
                        "karmor",
                        "--",
                    ]);
                    let script = shell::capture(command.args(["completion", shell]))?;
                    let path = directory.join(file);
                    fs::write(&path, script)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        Ok(())
    }
}

/// Writes every set into the repository.
pub(crate) fn write(cache: &Cache) -> Result<()> {
    for set in SETS {
        let directory = set.directory();
        cache::create_dir_all(&directory)?;
        set.write(cache, &directory)?;
    }
    Ok(())
}

/// The files that differ from what the programs write now.
pub(crate) fn stale(cache: &Cache) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for set in SETS {
        let committed = set.directory();
        let fresh = tempfile::tempdir().context("cannot create a temporary directory")?;
        set.write(cache, fresh.path())?;
        for name in differing(&files(&committed)?, &files(fresh.path())?) {
            stale.push(committed.join(name));
        }
    }
    Ok(stale)
}

fn differing<'a>(
    old: &'a BTreeMap<String, Vec<u8>>,
    new: &'a BTreeMap<String, Vec<u8>>,
) -> Vec<&'a str> {
    let mut names: Vec<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| old.get(*name) != new.get(*name));
    names
}

fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    // A directory that is not there has no files.
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(name, content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_missing_and_left_over_files_differ() {
        let files = |files: &[(&str, &str)]| -> BTreeMap<String, Vec<u8>> {
            files
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
                .collect()
        };
        let old = files(&[("same", "1"), ("changed", "1"), ("left-over", "1")]);
        let new = files(&[("same", "1"), ("changed", "2"), ("missing", "1")]);
        assert_eq!(differing(&old, &new), ["changed", "left-over", "missing"]);
    }
}
