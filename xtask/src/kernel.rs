//! The kernels the tests run on: Debian's packages, unpacked and never installed.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache::Cache,
    debian::{Apt, Pool},
    shell, ui,
};

/// A kernel series that the project is tested on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Series {
    /// Debian 12's kernel, the oldest supported
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's kernel, from Debian 12's backports
    #[value(name = "6.12")]
    V6_12,
    /// The newest kernel, from Debian unstable
    #[value(name = "7.2")]
    V7_2,
}

impl Series {
    pub(crate) const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7_2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }

    fn pool(self) -> Pool {
        match self {
            Self::V6_1 => Pool::Release,
            Self::V6_12 => Pool::Backports,
            Self::V7_2 => Pool::Unstable,
        }
    }

    /// What the names of this series' packages begin with; the ABI version and [`FLAVOUR`] follow.
    fn stems(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 | Self::V6_12 => &["linux-image-"],
            Self::V7_2 => &["linux-binary-", "linux-modules-"],
        }
    }

    /// The ABI version in a package's name, when it is of this series and of a flavour we boot.
    fn release_in<'a>(self, stem: &str, package: &'a str) -> Option<&'a str> {
        let release = package.strip_prefix(stem)?;
        release
            .strip_suffix(FLAVOUR)?
            .strip_prefix(self.name())?
            .starts_with('.')
            .then_some(release)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The flavour with the smallest set of drivers: enough for a VM.
const FLAVOUR: &str = "-cloud-amd64";

