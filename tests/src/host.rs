//! A host for those tests that need the real paths: overlays over what they write to, in a mount namespace of the
//! test's thread and so of what it starts; the host's own directories stay as they are. And one that can be rebooted
//! (the end-to-end tests).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use xtask::guest::{helper_in, helper_target};

use crate::{Outcome, called, program, run, wait_for};

/// The directory that keeps what is written to covered ones. It can be removed when its mount is gone.
pub struct Scratch(TempDir);

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// Covers `/etc`, `/var`, `/usr/local` and `/run` for this thread.
///
/// # Panics
/// If that is not possible.
pub fn cover() -> Scratch {
    let scratch = Scratch(tempfile::tempdir().unwrap());
    cover_with(scratch.path());
    scratch
}

fn cover_with(scratch: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).unwrap();
    let tmpfs = Some("tmpfs");
    mount(tmpfs, scratch, tmpfs, MsFlags::empty(), none).unwrap();
    for name in ["etc", "var", "usr/local"] {
        let (upper, work) = (
            scratch.join(name).join("upper"),
            scratch.join(name).join("work"),
        );
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let (upper, work) = (upper.display(), work.display());
        let options = format!("lowerdir=/{name},upperdir={upper},workdir={work}");
        let overlay = Some("overlay");
        mount(
            overlay,
            &*format!("/{name}"),
            overlay,
            MsFlags::empty(),
            Some(&*options),
        )
        .unwrap();
    }
    mount(tmpfs, "/run", tmpfs, MsFlags::empty(), none).unwrap();
}

/// Installs the programs and the init script below `/usr/local` and `/etc`, as they have just been built.
///
/// # Panics
/// If that is not possible.
pub fn install() {
    for name in ["umlmon", "umldir", "umladmin"] {
        fs::copy(program(name), Path::new("/usr/local/sbin").join(name)).unwrap();
    }
    fs::copy(program("umlwatch"), "/usr/local/bin/umlwatch").unwrap();
    fs::create_dir_all("/usr/local/lib/umlmon").unwrap();
    fs::copy(program("umlkeep"), "/usr/local/lib/umlmon/umlkeep").unwrap();
    // Only commands in guests need it, and only `cargo xtask` builds it.
    let helper = helper_in(&helper_target());
    if helper.exists() {
        fs::copy(helper, "/usr/local/lib/umlmon/umlguest").unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../init.d/umlmon");
    fs::copy(script, "/etc/init.d/umlmon").unwrap();
}

/// Installs what `umladmin run` and `umladmin image` need below this directory. Returns umladmin.
///
/// # Panics
/// If that is not possible.
pub fn install_below(prefix: &Path) -> PathBuf {
    let helper = helper_in(&helper_target());
    for (from, to) in [
        (program("umladmin"), "sbin/umladmin"),
        (program("umlmon"), "sbin/umlmon"),
        (program("umlkeep"), "lib/umlmon/umlkeep"),
        (helper, "lib/umlmon/umlguest"),
    ] {
        let to = prefix.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&from, &to).expect("`cargo xtask guest` builds the helper");
    }
    prefix.join("sbin/umladmin")
}

/// Installs the shim of containerd, and what it needs, in this directory. Returns the shim.
///
/// # Panics
/// If that is not possible.
pub fn install_shim(directory: &Path) -> PathBuf {
    let umladmin = install_below(&directory.join("prefix"));
    let shim = umladmin.with_file_name("containerd-shim-uml-v2");
    fs::copy(program("containerd-shim-uml-v2"), &shim).unwrap();
    shim
}

/// A host between its boot and its end: PID and mount namespaces in which an own PID 1 runs. Files outlast it.
pub struct Host {
    /// `unshare`, whose child is PID 1 and ends with it.
    unshare: Child,
    /// PID 1, as it is called outside.
    init: String,
}

impl Host {
    /// Boots; nothing runs but PID 1.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn boot() -> Host {
        // PID 1 has to reap what its daemons leave.
        let init = "while :; do sleep 1000 & wait; done";
        let words = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
        let unshare = Command::new("unshare")
            .args(words)
            .args(["sh", "-c", init])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = unshare.id();
        let init = wait_for("PID 1 of the host", || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            let child = children.trim().to_owned();
            // It is ready when it has its own /proc.
            let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name.trim() == "sh").then_some(child)
        });
        Host { unshare, init }
    }

    /// Runs a command on it.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Outcome {
        let mut command = called("nsenter");
        command.args(["--target", &self.init, "--mount", "--pid"]);
        run(command.args(words))
    }

    /// Switches it off: all processes end at once, and all mounts with them.
    ///
    /// # Panics
    /// If it does not end.
    pub fn switch_off(mut self) {
        self.unshare.kill().unwrap();
        self.unshare.wait().unwrap();
        let init = format!("/proc/{}", self.init);
        wait_for("the end of the host", || {
            (!Path::new(&init).exists()).then_some(())
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// A control group that bounds the number of processes.
pub struct Cage {
    directory: std::path::PathBuf,
    root: std::path::PathBuf,
}

impl Cage {
    /// Makes it, in either version of cgroups(7); None, and the test is noted as skipped, where that is not possible.
    pub fn new() -> Option<Cage> {
        let (first, second) = (
            Path::new("/sys/fs/cgroup/pids"),
            Path::new("/sys/fs/cgroup"),
        );
        let root = if first.exists() { first } else { second };
        // Needed, and possible, in version 2 only.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+pids");
        let directory = root.join(format!("umlmon-e2e-{}", std::process::id()));
        let made = fs::create_dir(&directory).is_ok();
        let cage = made.then(|| Cage {
            directory,
            root: root.to_owned(),
        });
        let cage = cage.filter(|cage| cage.directory.join("pids.max").exists());
        if cage.is_none() {
            crate::skip("needs control groups that bound the number of processes");
        }
        cage
    }

    /// Puts a process into it.
    pub fn take(&self, pid: i32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Allows so many processes; None: any number.
    pub fn allow(&self, number: Option<u32>) {
        let number = number.map_or("max".to_owned(), |number| number.to_string());
        fs::write(self.directory.join("pids.max"), number).unwrap();
    }

    /// The same command, run in it.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec \"$@\"",
            self.directory.display()
        );
        inside.args(["-c", &enter, "sh"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // What is in it goes on without it.
        let inside = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            let _ = fs::write(self.root.join("cgroup.procs"), pid);
        }
        let removed = fs::remove_dir(&self.directory);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}
