//! An installation in a directory of its own, with one VM, for as long as something is measured (cargo xtask bench).

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use xtask::dialogue::Dialogue;
use xtask::leftovers;

use super::subject::program;
use crate::steps::{heading, output};

/// The name of the VM.
pub(super) const VM: &str = "vm1";

/// How long anything may take, a boot on a busy machine included.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long what has ended may still be seen in /proc.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// The monitor of a VM runs, and its kernel is in place.
pub(super) struct Installation {
    path: PathBuf,
}

/// Makes an installation whose VM has this kernel and these further lines of configuration, lets `work` measure in it,
/// and ends it. That it leaves nothing is asserted.
pub(super) fn with<T>(
    kernel: &Path,
    lines: &str,
    work: impl FnOnce(&Installation) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    with_memory(kernel, 64, lines, work)
}

/// The same; with these lines in `[GLOBAL]`, too.
pub(super) fn with_global<T>(
    kernel: &Path,
    global: &str,
    lines: &str,
    work: impl FnOnce(&Installation) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    with_all(kernel, global, &format!("mem = 64\n{lines}"), work)
}

/// The same; the VM has as many megabytes of memory.
pub(super) fn with_memory<T>(
    kernel: &Path,
    megabytes: u32,
    lines: &str,
    work: impl FnOnce(&Installation) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    with_all(kernel, "", &format!("mem = {megabytes}\n{lines}"), work)
}

fn with_all<T>(
    kernel: &Path,
    global: &str,
    lines: &str,
    work: impl FnOnce(&Installation) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut directory = directory()?;
    let path = directory.path().canonicalize()?;
    let installation = Installation { path };
    let done = installation
        .prepare(kernel, global, lines)
        .and_then(|()| work(&installation));
    if done.is_err() {
        installation.show_log();
    }
    let ended = installation.end();
    // Removing the directory must not follow a mount that is still there.
    let mounted = !leftovers::mounts(&installation.path).is_empty();
    directory.disable_cleanup(mounted);
    let done = done?;
    ended?;
    directory
        .close()
        .context("the directory cannot be removed")?;
    Ok(done)
}

/// A directory that nothing else uses, and that goes with its value.
pub(super) fn directory() -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let directory = builder.prefix("umlmon-bench-").tempdir();
    directory.context("cannot make a directory")
}

impl Installation {
    fn prepare(&self, kernel: &Path, global: &str, lines: &str) -> anyhow::Result<()> {
        for name in ["var", "run"] {
            fs::create_dir(self.path.join(name)).context("cannot make a directory")?;
        }
        let file = kernel.file_name().context("the kernel has no name")?;
        let (path, file) = (self.path.display(), Path::new(file).display());
        let text = format!(
            "[GLOBAL]\nvardir = {path}/var\nrundir = {path}/run\n{global}\n[{VM}]\nvmuser = nobody\nlogfile = monitor\n\
             kernel = /shared/kernels/{file}\ncon0 = pty:con0\n{lines}"
        );
        fs::write(self.path.join("umlmon"), text).context("cannot write the configuration")?;
        output(&mut self.command("umlmon", &[VM]))?;
        let mut cp = Command::new("cp");
        cp.arg("-r").arg(kernel);
        // The libraries of a kernel from a newer Debian are beside it.
        let mut libraries = kernel.as_os_str().to_owned();
        libraries.push(".lib");
        cp.args(Some(libraries).filter(|path| Path::new(path).exists()));
        output(cp.arg(self.jail().join("shared/kernels"))).map(drop)
    }

    /// The directory of all of it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the monitor answers its users.
    pub(super) fn control_socket(&self) -> PathBuf {
        self.path.join("var").join(VM).join("ctrl")
    }

    /// The directory that the VM sees as `/`.
    pub(super) fn jail(&self) -> PathBuf {
        self.path.join("var").join(VM).join("jail")
    }

    /// The log of a console of a VM.
    pub(super) fn log_of(&self, vm: &str, console: &str) -> PathBuf {
        self.path.join("var").join(vm).join("log").join(console)
    }

    /// Appends to the log of a console, as if the guest had written it.
    pub(super) fn append_to_log(&self, console: &str, text: &[u8]) -> anyhow::Result<()> {
        let log = self.log_of(VM, console);
        let opened = File::options().append(true).open(&log);
        opened
            .and_then(|mut file| file.write_all(text))
            .with_context(|| format!("cannot write {}", log.display()))
    }

    /// Copies a file to where the VM has its disks, owned as it must be.
    pub(super) fn put_disk(&self, image: &Path, name: &str) -> anyhow::Result<()> {
        let disks = self.jail().join("disks");
        let owner = fs::metadata(&disks).context("there are no disks")?;
        let disk = disks.join(name);
        copy_image(image, &disk)?;
        chown(&disk, Some(owner.uid()), Some(owner.gid()))
            .with_context(|| format!("cannot give {} to its user", disk.display()))
    }

