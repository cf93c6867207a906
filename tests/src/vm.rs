//! A virtual machine of a [`World`]: how it is described, commanded, and looked at (the end-to-end tests).

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::unistd::User;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use xtask::dialogue::Dialogue;
use xtask::guest::{self, Login};

use crate::program::wait;
use crate::world::read_pid;
use crate::{Outcome, PATIENCE, Terminal, World, program, run, wait_for};

/// The kernel of the tier `real`.
pub fn real_kernel() -> PathBuf {
    std::env::var_os("UMLMON_TEST_KERNEL")
        .map_or_else(|| "/usr/bin/linux.uml".into(), PathBuf::from)
}

/// Lines of configuration that every VM with a small guest has in addition.
fn real_lines() -> Vec<String> {
    let set = std::env::var("UMLMON_TEST_LINES").unwrap_or_default();
    let lines = set.split(';').map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What is put into the jail as a disk.
enum Disk {
    Guest(Login),
    Bytes(Vec<u8>),
}

/// The description of a VM.
pub struct VmBuilder<'w> {
    world: &'w World,
    name: String,
    vmuser: String,
    mem: u32,
    kernel: PathBuf,
    consoles: Vec<u8>,
    disks: Vec<(u8, Disk)>,
    lines: Vec<String>,
    real_lines: Vec<String>,
}

impl<'w> VmBuilder<'w> {
    pub(crate) fn new(world: &'w World, name: &str) -> Self {
        VmBuilder {
            world,
            name: name.to_owned(),
            vmuser: "nobody".into(),
            mem: 64,
            kernel: program("fake_linux"),
            consoles: Vec::new(),
            disks: Vec::new(),
            lines: vec!["logfile = monitor".into(), "con0 = pty:con0".into()],
            real_lines: Vec::new(),
        }
    }

    /// With a real kernel and the small guest on ubd0.
    #[must_use]
    pub fn guest(mut self, login: Login) -> Self {
        self.kernel = real_kernel();
        self.real_lines = real_lines();
        self.disks.push((0, Disk::Guest(login)));
        self
    }

    /// With this file as its kernel.
    #[must_use]
    pub fn kernel(mut self, path: impl Into<PathBuf>) -> Self {
        self.kernel = path.into();
        self
    }

    /// With console `n` as a pty; con0 is always one, and logged.
    #[must_use]
    pub fn con(mut self, n: u8) -> Self {
        self.consoles.push(n);
        self
    }

    /// With so many megabytes of memory.
    #[must_use]
    pub fn mem(mut self, megabytes: u32) -> Self {
        self.mem = megabytes;
        self
    }

    /// Run as this user.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        self.vmuser = name.to_owned();
        self
    }

    /// With this flat disk as ubd`n`.
    #[must_use]
    pub fn disk(mut self, n: u8, content: impl Into<Vec<u8>>) -> Self {
        self.disks.push((n, Disk::Bytes(content.into())));
        self
    }

    /// With a script that the small guest runs at boot; its output appears on con0.
    #[must_use]
    pub fn at_boot(self, script: &str) -> Self {
        let mut disk = format!("#!/bin/sh\n{script}\n").into_bytes();
        // The kernel rounds up to whole sectors, the guest takes the zeros off.
        disk.resize(disk.len().next_multiple_of(512), 0);
        self.disk(15, disk)
    }

    /// With the fake kernel told to do this after boot, see `fake_linux`.
    #[must_use]
    pub fn fake(self, word: &str) -> Self {
        let line = format!("kernelarg = fake={word}");
        self.line(&line)
    }

    /// With one more line of configuration.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Writes it into the configuration, and starts nothing.
    pub fn configure(self) -> Vm<'w> {
        let file = self
            .kernel
            .file_name()
            .expect("a kernel has a name")
            .to_string_lossy()
            .into_owned();
        let mut section = format!(
            "vmuser = {}\nmem = {}\nkernel = /shared/kernels/{file}\n",
            self.vmuser, self.mem
        );
        let consoles = self.consoles.iter().map(|n| format!("con{n} = pty"));
        let disks = self
            .disks
            .iter()
            .map(|(n, _)| format!("ubd{n} = /disks/{n}.dsk"));
        // What a test asks for counts.
        let is_free = |line: &&String| {
            let name = line.split('=').next();
            self.lines.iter().all(|own| own.split('=').next() != name)
        };
        let real_lines = self.real_lines.iter().filter(is_free).cloned();
        let lines = self.lines.iter().cloned().chain(real_lines);
        for line in lines.chain(consoles).chain(disks) {
            section.push_str(&line);
            section.push('\n');
        }
        self.world.set_section(&self.name, Some(section));
        Vm {
            world: self.world,
            name: self.name,
            vmuser: self.vmuser,
            kernel: self.kernel,
            disks: self.disks,
        }
    }

    /// Writes it into the configuration, starts its monitor, and puts kernel and disks into the jail.
    ///
    /// # Panics
    /// If the monitor does not start.
    #[track_caller]
    pub fn monitor(self) -> Vm<'w> {
        let vm = self.configure();
        vm.start_monitor().ok();
        vm.put_files();
        vm
    }
}

