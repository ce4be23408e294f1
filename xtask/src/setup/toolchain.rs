//! The compiler and the linker of the kernel half.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache::Cache, shell, ui};

/// LLVM's major version, the same in rustc and in bpf-linker: newer bitcode is not read by an
/// older linker.
pub(crate) const LLVM: &str = "22";

/// The rustup name of the distribution's compiler. The enforcer's build script uses it too.
pub(crate) const LINKED: &str = "karmor-ebpf";

/// bpf-linker's version.
const BPF_LINKER: &str = "0.13.0";

/// Where the distribution keeps its compiler.
const DISTRIBUTION: &str = "/usr";

/// A compiler that builds the kernel half.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Toolchain {
    /// rustup's nightly.
    Nightly,
    /// The distribution's.
    Distribution,
}

impl Toolchain {
    /// The one to use, if there is one.
    pub(crate) fn find() -> Option<Self> {
        if fits("rustup", &["run", "nightly", "rustc"]) {
            return Some(Self::Nightly);
        }
        fits(&format!("{DISTRIBUTION}/bin/rustc"), &[]).then_some(Self::Distribution)
    }

    /// Its rustup name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::Distribution => LINKED,
        }
    }
}

/// Whether a compiler has the right LLVM and core's source.
fn fits(program: &str, arguments: &[&str]) -> bool {
    let ask = |question: &[&str]| {
        shell::capture_text(Command::new(program).args(arguments).args(question)).ok()
    };
    let llvm = |text: String| {
        text.lines()
            .any(|line| line.starts_with(&format!("LLVM version: {LLVM}.")))
    };
    let source = |sysroot: String| {
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    };
    ask(&["--version", "--verbose"]).is_some_and(llvm)
        && ask(&["--print", "sysroot"]).is_some_and(source)
}

/// Whether rustup knows the distribution's compiler.
pub(super) fn is_linked() -> bool {
    shell::capture(Command::new("rustup").args(["run", LINKED, "rustc", "--version"])).is_ok()
}

pub(super) fn link() -> Result<()> {
    ui::status(&format!(
        "linking the distribution's compiler to the rustup toolchain {LINKED}"
    ));
    shell::capture(Command::new("rustup").args(["toolchain", "link", LINKED, DISTRIBUTION]))
        .context("rustup is needed to choose a compiler for the kernel half")?;
    Ok(())
}

fn linker(cache: &Cache) -> PathBuf {
    cache.tools().join("bin/bpf-linker")
}

/// Whether the right bpf-linker is in the cache.
pub(super) fn has_linker(cache: &Cache) -> bool {
    shell::capture_text(Command::new(linker(cache)).arg("--version"))
        .is_ok_and(|text| text.split_whitespace().any(|word| word == BPF_LINKER))
}

/// Whether LLVM's libraries are where Debian puts them.
pub(super) fn has_llvm_libraries() -> bool {
    Path::new(&llvm_prefix()).join("bin/llvm-config").exists()
        && Path::new(&llvm_prefix()).join("lib/libPolly.a").exists()
}

fn llvm_prefix() -> String {
    format!("/usr/lib/llvm-{LLVM}")
}

fn install_arguments() -> [String; 7] {
    [
        "install".to_owned(),
        "bpf-linker".to_owned(),
        "--version".to_owned(),
        BPF_LINKER.to_owned(),
        "--no-default-features".to_owned(),
        "--features".to_owned(),
        format!("llvm-{LLVM}"),
    ]
}

/// The command that builds the linker, for people.
pub(super) fn install_command() -> String {
    format!("cargo {} --root CACHE/tools", install_arguments().join(" "))
}

pub(super) fn build_linker(cache: &Cache) -> Result<()> {
    ui::status(&format!(
        "building bpf-linker {BPF_LINKER} (about two minutes, once)"
    ));
    let mut command = Command::new("cargo");
    command
        .args(install_arguments())
        .arg("--locked")
        .arg("--root")
        .arg(cache.tools());
    // Both are read, by different crates.
    command
        .env("LLVM_PREFIX", llvm_prefix())
        .env("LLVM_SYS_221_PREFIX", llvm_prefix());
    shell::capture(&mut command)?;
    Ok(())
}
