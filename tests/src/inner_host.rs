//! A host that is itself a guest, for faults that must not happen to the machine of the tests: a bare User Mode Linux
//! kernel whose root is the directory tree of the real host, read-only, so that the programs are there with their
//! libraries. What they write is in the memory of the guest, or on a disk of its own at `/mnt` (the end-to-end tests).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use xtask::dialogue::Dialogue;
use xtask::leftovers;

use crate::{PATIENCE, program, run, skip, wait_for};

/// Its kernel, with whichever the tier is run: a host is not what is tested.
const KERNEL: &str = "/usr/bin/linux.uml";

/// Its memory in megabytes.
const MEMORY: u32 = 128;

/// The configuration, with a VM that runs the fake kernel.
const CONFIGURATION: &str = "\
[GLOBAL]
vardir = /mnt/var
rundir = /run/umlmon
sitecmd = /bin/cat

[vm1]
vmuser = nobody
logfile = monitor
kernel = /shared/kernels/fake_linux
mem = 16
con0 = pty:con0
con1 = pty
";

/// The host. It runs from [`InnerHost::boot`] to [`InnerHost::cut_power`], and can be booted again.
pub struct InnerHost {
    power: Option<Power>,
    directory: TempDir,
}

/// What ends with the power.
struct Power {
    /// `unshare`, with which the kernel and all of its processes end.
    namespace: Child,
    shell: Dialogue,
    /// What the kernel says; kept for a failure.
    messages: Dialogue,
}

impl InnerHost {
    /// Makes the disk, on which there are a configuration with these lines added to the section of the only VM, and the
    /// fake kernel, and boots. None, and the test is noted as skipped, where this cannot be done.
    ///
    /// # Panics
    /// If something fails.
    #[track_caller]
    pub fn boot_with(lines: &[&str]) -> Option<InnerHost> {
        if !rustix::process::geteuid().is_root() {
            skip("needs root");
            return None;
        }
        if !Path::new(KERNEL).exists() {
            skip(&format!(
                "needs {KERNEL} (Debian: apt-get install user-mode-linux)"
            ));
            return None;
        }
        let directory = tempfile::Builder::new().prefix("umlmon-e2e-").tempdir();
        let mut host = InnerHost {
            power: None,
            directory: directory.unwrap(),
        };
        host.make_disk(lines);
        let rc = host.path("rc");
        fs::write(&rc, include_str!("inner_host/rc")).unwrap();
        fs::set_permissions(&rc, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(host.path("memory")).unwrap();
        // As a host has it: the kernel would look for one, and find what is small in a container.
        let size = std::ffi::CString::new(format!("size={}m", MEMORY + 16)).unwrap();
        let memory = host.path("memory");
        mount("tmpfs", &memory, "tmpfs", MountFlags::empty(), &*size).unwrap();
        host.boot();
        Some(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn make_disk(&self, lines: &[&str]) {
        let root = self.path("root");
        let kernels = root.join("var/shared/kernels");
        fs::create_dir_all(&kernels).unwrap();
        fs::copy(program("fake_linux"), kernels.join("fake_linux")).unwrap();
        let text = lines.iter().map(|line| format!("{line}\n"));
        let text = CONFIGURATION.to_owned() + &text.collect::<String>();
        fs::write(root.join("umlmon"), text).unwrap();
        let disk = self.path("disk");
        fs::File::create(&disk).unwrap().set_len(256 << 20).unwrap();
        let mut mke2fs = Command::new("mke2fs");
        let mke2fs = mke2fs.args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"]);
        run(mke2fs.arg(&root).arg(&disk)).ok();
        fs::remove_dir_all(&root).unwrap();
    }

    /// Boots it.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn boot(&mut self) {
        assert!(self.power.is_none(), "it runs already");
        let (shell, terminal) = UnixStream::pair().unwrap();
        let (messages, console) = UnixStream::pair().unwrap();
        let clone = |end: &UnixStream| OwnedFd::from(end.try_clone().unwrap());
        let programs = program("umlmon");
        let programs = programs.parent().expect("a program lies in a directory");
        let memory = self.path("memory");
        let mut command = Command::new("unshare");
        // Some kernels leave processes when they are killed, so they are in a namespace, in which it must not be PID 1.
        command
            .args(["--pid", "--fork", "--kill-child", "sh", "-c"])
            .args(["\"$@\"; exit $?", "sh", "setarch", "-R", KERNEL])
            .arg(format!("mem={MEMORY}M"))
            .arg(format!("uml_dir={}", memory.display()))
            .args(["umid=host", "noreboot", "con=none", "ssl=null"])
            .args(["con0=fd:2", "con1=fd:0,fd:1"])
            .args(["rootfstype=hostfs", "rootflags=/", "ro"])
            .arg(format!("ubd0d={}", self.path("disk").display()))
            .arg(format!("init={}", self.path("rc").display()))
            .arg(format!("programs={}", programs.display()))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TMPDIR", &memory)
            .stdin(clone(&terminal))
            .stdout(OwnedFd::from(terminal))
            .stderr(OwnedFd::from(console));
        let dialogue = |end: UnixStream| Dialogue::new(end.try_clone().unwrap(), end);
        let namespace = command.spawn().expect("unshare can be run");
        self.power = Some(Power {
            namespace,
            shell: dialogue(shell),
            messages: dialogue(messages),
        });
        self.expect("@up\n");
    }

    fn power(&mut self) -> &mut Power {
        self.power.as_mut().expect("it runs")
    }

    /// Begins a command of the shell of root, without waiting for its end.
    ///
    /// # Panics
    /// If the host has ended.
    #[track_caller]
    pub fn begin(&mut self, script: &str) {
        let sent = self.power().shell.send(&format!("{script}\n@end\n"));
        sent.unwrap();
    }

    /// Waits until a command says this; returns all that was said up to it.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        match self.power().shell.expect(text, PATIENCE) {
            Ok(said) => said,
            Err(why) => panic!("{why}\n{}", self.last_messages()),
        }
    }

