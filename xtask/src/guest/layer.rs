//! The layer over the base: init, its orders, the kernel's modules and the binaries under test.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{kernel::Kernel, shell, tree::Tree};

/// What init is to do, as the guest reads it from `/karmor/order.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Order {
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Serial ports for the command's output and for data.
    pub(crate) stdout: &'static str,
    pub(crate) stderr: &'static str,
    pub(crate) data: &'static str,
    /// What precedes the exit code on the console.
    pub(crate) verdict: &'static str,
}

/// The files of one boot.
#[derive(Debug)]
pub(crate) struct Layer {
    tree: Tree,
}

impl Layer {
    /// A layer with init, its order, and the kernel's modules in the order of their loading.
    pub(crate) fn new(init: &Path, order: &Order, kernel: &Kernel) -> Result<Self> {
        let mut layer = Self {
            tree: Tree::default(),
        };
        layer.program("init", init)?;
        let order = serde_json::to_vec(order).context("an order is JSON")?;
        layer.tree.file("karmor/order.json", 0o644, order);
        for (index, (name, content)) in kernel.modules()?.into_iter().enumerate() {
            layer
                .tree
                .file(&format!("karmor/modules/{index:02}-{name}"), 0o644, content);
        }
        Ok(layer)
    }

    /// Adds a program of ours. Debug information stays behind: it is most of the size.
    pub(crate) fn program(&mut self, path: &str, host: &Path) -> Result<()> {
        let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
        let stripped = directory.path().join("program");
        let mut command = Command::new("strip");
        command
            .arg("--strip-debug")
            .arg("-o")
            .arg(&stripped)
            .arg(host);
        shell::capture(&mut command)?;
        self.tree.host_file(path, 0o755, &stripped)
    }

    /// Adds a file as it is on the host.
    pub(crate) fn file(&mut self, path: &str, host: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = host
            .metadata()
            .with_context(|| format!("cannot read {}", host.display()))?;
        self.tree
            .host_file(path, metadata.permissions().mode() & 0o777, host)
    }

    pub(crate) fn write(&self, out: &mut dyn std::io::Write) -> Result<()> {
        self.tree.write_cpio(out)
    }
}
