//! Builds the kernel half and hands the object to `include_bytes!`.
//!
//! `AYA_BUILD_SKIP=1` leaves it out, for work that needs no kernel; the daemon then says at start
//! that it has no programs.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

/// Toolchain that `cargo xtask setup` links where no rustup nightly will do. It is a stable
/// release with `rust-src`.
const LINKED_TOOLCHAIN: &str = "karmor-ebpf";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=KARMOR_EBPF_TOOLCHAIN");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let object = out.join("karmor-enforcer-ebpf");
    if skipped() {
        // An empty object; `kernel::object` knows what it means.
        std::fs::write(&object, []).context("write an empty object")?;
    }
    let toolchain = toolchain();
    // Cargo's build scripts are single-threaded until they start threads themselves.
    // SAFETY: no other thread exists yet.
    unsafe {
        // `-Z build-std` on a stable release.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("PATH", path_with_linker());
    }
    // Of this run: a build script that was compiled in another checkout knows that one's.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let root = Path::new(&manifest).join("../enforcer-ebpf");
    println!(
        "cargo:rerun-if-changed={}",
        root.join("../abi/src").display()
    );
    aya_build::build_ebpf(
        [Package {
            name: "karmor-enforcer-ebpf",
            root_dir: root
                .to_str()
                .context("the path of the workspace is not UTF-8")?,
            ..Default::default()
        }],
        Toolchain::Custom(&toolchain),
    )
}

fn skipped() -> bool {
    env::var_os("AYA_BUILD_SKIP").is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"))
}

/// The toolchain asked for, else a nightly that has core's source, else the linked one.
fn toolchain() -> String {
    if let Ok(toolchain) = env::var("KARMOR_EBPF_TOOLCHAIN") {
        return toolchain;
    }
    let sysroot = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    match sysroot {
        Some(sysroot) if sysroot.join("lib/rustlib/src/rust/library/core").is_dir() => {
            "nightly".to_owned()
        }
        _ => LINKED_TOOLCHAIN.to_owned(),
    }
}

/// `PATH`, with the directory where `cargo xtask setup` puts bpf-linker.
fn path_with_linker() -> std::ffi::OsString {
    let cache = env::var_os("KARMOR_CACHE").map(PathBuf::from).or_else(|| {
        env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .map(|cache| cache.join("karmor-dev"))
    });
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(cache.map(|cache| cache.join("tools/bin")));
    env::join_paths(dirs).unwrap_or(path)
}
