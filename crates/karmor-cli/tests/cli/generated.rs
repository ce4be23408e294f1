//! Committed files that follow from the tree of commands.

use std::{fs, path::Path};

use crate::run::run;

fn compare(fresh: &Path, committed: &Path, count: &mut usize) {
    for entry in fs::read_dir(fresh).expect("readable") {
        let fresh = entry.expect("readable").path();
        let committed = committed.join(fresh.file_name().expect("a name"));
        if fresh.is_dir() {
            compare(&fresh, &committed, count);
            continue;
        }
        *count += 1;
        let text = fs::read_to_string(&committed).unwrap_or_default();
        assert!(
            text == fs::read_to_string(&fresh).expect("readable"),
            "{} is stale: run `cargo xtask generate`",
            committed.display()
        );
    }
}

#[test]
fn committed_files_are_fresh() {
    let fresh = tempfile::tempdir().unwrap();
    let ran = run(&["generate", fresh.path().to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran}");
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut count = 0;
    compare(fresh.path(), root, &mut count);
    assert_eq!(ran.stderr, format!("{count} files written\n"));
    // None is left of a command that is gone.
    let pages = |root: &Path| fs::read_dir(root.join("docs/man")).unwrap().count();
    assert_eq!(pages(root), pages(fresh.path()));
    assert_eq!(fs::read_dir(root.join("completions")).unwrap().count(), 5);
}

#[test]
fn every_shell_has_its_completion() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = run(&["completion", shell]);
        assert_eq!(ran.code, 0, "{ran}");
        assert!(ran.stdout.contains("logFilter"), "{shell}");
        assert!(
            !ran.stdout.contains("generate"),
            "{shell} completes hidden commands"
        );
    }
}

#[test]
fn the_manual_is_a_manual() {
    let ran = run(&["man"]);
    assert!(ran.stdout.contains(".TH karmor 1"), "{ran}");
}
