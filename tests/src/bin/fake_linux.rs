//! A stand-in for a User Mode Linux kernel, run in the jail by the monitor under test: to the monitor it behaves like
//! a kernel, but it is up in a millisecond, and misbehaves as told.
//!
//! It obeys lines typed on any of its consoles, and the same words given as kernel arguments `fake=WORD`:
//!
//! ```text
//! poweroff  reboot  crash  panic:TEXT  exit:N  kill-yourself   how to end, and at once
//! flood:CONSOLE:BYTES                                          writes so much of `e2e::flood`
//! tick:CONSOLE                                                 writes a short line there every millisecond from now on
//! unread:CONSOLE  read:CONSOLE                                 does not read it any more; does again
//! hang-cad  reboot-on-cad                                      what CTRL-ALT-DEL does; it powers off otherwise
//! silent-mconsole  endless-mconsole:N  nonsense-mconsole       how the mconsole answers, in parts of N bytes; properly
//!                                                              otherwise
//! notices:N                                                    sends so many messages of the guest to the monitor
//! attack                                                       tries to get out of the jail, and says what worked
//! execute:PROGRAM,ARG...                                       runs it on con0, and says how it ended
//! no-init                                                      no init handles CTRL-ALT-DEL yet
//! use-disk:N  free-disk:N                                      the guest uses ubdN; does not any more
//! lose-disk-request  lose-disk-answer                          what becomes of the next request about a disk
//! never-up                                                     (argument only) hangs before there is an mconsole
//! give-up:TEXT                                                 (argument only) ends before there is an mconsole
//! clock                                                        says when it began to run
//! bomb                                                         starts threads until it may not any more
//! spin:N                                                       starts so many threads that never sleep
//! hog:N                                                        takes so many megabytes of memory
//! ```
//!
//! Called with `clock` alone, it says so on stdout and ends, and with `flood BYTES` it writes that to stdout: for
//! `cargo xtask bench`.
//!
//! Anything else that is typed comes back as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::exit;

use anyhow::Context as _;
use e2e::fake_disks::{FakeDisks, Fault};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;

fn main() -> anyhow::Result<()> {
    let began = clock();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["--help"] {
        // What a monitor looks for in the file of a kernel.
        println!(
            "eth[0-9]+=<transport>,<options>\nvec[0-9]+:<option>=<value>,<option>=<value>\n\
             seccomp=<on/auto/off>\nncpus=<# of desired CPUs>"
        );
        return Ok(());
    }
    if args == ["clock"] {
        println!("{began}");
        return Ok(());
    }
    if let [word, bytes] = args.as_slice()
        && word == "flood"
    {
        let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        return Ok(output.write_all(&e2e::flood(bytes.parse()?))?);
    }
    while args.iter().any(|arg| arg == "fake=never-up") {
        std::thread::park();
    }
    let mut kernel = Kernel::new(began, args)?;
    kernel.boot()?;
    kernel.run()
}

struct Kernel {
    /// As [`clock`] shows it.
    began: String,
    args: Vec<String>,
    consoles: BTreeMap<String, Console>,
    mconsole: UnixDatagram,
    /// `UML_DIR/UMID`, removed by an orderly end.
    directory: PathBuf,
    signals: SignalFd,
    suspended: bool,
    answers: Answers,
    init: bool,
    cad: Cad,
    disks: FakeDisks,
}

enum Answers {
    Properly,
    Never,
    /// In parts of so many bytes.
    Endlessly(u32),
    Nonsense,
}

enum Cad {
    PowersOff,
    Reboots,
    Hangs,
}

struct Console {
    input: File,
    output: File,
    /// The beginning of a line.
    typed: String,
    /// What is typed is not read.
    unread: bool,
}

impl Console {
    /// What the kernel waits for.
    fn awaited(&self) -> PollFlags {
        match self.unread {
            true => PollFlags::empty(),
            false => PollFlags::IN,
        }
    }
}

