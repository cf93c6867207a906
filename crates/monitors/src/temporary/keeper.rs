//! The process beside a temporary installation that makes its directory, starts its monitor, and removes both at the
//! end of the program that wants it, however that ends: no code of a program runs when it is killed (umladmin or the
//! shim of containerd, and that process).
//!
//! It is that program once more, recognised by its argument. It is told what to do in lines on its stdin, whose end
//! means the end of the installation, and answers in lines on its stdout. If the monitor dies, it starts another one.
//! The monitor is in a mount namespace of its own, so that the host never has a mount of the installation, whoever is
//! killed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use config::{Config, VmName};
use daemon::Home;
use jail::ControlGroup;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::watched::Watched;
use crate::{CONFIGURATION, cannot, process, survivor};

/// The argument that tells this process from the program as it is called by others.
const ARGUMENT: &str = "--keep";
/// What it is told, and the answer if that was done; any other is an error.
const START: &str = "start";
const LEAVE: &str = "leave";
const DONE: &str = "done";
/// How long the monitor may take to end.
const END: Duration = Duration::from_secs(20);
/// How soon it is looked again at a monitor that has just begun.
const AGAIN: Duration = Duration::from_millis(20);

/// The process, as the program sees it. When this is dropped, nothing of the installation is left.
pub struct Keeper {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: PathBuf,
    /// Who can lock the directory alone, knows that this program and that process have gone.
    lock: Option<File>,
    /// The directory stays.
    leaves: bool,
}

impl Keeper {
    /// Starts it; it makes a directory in `parent`.
    ///
    /// # Errors
    /// If no process can be started, or it cannot make the directory.
    pub fn start(parent: &Path, vm: &VmName) -> Result<Keeper, String> {
        let not_started = |error: io::Error| format!("cannot start a process: {error}");
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .args([parent.as_os_str(), vm.as_str().as_ref()])
            // Ctrl-C goes to everything on the terminal; this process ends when its work is done.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or_else(|| not_started(io::ErrorKind::BrokenPipe.into()))?;
        let mut keeper = Keeper {
            child,
            orders,
            answers: BufReader::new(answers),
            directory: PathBuf::new(),
            lock: None,
            leaves: false,
        };
        keeper.directory = keeper.answer()?.into();
        let locked = lock(&keeper.directory, FlockOperation::LockShared);
        keeper.lock = Some(locked.map_err(|error| cannot("lock", &keeper.directory, &error))?);
        Ok(keeper)
    }

    /// What it has made.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the monitor, whose configuration is in the directory by now.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_monitor(&mut self) -> Result<(), String> {
        self.order(START)
    }

    /// At the end, the directory is not removed.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn leave_directory(&mut self) -> Result<(), String> {
        self.order(LEAVE)?;
        self.leaves = true;
        Ok(())
    }

    fn order(&mut self, order: &str) -> Result<(), String> {
        let told = self
            .orders
            .as_mut()
            .map(|orders| writeln!(orders, "{order}"));
        told.transpose().map_err(|error| gone(&error))?;
        match self.answer()?.as_str() {
            DONE => Ok(()),
            why => Err(why.to_owned()),
        }
    }

    /// A line of it that is no error.
    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err(gone(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(gone(&error)),
            Ok(_) => match line.trim_end().split_once(' ') {
                Some(("ok", text)) => Ok(text.to_owned()),
                Some((_, why)) => Err(why.to_owned()),
                None => Err(gone(&io::ErrorKind::InvalidData.into())),
            },
        }
    }
}

fn gone(error: &io::Error) -> String {
    format!("the process that keeps the temporary directory has ended: {error}")
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        let ended = self.child.wait();
        // What it could not do, it has told itself, unless it was killed.
        let was_killed = ended.is_ok_and(|status| status.code().is_none());
        if was_killed
            && !self.leaves
            && let Err(why) = remove(&self.directory)
        {
            eprintln!("{}: {why}", crate::program());
        }
    }
}

/// Removes what is left in `parent` of installations whose processes were all killed.
///
/// # Errors
/// If `parent` cannot be read, and why something cannot be removed.
pub fn remove_left(parent: &Path) -> Result<(), String> {
    let entries = parent.read_dir();
    let entries = entries.map_err(|error| cannot("read", parent, &error))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let is_draft = entry.file_name().as_encoded_bytes().starts_with(b".");
        if is_draft || !path.is_dir() {
            continue;
        }
        if let Ok(_locked) = lock(&path, FlockOperation::NonBlockingLockExclusive) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Waits until the processes of an installation have gone, and removes what they have left of it.
///
/// # Errors
/// Why it cannot be removed.
pub fn clear(directory: &Path) -> Result<(), String> {
    match lock(directory, FlockOperation::LockExclusive) {
        Ok(_locked) => remove(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot("lock", directory, &error)),
    }
}

/// Locks a directory until what is returned is dropped.
fn lock(directory: &Path, how: FlockOperation) -> io::Result<File> {
    let opened = File::open(directory)?;
    flock(&opened, how)?;
    Ok(opened)
}

/// Ends the VM of an installation, and removes the directory.
fn remove(directory: &Path) -> Result<(), String> {
    let configuration = directory.join(CONFIGURATION);
    // Without a configuration, there never was a monitor.
    let config = Config::load(&configuration).ok();
    let vm = config.as_ref().and_then(|config| config.vm_names().next());
    if let Some(vm) = vm {
        // Its files are not to be removed while it runs.
        let ended = end_monitor(&configuration, vm);
        ended.map_err(|why| format!("its monitor does not end: {why}"))?;
        remove_group(&configuration, vm);
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(cannot("remove", directory, &error))
        }
        // Somebody else has been sooner.
        _ => Ok(()),
    }
}

