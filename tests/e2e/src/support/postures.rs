//! Default postures of the enforcer that cases share: it reads them again while it runs, and starting
//! another takes most of a minute under emulation.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{probe, until};

/// What becomes of what no rule names, where rules say what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultPostures {
    /// For containers.
    pub containers: Families,
    /// For the host.
    pub host: Families,
}

/// A posture by family: `audit`, `block` or `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// Files and processes.
    pub file: &'static str,
    /// Sockets and names.
    pub network: &'static str,
    /// Capabilities.
    pub capabilities: &'static str,
}

impl Families {
    const AUDIT: Self = Self {
        file: "audit",
        network: "audit",
        capabilities: "audit",
    };
    const BLOCK: Self = Self {
        file: "block",
        network: "block",
        capabilities: "block",
    };
    const ALLOW: Self = Self {
        file: "allow",
        network: "allow",
        capabilities: "allow",
    };
}

const PATIENCE: Duration = Duration::from_secs(60);

impl DefaultPostures {
    /// As they are when nobody says anything.
    pub const AUDIT: Self = Self {
        containers: Families::AUDIT,
        host: Families::AUDIT,
    };

    /// What policies do not name is refused.
    pub const BLOCK: Self = Self {
        containers: Families::BLOCK,
        host: Families::BLOCK,
    };

    /// What the policies of a container do not name goes ahead, and nobody is told.
    pub const ALLOW: Self = Self {
        containers: Families::ALLOW,
        host: Families::AUDIT,
    };

    /// Files and programs that the policies of a container do not name are refused.
    pub const BLOCK_FILES: Self = Self {
        containers: Families {
            file: "block",
            ..Families::AUDIT
        },
        host: Families::AUDIT,
    };

    /// Sockets and names that the policies of a container do not name are refused.
    pub const BLOCK_NETWORK: Self = Self {
        containers: Families {
            network: "block",
            ..Families::AUDIT
        },
        host: Families::AUDIT,
    };

    /// The file of settings.
    #[must_use]
    pub fn file() -> PathBuf {
        std::env::temp_dir().join("karmor-settings.yaml")
    }

    fn text(&self) -> String {
        let of = |prefix: &str, families: &Families| {
            format!(
                "{0}FilePosture: {1}\n{0}NetworkPosture: {2}\n{0}CapabilitiesPosture: {3}\n",
                prefix, families.file, families.network, families.capabilities
            )
        };
        of("default", &self.containers) + &of("hostDefault", &self.host)
    }

    /// Writes the file; the argument that names it.
    pub(super) fn write(&self) -> Result<String> {
        let path = Self::file();
        fs::write(&path, self.text())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(format!("--config={}", path.display()))
    }

    /// Has the running enforcer take them.
    pub(super) fn hold(&self) -> Result<()> {
        if fs::read(Self::file()).is_ok_and(|text| text == self.text().as_bytes()) {
            return Ok(());
        }
        self.write()?;
        let wanted = |whose: &str, families: &Families| {
            [
                (format!("/postures/{whose}/file"), families.file),
                (format!("/postures/{whose}/network"), families.network),
                (
                    format!("/postures/{whose}/capabilities"),
                    families.capabilities,
                ),
            ]
        };
        let wanted = [
            wanted("containers", &self.containers),
            wanted("host", &self.host),
        ]
        .concat();
        until("the default postures", PATIENCE, || {
            let probe = probe()?;
            let is_so = wanted.iter().all(|(pointer, posture)| {
                probe.pointer(pointer).and_then(|is| is.as_str()) == Some(posture)
            });
            Ok(is_so.then_some(()))
        })
    }
}
