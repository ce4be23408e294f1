//! What this node can enforce, found by trying.

use std::{fs, path::Path};

use super::btf;
use crate::backend::{Capabilities, HookSupport};

/// The node's facts around what loading the programs showed.
pub(super) fn capabilities(hooks: Vec<HookSupport>) -> Capabilities {
    Capabilities {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        btf: Path::new(btf::VMLINUX).exists(),
        lsms: lsms(),
        hooks,
        observe_only: None,
    }
}

/// Active LSMs, as the kernel lists them; empty when securityfs is not mounted.
fn lsms() -> Vec<String> {
    fs::read_to_string("/sys/kernel/security/lsm")
        .map(|list| list.trim().split(',').map(str::to_owned).collect())
        .unwrap_or_default()
}