    /// Waits until the command has ended, which must have no complaint; returns what it said.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn done(&mut self) -> String {
        let said = self.expect("@did ");
        let status = self.expect("\n");
        let said = said.trim_end_matches("@did ").to_owned();
        assert_eq!(status.trim(), "0", "{said}");
        said
    }

    /// Carries out a command, which must succeed; returns what it said.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn shell(&mut self, script: &str) -> String {
        self.begin(script);
        self.done()
    }

    /// Carries out a command until what it says contains `text`; returns that.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn wait_for(&mut self, script: &str, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.shell(script);
            if said.contains(text) {
                return said;
            }
            assert!(Instant::now() < deadline, "{script}: no {text:?} in {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it at once, as it is; only what its disk has been given stays. Returns what was said and not expected.
    ///
    /// # Panics
    /// If a process of it is left.
    #[track_caller]
    pub fn cut_power(&mut self) -> String {
        let Some(mut power) = self.power.take() else {
            return String::new();
        };
        power.namespace.kill().unwrap();
        power.namespace.wait().unwrap();
        let said = power.shell.expect_end(PATIENCE).unwrap();
        let directory = self.directory.path();
        wait_for("the end of the host", || {
            leftovers::processes(directory).is_empty().then_some(())
        });
        String::from_utf8_lossy(&said).into_owned()
    }

    /// What the kernel said last, for the report of a failure.
    fn last_messages(&mut self) -> String {
        let Some(mut power) = self.power.take() else {
            return String::new();
        };
        let _ = power.namespace.kill();
        let _ = power.namespace.wait();
        let said = power.messages.expect_end(PATIENCE).unwrap_or_default();
        let lines: Vec<_> = BufReader::new(&*said)
            .lines()
            .map_while(Result::ok)
            .collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for InnerHost {
    fn drop(&mut self) {
        match std::thread::panicking() {
            true => eprintln!("---- the host's last messages\n{}", self.last_messages()),
            false => drop(self.cut_power()),
        }
        // A leftover of a failed test must not keep the directory.
        let _ = unmount(self.path("memory"), UnmountFlags::DETACH);
    }
}