/// A VM that has been configured.
pub struct Vm<'w> {
    world: &'w World,
    name: String,
    vmuser: String,
    kernel: PathBuf,
    disks: Vec<(u8, Disk)>,
}

impl Vm<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `VARDIR/VM/name`
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.path().join("var").join(&self.name).join(name)
    }

    /// The pid file of its monitor.
    pub fn pid_file(&self) -> PathBuf {
        self.world
            .path()
            .join("run")
            .join(format!("{}.pid", self.name))
    }

    /// Runs `umlmon VM`.
    #[track_caller]
    pub fn start_monitor(&self) -> Outcome {
        run(&mut self.world.command("umlmon", &[&self.name]))
    }

    /// Puts kernel and disks where the configuration says they are; the monitor must have made the jail.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn put_files(&self) {
        let kernels = self.file("jail/shared/kernels");
        let name = self.kernel.file_name().expect("a kernel has a name");
        copy(&self.kernel, &kernels.join(name));
        let mut libraries = self.kernel.clone().into_os_string();
        libraries.push(".lib");
        if Path::new(&libraries).is_dir() {
            copy(Path::new(&libraries), &kernels);
        }
        let (uid, gid) = self.owner();
        for (n, disk) in &self.disks {
            let file = self.file(&format!("jail/disks/{n}.dsk"));
            match disk {
                Disk::Guest(login) => copy(&image(*login), &file),
                Disk::Bytes(bytes) => fs::write(&file, bytes).unwrap(),
            }
            chown(&file, Some(uid), Some(gid)).unwrap();
        }
    }

    /// User and group of its disks.
    fn owner(&self) -> (u32, u32) {
        if self.vmuser == "auto" {
            let uid = fs::read_to_string(self.file("uid")).unwrap();
            let uid = uid.trim_end().parse().unwrap();
            return (uid, uid);
        }
        let user = User::from_name(&self.vmuser)
            .unwrap()
            .expect("the user of the VM exists");
        (user.uid.as_raw(), user.gid.as_raw())
    }

    /// umlwatch with these commands, ready to run.
    pub fn command(&self, commands: &[&str]) -> Command {
        self.world
            .command("umlwatch", &[&[self.name.as_str()], commands].concat())
    }

    /// Runs umlwatch with these commands.
    #[track_caller]
    pub fn umlwatch(&self, commands: &[&str]) -> Outcome {
        run(&mut self.command(commands))
    }

    /// Starts the kernel and waits until the guest says on con0 that it is up.
    #[track_caller]
    pub fn start(&self) {
        let before = self.con0().matches("GUEST-READY").count();
        self.umlwatch(&["-start"]).ok();
        self.wait_con0("GUEST-READY", before + 1);
    }

    /// Kills its kernel, and waits for the end.
    ///
    /// # Panics
    /// If it does not end, or leaves something behind.
    #[track_caller]
    pub fn kill(&self) {
        self.umlwatch(&["-kill"]).ok();
        self.wait_inactive();
    }

    /// Waits until it is inactive, and asserts what that means.
    #[track_caller]
    pub fn wait_inactive(&self) {
        self.umlwatch(&["-wait", &PATIENCE.as_secs().to_string()])
            .ok();
        assert_eq!(self.state(), "inactive");
        let jail = self.file("jail");
        let mounts = xtask::leftovers::mounts(&jail);
        assert_eq!(mounts, [format!("mount {}", jail.join("shared").display())]);
        let processes = xtask::leftovers::processes(&jail);
        assert_eq!(processes, [""; 0], "this still runs in the jail");
        let monitor = self.monitor_pid();
        // One may look at the kernel for a client that asks for information meanwhile.
        wait_for("the monitor has no children", || {
            let children = format!("/proc/{monitor}/task/{monitor}/children");
            let children = fs::read_to_string(children).unwrap();
            children.trim().is_empty().then_some(())
        });
    }

    /// What `umlwatch -info -json` says.
    #[track_caller]
    pub fn info(&self) -> Value {
        serde_json::from_str(&self.umlwatch(&["-json", "-info"]).ok()).expect("-json prints JSON")
    }

    /// Its state, in the word of `-info -json`.
    #[track_caller]
    pub fn state(&self) -> String {
        text(&self.info()["state"])
    }

    /// How the last run ended, and the sentence about it.
    #[track_caller]
    pub fn last_end(&self) -> (String, String) {
        let info = self.info();
        (
            text(&info["last_end"]["how"]),
            text(&info["last_end"]["text"]),
        )
    }

    /// The process number that `-info -json` gives under this name.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let number = self.info()[name]
            .as_i64()
            .and_then(|number| i32::try_from(number).ok());
        number
            .filter(|number| *number > 0)
            .unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// A session on con1 of the fake kernel, which has been greeted.
    #[track_caller]
    pub fn on_con1(&self) -> Console {
        let mut console = self.connect("con1");
        console.expect("fake login on con1");
        console
    }

    /// Ends the monitor in the regular way.
    #[track_caller]
    pub fn end_monitor(&self) {
        let monitor = Pid::from_raw(self.monitor_pid()).unwrap();
        kill_process(monitor, Signal::TERM).unwrap();
        wait_for("the monitor ends", || {
            (!self.pid_file().exists()).then_some(())
        });
    }

    /// The process number of the monitor.
    #[track_caller]
    pub fn monitor_pid(&self) -> i32 {
        read_pid(&self.pid_file())
            .expect("there is a pid file")
            .as_raw_nonzero()
            .get()
    }

    /// Waits until so many bytes as `expected` has follow `marker` in the log of a channel; asserts that they are
    /// these.
    #[track_caller]
    pub fn expect_log(&self, channel: &str, marker: &str, expected: &[u8]) {
        let path = self.file("log").join(channel);
        let begin = wait_for(&format!("{marker:?} in {}", path.display()), || {
            let log = fs::read(&path).ok()?;
            let at = log
                .windows(marker.len())
                .position(|part| part == marker.as_bytes())?;
            Some(at + marker.len())
        });
        let end = begin + expected.len();
        wait_for(&format!("{end} bytes in {}", path.display()), || {
            (fs::metadata(&path).ok()?.len() >= end as u64).then_some(())
        });
        let log = fs::read(&path).unwrap();
        let wrong = log[begin..]
            .iter()
            .zip(expected)
            .position(|(came, sent)| came != sent);
        assert_eq!(
            wrong,
            None,
            "{}: the first wrong byte after {marker:?}",
            path.display()
        );
    }

    /// The log of con0.
    pub fn con0(&self) -> String {
        let log = fs::read(self.file("log/con0")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until `text` stands `times` times in the log of con0.
    #[track_caller]
    pub fn wait_con0(&self, text: &str, times: usize) {
        let what = format!("{}: {times} times {text:?} on con0", self.name);
        wait_for(&what, || {
            (self.con0().matches(text).count() >= times).then_some(())
        });
    }

    /// Connects with a channel, with pipes in place of a terminal.
    #[track_caller]
    pub fn connect(&self, channel: &str) -> Console {
        Console::of(&mut self.command(&["-connect", channel]))
    }

    /// Connects with a channel as a user at a terminal of this size does. `how` is `-connect` or `-force-connect`.
    pub fn terminal(&self, how: &str, channel: &str, rows: u16, columns: u16) -> Terminal {
        Terminal::run(&self.command(&[how, channel]), rows, columns)
    }
}

/// umlwatch connected with a channel.
pub struct Console {
    dialogue: Dialogue,
    remarks: Dialogue,
    child: Child,
}

impl Console {
    /// Runs umlwatch with pipes in place of a terminal.
    #[track_caller]
    pub fn of(command: &mut Command) -> Console {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("umlwatch can be run");
        let (stdout, stdin) = child
            .stdout
            .take()
            .zip(child.stdin.take())
            .expect("it has pipes");
        let stderr = child.stderr.take().expect("it has pipes");
        Console {
            dialogue: Dialogue::new(stdout, stdin),
            remarks: Dialogue::new(stderr, std::io::sink()),
            child,
        }
    }

    /// Waits for `text`; returns all that came up to it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.dialogue.expect(text, PATIENCE).unwrap_or_else(|why| {
            let remarks = self.remarks.expect_end(PATIENCE).unwrap_or_default();
            panic!("{why}; umlwatch: {}", String::from_utf8_lossy(&remarks))
        })
    }

    /// Types `text`.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.dialogue.send(text).unwrap();
    }

    /// Waits for a remark of umlwatch itself.
    #[track_caller]
    pub fn expect_remark(&mut self, text: &str) {
        self.remarks.expect(text, PATIENCE).unwrap();
    }

    /// Ends the connection, as a closed terminal does, and asserts that umlwatch is content with it.
    #[track_caller]
    pub fn leave(mut self) {
        self.dialogue.finish_typing();
        let status = wait(&mut self.child, PATIENCE).expect("umlwatch ends when stdin does");
        let remarks = self.remarks.expect_end(PATIENCE).unwrap();
        assert!(
            status.success(),
            "{status}: {}",
            String::from_utf8_lossy(&remarks)
        );
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Not reaped before, so the number is still its own.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// Copies a file sparsely, or a directory.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp")
        .args(["-r", "--sparse=always", "--"])
        .arg(from)
        .arg(to))
    .ok();
}

/// The image of the small guest, made once for a test program.
fn image(login: Login) -> PathBuf {
    static IMAGES: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    let (made, name) = match login {
        Login::Password => (&IMAGES[0], "guest-login.dsk"),
        Login::RootShell => (&IMAGES[1], "guest-shell.dsk"),
    };
    made.get_or_init(|| {
        let path = program("umlmon").with_file_name(name);
        guest::build(&path, guest::SIZE_MB, login).expect("the guest image can be made");
        path
    })
    .clone()
}
