//! Writes the custom resource definitions: to a directory, one file each, or to stdout.

use std::{error::Error, fs, io::Write, path::Path};

use karmor_policy::manifest::crd;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1);
    for (name, text) in crd::files()? {
        match &directory {
            Some(directory) => fs::write(Path::new(directory).join(name), text)?,
            None => write!(std::io::stdout(), "---\n{text}")?,
        }
    }
    Ok(())
}
