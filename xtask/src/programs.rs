//! Building the programs that go into the guest.

use std::{
    ffi::OsString,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    cache::{self, Cache},
    setup::Toolchain,
    shell, ui,
};

/// The packages whose binaries the guest gets.
const PACKAGES: [&str; 3] = ["karmor-e2e", "karmor-enforcer", "karmor-cli"];

/// The binary that becomes PID 1.
const INIT: &str = "karmor-init";

/// How to compile them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Profile {
    Dev,
    /// Fast to build, and fast enough under emulation.
    Rig,
    /// What users run.
    Release,
}

/// The built binaries, by name.
#[derive(Debug)]
pub(crate) struct Programs {
    binaries: Vec<(String, PathBuf)>,
}

impl Programs {
    pub(crate) fn init(&self) -> Result<PathBuf> {
        self.path(INIT)
    }

    /// One of them.
    pub(crate) fn path(&self, binary: &str) -> Result<PathBuf> {
        let found = self.binaries.iter().find(|(name, _)| name == binary);
        Ok(found
            .with_context(|| format!("no binary {binary} was built"))?
            .1
            .clone())
    }

    /// Host and guest paths of everything but init.
    pub(crate) fn guest_paths(&self) -> Vec<(PathBuf, String)> {
        self.binaries
            .iter()
            .filter(|(name, _)| name != INIT)
            .map(|(name, path)| (path.clone(), format!("/usr/local/bin/{name}")))
            .collect()
    }
}

/// Builds them all; compiler messages go to stderr as they come.
pub(crate) fn build(cache: &Cache, profile: Profile) -> Result<Programs> {
    let mut command = cargo(cache);
    command.args([
        "build",
        "--bins",
        "--message-format",
        "json-render-diagnostics",
    ]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    match profile {
        Profile::Dev => {}
        Profile::Rig => {
            command.args(["--profile", "rig"]);
        }
        Profile::Release => {
            command.arg("--release");
        }
    }
    let text = shell::display(&command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{text}`"))?;
    if !output.status.success() {
        bail!("`{text}` failed ({})", output.status);
    }
    let binaries = binaries(&String::from_utf8_lossy(&output.stdout));
    if binaries.is_empty() {
        ui::note(&text);
        bail!("cargo built no binary");
    }
    Ok(Programs { binaries })
}

/// Cargo as this process was started by, with the rig's own tools in reach.
pub(crate) fn cargo(cache: &Cache) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(cache::repository());
    command.env("PATH", path_with_tools(&cache.tools().join("bin")));
    // The build script takes any nightly that has core's source; its LLVM may be another.
    if let Some(toolchain @ Toolchain::Distribution) = Toolchain::find() {
        command.env("KARMOR_EBPF_TOOLCHAIN", toolchain.name());
    }
    let color = if std::io::stderr().is_terminal() {
        "auto"
    } else {
        "never"
    };
    command.env("CARGO_TERM_COLOR", color);
    // Set by `cargo run` for this package; they would make every other crate rebuild.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn path_with_tools(tools: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(tools.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).unwrap_or(path.clone())
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

/// The executables in cargo's JSON messages.
fn binaries(messages: &str) -> Vec<(String, PathBuf)> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| message.executable)
        .map(|path| {
            (
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                path,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_executables_cargo_reports() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","executable":"/t/debug/karmor"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(
            binaries(messages),
            [("karmor".to_owned(), PathBuf::from("/t/debug/karmor"))]
        );
    }
}
