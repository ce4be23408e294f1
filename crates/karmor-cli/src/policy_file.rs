//! Reading policy files: what a user names on the command line, and what is in it.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use karmor_policy::{Report, diagnostic::Style, lint};

use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
    ui::Ui,
};

/// Names of files that hold policies.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Larger files are refused by the parser; this only keeps a device or a wrong file from filling
/// the memory.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A text and what was read from it.
pub(crate) struct PolicyFile {
    /// Path as the user wrote it, or `<stdin>`.
    pub(crate) name: String,
    /// The user named it, not only a directory that it is in.
    pub(crate) is_named: bool,
    /// The text.
    pub(crate) text: String,
    /// Policies and problems.
    pub(crate) report: Report,
    /// Why there is no text.
    pub(crate) unreadable: Option<CommandError>,
}

impl PolicyFile {
    fn unreadable(name: String, error: CommandError) -> Self {
        Self {
            report: karmor_policy::unreadable(&name, error.text().unwrap_or_default()),
            name,
            is_named: true,
            text: String::new(),
            unreadable: Some(error),
        }
    }
}

/// Reads files, directories (with everything below that looks like a policy) and `-`, each file
/// once. What cannot be read is a file with a problem; a policy that several files have is refused
/// in all but the first.
pub(crate) fn read_all(inputs: &[PathBuf]) -> Vec<PolicyFile> {
    let mut files = Vec::new();
    let mut known = HashSet::new();
    let mut is_new = |path: &Path| fs::canonicalize(path).map_or(true, |path| known.insert(path));
    for input in inputs {
        if input.as_os_str() == "-" {
            files.push(parse("<stdin>".to_owned(), true, io::stdin()));
        } else if input.is_dir() {
            match in_directory(input) {
                Ok(paths) => {
                    let paths = paths.iter().filter(|path| is_new(path));
                    files.extend(paths.map(|path| read_file(path, false)));
                }
                Err(error) => {
                    let name = input.display().to_string();
                    files.push(PolicyFile::unreadable(name, error));
                }
            }
        } else if is_new(input) {
            files.push(read_file(input, true));
        }
    }
    karmor_policy::refuse_repeated(files.iter_mut().map(|file| &mut file.report));
    files
}

/// Reads files that must be free of errors; warnings are told, errors end the command.
pub(crate) fn read_valid(ui: &mut Ui, inputs: &[PathBuf]) -> CommandResult<Vec<PolicyFile>> {
    all_valid(ui, read_all(inputs))
}

/// The same, of policies that can be put in force.
pub(crate) fn read_compilable(ui: &mut Ui, inputs: &[PathBuf]) -> CommandResult<Vec<PolicyFile>> {
    let mut files = read_all(inputs);
    refuse_uncompilable(&mut files);
    all_valid(ui, files)
}

/// Refuses policies that could not be put in force even alone. May take seconds.
pub(crate) fn refuse_uncompilable(files: &mut [PolicyFile]) {
    files
        .iter_mut()
        .for_each(|file| file.report.refuse_uncompilable());
}

/// Warns of rules that never decide, and of those that contradict others, within and across files.
pub(crate) fn lint(files: &mut [PolicyFile]) {
    let files = files.iter_mut().map(|file| lint::File {
        text: &file.text,
        report: &mut file.report,
    });
    lint::check(&mut files.collect::<Vec<_>>());
}

fn all_valid(ui: &mut Ui, mut files: Vec<PolicyFile>) -> CommandResult<Vec<PolicyFile>> {
    if let Some(error) = files.iter_mut().find_map(|file| file.unreadable.take()) {
        return Err(error);
    }
    let mut is_valid = true;
    for file in &files {
        ui.note(&file.report.render(&file.text, Style::Coloured));
        is_valid &= !file.report.has_errors();
    }
    if is_valid {
        Ok(files)
    } else {
        Err(CommandError::silent(Exit::PolicyInvalid))
    }
}

fn read_file(path: &Path, is_named: bool) -> PolicyFile {
    let name = path.display().to_string();
    match fs::File::open(path) {
        Ok(file) => parse(name, is_named, file),
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("cannot read {name}"));
            PolicyFile::unreadable(name, failed(error))
        }
    }
}

fn parse(name: String, is_named: bool, from: impl Read) -> PolicyFile {
    let mut bytes = Vec::new();
    let length = match from.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
        Ok(length) => length,
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("cannot read {name}"));
            return PolicyFile::unreadable(name, failed(error));
        }
    };
    if length as u64 > MAX_BYTES {
        let message = format!(
            "{name} is larger than {} MiB: no policy file",
            MAX_BYTES / 1024 / 1024
        );
        let error = CommandError::message(Exit::PolicyInvalid, message);
        return PolicyFile::unreadable(name, error);
    }
    let (text, report) = karmor_policy::read_bytes(&name, &bytes);
    let text = text.into_owned();
    PolicyFile {
        name,
        is_named,
        text,
        report,
        unreadable: None,
    }
}

/// The files of a directory that look like policies, of which there must be one.
fn in_directory(dir: &Path) -> CommandResult<Vec<PathBuf>> {
    let mut paths = Vec::new();
    list(dir, &mut paths).map_err(failed)?;
    if paths.is_empty() {
        let message = format!("there is no .yaml, .yml or .json file in {}", dir.display());
        return Err(CommandError::message(Exit::Failed, message));
    }
    paths.sort();
    Ok(paths)
}

/// Hidden files and directories are left out; so are links to directories, which might go around
/// in circles.
fn list(dir: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(&path, paths)?;
        } else if path.extension().is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        }) && fs::metadata(&path).map_or(true, |found| found.is_file())
        {
            // Also what is not there, such as behind a link: whoever reads it says so.
            paths.push(path);
        }
    }
    Ok(())
}

fn failed(error: anyhow::Error) -> CommandError {
    CommandError::new(Exit::Failed, error)
}
