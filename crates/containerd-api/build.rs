//! Generates the client (and, for tests, the server) from the .proto files, without protoc.

use std::{env, error::Error, path::PathBuf};

const FILES: [&str; 6] = [
    "containers.proto",
    "events.proto",
    "images.proto",
    "namespaces.proto",
    "tasks.proto",
    "task_events.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let module = PathBuf::from(env::var("OUT_DIR")?).join("containerd.rs");
    tonic_prost_build::configure()
        .include_file(module)
        .compile_fds(descriptors)?;
    Ok(())
}
