//! Debian packages without installing them: a private apt state per group of suites.
//!
//! The mirror is the machine's own, taken from its apt configuration; the system's lists,
//! sources and package database are only read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache::{self, Cache},
    shell,
};

/// The release whose packages fill the guest and the container images.
pub(crate) const RELEASE: &str = "bookworm";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A group of suites that are resolved together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pool {
    /// The release with its updates and security fixes, as the machine's own sources have them.
    Release,
    /// Newer kernels and QEMU, built for the release.
    Backports,
    /// The newest kernels. Nothing from here runs anywhere but in the VM.
    Unstable,
}

impl Pool {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Backports => "backports",
            Self::Unstable => "unstable",
        }
    }

    /// Its sources, as apt reads them.
    pub(crate) fn sources(self) -> Result<String> {
        let own = own_sources()?;
        let main = own.iter().find(|source| source.suite == RELEASE);
        let main = main.with_context(|| {
            format!("this machine's apt sources have no {RELEASE}; see `apt-get indextargets`")
        })?;
        Ok(match self {
            Self::Release => own
                .iter()
                .filter(|source| source.suite.starts_with(RELEASE))
                .filter(|source| !source.suite.ends_with("-backports"))
                .map(|source| stanza(&source.uri, &source.suite))
                .collect(),
            Self::Backports => stanza(&main.uri, &format!("{RELEASE}-backports")),
            Self::Unstable => stanza(&main.uri, "sid"),
        })
    }
}

#[derive(Debug, Eq, PartialEq)]
struct Source {
    uri: String,
    suite: String,
}

/// Whether the machine's own sources have the release's backports.
pub(crate) fn has_backports() -> Result<bool> {
    let suite = format!("{RELEASE}-backports");
    Ok(own_sources()?.iter().any(|source| source.suite == suite))
}

/// The binary package sources this machine's apt already uses.
fn own_sources() -> Result<Vec<Source>> {
    let mut command = Command::new("apt-get");
    // Without --no-release-info it lists nothing before the first `apt-get update`.
    command.args(["indextargets", "--no-release-info", "--format"]);
    command.args([
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]);
    Ok(parse_sources(&shell::capture_text(&mut command)?))
}

fn parse_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some(suite), Some("main")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let source = Source {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
        };
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

fn stanza(uri: &str, suite: &str) -> String {
    format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n\n")
}