/// Whether this process is a keeper.
#[must_use]
pub fn is_keeper() -> bool {
    crate::is_started_with(ARGUMENT)
}

/// The main function of that process.
#[must_use]
pub fn main() -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}: {why}", crate::program());
            ExitCode::FAILURE
        }
    }
}

/// From the beginning to the end of the installation.
fn keep() -> Result<(), String> {
    // Whoever ends all processes of a name must not leave the directory behind.
    let ignored = Arc::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let handled = signal_hook::flag::register(signal, Arc::clone(&ignored));
        handled.map_err(|error| format!("cannot handle signals: {error}"))?;
    }
    let mut args = std::env::args_os().skip(2);
    let (parent, name) = (
        args.next().unwrap_or_default(),
        args.next().unwrap_or_default(),
    );
    let vm = VmName::try_from(&*name.to_string_lossy()).map_err(|error| error.to_string())?;
    let (directory, _lock) = match make(Path::new(&parent), &vm) {
        Ok(made) => made,
        Err(error) => {
            let parent = Path::new(&parent).display();
            let why = format!("cannot make a temporary directory in {parent}: {error}");
            return say(&Err(why));
        }
    };
    // If the program has gone, its input ends at once.
    let _ = say(&Ok(directory.display().to_string()));
    let configuration = directory.join(CONFIGURATION);
    let mut monitor = Watched::new(configuration.clone(), vm.clone());
    let mut leaves = false;
    let mut input = io::stdin().lock();
    while let Ok(Some(order)) = monitor.next_order(&mut input) {
        let done = match order.as_str() {
            START => monitor.start(),
            LEAVE => {
                leaves = true;
                Ok(())
            }
            // A killed program may have said half of one.
            _ => continue,
        };
        // If the program has gone, the next line is the end.
        let _ = say(&done.map(|()| DONE.to_owned()));
    }
    let ended = match leaves {
        true => end_monitor(&configuration, &vm),
        false => remove(&directory),
    };
    ended.map_err(|why| format!("{}: {why}", directory.display()))
}

/// Makes a directory, which is locked before it has its name: so nobody takes it for one that is left.
fn make(parent: &Path, vm: &VmName) -> io::Result<(PathBuf, File)> {
    let parent = parent.canonicalize()?;
    let draft = tempfile::Builder::new().prefix(".").tempdir_in(&parent)?;
    let locked = lock(draft.path(), FlockOperation::LockShared)?;
    let random = draft.path().file_name().unwrap_or_default();
    let random = random.to_string_lossy();
    let name = format!(
        "{}-{vm}-{}",
        crate::program(),
        random.trim_start_matches('.')
    );
    let directory = parent.join(name);
    fs::rename(draft.path(), &directory)?;
    // It is no longer at that place.
    let _ = draft.keep();
    Ok((directory, locked))
}

fn say(answer: &Result<String, String>) -> Result<(), String> {
    let (word, text) = match answer {
        Ok(text) => ("ok", text),
        Err(why) => ("error", why),
    };
    let line = format!("{word} {}", text.replace('\n', " "));
    writeln!(io::stdout(), "{line}").map_err(|error| error.to_string())
}

/// Ends the VM, and removes its control group, if a monitor that was killed has left them.
fn remove_group(configuration: &Path, vm: &VmName) {
    let config = Config::load(configuration);
    if let Ok(config) = &config {
        // Only a monitor that was killed is outlived by its VM; what does not end keeps the group below.
        let _ = survivor::end(config, vm);
    }
    let directory = config.map(|config| config.global.vm_dir(vm));
    // Without the directory, there never was a monitor.
    if let Some(directory) = directory.ok().and_then(|path| path.metadata().ok()) {
        let name = ControlGroup::name(vm.as_str(), directory.dev(), directory.ino());
        let until = Instant::now() + END;
        while !ControlGroup::remove_left(&name) && Instant::now() < until {
            thread::sleep(AGAIN);
        }
    }
}

/// Ends the monitor, and with it the VM.
fn end_monitor(configuration: &Path, vm: &VmName) -> Result<(), String> {
    // Before there is a configuration, there is no monitor.
    let Ok(config) = Config::load(configuration) else {
        return Ok(());
    };
    let home = Home::of_monitor(&config.global, vm);
    let until = Instant::now() + END;
    let pid = loop {
        match home.holder() {
            Ok(None) => return Ok(()),
            Ok(Some(pid)) => break pid,
            Err(daemon::Error::Starting { .. }) if Instant::now() < until => thread::sleep(AGAIN),
            Err(error) => return Err(error.to_string()),
        }
    };
    let process = process::Process::open(&home, pid).map_err(|error| error.to_string())?;
    process.signal(Signal::TERM)?;
    let waited = process.wait(until, &|| true);
    waited.map_err(|error| error.to_string())?;
    match process.is_running() {
        Ok(false) => Ok(()),
        Ok(true) => Err(format!("pid {pid} runs after {} s", END.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}
