//! What the host wants done.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use serde::Deserialize;

const PATH: &str = "/karmor/order.json";

/// The host's order; xtask writes it into the initramfs.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) data: String,
    pub(crate) verdict: String,
}

pub(crate) fn read() -> Result<Order> {
    let text = fs::read(PATH).with_context(|| format!("cannot read {PATH}"))?;
    serde_json::from_slice(&text).with_context(|| format!("cannot parse {PATH}"))
}