/// One private apt state.
#[derive(Debug)]
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Prepares the state and fetches the package lists unless they are there.
    pub(crate) fn open(cache: &Cache, pool: Pool) -> Result<Self> {
        let directory = cache.directory(Path::new("apt").join(pool.name()))?;
        let apt = Self { directory };
        for name in ["sources.d", "lists/partial", "cache/archives/partial"] {
            cache::create_dir_all(&apt.directory.join(name))?;
        }
        apt.write("status", "")?;
        apt.write("sources.d/karmor.sources", &pool.sources()?)?;
        let root = apt.directory.display();
        apt.write(
            "apt.conf",
            &format!(
                "Dir::Etc::sourcelist \"/dev/null\";\n\
                 Dir::Etc::sourceparts \"{root}/sources.d\";\n\
                 Dir::Etc::preferencesparts \"/dev/null\";\n\
                 Dir::State::status \"{root}/status\";\n\
                 Dir::State::lists \"{root}/lists\";\n\
                 Dir::Cache \"{root}/cache\";\n\
                 APT::Architecture \"amd64\";\n\
                 APT::Install-Recommends \"false\";\n\
                 APT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\n\
                 Acquire::Retries \"3\";\n"
            ),
        )?;
        if !apt.has_lists()? {
            apt.update()?;
        }
        Ok(apt)
    }

    /// Fetches the package lists anew.
    pub(crate) fn update(&self) -> Result<()> {
        shell::capture(self.command("apt-get").args(["-q", "update"]))
            .context("cannot fetch Debian's package lists")?;
        Ok(())
    }

    fn has_lists(&self) -> Result<bool> {
        let lists = self.directory.join("lists");
        let entries =
            fs::read_dir(&lists).with_context(|| format!("cannot read {}", lists.display()))?;
        Ok(entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    }

    /// Downloads the packages with all they depend on; returns the archives' paths.
    pub(crate) fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        self.download_from_lists(packages).or_else(|first| {
            // The mirror drops superseded versions: stale lists are the usual cause.
            self.update()?;
            self.download_from_lists(packages)
                .with_context(|| format!("{first:#}"))
        })
    }

    fn download_from_lists(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let archives = self.directory.join("cache/archives");
        let paths: Vec<PathBuf> = self
            .closure(packages)?
            .iter()
            .map(|name| archives.join(name))
            .collect();
        if paths.iter().any(|path| !path.is_file()) {
            let mut command = self.command("apt-get");
            command
                .args(["-qq", "-y", "--download-only", "install"])
                .args(packages);
            shell::capture(&mut command).context("cannot download Debian packages")?;
        }
        match paths.iter().find(|path| !path.is_file()) {
            None => Ok(paths),
            Some(missing) => bail!("apt did not download {}", missing.display()),
        }
    }

    /// The archives' names of the packages and of everything they depend on.
    fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        // With an empty archive directory apt lists every file, not only those still to fetch.
        let empty = self.directory.join("none");
        cache::create_dir_all(&empty.join("partial"))?;
        let mut command = self.command("apt-get");
        command
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", empty.display()));
        command
            .args(["-qq", "-y", "--print-uris", "install"])
            .args(packages);
        let names: Vec<String> = shell::capture_text(&mut command)?
            .lines()
            .filter_map(archive_name)
            .collect();
        if names.is_empty() {
            bail!("apt resolved {packages:?} to no package");
        }
        Ok(names)
    }

    /// Downloads one package alone into `directory`.
    pub(crate) fn download_alone(&self, package: &str, directory: &Path) -> Result<PathBuf> {
        cache::create_dir_all(directory)?;
        let before = archives_of(package, directory)?;
        shell::capture(
            self.command("apt-get")
                .args(["-qq", "download", package])
                .current_dir(directory),
        )
        .with_context(|| format!("cannot download the package {package}"))?;
        let mut after = archives_of(package, directory)?;
        after.sort_by_key(|path| !before.contains(path));
        after
            .pop()
            .with_context(|| format!("apt did not download {package}"))
    }

    /// Names of packages that match a regular expression, as apt knows them.
    pub(crate) fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let text = shell::capture_text(self.command("apt-cache").args([
            "search",
            "--names-only",
            pattern,
        ]))?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.directory.join("apt.conf"));
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The file name in a line of `apt-get --print-uris`: `'URI' NAME SIZE HASH`.
fn archive_name(line: &str) -> Option<String> {
    let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    rest.split(' ')
        .next()
        .filter(|name| name.ends_with(".deb"))
        .map(str::to_owned)
}

fn archives_of(package: &str, directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let prefix = format!("{package}_");
    Ok(entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_machines_own_sources_once_each() {
        let text = "http://m/debian/ bookworm main\nhttp://m/debian/ bookworm main\n\
                    http://m/debian/ bookworm contrib\nhttp://m/security/ bookworm-security main\n";
        let source = |uri: &str, suite: &str| Source {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
        };
        assert_eq!(
            parse_sources(text),
            [
                source("http://m/debian/", "bookworm"),
                source("http://m/security/", "bookworm-security")
            ]
        );
    }

    #[test]
    fn reads_the_archive_names_apt_prints() {
        let line = "'http://m/p/c++_1%3a2.deb' c++_1%3a2_amd64.deb 12 SHA256:00";
        assert_eq!(archive_name(line).as_deref(), Some("c++_1%3a2_amd64.deb"));
        assert_eq!(archive_name("Reading package lists..."), None);
    }
}
