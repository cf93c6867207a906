//! `umladmin delete`: a VM with its section, its directory, and what its monitor has left elsewhere (umladmin).
//!
//! The directory goes first. If something prevents its removal, the section is still there to try again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cli::{Exit, Failure, Line};
use client::Client;
use config::{Config, Document, VmName};
use daemon::Home;
use files::{HeldDir, Tree};
use net::{Records, networks};
use rpc_xdr::umlmonctrl::VmState;

use crate::report::Report;
use crate::rewrite::{Rewrite, difference};
use crate::{ask, furnish, selection, stop};

/// How long a monitor may take to tell the state of its VM.
const STATE: Duration = Duration::from_secs(10);
/// How long a monitor whose VM does not run may take to end.
const END: Duration = Duration::from_secs(10);
/// The files in `shared` that say what a VM holds: their directories, and how their names go on after its name.
const HELD: [(&str, &str); 2] = [("locks", ""), ("locks", ".cows")];

pub(crate) fn run(
    path: &Path,
    line: &Line,
    names: &[&str],
    timeout: Duration,
) -> Result<Exit, Failure> {
    let &[name] = names else {
        return Err(Failure::usage("delete needs the name of one VM"));
    };
    let vm = VmName::try_from(name).map_err(Failure::usage)?;
    let report = Report::new();
    let config = Config::load(path).map_err(selection::bad_config)?;
    let plan = Plan::new(&config, &vm)?;
    if line.has("dry-run") {
        report.print(&plan.describe())?;
        return Ok(Exit::Done);
    }
    must_be_root()?;
    if !line.has("stop") {
        must_be_inactive(&config, &vm)?;
    }
    if !line.has("yes") && !ask::agreed(&format!("{}\nDelete {vm}?", plan.describe()))? {
        return Err(Failure::new(
            Exit::Failed,
            format_args!("{vm} is left as it is"),
        ));
    }
    bring_down(&config, &vm, timeout, &report)?;
    plan.carry_out(&config, &report)?;
    report.line(vm.as_str(), "deleted");
    Ok(Exit::Done)
}

/// Root alone can change the configuration and what belongs to users of VMs.
pub(crate) fn must_be_root() -> Result<(), Failure> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => {
            let why =
                "only root can make, change and delete VMs; -dry-run shows what would be done";
            Err(Failure::new(Exit::NotAuthorised, why))
        }
    }
}

/// What is removed.
struct Plan {
    vm: VmName,
    /// The configuration without the section.
    document: Document,
    path: PathBuf,
    /// The directory of the VM, if there is one.
    directory: Option<PathBuf>,
    /// Directories of the VM that are elsewhere, and stay.
    elsewhere: Vec<PathBuf>,
}

impl Plan {
    fn new(config: &Config, vm: &VmName) -> Result<Plan, Failure> {
        if !selection::is_configured(config, vm) {
            // The configuration has the best message.
            config.vm(vm).map_err(selection::bad_config)?;
        }
        let mut document = Document::load(&config.path).map_err(selection::bad_config)?;
        let directory = config.global.vm_dir(vm);
        let set = ["jaildir", "logdir"].map(|param| document.values(vm.as_str(), param).join(""));
        let elsewhere = set.iter().map(PathBuf::from);
        let elsewhere = elsewhere.filter(|path| path.exists() && !path.starts_with(&directory));
        let elsewhere = elsewhere.collect();
        for other in config.vm_names().filter(|other| *other != vm) {
            let Ok(other) = config.vm(other) else {
                continue;
            };
            let theirs = [&other.jaildir, &other.logdir];
            if let Some(theirs) = theirs.iter().find(|path| path.starts_with(&directory)) {
                let (name, path) = (&other.name, theirs.display());
                let why = format!("{path} is a directory of {name}; move it, and set it there");
                return Err(Failure::new(Exit::Failed, why));
            }
        }
        document
            .remove(vm.as_str())
            .map_err(selection::bad_config)?;
        Ok(Plan {
            vm: vm.clone(),
            document,
            path: config.path.clone(),
            directory: directory.symlink_metadata().is_ok().then_some(directory),
            elsewhere,
        })
    }

