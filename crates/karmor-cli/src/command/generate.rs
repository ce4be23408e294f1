//! `karmor generate`: the files of the repository that follow from the tree of commands.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use clap_complete::Shell;

use super::{completion, man};
use crate::{
    cli,
    error::{CommandError, CommandResult},
    exit::Exit,
    ui::Ui,
};

/// Write completions/, docs/man/, docs/cli-reference.md and docs/exit-codes.md
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The directory to write below
    dir: PathBuf,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let files = files()?;
        for (name, text) in &files {
            self.write(name, text)
                .map_err(|error| CommandError::new(Exit::Failed, error))?;
        }
        ui.status(format_args!("{} files written", files.len()));
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// All files by their paths.
fn files() -> CommandResult<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for shell in Shell::value_variants() {
        files.insert(
            format!("completions/{}", file_name(*shell)),
            completion::script(*shell),
        );
    }
    let mut tree = cli::tree();
    // Gives every command its whole name.
    tree.build();
    pages(&tree, &mut files)?;
    files.insert("docs/cli-reference.md".to_owned(), reference(&tree));
    files.insert("docs/exit-codes.md".to_owned(), exit_codes());
    Ok(files)
}

/// Where shells look for it.
fn file_name(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => "karmor.bash",
        Shell::Elvish => "karmor.elv",
        Shell::Fish => "karmor.fish",
        Shell::PowerShell => "_karmor.ps1",
        Shell::Zsh => "_karmor",
        // The type may grow; a test of the number of files notices.
        _ => "karmor.other",
    }
}

fn pages(command: &clap::Command, files: &mut BTreeMap<String, String>) -> CommandResult {
    let name = full_name(command).replace(' ', "-");
    files.insert(format!("docs/man/{name}.1"), man::page(command.clone())?);
    for sub in visible(command) {
        pages(sub, files)?;
    }
    Ok(())
}

/// The words that start a command.
fn full_name(command: &clap::Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

fn visible(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
}

fn reference(tree: &clap::Command) -> String {
    let mut text = "# Command line reference\n\nWritten by `karmor generate`.\n".to_owned();
    section(tree, &mut text);
    text
}

fn section(command: &clap::Command, text: &mut String) {
    let name = full_name(command);
    // Off a terminal the help is as wide as this.
    let help = command.clone().term_width(100).render_long_help();
    let _ = write!(text, "\n## {name}\n\n```text\n");
    for line in help.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("```\n");
    for sub in visible(command) {
        section(sub, text);
    }
}

fn exit_codes() -> String {
    let mut text = "# Exit codes\n\nWritten by `karmor generate`. A number never changes its \
                    meaning; new ones may come.\n\n| code | meaning |\n|---|---|\n"
        .to_owned();
    for exit in Exit::ALL {
        let _ = writeln!(text, "| {} | {} |", exit.code(), exit.meaning());
    }
    text.push_str(
        "\n`karmor-enforcer` has 0, 1, 2 and 5 of these: 0 also when the daemon was told to stop, 5 \
         for `probe`\nand for a daemon that does not start because of it. A wrong value of a flag or of \
         the environment\nis 2, a wrong setting of the file 1.\n",
    );
    text
}
