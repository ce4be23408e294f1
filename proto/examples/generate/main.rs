//! Writes `src/generated/` anew: `cargo run -p karmor-proto --example generate`.

mod codegen;

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    codegen::generate(root, &root.join("src/generated"))
}
