//! Running other programs: every failure names the exact command and shows what it said.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The command as somebody would type it, for messages.
pub(crate) fn display(command: &Command) -> String {
    let mut text = String::new();
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&quote(word));
    }
    text
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs to the end and returns stdout; a failure shows what the command printed.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let text = display(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{text}`"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!(
        "`{text}` failed ({})\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// [`capture`], as text.
pub(crate) fn capture_text(command: &mut Command) -> Result<String> {
    let text = display(command);
    String::from_utf8(capture(command)?).with_context(|| format!("`{text}` printed no UTF-8"))
}

/// Whether a program of this name is in `PATH`.
pub(crate) fn in_path(program: &str) -> bool {
    find_in_path(program).is_some()
}

/// Where `PATH` has this program.
pub(crate) fn find_in_path(program: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_command_that_can_be_pasted() {
        let mut command = Command::new("printf");
        command.args(["%s\n", "it's", "a=b", ""]);
        assert_eq!(
            display(&command),
            r"printf '%s
' 'it'\''s' a=b ''"
        );
    }

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = capture(&mut command).expect_err("exits 3").to_string();
        for part in ["sh -c", "exit status: 3", "out\n", "err\n"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}
