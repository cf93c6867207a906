//! What somebody tries who has broken out of the guest and is the VM's user now (the fake kernel of the end-to-end
//! tests, told to attack).

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setuid};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::net::{AddressFamily, SocketType, socket};

/// Tries everything; for each attempt its name, and whether it succeeded.
pub fn attempts() -> Vec<(&'static str, io::Result<()>)> {
    // These may report success: there is nobody to be killed but the first process of the namespace, which is immune.
    for pid in [1, -1] {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let open = |path: &str| OpenOptions::new().read(true).open(path).map(drop);
    let make = |path: &str| fs::write(path, "x");
    let internet = |kind| Ok(socket(AddressFamily::INET, kind, None).map(drop)?);
    vec![
        ("become root", setuid(0.into()).map_err(Into::into)),
        ("make a user namespace", user_namespace()),
        ("connect to the network", internet(SocketType::STREAM)),
        ("send into the network", internet(SocketType::DGRAM)),
        (
            "configure the network",
            socket(AddressFamily::NETLINK, SocketType::RAW, None)
                .map(drop)
                .map_err(Into::into),
        ),
        ("read /proc", open("/proc/self/status")),
        ("read /dev", open("/dev/null")),
        ("leave the jail", open("/../../../../../etc/passwd")),
        ("write into the jail", make("/planted")),
        ("write into /shared", make("/shared/planted")),
        ("replace a kernel", make("/shared/kernels/planted")),
        ("rename /disks", fs::rename("/disks", "/moved")),
        ("read a lock", open("/shared/locks/secret")),
        ("make a device", device()),
    ]
}

/// Compiles `hostile.c`, whose attempts are in the arguments of calls, to this file; false without a C compiler.
pub fn compile(to: &Path) -> bool {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hostile.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-static", "-Wall", "-Werror", "-o"]);
    compiler
        .arg(to)
        .arg(source)
        .status()
        .is_ok_and(|s| s.success())
}

fn user_namespace() -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(Into::into)
}

/// The memory of the host.
fn device() -> io::Result<()> {
    let device = makedev(1, 1);
    Ok(mknodat(
        CWD,
        "/disks/mem",
        FileType::CharacterDevice,
        Mode::RUSR,
        device,
    )?)
}
