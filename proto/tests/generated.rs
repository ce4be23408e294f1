//! What is committed is what the .proto files say.

#[path = "../examples/generate/codegen.rs"]
mod codegen;

use std::{collections::BTreeMap, fs, path::Path};

fn read(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            (
                path.file_name()
                    .expect("readable")
                    .to_string_lossy()
                    .into_owned(),
                fs::read(&path).expect("readable"),
            )
        })
        .collect()
}

#[test]
fn committed_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    codegen::generate(root, fresh.path()).unwrap();
    let (committed, fresh) = (read(&root.join("src/generated")), read(fresh.path()));
    assert!(committed.contains_key(codegen::DESCRIPTORS));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&fresh));
    for (name, bytes) in &fresh {
        assert!(
            bytes == &committed[name],
            "{name} is stale: run `cargo run -p karmor-proto --example generate`"
        );
    }
}