/// What containers need that these kernels keep in modules.
const MODULES: [&str; 2] = ["overlay", "veth"];

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` prints it.
    pub(crate) release: String,
    /// One directory per package.
    roots: Vec<PathBuf>,
}

impl Kernel {
    /// The newest kernel of the series that is in the cache.
    pub(crate) fn cached(cache: &Cache, series: Series) -> Result<Option<Self>> {
        let kernels = cache.directory("kernels")?;
        let names: Vec<String> = fs::read_dir(&kernels)
            .with_context(|| format!("cannot read {}", kernels.display()))?
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        Ok(newest_complete(series, &names).map(|release| Self {
            roots: series
                .stems()
                .iter()
                .map(|stem| kernels.join(format!("{stem}{release}")))
                .collect(),
            release,
        }))
    }

    /// The cached kernel of the series, else the suite's newest, downloaded and unpacked.
    pub(crate) fn get(cache: &Cache, series: Series) -> Result<Self> {
        if let Some(kernel) = Self::cached(cache, series)? {
            return Ok(kernel);
        }
        ui::status(&format!("downloading a {series} kernel"));
        let apt = Apt::open(cache, series.pool())?;
        let pattern = format!(
            "^linux-(image|binary|modules)-{}[.].*{FLAVOUR}$",
            series.name().replace('.', "[.]")
        );
        let mut names = apt.names(&pattern)?;
        if newest_complete(series, &names).is_none() {
            apt.update()?;
            names = apt.names(&pattern)?;
        }
        let release = newest_complete(series, &names).with_context(|| {
            format!(
                "Debian's {:?} suite has no {series} kernel any more; either copy a cache that has \
                 one ({}), or move the series in xtask/src/kernel.rs to what the suite has now",
                series.pool(),
                cache.join("kernels").display(),
            )
        })?;
        for stem in series.stems() {
            let package = format!("{stem}{release}");
            let deb = apt.download_alone(&package, &cache.directory("kernels/dl")?)?;
            unpack(&deb, &cache.join("kernels").join(&package))?;
        }
        Self::cached(cache, series)?.context("a kernel that was just unpacked is in the cache")
    }

    /// The image QEMU boots.
    pub(crate) fn image(&self) -> Result<PathBuf> {
        let candidates = [
            format!("boot/vmlinuz-{}", self.release),
            format!("usr/lib/modules/{}/vmlinuz", self.release),
        ];
        self.find(&candidates)
    }

    fn find(&self, candidates: &[String]) -> Result<PathBuf> {
        self.roots
            .iter()
            .flat_map(|root| candidates.iter().map(move |candidate| root.join(candidate)))
            .find(|path| path.exists())
            .with_context(|| format!("the {} packages have none of {candidates:?}", self.release))
    }

    /// The modules containers need, uncompressed, each after those it depends on.
    pub(crate) fn modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let directory = self.find(&[
            format!("lib/modules/{}/kernel", self.release),
            format!("usr/lib/modules/{}/kernel", self.release),
        ])?;
        let mut files = BTreeMap::new();
        collect_modules(&directory, &mut files)?;
        let mut loaded = Vec::new();
        for name in MODULES {
            add_module(name, &files, &mut loaded)?;
        }
        Ok(loaded)
    }
}

/// The newest release of which every package of the series is in `packages`.
fn newest_complete(series: Series, packages: &[String]) -> Option<String> {
    let (first, others) = series.stems().split_first()?;
    packages
        .iter()
        .filter_map(|package| series.release_in(first, package))
        .filter(|release| {
            others
                .iter()
                .all(|stem| packages.contains(&format!("{stem}{release}")))
        })
        .max_by_key(|release| numbers(release))
        .map(str::to_owned)
}

/// The numbers in a release, which order it: `6.1.0-56` is newer than `6.1.0-9`.
fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn unpack(deb: &Path, target: &Path) -> Result<()> {
    let parent = target.parent().context("a kernel has a directory")?;
    let directory = tempfile::tempdir_in(parent)
        .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
    let unpacked = directory.path().join("root");
    shell::capture(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked))?;
    fs::rename(&unpacked, target).with_context(|| format!("cannot create {}", target.display()))
}

fn collect_modules(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect_modules(&path, files)?;
        } else if let Some((name, _)) = file_name(&path).split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn add_module(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    loaded: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let file = format!("{name}.ko");
    if loaded.iter().any(|(existing, _)| *existing == file) {
        return Ok(());
    }
    // A module that has no file is built in.
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    let content = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        Some("xz") => shell::capture(Command::new("xz").arg("-dc").arg(path))?,
        _ => bail!(
            "{} is compressed in a way this tool does not read",
            path.display()
        ),
    };
    for dependency in dependencies(&content) {
        add_module(&dependency, files, loaded)?;
    }
    loaded.push((file, content));
    Ok(())
}

/// The `depends=` entry of a module's `.modinfo` section: NUL-terminated `key=value` texts.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = &module[start + KEY.len()..];
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn takes_the_newest_release_of_the_series() {
        let packages = names(&[
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-amd64",
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.10.1-cloud-amd64",
            "dl",
        ]);
        let newest = |series| newest_complete(series, &packages);
        assert_eq!(
            newest(Series::V6_1).as_deref(),
            Some("6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            newest(Series::V6_12).as_deref(),
            Some("6.12.95+deb12-cloud-amd64")
        );
        assert_eq!(newest(Series::V7_2), None);
    }

    #[test]
    fn a_release_with_a_package_missing_does_not_count() {
        let mut packages = names(&["linux-binary-7.2.13+deb14-cloud-amd64"]);
        assert_eq!(newest_complete(Series::V7_2, &packages), None);
        packages.push("linux-modules-7.2.13+deb14-cloud-amd64".to_owned());
        let newest = newest_complete(Series::V7_2, &packages);
        assert_eq!(newest.as_deref(), Some("7.2.13+deb14-cloud-amd64"));
    }

    #[test]
    fn reads_what_a_module_depends_on() {
        assert_eq!(
            dependencies(b"\0license=GPL\0depends=a-b,c\0name=x\0"),
            ["a_b", "c"]
        );
        assert!(dependencies(b"\0depends=\0name=x\0").is_empty());
        assert!(dependencies(b"no such section").is_empty());
    }
}
