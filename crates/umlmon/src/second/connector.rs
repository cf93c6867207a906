//! The process that makes the connections of a VM becomes another program: slirp4netns(1), as the VM's user, with power
//! in nothing but the network namespace of the VM (umlmon, the child process; this file is what it does after
//! `worker.rs`).
//!
//! Its sockets are in the host's network. It keeps two doors open: its tap in the VM's network, and a socket for orders
//! in a directory that only the monitor has open, too. It ends when nobody holds the other end of its output any more:
//! neither a monitor nor the second process that keeps the kernel.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::second::orders::{ConnectOrder, FIRST_END_FD};

/// The descriptors that it inherits, by number.
const USER: i32 = FIRST_END_FD;
/// Of these the arguments of the program tell: its output, the network of the VM, the directory for the socket, and the
/// pipe on which it says that it is ready.
pub(crate) const OUTPUT: i32 = FIRST_END_FD + 1;
pub(crate) const NETWORK: i32 = FIRST_END_FD + 2;
pub(crate) const DIRECTORY: i32 = FIRST_END_FD + 3;
pub(crate) const READY: i32 = FIRST_END_FD + 4;

/// The most memory that it may have, in bytes: the guest decides how many connections there are.
const MEMORY: u64 = 512 << 20;

/// Executes the program; what is returned is the exit status if that fails.
pub(crate) fn become_program(order: &ConnectOrder) -> ExitCode {
    let error = match enter(order) {
        Ok(()) => Command::new(&order.program)
            .args(&order.arguments)
            .env_clear()
            .exec(),
        Err(error) => error,
    };
    // The monitor reads it.
    eprintln!("{}: {error}", order.program);
    ExitCode::FAILURE
}

/// Everything before the program.
fn enter(order: &ConnectOrder) -> io::Result<()> {
    let [user, output, ends @ ..] =
        [USER, OUTPUT, NETWORK, DIRECTORY, READY].map(sys::inherited_fd);
    let (user, output) = (user?, output?);
    rustix::stdio::dup2_stdout(&output)?;
    rustix::stdio::dup2_stderr(&output)?;
    jail::leave_mounts().map_err(io::Error::other)?;
    jail::show_tun(order.uid, order.gid).map_err(io::Error::other)?;
    for (resource, limit) in [(Resource::Core, 1), (Resource::As, MEMORY)] {
        let limit = Some(limit);
        setrlimit(
            resource,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )?;
    }
    become_user(&user)?;
    for end in ends.into_iter().chain([Ok(output)]) {
        let end: OwnedFd = end?;
        fcntl_setfd(&end, FdFlags::empty())?;
        // The program is to inherit it.
        std::mem::forget(end);
    }
    Ok(())
}

/// The only user of the user namespace is the VM's user. Not root any more after this, and without any right on the
/// host. The change of the user also clears the death signal: it goes on without a monitor.
fn become_user(namespace: impl AsFd) -> io::Result<()> {
    setgroups(&[])?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWUSER)?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}
