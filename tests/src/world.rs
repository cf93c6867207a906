//! An installation of its own for one test (the end-to-end tests).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use xtask::leftovers;

use crate::{Outcome, Vm, VmBuilder, called, program, run, skip, wait_for};

/// A configuration with `vardir` and `rundir` in a directory that nothing else uses.
pub struct World {
    directory: TempDir,
    path: PathBuf,
    /// By name of the VM.
    sections: Mutex<BTreeMap<String, String>>,
    global: Mutex<String>,
}

impl World {
    /// A new world; None, and the test is noted as skipped, where it cannot be had.
    ///
    /// # Panics
    /// If its files cannot be made.
    pub fn new() -> Option<World> {
        if !rustix::process::geteuid().is_root() {
            skip("needs root");
            return None;
        }
        Some(World::unprivileged())
    }

    /// A new world for a test with a real kernel; None, and the test is noted as skipped, where there is none.
    ///
    /// # Panics
    /// As [`World::new`].
    pub fn with_real_kernel() -> Option<World> {
        let kernel = crate::vm::real_kernel();
        if !kernel.exists() {
            let kernel = kernel.display();
            skip(&format!(
                "needs {kernel} (Debian: apt-get install user-mode-linux)"
            ));
            return None;
        }
        World::new()
    }

    /// A new world for a test that starts no monitor.
    ///
    /// # Panics
    /// If its files cannot be made.
    pub fn unprivileged() -> World {
        let directory = tempfile::Builder::new()
            .prefix("umlmon-e2e-")
            .tempdir()
            .unwrap();
        let path = directory.path().canonicalize().unwrap();
        for name in ["var", "run"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        let world = World {
            directory,
            path,
            sections: Mutex::default(),
            global: Mutex::default(),
        };
        world.write_configuration();
        world
    }

    /// A file in it that root alone can read.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.path.join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// The directory of everything.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.path.join("umlmon")
    }

    /// Adds a line to `[GLOBAL]`.
    pub fn global(&self, line: &str) {
        self.global.lock().unwrap().push_str(&format!("{line}\n"));
        self.write_configuration();
    }

    /// Changes a line of `[GLOBAL]`.
    pub fn change_global(&self, line: &str, to: &str) {
        let mut global = self.global.lock().unwrap();
        *global = global.replace(line, to);
        drop(global);
        self.write_configuration();
    }

