//! `umladmin rename`: another name for a VM, in the configuration and for its directory (umladmin).

use std::fs;
use std::path::Path;

use cli::{Exit, Failure, Line};
use config::{Config, Document, VmName};
use daemon::Home;
use disks::Locks;
use files::Replacement;
use monitors::{
    cannot,
    start::{self, Group},
};

use crate::delete::{end_monitor, forget, must_be_root};
use crate::report::Report;
use crate::rewrite::Rewrite;
use crate::selection::bad_config;

pub(crate) fn run(path: &Path, line: &Line, names: &[&str]) -> Result<Exit, Failure> {
    let &[old, new] = names else {
        return Err(Failure::usage(
            "rename needs the name of a VM, and the new name",
        ));
    };
    let (old, new) = (name(old)?, name(new)?);
    let is_dry_run = line.has("dry-run");
    if !is_dry_run {
        must_be_root()?;
    }
    let report = Report::new();
    let mut rewrite = Rewrite::begin(path, is_dry_run)?;
    let config = rewrite.check()?;
    config.vm(&old).map_err(bad_config)?;
    must_be_free(&config, &new)?;
    move_section(&mut rewrite.document, &config, &old, &new).map_err(bad_config)?;
    rewrite.check()?;
    if is_dry_run {
        rewrite.finish(&report)?;
        return Ok(Exit::Done);
    }
    let ran = end_monitor(&config, &old)?;
    carry_out(rewrite, &config, &old, &new)?;
    report.line(old.as_str(), &format!("is {new} from now on"));
    if ran {
        let program = start::monitor_program();
        start::start_monitor(&program, path, &new, Group::Own).map_err(failed)?;
    }
    Ok(Exit::Done)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

fn name(text: &str) -> Result<VmName, Failure> {
    VmName::try_from(text).map_err(Failure::usage)
}

/// Refuses a name whose directory is there.
pub(crate) fn must_be_free(config: &Config, vm: &VmName) -> Result<(), Failure> {
    let directory = config.global.vm_dir(vm);
    match directory.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(failed(format_args!(
            "{} is there already, of a former VM; move it away, or remove it",
            directory.display()
        ))),
    }
}

/// Renames the section, and the paths in it that are below the directory of the VM.
fn move_section(
    document: &mut Document,
    config: &Config,
    old: &VmName,
    new: &VmName,
) -> config::Result<()> {
    document.rename(old.as_str(), new.as_str())?;
    let (from, to) = (config.global.vm_dir(old), config.global.vm_dir(new));
    for param in ["jaildir", "logdir"] {
        let set = document.values(new.as_str(), param).concat();
        if let Ok(below) = Path::new(&set).strip_prefix(&from) {
            let moved = to.join(below).display().to_string();
            document.set(new.as_str(), param, &moved)?;
        }
    }
    Ok(())
}

fn carry_out(rewrite: Rewrite, config: &Config, old: &VmName, new: &VmName) -> Result<(), Failure> {
    let global = &config.global;
    let (from, to) = (global.vm_dir(old), global.vm_dir(new));
    let is_there = from.exists();
    // No monitor starts meanwhile.
    let locks = is_there.then(|| Home::of_monitor(global, old).take());
    let _locks = locks.transpose().map_err(failed)?;
    if is_there {
        fs::rename(&from, &to).map_err(|error| failed(cannot("rename", &from, &error)))?;
    }
    let renamed = move_changes(&global.user_file(new), old, new);
    let written = renamed.and_then(|()| rewrite.finish(&Report::new()));
    if let Err(failure) = written {
        if is_there {
            // The user changes first, so that they are never those of another VM.
            let _ = move_changes(&global.user_file(new), new, old);
            let _ = fs::rename(&to, &from);
        }
        return Err(failure);
    }
    let locks = Locks::open(&global.shared, new);
    // Until a monitor has recorded them anew, nothing else protects the backing files of its images.
    if let Err(error) = locks.and_then(|locks| locks.take_over(old, &from, &to)) {
        Report::new().error(new.as_str(), &error.to_string());
    }
    forget(config, old);
    Ok(())
}

/// Gives the section of the user changes in this file, if there are any, the new name.
pub(crate) fn move_changes(file: &Path, old: &VmName, new: &VmName) -> Result<(), Failure> {
    if !file.exists() {
        return Ok(());
    }
    let unwritable = |error| failed(cannot("write", file, &error));
    let replacement = Replacement::begin(file).map_err(unwritable)?;
    let mut changes = Document::load(file).map_err(bad_config)?;
    if changes.has(old.as_str()) {
        let renamed = changes.rename(old.as_str(), new.as_str());
        renamed.map_err(bad_config)?;
        let text = changes.text();
        replacement.put(text.as_bytes()).map_err(unwritable)?;
    }
    Ok(())
}
