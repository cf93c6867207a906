//! `umladmin edit`: the configuration file in an editor, as visudo(8) does it: a copy is edited, and takes the place of
//! the file when it is right (umladmin).

mod consequences;

use std::ffi::OsString;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cli::{Exit, Failure, Line, printable};
use config::{Config, Error};
use signal_hook::consts::{SIGINT, SIGQUIT};
use tempfile::TempDir;

use crate::report::Report;
use crate::rewrite::{Rewrite, difference};

/// Where the editor that the administrator wants is named, in this order.
const VARIABLES: [&str; 2] = ["VISUAL", "EDITOR"];
/// Those that are tried otherwise.
const EDITORS: [&str; 2] = ["sensible-editor", "vi"];
/// The most faults that are told at once.
const MAX_TOLD: usize = 20;

/// What is done with a text that has faults.
enum Answer {
    Edit,
    Discard,
    Keep,
}

pub(crate) fn run(path: &Path, line: &Line, names: &[&str]) -> Result<Exit, Failure> {
    if let Some(word) = names.first() {
        let why = format_args!("edit takes no operand, but '{word}' is given");
        return Err(Failure::usage(why));
    }
    let report = Report::new();
    let is_dry_run = line.has("dry-run");
    let mut rewrite = Rewrite::begin(path, is_dry_run)?;
    // What is wrong before does not prevent that it is corrected here.
    let before = Config::load(path).ok();
    let draft = Draft::new(path, rewrite.document.original())?;
    // CTRL-C is for the editor, and must not leave the copy behind.
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    loop {
        draft.edit()?;
        rewrite.document.rewrite(&draft.text()?);
        if rewrite.document.text() == rewrite.document.original() {
            report.print("Nothing is changed.\n")?;
            return Ok(Exit::Done);
        }
        let Err(failure) = rewrite.check() else { break };
        tell(&rewrite.document.faults(), &failure, &report);
        match ask()? {
            Answer::Edit => {}
            Answer::Discard => {
                let why = format_args!("{} is left as it was", path.display());
                return Err(Failure::new(Exit::Failed, why));
            }
            Answer::Keep => {
                rewrite.put(&report)?;
                return Ok(Exit::Failed);
            }
        }
    }
    let shown = difference(&rewrite.document, path);
    let after = rewrite.finish(&report)?;
    if !is_dry_run {
        report.print(&shown)?;
        report.print(&consequences::describe(before.as_ref(), &after))?;
    }
    Ok(Exit::Done)
}

/// The text that is edited. It may contain passwords: only its owner can read it, and it goes when this is dropped.
struct Draft {
    directory: TempDir,
    file: PathBuf,
}

impl Draft {
    fn new(path: &Path, text: &str) -> Result<Draft, Failure> {
        let begun = || -> io::Result<Draft> {
            let directory = tempfile::Builder::new().prefix("umladmin-").tempdir()?;
            let name = path.file_name().unwrap_or("umlmon".as_ref());
            let file = directory.path().join(name);
            std::fs::write(&file, text)?;
            Ok(Draft { directory, file })
        };
        begun().map_err(|error| Failure::from(error).about("cannot make a copy to edit"))
    }

    /// Runs the editor until it ends.
    fn edit(&self) -> Result<(), Failure> {
        let editor = editor().ok_or_else(|| {
            let why = "there is no editor; name one in the environment variable EDITOR";
            Failure::new(Exit::Failed, why)
        })?;
        let shown = printable(editor.as_encoded_bytes());
        // The variable can have arguments, and then the shell takes it apart.
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg("exec $UMLADMIN_EDITOR \"$1\"")
            .arg("sh");
        command.arg(&self.file).env("UMLADMIN_EDITOR", &editor);
        let ended = command
            .status()
            .map_err(|error| Failure::from(error).about("cannot start the editor"))?;
        match ended.success() {
            true => Ok(()),
            false => {
                let why = format_args!("{shown}: {ended}; nothing is changed");
                Err(Failure::new(Exit::Failed, why))
            }
        }
    }

    fn text(&self) -> Result<String, Failure> {
        std::fs::read_to_string(&self.file).map_err(|error| {
            let shown = self.directory.path().display();
            Failure::from(error).about(format_args!("cannot read the edited copy in {shown}"))
        })
    }
}

fn editor() -> Option<OsString> {
    let mut named = VARIABLES.iter().filter_map(std::env::var_os);
    let named = named.find(|editor| !editor.is_empty());
    named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        let found = EDITORS.iter().find(|editor| {
            std::env::split_paths(&path).any(|directory| directory.join(editor).is_file())
        });
        found.map(OsString::from)
    })
}

fn tell(faults: &[Error], failure: &Failure, report: &Report) {
    if faults.is_empty() {
        report.warn(&failure.message);
    }
    for fault in faults.iter().take(MAX_TOLD) {
        report.warn(&fault.to_string());
    }
    if let Some(more) = faults.len().checked_sub(MAX_TOLD).filter(|more| *more > 0) {
        report.warn(&format!("{more} more"));
    }
}

/// Without a terminal, a text with faults is discarded.
fn ask() -> Result<Answer, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(Answer::Discard);
    }
    loop {
        let mut stderr = io::stderr();
        write!(
            stderr,
            "What now? (e)dit again, e(x)it without saving, (Q)uit and save though it is wrong: "
        )?;
        let mut answer = String::new();
        if stdin.lock().read_line(&mut answer)? == 0 {
            return Ok(Answer::Discard);
        }
        match answer.trim() {
            "e" => return Ok(Answer::Edit),
            "x" => return Ok(Answer::Discard),
            "Q" => return Ok(Answer::Keep),
            _ => {}
        }
    }
}