impl Kernel {
    fn new(began: String, args: Vec<String>) -> anyhow::Result<Kernel> {
        for arg in &args {
            if let Some(text) = arg.strip_prefix("fake=give-up:") {
                eprintln!("{text}");
                exit(1);
            }
        }
        let mut consoles = BTreeMap::new();
        for arg in &args {
            // `con=fd:N` is for the consoles that are not configured.
            if let Some((name, fds)) = arg.split_once("=fd:").filter(|(name, _)| *name != "con") {
                let (input, output) = fds.split_once(",fd:").unwrap_or((fds, fds));
                let input = descriptor(input)?;
                let output = if output == fds {
                    input.try_clone()?
                } else {
                    descriptor(output)?
                };
                consoles.insert(
                    name.to_owned(),
                    Console {
                        input: input.into(),
                        output: output.into(),
                        typed: String::new(),
                        unread: false,
                    },
                );
            }
        }
        let value = |key: &str| {
            args.iter()
                .rev()
                .find_map(|arg| arg.strip_prefix(key)?.strip_prefix('='))
        };
        let directory = PathBuf::from(value("uml_dir").context("no uml_dir=")?)
            .join(value("umid").context("no umid=")?);
        std::fs::create_dir(&directory).context("Failed to initialize umid")?;
        std::fs::write(directory.join("pid"), std::process::id().to_string())?;
        // From here on SIGIO, which a monitor uses as a nudge, does not kill any more; so it is with a kernel.
        let held = SigSet::from_iter([
            Signal::SIGIO,
            Signal::SIGHUP,
            Signal::SIGTERM,
            Signal::SIGINT,
        ]);
        held.thread_block()?;
        let signals = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC)?;
        let mconsole = UnixDatagram::bind(directory.join("mconsole"))?;
        let (suspended, answers, init, cad) = (false, Answers::Properly, true, Cad::PowersOff);
        Ok(Kernel {
            began,
            consoles,
            mconsole,
            directory,
            signals,
            suspended,
            answers,
            init,
            cad,
            disks: FakeDisks::of(&args),
            args,
        })
    }

    fn boot(&mut self) -> anyhow::Result<()> {
        self.print("Linux version 6.1.0-fake");
        self.print(&format!("Kernel command line: {}", self.args.join(" ")));
        self.notify(0, &self.directory.join("mconsole").to_string_lossy());
        for (name, console) in &mut self.consoles {
            if name != "con0" {
                console
                    .output
                    .write_all(format!("fake login on {name}\r\n").as_bytes())?;
            }
        }
        self.notify(3, "ready");
        self.print("GUEST-READY fake");
        let words: Vec<String> = self
            .args
            .iter()
            .filter_map(|arg| arg.strip_prefix("fake=").map(str::to_owned))
            .collect();
        for word in words {
            self.obey(&word);
        }
        Ok(())
    }

    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let mut waiting = vec![
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.mconsole, PollFlags::IN),
            ];
            if !self.suspended {
                waiting.extend(
                    self.consoles
                        .values()
                        .map(|console| PollFd::new(&console.input, console.awaited())),
                );
            }
            poll(&mut waiting, None)?;
            let ready: Vec<bool> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
            let (own, consoles) = ready.split_at(2);
            if own == [true, true] || own == [true, false] {
                self.signal()?;
            }
            if own == [true, true] || own == [false, true] {
                self.request()?;
            }
            let names: Vec<String> = self
                .consoles
                .keys()
                .zip(consoles)
                .filter(|(_, ready)| **ready)
                .map(|(name, _)| name.clone())
                .collect();
            for name in names {
                self.typed_on(&name)?;
            }
        }
    }

    fn signal(&mut self) -> anyhow::Result<()> {
        let info = self.signals.read_signal()?.context("no signal")?;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo)?)?;
        if matches!(signal, Signal::SIGTERM | Signal::SIGINT) {
            self.end(1);
        }
        Ok(())
    }

    fn typed_on(&mut self, name: &str) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        let Some(console) = self.consoles.get_mut(name) else {
            return Ok(());
        };
        let read = console.input.read(&mut buffer)?;
        let typed = buffer.get(..read).unwrap_or_default();
        console.output.write_all(typed)?;
        console.typed.push_str(&String::from_utf8_lossy(typed));
        while let Some(console) = self.consoles.get_mut(name)
            && let Some(end) = console.typed.find(['\r', '\n'])
        {
            let line: String = console.typed.drain(..=end).collect();
            self.obey(line.trim());
        }
        Ok(())
    }

    fn obey(&mut self, word: &str) {
        match word.split_once(':').unwrap_or((word, "")) {
            ("poweroff", _) => self.halt(),
            ("reboot", _) => self.reboot(),
            ("crash", _) => std::process::abort(),
            ("panic", text) => self.panic(text),
            ("exit", status) => exit(status.parse().unwrap_or(1)),
            ("kill-yourself", _) => drop(raise(Signal::SIGKILL)),
            ("flood", what) => self.flood(what),
            ("tick", name) => self.tick(name),
            ("unread", name) => self.leave_unread(name, true),
            ("read", name) => self.leave_unread(name, false),
            ("hang-cad", _) => self.cad = Cad::Hangs,
            ("reboot-on-cad", _) => self.cad = Cad::Reboots,
            ("silent-mconsole", _) => self.answers = Answers::Never,
            ("endless-mconsole", part) => {
                self.answers = Answers::Endlessly(part.parse().unwrap_or(512));
            }
            ("nonsense-mconsole", _) => self.answers = Answers::Nonsense,
            ("notices", n) => {
                (0..n.parse().unwrap_or(0)).for_each(|n| self.notify(3, &format!("notice {n}")))
            }
            ("attack", _) => self.attack(),
            ("execute", command) => self.execute(command),
            ("clock", _) => self.print(&self.began.clone()),
            ("bomb", _) => self.bomb(),
            ("spin", threads) => self.spin(threads.parse().unwrap_or(0)),
            ("hog", megabytes) => self.hog(megabytes.parse().unwrap_or(0)),
            ("no-init", _) => self.init = false,
            ("use-disk", n) => self.disks.use_disk(n, true),
            ("free-disk", n) => self.disks.use_disk(n, false),
            ("lose-disk-request", _) => self.disks.fail(Fault::LosesRequest),
            ("lose-disk-answer", _) => self.disks.fail(Fault::LosesAnswer),
            _ => {}
        }
    }

    fn leave_unread(&mut self, name: &str, unread: bool) {
        if let Some(console) = self.consoles.get_mut(name) {
            console.unread = unread;
        }
    }

    fn flood(&mut self, what: &str) {
        let (name, bytes) = what.split_once(':').unwrap_or((what, "0"));
        if let Some(console) = self.consoles.get_mut(name) {
            // A channel that breaks is what the test then finds.
            let _ = console
                .output
                .write_all(&e2e::flood(bytes.parse().unwrap_or(0)));
        }
    }

    fn tick(&mut self, name: &str) {
        let console = self.consoles.get(name);
        if let Some(mut output) = console.and_then(|console| console.output.try_clone().ok()) {
            std::thread::spawn(move || {
                while output.write_all(b"tick\n").is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
        }
    }

    /// To limits on processes, threads are the same, and cheaper.
    fn bomb(&mut self) {
        let sleep = || std::thread::sleep(std::time::Duration::from_secs(3600));
        let thread = || std::thread::Builder::new().stack_size(1 << 16).spawn(sleep);
        let count = std::iter::from_fn(|| thread().ok()).take(20_000).count();
        self.print(&format!("bomb: {count} threads"));
    }

    /// Takes all processor time that there is.
    fn spin(&mut self, threads: usize) {
        // None begins before all are there.
        static BEGIN: std::sync::RwLock<()> = std::sync::RwLock::new(());
        let held = BEGIN.write();
        let forever = || {
            drop(BEGIN.read());
            loop {
                std::hint::spin_loop();
            }
        };
        let thread = || {
            std::thread::Builder::new()
                .stack_size(1 << 16)
                .spawn(forever)
        };
        let count = std::iter::from_fn(|| thread().ok()).take(threads).count();
        self.print(&format!("spin: {count} threads"));
        drop(held);
    }

    /// Takes memory for good.
    fn hog(&mut self, megabytes: usize) {
        // Bytes of zero alone would not be in memory.
        vec![1_u8; megabytes << 20].leak();
        self.print(&format!("hog: {megabytes} MB"));
    }

    fn attack(&mut self) {
        for (what, result) in e2e::hostile::attempts() {
            let result =
                result.map_or_else(|error| format!("refused: {error}"), |()| "done".into());
            self.print(&format!("attack: {what}: {result}"));
        }
        self.print("attack: over");
    }

    fn execute(&mut self, command: &str) {
        let mut words = command.split(',');
        let mut program = std::process::Command::new(words.next().unwrap_or_default());
        let status = self
            .consoles
            .get("con0")
            .context("no con0")
            .and_then(|con0| {
                let (input, output) = (con0.input.try_clone()?, con0.output.try_clone()?);
                Ok(program.args(words).stdin(input).stdout(output).status()?)
            });
        self.print(&format!("execute: {status:?}"));
    }

    /// A kernel message.
    fn print(&mut self, text: &str) {
        if let Some(console) = self.consoles.get_mut("con0") {
            let _ = console.output.write_all(format!("{text}\r\n").as_bytes());
        }
    }

    fn halt(&mut self) -> ! {
        self.print("reboot: System halted");
        self.end(0)
    }

    fn reboot(&mut self) -> ! {
        self.print("reboot: Restarting system");
        self.end(0)
    }

    fn panic(&mut self, text: &str) -> ! {
        self.notify(1, text);
        self.print(&format!("Kernel panic - not syncing: {text}"));
        std::process::abort()
    }

    /// An orderly end.
    fn end(&self, status: i32) -> ! {
        // The directory is in a file system that ends with us anyway.
        let _ = std::fs::remove_dir_all(&self.directory);
        exit(status)
    }

    /// A notice to the monitor: 0 mconsole ready, 1 panic, 3 text of the guest.
    fn notify(&self, kind: u32, text: &str) {
        let Some(to) = self
            .args
            .iter()
            .find_map(|arg| arg.strip_prefix("mconsole=notify:"))
        else {
            return;
        };
        let mut packet = words(&[
            MAGIC,
            VERSION,
            kind,
            u32::try_from(text.len() + 1).unwrap_or(0),
        ]);
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
        // A kernel continues even if no process listens.
        let _ = self.mconsole.send_to(&packet, to);
    }

    fn request(&mut self) -> anyhow::Result<()> {
        let mut packet = [0; 600];
        let (read, from) = self.mconsole.recv_from(&mut packet)?;
        if from.is_unnamed() {
            return Ok(());
        }
        match self.answers {
            Answers::Properly => {}
            Answers::Never => return Ok(()),
            Answers::Endlessly(size) => {
                // Until the caller closes its socket.
                let text = vec![b'x'; usize::try_from(size)?];
                let part = [words(&[0, 1, size]), text].concat();
                while self.mconsole.send_to_addr(&part, &from).is_ok() {}
                return Ok(());
            }
            Answers::Nonsense => {
                let _ = self.mconsole.send_to_addr(&words(&[0, 0, u32::MAX]), &from);
                return Ok(());
            }
        }
        let request = packet.get(12..read).unwrap_or_default();
        let request = String::from_utf8_lossy(request)
            .trim_end_matches('\0')
            .to_owned();
        let (command, argument) = request.split_once(' ').unwrap_or((&request, ""));
        match (command, argument) {
            ("version", _) => self.reply(&from, 0, "Linux uml 6.1.0-fake #1 x86_64"),
            ("stop", _) if self.suspended => self.reply(&from, 1, "Already stopped"),
            ("stop", _) => {
                self.suspended = true;
                self.reply(&from, 0, "stopped");
            }
            ("go", _) if !self.suspended => self.reply(&from, 1, "Not stopped"),
            ("go", _) => {
                self.suspended = false;
                self.reply(&from, 0, "");
            }
            ("proc", "sys/kernel/ctrl-alt-del") => {
                self.reply(&from, 0, if self.init { "0\n" } else { "1\n" })
            }
            ("halt", _) => {
                self.reply(&from, 0, "");
                self.end(0);
            }
            ("reboot", _) => {
                self.reply(&from, 0, "");
                self.reboot();
            }
            ("cad", _) => {
                self.reply(&from, 0, "");
                self.ctrl_alt_del();
            }
            ("sysrq", key) => self.system_request(&from, key),
            ("config" | "remove", disk) if disk.starts_with("ubd") => {
                self.change_disk(&from, command, disk);
            }
            _ => self.reply(&from, 1, "Unknown command"),
        }
        Ok(())
    }

    fn change_disk(&mut self, from: &SocketAddr, command: &str, disk: &str) {
        self.print(&format!("mconsole: {command} {disk}"));
        if let Some((error, text)) = self.disks.request(command, disk) {
            self.reply(from, error, text);
        }
    }

    fn ctrl_alt_del(&mut self) {
        match self.cad {
            _ if !self.init => self.reboot(),
            Cad::PowersOff => self.halt(),
            Cad::Reboots => self.reboot(),
            Cad::Hangs => self.print("CTRL-ALT-DEL is ignored"),
        }
    }

    fn system_request(&mut self, from: &SocketAddr, key: &str) {
        let text = match key {
            "s" => "Emergency Sync",
            "u" => "Emergency Remount R/O",
            "h" => "HELP : sync(s) unmount(u) crash(c)",
            "c" => std::process::abort(),
            _ => "This key is not known",
        };
        self.reply(from, 0, &format!("sysrq: {text}\n"));
        self.print(&format!("sysrq: {text}"));
        match key {
            "s" => self.print("Emergency Sync complete"),
            "u" => self.print("Emergency Remount complete"),
            _ => {}
        }
    }

    fn reply(&self, to: &SocketAddr, error: u32, text: &str) {
        let mut packet = words(&[error, 0, u32::try_from(text.len() + 1).unwrap_or(0)]);
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
        // The caller may have gone.
        let _ = self.mconsole.send_to_addr(&packet, to);
    }
}

/// `clock: N`, where N is the time of CLOCK_MONOTONIC in nanoseconds, which is the same for all processes of a host.
fn clock() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    format!("clock: {}", now.tv_sec * 1_000_000_000 + now.tv_nsec)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The inherited descriptor of this number.
fn descriptor(number: &str) -> anyhow::Result<OwnedFd> {
    let fd = match number {
        "0" => std::io::stdin().as_fd().try_clone_to_owned()?,
        "1" => std::io::stdout().as_fd().try_clone_to_owned()?,
        _ => sys::inherited_fd(number.parse()?)?,
    };
    Ok(fd)
}
