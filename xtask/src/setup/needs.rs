//! What the machine must have. Each is looked for by trying, so it does not matter where it
//! came from.

use std::process::Command;

use anyhow::Result;

use super::toolchain::{self, Toolchain};
use crate::{cache::Cache, shell};

/// Something the machine must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// A linker driver and C headers, for build scripts and Rust's own linking.
    Compiler,
    /// `strip`.
    Binutils,
    /// `xz`, for kernel modules.
    Xz,
    /// `dpkg-deb` and `apt-get`, which fetch kernels and the guest's files.
    Debian,
    /// A QEMU that runs these kernels.
    Qemu,
    /// A Rust compiler with core's source whose LLVM is the linker's.
    Rust,
    /// The name under which rustup finds that compiler, when it is the distribution's.
    Link,
    /// LLVM's libraries, to build the linker of the kernel half.
    Llvm,
    /// The linker of the kernel half.
    BpfLinker,
}

/// In the order in which they are brought in.
const ALL: [Need; 9] = [
    Need::Debian,
    Need::Compiler,
    Need::Binutils,
    Need::Xz,
    Need::Qemu,
    Need::Rust,
    Need::Link,
    Need::Llvm,
    Need::BpfLinker,
];

/// The needs that this machine does not meet.
pub(crate) fn missing(cache: &Cache) -> Vec<Need> {
    ALL.into_iter().filter(|need| !need.met(cache)).collect()
}

impl Need {
    fn met(self, cache: &Cache) -> bool {
        match self {
            Self::Compiler => shell::in_path("cc"),
            Self::Binutils => shell::in_path("strip"),
            Self::Xz => shell::in_path("xz"),
            Self::Debian => shell::in_path("dpkg-deb") && shell::in_path("apt-get"),
            Self::Qemu => qemu_major().is_some_and(|major| major >= OLDEST_QEMU),
            Self::Rust => Toolchain::find().is_some(),
            Self::Link => match Toolchain::find() {
                None => false,
                Some(Toolchain::Nightly) => true,
                Some(Toolchain::Distribution) => toolchain::is_linked(),
            },
            Self::Llvm => toolchain::has_linker(cache) || toolchain::has_llvm_libraries(),
            Self::BpfLinker => toolchain::has_linker(cache),
        }
    }

    /// The Debian packages that meet it.
    pub(super) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Compiler => &["gcc", "libc6-dev"],
            Self::Binutils => &["binutils"],
            Self::Xz => &["xz-utils"],
            Self::Qemu => &["qemu-system-x86"],
            Self::Rust => &["rustc-web", "cargo-web", "rust-web-src"],
            Self::Llvm => &[
                "llvm-22-dev",
                "libpolly-22-dev",
                "libzstd-dev",
                "zlib1g-dev",
                "libxml2-dev",
            ],
            Self::Debian | Self::Link | Self::BpfLinker => &[],
        }
    }

    /// Whether the release's own package is too old.
    pub(super) fn in_backports(self) -> bool {
        self == Self::Qemu
    }

    /// Brings in what is not a package.
    pub(super) fn provide(self, cache: &Cache) -> Result<()> {
        match self {
            Self::Link => toolchain::link(),
            Self::BpfLinker => toolchain::build_linker(cache),
            Self::Compiler
            | Self::Binutils
            | Self::Xz
            | Self::Debian
            | Self::Qemu
            | Self::Rust
            | Self::Llvm => anyhow::bail!("still missing after the set-up"),
        }
    }

    /// What it is, what for, and how to get it on any system.
    pub(super) fn explanation(self) -> String {
        match self {
            Self::Compiler => "cc: a C compiler and the C library's headers, to link programs \
                               (usual package: gcc)"
                .to_owned(),
            Self::Binutils => {
                "strip: makes the VM's programs small (usual package: binutils)".to_owned()
            }
            Self::Xz => "xz: unpacks kernel modules (usual package: xz or xz-utils)".to_owned(),
            Self::Debian => {
                "dpkg-deb and apt-get: fetch and unpack the kernels and the VM's files, \
                             which are Debian packages (usual packages: dpkg and apt)"
                    .to_owned()
            }
            Self::Qemu => format!(
                "qemu-system-x86_64, version {OLDEST_QEMU} or newer: runs the VM{} (usual package: \
                 qemu-system-x86)",
                qemu_major()
                    .map(|major| format!("; version {major} is here"))
                    .unwrap_or_default(),
            ),
            Self::Rust => format!(
                "a Rust compiler built on LLVM {llvm} with core's source, for the kernel half: \
                 `rustup toolchain install nightly --component rust-src` when its LLVM is \
                 {llvm}, else Debian's packages rustc-web, cargo-web and rust-web-src",
                llvm = toolchain::LLVM,
            ),
            Self::Link => format!(
                "the rustup toolchain {}, which stands for the distribution's compiler: \
                 `rustup toolchain link {0} /usr`",
                super::LINKED,
            ),
            Self::Llvm => format!(
                "LLVM {llvm}'s libraries, to build bpf-linker (Debian packages llvm-{llvm}-dev and \
                 libpolly-{llvm}-dev, with libzstd-dev, zlib1g-dev and libxml2-dev)",
                llvm = toolchain::LLVM,
            ),
            Self::BpfLinker => format!(
                "bpf-linker, for the kernel half: `{}`",
                toolchain::install_command()
            ),
        }
    }
}

/// Debian 12's own QEMU, 7.2, lost a 6.12 guest to an instruction it emulates wrongly.
const OLDEST_QEMU: u32 = 8;

fn qemu_major() -> Option<u32> {
    let text = shell::capture_text(Command::new("qemu-system-x86_64").arg("--version")).ok()?;
    parse_qemu(&text)
}

/// `QEMU emulator version 10.0.2 (Debian …)`
fn parse_qemu(text: &str) -> Option<u32> {
    text.split_once("version ")?
        .1
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_qemus_version() {
        assert_eq!(
            parse_qemu("QEMU emulator version 10.0.2 (Debian 1:10)\n"),
            Some(10)
        );
        assert_eq!(parse_qemu("nothing"), None);
    }

    #[test]
    fn every_need_says_how_to_meet_it() {
        for need in ALL {
            let text = need.explanation();
            assert!(
                ["(usual package", "Debian packages", "`"]
                    .iter()
                    .any(|way| text.contains(way)),
                "{need:?}: {text}"
            );
        }
    }
}
