//! The devices of a container, as the runtime specification of the Open Container Initiative lists them (umlguest,
//! inside a container that is being made).

use anyhow::Context as _;
use guest_line::{Mount, Source};
use rustix::fs::{FileType, Mode, makedev, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::mount_bind;
use rustix::termios::ttyname;

use super::tree::{Kind, Tree, path_of};

/// Names and numbers (Documentation/admin-guide/devices.txt of the kernel).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes them if `/dev` is a file system of its own, and `/dev/console` the terminal if there is one.
pub(super) fn make_all(tree: &Tree, mounts: &[Mount], terminal: bool) -> anyhow::Result<()> {
    let is_own = |mount: &Mount| {
        let target = mount.target.strip_suffix(b"/").unwrap_or(&mount.target);
        target == b"/dev" && mount.source == Source::Kernel("tmpfs".into())
    };
    if mounts.iter().any(is_own) {
        make(tree).context("cannot make the devices in /dev")?;
    }
    if terminal {
        make_console(tree).context("cannot make /dev/console")?;
    }
    Ok(())
}

fn make(tree: &Tree) -> rustix::io::Result<()> {
    let dev = tree.find(b"/dev")?;
    let unless_there = |made| match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    };
    for (name, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        let number = makedev(major, minor);
        unless_there(mknodat(&dev, name, FileType::CharacterDevice, mode, number))?;
    }
    for (name, to) in LINKS {
        unless_there(symlinkat(to, &dev, name))?;
    }
    Ok(())
}

/// Why a mount: programs look for their terminal below `/dev`, and those below `/dev/pts` are the container's own.
fn make_console(tree: &Tree) -> anyhow::Result<()> {
    let name = ttyname(rustix::stdio::stdin(), Vec::new())?;
    let console = tree.make(b"/dev/console", Kind::File)?;
    mount_bind(name, path_of(&console))?;
    Ok(())
}
