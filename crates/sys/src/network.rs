//! Network namespaces (network_namespaces(7)): made and visited by threads that end there. Used by the monitor as root.
//!
//! A thread that enters a namespace may not always be allowed to return, and a daemon in the wrong one could do nothing
//! right any more. So no thread returns, and the daemon's own never leaves.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Enough for what such a thread does, in bytes.
const STACK: usize = 128 << 10;

/// Does something in another network namespace, and waits for it. A socket stays in the namespace it was made in, so
/// what is brought back can be used here.
///
/// # Errors
/// If no thread can be made, or it may not enter the namespace; those of `task`.
pub fn in_network<T: Send>(
    network: impl AsFd + Sync,
    task: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let network = &network;
    elsewhere(|| {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        task()
    })
}

/// Makes an empty network namespace. It exists as long as it is open, or a thread is in it.
///
/// # Errors
/// If no thread can be made; those of unshare(2).
pub fn new_network() -> io::Result<OwnedFd> {
    elsewhere(|| {
        // SAFETY: the flag concerns the network of the calling thread only, on which no memory depends.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } == -1 {
            return Err(io::Error::last_os_error());
        }
        File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    })
}

/// A network namespace, and the user namespace whose root may do anything in it.
#[derive(Debug)]
pub struct UserNetwork {
    /// Its only user is 0, which is an ordinary user of the host.
    pub user: OwnedFd,
    /// The network namespace.
    pub network: OwnedFd,
}

impl UserNetwork {
    /// Makes both; the network is empty. They exist as long as they are open. They belong to root, so no process of the
    /// user has power in them but one that enters the user namespace.
    ///
    /// # Errors
    /// Those of clone(2): `ENOSPC` if there may be no more such namespaces, `EINVAL` if the host's kernel has none.
    pub fn new(uid: u32, gid: u32) -> io::Result<UserNetwork> {
        let process = Placeholder::start(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
        let of = |file: &str| format!("/proc/{}/{file}", process.pid);
        std::fs::write(of("uid_map"), format!("0 {uid} 1"))?;
        std::fs::write(of("gid_map"), format!("0 {gid} 1"))?;
        let open = |file: &str| File::open(of(file)).map(OwnedFd::from);
        Ok(UserNetwork {
            user: open("ns/user")?,
            network: open("ns/net")?,
        })
    }
}

/// A process that does nothing, in new namespaces: they can be opened by its number. Dropping it ends it.
struct Placeholder {
    pid: libc::pid_t,
    _pidfd: OwnedFd,
}

impl Placeholder {
    fn start(namespaces: libc::c_int) -> io::Result<Placeholder> {
        let mut pidfd = -1;
        let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
        // SAFETY: no CLONE_VM, so the new process has its own copy of all memory; it makes async-signal-safe calls only
        // and does not return. The pointer is to a local, in which the kernel stores a descriptor.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone,
                libc::c_long::from(flags),
                std::ptr::null_mut::<u8>(),
                &raw mut pidfd,
                std::ptr::null_mut::<libc::c_int>(),
                libc::c_long::from(0),
            )
        };
        if pid == 0 {
            // SAFETY: this is the new process. It ends with the thread that started it, if that comes first.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
        }
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Placeholder {
            #[allow(clippy::cast_possible_truncation)] // process IDs are 22 bits at most
            pid: pid as libc::pid_t,
            // SAFETY: CLONE_PIDFD stored a new descriptor, which nobody else owns.
            _pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        })
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // SAFETY: the process has not been waited for, so the number is its own; no status is stored.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

fn elsewhere<T: Send>(task: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let there = thread.spawn_scoped(scope, task)?;
        let lost =
            |_| io::Error::other("a thread that did something in another network has failed");
        there.join().map_err(lost)?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_can_enter_the_network_of_a_user() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let made = UserNetwork::new(65534, 65534).unwrap();
        assert_ne!(in_network(&made.network, || Ok(here())).unwrap(), here());
    }

    fn here() -> String {
        std::fs::read_link("/proc/thread-self/ns/net")
            .unwrap()
            .display()
            .to_string()
    }

    #[test]
    fn who_visits_a_network_leaves_the_others_where_they_are() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let home = here();
        let network = new_network().unwrap();
        assert_eq!(here(), home);
        let there = in_network(&network, || Ok(here())).unwrap();
        assert_ne!(there, home);
        assert_eq!(in_network(&network, || Ok(here())).unwrap(), there);
        assert_eq!(here(), home);
        // What is no network is an error, and nothing else.
        let file = File::open("/dev/null").unwrap();
        assert!(in_network(&file, || Ok(())).is_err());
    }
}
