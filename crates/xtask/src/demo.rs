//! `cargo xtask demo`: from a fresh machine to a running VM and back, every command shown as it is run.
//!
//! All files are in one temporary directory; with `--keep` it stays, with the VM running in it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use xtask::dialogue::Dialogue;
use xtask::guest::{self, Login};
use xtask::leftovers;

use crate::steps::{self, heading, target_dir};
use crate::{programs, setup};

const KERNEL: &str = "/usr/bin/linux.uml";
/// A user that every Debian has, and that owns nothing.
const VMUSER: &str = "nobody";
const CONFIGURATION: &str = "\
[vm1]
vmuser = nobody
logfile = monitor
start = manual
kernel = /shared/kernels/linux
mem = 64
ubd0 = /disks/root.dsk
con0 = pty:con0
con1 = pty
";

/// How long the guest may take to boot, or to shut down.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(keep: bool) -> anyhow::Result<()> {
    let chore = if keep { "demo --keep" } else { "demo" };
    setup::require_root(
        chore,
        "the monitor of a VM mounts file systems and changes users",
    )?;
    heading("What this machine needs");
    setup::install(&[["user-mode-linux"].as_slice(), &guest::PACKAGES].concat())?;
    programs::build_release()?;

    let directory = tempfile::Builder::new()
        .prefix("umlmon-demo-")
        .tempdir()
        .context("cannot make a directory")?;
    let demo = Demo {
        directory: directory.path().canonicalize()?,
    };
    let done = demo
        .boot()
        .and_then(|()| if keep { Ok(()) } else { demo.shut_down() });
    if keep && done.is_ok() {
        let kept = directory.keep();
        demo.explain(&kept);
        return Ok(());
    }
    if done.is_err() {
        demo.clean_up();
    }
    done?;
    directory
        .close()
        .context("the directory cannot be removed")?;
    println!(
        "\nNothing is left: no process, no mount, no file. `cargo xtask demo --keep` keeps the VM running."
    );
    Ok(())
}

/// The installation in the temporary directory.
struct Demo {
    directory: PathBuf,
}

impl Demo {
    fn configuration(&self) -> PathBuf {
        self.directory.join("umlmon")
    }

    fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(target_dir().join("release").join(name));
        command.arg("-config").arg(self.configuration()).args(args);
        command
    }

    /// From nothing to a guest in which a command has been run.
    fn boot(&self) -> anyhow::Result<()> {
        heading(&format!(
            "A configuration of its own: {}",
            self.configuration().display()
        ));
        let home = self.directory.display();
        let text = format!("[GLOBAL]\nvardir = {home}/var\nrundir = {home}/run\n\n{CONFIGURATION}");
        fs::write(self.configuration(), &text).context("cannot write the configuration")?;
        print!("{text}");

        heading("The monitor, which prepares the jail");
        for name in ["var", "run"] {
            fs::create_dir(self.directory.join(name)).context("cannot make a directory")?;
        }
        steps::run(&mut self.program("umlmon", &["vm1"]))?;

        heading("A kernel and a disk for the VM");
        let jail = self.directory.join("var/vm1/jail");
        steps::run(
            Command::new("cp")
                .arg(KERNEL)
                .arg(jail.join("shared/kernels/linux")),
        )?;
        let disk = jail.join("disks/root.dsk");
        println!("$ cargo xtask guest {}", disk.display());
        guest::build(&disk, guest::SIZE_MB, Login::Password)?;
        let owner = fs::metadata(jail.join("disks"))?;
        let (user, group) = (
            std::os::unix::fs::MetadataExt::uid(&owner),
            std::os::unix::fs::MetadataExt::gid(&owner),
        );
        println!("$ chown {VMUSER} {}", disk.display());
        chown(&disk, Some(user), Some(group)).context("cannot give the disk to its user")?;

        heading("The VM boots");
        steps::run(&mut self.program("umlwatch", &["vm1", "-start"]))?;
        self.on_console("con0", watch_boot)?;

        heading("What the monitor says of it");
        steps::run(&mut self.program("umlwatch", &["vm1", "-info"]))?;

        heading("A session on the first console");
        self.on_console("con1", session)
    }

    /// Connects with a channel, and leaves it when `talk` is done.
    fn on_console(
        &self,
        channel: &str,
        talk: fn(&mut Dialogue) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut command = self.program("umlwatch", &["vm1", "-connect", channel]);
        steps::show(&command);
        let mut umlwatch = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ends = umlwatch.stdout.take().zip(umlwatch.stdin.take());
        let (stdout, stdin) = ends.context("umlwatch has no pipes")?;
        let mut console = Dialogue::new(stdout, stdin);
        let talked = talk(&mut console);
        console.finish_typing();
        // An error in the dialogue is more useful than an exit status.
        talked?;
        let rest = console.expect_end(PATIENCE)?;
        println!("{}", printable(&String::from_utf8_lossy(&rest)).trim_end());
        let status = umlwatch.wait()?;
        ensure!(status.success(), "umlwatch -connect: {status}");
        Ok(())
    }

    /// From a running guest to nothing.
    fn shut_down(&self) -> anyhow::Result<()> {
        heading("The guest shuts down, as with CTRL-ALT-DEL on a PC");
        let patience = PATIENCE.as_secs().to_string();
        steps::run(&mut self.program("umlwatch", &["vm1", "-ctrlaltdel", "-wait", &patience]))?;
        steps::run(&mut self.program("umlwatch", &["vm1", "-tail", "con0,5"]))?;
        steps::run(&mut self.program("umladmin", &["list"]))?;

        heading("The monitor ends");
        steps::run(&mut self.program("umladmin", &["stop"]))?;
        let left = leftovers::of(&self.directory);
        ensure!(
            left.is_empty(),
            "something is left behind:\n{}",
            left.join("\n")
        );
        for name in ["run/vm1.pid", "var/vm1/ctrl"] {
            ensure!(!self.directory.join(name).exists(), "{name} is left behind");
        }
        Ok(())
    }

    /// After a failure: the VM must not outlive the demo, and its cause must be shown.
    fn clean_up(&self) {
        heading("It failed; this is the monitor's log");
        let log = fs::read_to_string(self.directory.join("var/vm1/log/monitor"));
        println!(
            "{}",
            printable(&log.unwrap_or_else(|error| format!("(none: {error})")))
        );
        // The failure has been said; if this fails, too, that is seen from its output.
        let _ = steps::run(&mut self.program("umladmin", &["-timeout", "1", "stop"]));
        for left in leftovers::of(&self.directory) {
            println!("left behind: {left}");
        }
    }

    fn explain(&self, kept: &Path) {
        let kept = kept.display();
        let programs = target_dir().join("release");
        println!(
            "
== The VM keeps running. Try:
PATH={programs}:$PATH
umlwatch -config {kept}/umlmon vm1                  # interactive; 'help' lists the commands
umlwatch -config {kept}/umlmon vm1 -connect con1    # log in as root, password uml; CTRL-] leaves
umlwatch -config {kept}/umlmon vm1 -info
umladmin -config {kept}/umlmon list

== To end it, and to remove everything:
{programs}/umladmin -config {kept}/umlmon stop && rm -r {kept}",
            programs = programs.display(),
        );
    }
}

/// Shows the kernel's messages until the guest is up.
fn watch_boot(console: &mut Dialogue) -> anyhow::Result<()> {
    let mut line = String::new();
    while !line.contains("GUEST-READY") {
        line = console.expect("\n", PATIENCE)?;
        print!("{}", printable(&line));
    }
    Ok(())
}

/// Logs in, runs a command, and shows all that is to be seen.
fn session(console: &mut Dialogue) -> anyhow::Result<()> {
    print!("{}", printable(&console.log_in(PATIENCE)?));
    console.send("uname -a; echo hello from the guest\n")?;
    print!(
        "{}",
        printable(&console.expect("\nhello from the guest", PATIENCE)?)
    );
    print!("{}", printable(&console.expect("# ", PATIENCE)?));
    console.send("exit\n")?;
    Ok(())
}

/// The text without control characters; the guest's shell asks the terminal where the cursor is (`ESC [6n`).
fn printable(text: &str) -> String {
    let text = text.replace("\u{1b}[6n", "");
    text.chars()
        .filter(|c| *c == '\n' || *c == '\t' || !c.is_control())
        .collect()
}