    /// For people, before they agree.
    fn describe(&self) -> String {
        let mut text = difference(&self.document, &self.path);
        text.push('\n');
        if let Some(directory) = &self.directory {
            let shown = directory.display();
            text.push_str(
                &match Tree::open(directory).and_then(|tree| tree.contents()) {
                    Ok(contents) => format!(
                        "{shown} is removed: {} files, {} MB\n",
                        contents.files,
                        contents.bytes.div_ceil(1 << 20)
                    ),
                    Err(error) => format!("{shown} cannot be removed: {error}\n"),
                },
            );
        }
        for kept in &self.elsewhere {
            text.push_str(&format!("{} stays\n", kept.display()));
        }
        text
    }

    fn carry_out(&self, config: &Config, report: &Report) -> Result<(), Failure> {
        // Nothing is removed if the section cannot be.
        let mut rewrite = Rewrite::begin(&self.path, false)?;
        let section = rewrite.document.remove(self.vm.as_str());
        section.map_err(selection::bad_config)?;
        rewrite.check()?;
        if let Some(directory) = &self.directory {
            // No monitor starts meanwhile.
            let home = Home::of_monitor(&config.global, &self.vm);
            let _locks = home.take().map_err(|error| failed(&error))?;
            let tree = Tree::open(directory).map_err(|error| {
                failed(&error).about(format_args!("cannot remove {}", directory.display()))
            })?;
            // As long as the copies on write are there.
            let backing = furnish::sole_backing(config, &self.vm);
            tree.remove().map_err(|error| failed(&error))?;
            if let Some(backing) = backing {
                std::fs::remove_file(&backing)
                    .map_err(|error| failed(&monitors::cannot("remove", &backing, &error)))?;
            }
        }
        forget(config, &self.vm);
        for kept in &self.elsewhere {
            report.line(self.vm.as_str(), &format!("{} stays", kept.display()));
        }
        rewrite.finish(report).map(drop)
    }
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

/// Removes what says what its monitor held, which addresses it had, too. Nobody holds it any more; if some of it stays,
/// it does no harm.
pub(crate) fn forget(config: &Config, vm: &VmName) {
    for (directory, suffix) in HELD {
        let Ok(files) = HeldDir::open(&config.global.shared.join(directory)) else {
            continue;
        };
        let name = format!("{vm}{suffix}");
        if let Ok(_mutex) = files.mutex()
            && matches!(files.is_held(&name), Ok(false))
        {
            let _ = files.remove(&name);
        }
    }
    if let Ok(Some(records)) = Records::open_without_vm(&config.global.shared) {
        let _ = networks::forget(&records, vm);
    }
}

/// Refuses a VM whose kernel runs.
pub(crate) fn must_be_inactive(config: &Config, vm: &VmName) -> Result<(), Failure> {
    let home = Home::of_monitor(&config.global, vm);
    if home.holder().map_err(|error| failed(&error))?.is_none() {
        return Ok(());
    }
    let mut client = Client::at(vm, config.global.ctrl(vm)).with_limit(STATE);
    match client.info()?.state {
        VmState::Inactive => Ok(()),
        _ => {
            let why = format!("{vm} is running; shut it down first: umladmin stop {vm}");
            Err(Failure::new(Exit::Failed, why))
        }
    }
}

/// Shuts the guest down, if it runs, and ends the monitor.
pub(crate) fn bring_down(
    config: &Config,
    vm: &VmName,
    timeout: Duration,
    report: &Report,
) -> Result<(), Failure> {
    let home = Home::of_monitor(&config.global, vm);
    if home.holder().map_err(|error| failed(&error))?.is_none() {
        return Ok(());
    }
    let rows = stop::stop_all(config, std::slice::from_ref(vm), timeout, report)?;
    match rows.iter().all(|row| row.good) {
        true => Ok(()),
        false => Err(failed(&"it is left as it is, as it does not end")),
    }
}

/// Ends the monitor of a VM that does not run, so that nothing of it is in use. Returns whether it had one.
pub(crate) fn end_monitor(config: &Config, vm: &VmName) -> Result<bool, Failure> {
    must_be_inactive(config, vm)?;
    let home = Home::of_monitor(&config.global, vm);
    let ran = home.holder().map_err(|error| failed(&error))?.is_some();
    bring_down(config, vm, END, &Report::quiet())?;
    Ok(ran)
}
