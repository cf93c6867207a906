//! Network namespaces (network_namespaces(7)): made and visited by threads that end there. Used by the monitor as root.
//!
//! A thread that enters a namespace may not always be allowed to return, and a daemon in the wrong one could do nothing
//! right any more. So no thread returns, and the daemon's own never leaves.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

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
