//! The init of the guest of `kernelcheck`: this program, as process 1 under the kernel that is tried (umladmin, in the
//! guest).
//!
//! It prints its results on con0 as `kernelcheck NAME=VALUE`; then it executes commands that are typed on con1, and
//! repeats what is typed on ssl0.

mod calls;
pub(super) mod network;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::tcgetwinsize;
use signal_hook::consts::SIGINT;

use super::pattern::{AT, CHANGED, COW_SEED, FLAT_SEED, NEW_COW_SEED, NEW_FLAT_SEED, pattern};

/// The path of this program in the guest.
pub(crate) const INIT: &str = "/init";
/// The prefix of its lines.
pub(crate) const MARK: &str = "kernelcheck ";

/// Whether this process is the init of such a guest.
pub fn is_guest() -> bool {
    std::process::id() == 1 && std::env::args_os().next().as_deref() == Some(OsStr::new(INIT))
}

/// The main function of the guest.
pub fn main() -> ExitCode {
    match live() {
        Ok(never) => match never {},
        Err(error) => {
            say("error", &error.to_string());
            power_off()
        }
    }
}

fn live() -> io::Result<Infallible> {
    let pressed = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&pressed))?;
    // From now on CTRL-ALT-DEL is a signal to this process.
    reboot(RebootCommand::CadOff)?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
    // The kernel has done that already, if it can.
    let _ = mount("dev", "/dev", "devtmpfs", MountFlags::empty(), None);
    let version = fs::read_to_string("/proc/version")?;
    say("version", version.trim());
    say("cpus", &thread::available_parallelism()?.to_string());
    say("ubd", &result(disk("/dev/ubdb", FLAT_SEED, NEW_FLAT_SEED)));
    say("cow", &result(disk("/dev/ubdc", COW_SEED, NEW_COW_SEED)));
    let hostfs = mount("none", "/mnt", "hostfs", MountFlags::empty(), Some(c"/"));
    say("hostfs", if hostfs.is_ok() { "mounted" } else { "refused" });
    for nic in network::NICS {
        if net::kind(nic).is_ok_and(|found| found.is_some()) {
            say("net", &result(network::call(nic)));
        }
    }
    say("done", "yes");
    // Without notify this is not a file, as the other side will notice.
    let _ = fs::write("/proc/mconsole", "ready\n");
    thread::spawn(|| serve("/dev/tty1"));
    thread::spawn(|| serve("/dev/ttyS0"));
    let mut beat = OpenOptions::new().write(true).open("/dev/ttyS0");
    for n in 0_u64.. {
        if pressed.load(Ordering::Relaxed) {
            say("ctrlaltdel", "seen");
            power_off();
        }
        if let Ok(beat) = &mut beat {
            writeln!(beat, "beat {n}")?;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::other("the end of all numbers"))
}

fn say(name: &str, value: &str) {
    println!("{MARK}{name}={value}");
}

fn result(done: io::Result<()>) -> String {
    done.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}

/// Reads what should be on a disk, changes a part of it, and reads that back.
fn disk(path: &str, seed: u8, new_seed: u8) -> io::Result<()> {
    let disk = OpenOptions::new().read(true).write(true).open(path)?;
    expect(
        &disk,
        0,
        &pattern(seed, CHANGED),
        "the data read is not the data that was there",
    )?;
    let new = pattern(new_seed, CHANGED);
    disk.write_all_at(&new, AT)?;
    disk.sync_all()?;
    expect(&disk, AT, &new, "the data read is not the data written")
}

fn expect(disk: &File, at: u64, expected: &[u8], wrong: &'static str) -> io::Result<()> {
    let mut read = vec![0; expected.len()];
    disk.read_exact_at(&mut read, at)?;
    match read == expected {
        true => Ok(()),
        false => Err(io::Error::other(wrong)),
    }
}

/// Repeats each line with the size of the window, until one is a command.
fn serve(path: &str) -> io::Result<()> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(Path::new(path))?;
    let lines = BufReader::new(terminal.try_clone()?.take(u64::MAX)).lines();
    for line in lines {
        match line?.as_str() {
            "reboot" => reboot(RebootCommand::Restart)?,
            "calls" => {
                let nanoseconds = calls::time().as_nanos();
                writeln!(terminal, "a call takes {nanoseconds} ns")?;
            }
            line => {
                let size = tcgetwinsize(&terminal)?;
                writeln!(
                    terminal,
                    "received {line} at {}x{}",
                    size.ws_row, size.ws_col
                )?;
            }
        }
    }
    Ok(())
}

fn power_off() -> ! {
    // Nothing else can be done.
    let _ = reboot(RebootCommand::PowerOff);
    loop {
        thread::park();
    }
}
