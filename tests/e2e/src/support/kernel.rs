//! The kernel this runs on.

use std::{fmt, fs, str::FromStr};

use anyhow::{Context as _, Error, Result};

/// A kernel's major and minor version.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KernelVersion {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

impl KernelVersion {
    /// A version by its numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The running kernel's.
    ///
    /// # Errors
    /// When the kernel's release does not begin with two numbers.
    pub fn running() -> Result<Self> {
        rustix::system::uname()
            .release()
            .to_str()
            .context("the release is ASCII")?
            .parse()
    }
}

impl FromStr for KernelVersion {
    type Err = Error;

    fn from_str(release: &str) -> Result<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => anyhow::bail!("{release:?} does not begin with two numbers"),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The security modules in the order the kernel asks them.
///
/// # Errors
/// When securityfs is not mounted.
pub fn security_modules() -> Result<Vec<String>> {
    const LIST: &str = "/sys/kernel/security/lsm";
    let text = fs::read_to_string(LIST).with_context(|| format!("cannot read {LIST}"))?;
    Ok(text.trim().split(',').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_debians_releases() {
        let version = |release: &str| release.parse::<KernelVersion>().unwrap();
        assert_eq!(version("6.1.0-56-cloud-amd64"), KernelVersion::new(6, 1));
        assert_eq!(
            version("6.12.95+deb12-cloud-amd64"),
            KernelVersion::new(6, 12)
        );
        assert!(KernelVersion::new(6, 12) > KernelVersion::new(6, 2));
        "next".parse::<KernelVersion>().unwrap_err();
    }
}
