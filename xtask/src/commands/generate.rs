//! `cargo xtask generate`

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cache::{self, Cache},
    programs, shell,
};

/// Write the files that come from our own programs: CRDs, completions, man pages, gRPC code
///
/// Host tests find those that are out of date.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What `cargo run --package` is given for each of the programs that write into the repository.
const WRITERS: [&[&str]; 3] = [
    &[
        "karmor-policy",
        "--features=crd",
        "--bin=crdgen",
        "--",
        "deploy/crds",
    ],
    &["karmor-cli", "--bin=karmor", "--", "generate", "."],
    &["karmor-proto", "--example=generate"],
];

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        cache::create_dir_all(&cache::repository().join("deploy/crds"))?;
        for writer in WRITERS {
            let mut command = programs::cargo(&cache);
            command.args(["run", "--quiet", "--package"]).args(writer);
            shell::capture(&mut command)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