    /// Begins the description of a VM; it runs the fake kernel unless something else is said.
    pub fn vm(&self, name: &str) -> VmBuilder<'_> {
        VmBuilder::new(self, name)
    }

    /// Sets the section of a VM; None removes it.
    pub(crate) fn set_section(&self, name: &str, section: Option<String>) {
        match section {
            Some(section) => self
                .sections
                .lock()
                .unwrap()
                .insert(name.to_owned(), section),
            None => self.sections.lock().unwrap().remove(name),
        };
        self.write_configuration();
    }

    /// Removes a VM from the configuration.
    pub fn forget(&self, vm: &Vm<'_>) {
        self.set_section(vm.name(), None);
    }

    fn write_configuration(&self) {
        let path = self.path.display();
        let mut text = format!(
            "[GLOBAL]\nvardir = {path}/var\nrundir = {path}/run\n{}",
            self.global.lock().unwrap()
        );
        for (name, section) in &*self.sections.lock().unwrap() {
            text.push_str(&format!("\n[{name}]\n{section}"));
        }
        // In one step, as programs of other VMs may be reading it.
        let new = self.path.join("umlmon.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.configuration()).unwrap();
    }

    /// A command for one of the programs, with the configuration of this world.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = called(program(name));
        // Built by cargo, so the system's directories suffice, and a test does not depend on what else is installed.
        command.arg("-config").arg(self.configuration()).args(args);
        command
    }

    /// Runs umladmin.
    #[track_caller]
    pub fn umladmin(&self, args: &[&str]) -> Outcome {
        run(&mut self.command("umladmin", args))
    }

    /// The names of the VMs that have a pid file, whether or not they are configured.
    fn monitors(&self) -> Vec<(PathBuf, Pid)> {
        let Ok(entries) = fs::read_dir(self.path.join("run")) else {
            return Vec::new();
        };
        let files = entries.flatten().map(|entry| entry.path());
        files
            .filter_map(|path| Some((path.clone(), read_pid(&path)?)))
            .collect()
    }

    /// Ends all monitors in the regular way, and asserts that nothing is left.
    fn end(&self) {
        for (path, pid) in self.monitors() {
            let monitor = format!("{}: its monitor does not end with SIGTERM", path.display());
            kill_process(pid, Signal::TERM)
                .unwrap_or_else(|error| panic!("{}: stale: {error}", path.display()));
            wait_for(&monitor, || (!path.exists()).then_some(()));
        }
        // What ends takes a moment to disappear from /proc.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !leftovers::of(&self.path).is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(leftovers::of(&self.path), [""; 0], "this is left behind");
        let sections = self.sections.lock().unwrap();
        for name in sections.keys().map(String::as_str).chain(["directory"]) {
            let socket = self.path.join("var").join(name).join("ctrl");
            assert!(!socket.exists(), "{} is left behind", socket.display());
        }
        let run: Vec<_> = fs::read_dir(self.path.join("run"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(run.is_empty(), "left behind: {run:?}");
    }

    /// The processes of VMs that live without a monitor, by what that has recorded.
    fn survivors(&self) -> Vec<Pid> {
        let vms = fs::read_dir(self.path.join("var")).into_iter().flatten();
        let records = vms.flatten().map(|vm| fs::read(vm.path().join("run")));
        let pid = |record: Vec<u8>| {
            let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
            let pid = i32::try_from(record["child"]["pid"].as_i64()?).ok()?;
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            let is_it = program.to_string_lossy().contains("/umlkeep");
            Pid::from_raw(pid).filter(|_| is_it)
        };
        records.flatten().filter_map(pid).collect()
    }

    /// After a failure: shows what may explain it, and removes all.
    fn give_up(&self) {
        let vms = fs::read_dir(self.path.join("var"))
            .into_iter()
            .flatten()
            .flatten();
        for log in vms.flat_map(|vm| {
            fs::read_dir(vm.path().join("log"))
                .into_iter()
                .flatten()
                .flatten()
        }) {
            show_end(&log.path());
        }
        for _ in 0..3 {
            for line in leftovers::processes(&self.path) {
                eprintln!("left: {line}");
                let number = line
                    .split([' ', ':'])
                    .nth(1)
                    .and_then(|number| number.parse().ok());
                if let Some(pid) = number.and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for pid in self.survivors() {
            eprintln!("left: VM {pid}, without a monitor");
            let _ = kill_process(pid, Signal::KILL);
        }
        for line in leftovers::mounts(&self.path).iter().rev() {
            eprintln!("left: {line}");
            let point = line.trim_start_matches("mount ");
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        for line in leftovers::groups(&self.path.join("var")) {
            eprintln!("left: {line}");
            let _ = fs::remove_dir(line.trim_start_matches("control group "));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.give_up();
        } else {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.end()));
            if let Err(why) = ended {
                self.give_up();
                std::panic::resume_unwind(why);
            }
        }
        // Removing the directory must not follow a mount that is still there into somebody else's files.
        if !leftovers::mounts(&self.path).is_empty() {
            self.directory.disable_cleanup(true);
        }
    }
}

/// Shows the last lines of a log.
pub(crate) fn show_end(log: &Path) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let skipped = text.lines().count().saturating_sub(60);
    eprintln!("---- {}, its last lines", log.display());
    text.lines()
        .skip(skipped)
        .for_each(|line| eprintln!("{}", line.escape_debug()));
}

/// The number in a pid file.
pub(crate) fn read_pid(path: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(path).ok()?.trim().parse().ok()?)
}
