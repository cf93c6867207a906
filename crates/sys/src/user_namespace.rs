//! A user namespace (user_namespaces(7)) in which no process is: it says how owners of files are mapped on a mount, or
//! who may do anything in a network.
//! Used by the monitor as root.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Two numbers of a user or of a group for the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// On the disk.
    pub stored: u32,
    /// For processes, through the mount.
    pub seen: u32,
}

/// Makes a namespace that maps one user and one group, and no others.
///
/// # Errors
/// If the host has none, or allows no more of them (`/proc/sys/user/max_user_namespaces`); `EPERM` if the caller may
/// not map these numbers, as in a container.
pub fn user_namespace(user: Mapped, group: Mapped) -> io::Result<OwnedFd> {
    with_process(0, |pid| describe(pid, user, group))
}

/// A network namespace, and the user namespace whose root may do anything in it.
#[derive(Debug)]
pub struct UserNetwork {
    /// Its only user is 0, which is an ordinary user of the host.
    pub user: OwnedFd,
    /// The network namespace.
    pub network: OwnedFd,
}

/// Makes both; the network is empty. They exist as long as they are open. They belong to root, so no process of the
/// user has power in them but one that enters the user namespace.
///
/// # Errors
/// As [`user_namespace`].
pub fn user_network(uid: u32, gid: u32) -> io::Result<UserNetwork> {
    let root = |seen| Mapped { stored: 0, seen };
    with_process(libc::CLONE_NEWNET, |pid| {
        Ok(UserNetwork {
            user: describe(pid, root(uid), root(gid))?,
            network: File::open(format!("/proc/{pid}/ns/net"))?.into(),
        })
    })
}

/// Does something with a process in a new user namespace, and others by flags of clone(2).
fn with_process<T>(flags: i32, make: impl FnOnce(i32) -> io::Result<T>) -> io::Result<T> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, process) = begin(flags, &read_end, &write_end)?;
    let made = make(pid);
    // It does nothing, so it can be killed at any time; it has not been waited for, so the number was its own.
    let _ = pidfd_send_signal(&process, Signal::KILL);
    let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
    made
}

fn describe(pid: i32, user: Mapped, group: Mapped) -> io::Result<OwnedFd> {
    let line = |mapped: Mapped| format!("{} {} 1", mapped.stored, mapped.seen);
    fs::write(format!("/proc/{pid}/uid_map"), line(user))?;
    fs::write(format!("/proc/{pid}/gid_map"), line(group))?;
    Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
}

/// Starts a process in a new user namespace. It waits for the end of the pipe, which comes with the end of this process
/// at the latest.
fn begin(flags: i32, read_end: &OwnedFd, write_end: &OwnedFd) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let flags = flags | libc::CLONE_NEWUSER | libc::CLONE_PIDFD | libc::SIGCHLD;
    let (read_end, write_end) = (read_end.as_raw_fd(), write_end.as_raw_fd());
    // No handler of this process may run in the new one.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: no CLONE_VM, so the new process has its own copy of all memory, and no stack of its own is needed. It
    // makes the three system calls below, which are async-signal-safe and use nothing but a local, and ends.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            ptr::null_mut::<u8>(),
            &raw mut pidfd,
            ptr::null_mut::<libc::c_int>(),
            libc::c_long::from(0),
        )
    };
    if pid == 0 {
        let mut byte = 0_u8;
        // SAFETY: this is the new process; see above.
        unsafe {
            libc::close(write_end);
            libc::read(read_end, (&raw mut byte).cast(), 1);
            libc::_exit(0)
        }
    }
    let error = io::Error::last_os_error();
    before.thread_set_mask()?;
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor, close-on-exec, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    #[allow(clippy::cast_possible_truncation)] // process IDs are 22 bits at most
    Ok((pid as i32, pidfd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_can_enter_the_network_of_a_user() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let here = || fs::read_link("/proc/thread-self/ns/net");
        // A container may have none.
        let Ok(made) = user_network(65534, 65534) else {
            return;
        };
        let there = crate::in_network(&made.network, here).unwrap();
        assert_ne!(there, here().unwrap());
    }

    #[test]
    fn a_namespace_is_made_and_no_process_is_left() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let of = |stored| Mapped {
            stored,
            seen: 65534,
        };
        // A container may have none.
        let Ok(namespace) = user_namespace(of(0), of(7)) else {
            return;
        };
        let own = File::open("/proc/self/ns/user").unwrap();
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_ne!(inode(&namespace), inode(&own.into()));
    }
}
