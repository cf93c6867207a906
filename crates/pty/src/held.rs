//! What of a channel outlives the umlmon daemon: descriptors that its second process also holds, and what tells them
//! from all others.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::pty::ptsname;
use serde::{Deserialize, Serialize};

/// The number of /dev/ptmx, where every master comes from (the kernel's Documentation/admin-guide/devices.txt).
const PTMX: (u32, u32) = (5, 2);

/// The descriptors of one channel. As long as a process has them open, no byte of the guest is lost.
#[derive(Debug)]
pub struct Held {
    /// The master of the pseudo terminal.
    pub terminal: OwnedFd,
    /// The pipe with the output that is being processed: its end for reading,
    pub outlet: OwnedFd,
    /// and its end for writing.
    pub inlet: OwnedFd,
    /// The memory with the history and the state of the channel, a memfd (memfd_create(2)) of a fixed size.
    pub memory: OwnedFd,
}

impl Held {
    /// What the descriptors are called, in the order of [`Held::into_parts`]. The names do not change between versions.
    pub const NAMES: [&'static str; 4] = ["terminal", "outlet", "inlet", "memory"];

    /// The descriptors, in the order of [`Held::NAMES`].
    pub fn into_parts(self) -> [OwnedFd; 4] {
        [self.terminal, self.outlet, self.inlet, self.memory]
    }

    /// From descriptors in the order of [`Held::NAMES`].
    pub fn from_parts([terminal, outlet, inlet, memory]: [OwnedFd; 4]) -> Self {
        Self {
            terminal,
            outlet,
            inlet,
            memory,
        }
    }

    /// What tells these descriptors from all others, after a check that each is of its kind.
    ///
    /// # Errors
    /// Says which one is of another kind; or those of fstat(2) and ioctl_tty(2).
    pub fn identity(&self) -> io::Result<Identity> {
        let pipe = pipe_end(&self.outlet, OFlags::RDONLY)?;
        if pipe_end(&self.inlet, OFlags::WRONLY)? != pipe {
            return Err(refused("the ends are not of one pipe"));
        }
        Ok(Identity {
            terminal: terminal_number(&self.terminal)?,
            pipe,
            memory: fstat(&self.memory)?.st_ino,
        })
    }
}

/// Tells the descriptors of one channel from those of all others on this host since it was booted. For the record of
/// what a VM consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The number of the pseudo terminal, as in `/dev/pts/NUMBER`.
    pub terminal: u32,
    /// The inode of the pipe.
    pub pipe: u64,
    /// The inode of the memory.
    pub memory: u64,
}

/// The number of the pseudo terminal of which this is the master.
fn terminal_number(master: &OwnedFd) -> io::Result<u32> {
    let stat = fstat(master)?;
    let device = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || device != PTMX {
        return Err(refused("it is not the master of a pseudo terminal"));
    }
    let path = ptsname(master, Vec::new())?;
    let number = path
        .to_str()
        .ok()
        .and_then(|path| path.strip_prefix("/dev/pts/"));
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| refused("the pseudo terminal has no number"))
}

/// The inode of the pipe of which this is the end for reading or for writing.
fn pipe_end(end: &OwnedFd, way: OFlags) -> io::Result<u64> {
    let stat = fstat(end)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(refused("it is not a pipe"));
    }
    if fcntl_getfl(end)? & OFlags::RWMODE != way {
        return Err(refused("it is the other end of the pipe"));
    }
    Ok(stat.st_ino)
}

pub(crate) fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
