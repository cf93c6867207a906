//! A separate installation in which a kernel is tried: a temporary directory with configuration, jail and monitor,
//! which are removed when this is dropped (umladmin).

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Client;
use config::{Config, VmName};
use daemon::Home;
use jail::{Account, Program};
use rustix::process::Signal;
use tempfile::TempDir;

use super::guest::INIT;
use super::image::{self, cannot};
use super::pattern;
use super::talk::Talk;
use super::watch::Watch;
use crate::{monitor, start};

/// The VM.
const NAME: &str = "kernelcheck";
/// The user that runs it.
const USER: &str = "nobody";
/// The memory for all trials but that of the least memory, in megabytes.
pub(crate) const MEMORY: u32 = 64;
/// How long the monitor may take to end.
const END: Duration = Duration::from_secs(20);

/// See above.
pub(crate) struct Installation {
    directory: TempDir,
    config: Config,
    vm: VmName,
    watch: Arc<Watch>,
}

impl Installation {
    /// Makes it, with a running monitor and an inactive VM, for this kernel with its libraries.
    pub(crate) fn make(
        kernel: &Program,
        libraries: &[(PathBuf, PathBuf)],
        watch: &Arc<Watch>,
    ) -> Result<Installation, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let directory = tempfile::Builder::new()
            .prefix("umladmin-kernelcheck-")
            .tempdir();
        let directory =
            directory.map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        let path = directory.path().canonicalize().map_err(|e| text(&e))?;
        let file = path.join("umlmon");
        write_configuration(&path, MEMORY, "")?;
        let config = Config::load(&file).map_err(|e| text(&e))?;
        let vm = VmName::try_from(NAME).map_err(|e| text(&e))?;
        let installation = Installation {
            directory,
            config,
            vm,
            watch: Arc::clone(watch),
        };
        let program = start::monitor_program();
        // Ctrl-C goes to everything on the terminal; this program ends the monitor at the right time.
        start::start_monitor(&program, &file, &installation.vm, start::Group::Own)?;
        installation.put_kernel(kernel, libraries)?;
        installation.put_disks(&path)?;
        Ok(installation)
    }

    /// Copies the file that was looked at, and those libraries that are not the host's.
    fn put_kernel(&self, kernel: &Program, libraries: &[(PathBuf, PathBuf)]) -> Result<(), String> {
        let kernels = self.config.global.shared.join("kernels");
        let linux = kernels.join("linux");
        let copied = kernel.copy_to(&linux);
        copied.map_err(|error| cannot("write", &linux, &error))?;
        let own = kernel.beside();
        let libraries = libraries.iter().map(|(library, _)| library);
        for library in libraries.filter(|library| library.starts_with(&own)) {
            let to = kernels.join("linux.lib");
            fs::create_dir_all(&to).map_err(|error| cannot("make", &to, &error))?;
            let name = library.file_name().unwrap_or_default();
            fs::copy(library, to.join(name)).map_err(|error| cannot("copy", library, &error))?;
        }
        Ok(())
    }

    fn put_disks(&self, path: &Path) -> Result<(), String> {
        let tree = path.join("tree");
        image::make_root(&tree, &self.disk("root.dsk"))?;
        fs::remove_dir_all(&tree).map_err(|error| cannot("remove", &tree, &error))?;
        for (name, seed) in [
            ("flat.dsk", pattern::FLAT_SEED),
            ("base.dsk", pattern::COW_SEED),
        ] {
            let disk = self.disk(name);
            fs::write(&disk, pattern::pattern(seed, pattern::SIZE))
                .map_err(|error| cannot("write", &disk, &error))?;
        }
        let account = Account::resolve(USER, None).map_err(|error| error.to_string())?;
        for name in ["root.dsk", "flat.dsk", "base.dsk"] {
            let disk = self.disk(name);
            chown(&disk, Some(account.uid), Some(account.gid))
                .map_err(|error| cannot("give away", &disk, &error))?;
        }
        self.talk()?.make_cow("/disks/x.cow", "/disks/base.dsk")
    }

    /// A disk of the VM.
    pub(crate) fn disk(&self, name: &str) -> PathBuf {
        self.config
            .global
            .vm_dir(&self.vm)
            .join("jail/disks")
            .join(name)
    }

    /// The next start is with so many megabytes of memory, and with these lines in addition.
    pub(crate) fn set(&self, megabytes: u32, lines: &str) -> Result<(), String> {
        let path = self.config.path.parent().unwrap_or(Path::new("/"));
        write_configuration(path, megabytes, lines)
    }

    /// A connection to the monitor.
    pub(crate) fn talk(&self) -> Result<Talk, String> {
        let client = Client::at(&self.vm, self.config.global.ctrl(&self.vm));
        Talk::begin(client, &self.watch)
    }
}

impl Drop for Installation {
    /// Ends the monitor, and with it the VM; then the directory is removed.
    fn drop(&mut self) {
        let home = Home::of_monitor(&self.config.global, &self.vm);
        let Ok(Some(pid)) = home.holder() else {
            return;
        };
        let ended = monitor::Process::open(&home, pid)
            .map_err(|error| error.to_string())
            .and_then(|process| {
                process.signal(Signal::TERM)?;
                process
                    .wait(Instant::now() + END, &|| true)
                    .map_err(|error| error.to_string())
            });
        if let Err(why) = ended {
            let path = self.directory.path().display();
            eprintln!("umladmin: {path}: its monitor, pid {pid}, does not end: {why}");
            // Its mounts there are not ours to remove.
            self.directory.disable_cleanup(true);
        }
    }
}

fn write_configuration(path: &Path, megabytes: u32, lines: &str) -> Result<(), String> {
    let shown = path.display();
    let text = format!(
        "[GLOBAL]\nvardir = {shown}/var\nrundir = {shown}/run\n\
         [{NAME}]\nvmuser = {USER}\nmem = {megabytes}\nkernel = /shared/kernels/linux\nlogfile = monitor\n\
         con0 = pty:con0\ncon1 = pty\nssl0 = pty\n\
         ubd0 = /disks/root.dsk\nubd1 = /disks/flat.dsk\nubd2 = /disks/x.cow\n\
         kernelarg = root=/dev/ubda\nkernelarg = ro\nkernelarg = init={INIT}\n{lines}"
    );
    for directory in ["var", "run"] {
        let directory = path.join(directory);
        fs::create_dir_all(&directory).map_err(|error| cannot("make", &directory, &error))?;
    }
    let file = path.join("umlmon");
    fs::write(&file, text).map_err(|error| cannot("write", &file, &error))
}