    /// A program of ours, with the configuration of this installation.
    pub(super) fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command
            .arg("-config")
            .arg(self.path.join("umlmon"))
            .args(args);
        command
    }

    /// umlwatch with these words about the VM.
    pub(super) fn umlwatch(&self, words: &[&str]) -> Command {
        self.command("umlwatch", &[&[VM], words].concat())
    }

    /// Ends the kernel by force, and waits until the VM is inactive.
    pub(super) fn kill(&self) -> anyhow::Result<()> {
        output(&mut self.umlwatch(&["-kill", "-wait", "60"])).map(drop)
    }

    /// Where the pid files are.
    pub(super) fn run_directory(&self) -> PathBuf {
        self.path.join("run")
    }

    /// The process of the monitor, without asking it.
    pub(super) fn monitor(&self) -> anyhow::Result<u32> {
        self.daemon(VM)
    }

    /// The process of a daemon whose pid file has this name, without its ending.
    pub(super) fn daemon(&self, name: &str) -> anyhow::Result<u32> {
        let path = self.run_directory().join(format!("{name}.pid"));
        let number = fs::read_to_string(&path).context("there is no pid file")?;
        let number = number.trim().parse();
        number.with_context(|| format!("{} has no number", path.display()))
    }

    /// The process of this name in `-info -json`, such as `kernel_pid`.
    pub(super) fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let info = output(&mut self.umlwatch(&["-json", "-info"]))?;
        let info: serde_json::Value = serde_json::from_str(&info).context("-json is no JSON")?;
        let number = info.get(name).and_then(serde_json::Value::as_u64);
        let number = number.and_then(|pid| pid.try_into().ok());
        number.with_context(|| format!("-info says no {name}"))
    }

    /// Connects with con0; the connection outlasts kernels.
    pub(super) fn console(&self) -> anyhow::Result<Console> {
        self.console_of(VM)
    }

    /// The same of another VM.
    pub(super) fn console_of(&self, vm: &str) -> anyhow::Result<Console> {
        let mut child = self
            .command("umlwatch", &[vm, "-connect", "con0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run umlwatch")?;
        let ends = child.stdout.take().zip(child.stdin.take());
        let (stdout, stdin) = ends.context("umlwatch has no pipes")?;
        let stderr = child.stderr.take().context("umlwatch has no pipes")?;
        Ok(Console {
            dialogue: Dialogue::new(stdout, stdin),
            remarks: Dialogue::new(stderr, std::io::sink()),
            child,
        })
    }

    fn end(&self) -> anyhow::Result<()> {
        output(&mut self.command("umladmin", &["-timeout", "10", "stop"]))?;
        nothing_left(&self.path)
    }

    fn show_log(&self) {
        let log = self.path.join("var").join(VM).join("log/monitor");
        let text = fs::read_to_string(&log).unwrap_or_else(|error| format!("(none: {error})\n"));
        heading("It failed; this is the monitor's log");
        let from = text.lines().count().saturating_sub(20);
        for line in text.lines().skip(from) {
            println!("{}", line.escape_debug());
        }
    }
}

/// Asserts that no process and no mount has to do with a directory.
pub(super) fn nothing_left(directory: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + AFTERLIFE;
    while !leftovers::of(directory).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = leftovers::of(directory);
    ensure!(left.is_empty(), "this is left behind:\n{}", left.join("\n"));
    Ok(())
}

/// Copies the image of a disk; what is empty in it stays empty. It is written out, so that no kernel which writes to it
/// has to wait for that.
pub(super) fn copy_image(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut cp = Command::new("cp");
    output(cp.args(["--sparse=always", "--"]).arg(from).arg(to))?;
    let written = File::open(to).and_then(|file| file.sync_all());
    written.with_context(|| format!("cannot write {} out", to.display()))
}

/// umlwatch, connected with con0.
pub(super) struct Console {
    dialogue: Dialogue,
    /// What umlwatch itself says.
    remarks: Dialogue,
    child: Child,
}

impl Console {
    /// Logs in as root.
    pub(super) fn log_in(&mut self) -> anyhow::Result<()> {
        self.dialogue.log_in(PATIENCE).map(drop)
    }

    /// Types this.
    pub(super) fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.dialogue.send(text)
    }

    /// Waits until `text` has been said; returns all that was, up to its end.
    pub(super) fn expect(&mut self, text: &str) -> anyhow::Result<String> {
        self.dialogue.expect(text, PATIENCE).with_context(|| {
            let ended = self.child.try_wait();
            let remarks = self.remarks.expect_end(Duration::from_secs(1));
            let remarks = remarks.map(|said| String::from_utf8_lossy(&said).into_owned());
            format!("the connection with con0, {ended:?}, {remarks:?}")
        })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own; that it ended by itself is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
