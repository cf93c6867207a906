//! Running other programs, and saying which: what a chore does can be read and done by hand (cargo xtask).

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

pub(crate) use xtask::{repository, target_dir};

/// Cargo with these arguments, in the repository.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(repository());
    command
}

/// A heading between steps.
pub(crate) fn heading(text: &str) {
    println!("\n== {text}");
}

/// Runs a command after showing it; fails if it does.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", line(command)))?;
    ensure!(status.success(), "{}: {status}", line(command));
    Ok(())
}

/// Runs a command without showing it and returns its output; fails if it does, with what it said.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", line(command)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}: {}",
        line(command),
        output.status,
        said.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Shows a command the way it would be typed.
pub(crate) fn show(command: &Command) {
    println!("$ {}", line(command));
}

fn line(command: &Command) -> String {
    // What was built here is known by its name, and so is cargo.
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args()).map(quoted);
    words.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/somewhere/umlwatch");
        command.args(["vm1", "-start-with", "it's single", ""]);
        assert_eq!(
            line(&command),
            r"umlwatch vm1 -start-with 'it'\''s single' ''"
        );
    }
}
