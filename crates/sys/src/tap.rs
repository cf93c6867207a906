//! Tap interfaces: made, owned, kept and given up through /dev/net/tun (tun(4), the kernel's
//! Documentation/networking/tuntap.rst). Used by the monitor as root.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// An open tap interface. Unless it is kept ([`TapQueue::keep`]), it ends with its last descriptor.
#[derive(Debug)]
pub struct TapQueue(File);

/// Makes the tap interface `name`, of frames without headers of its own; fails if there is an interface of that name.
///
/// # Errors
/// `ENOENT` or `ENODEV` without the driver, `EBUSY` if the name is taken, `EPERM` without `CAP_NET_ADMIN`, `EINVAL` for
/// a name that no interface can have.
pub fn open_tap(name: &str) -> io::Result<TapQueue> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    // SAFETY: ifreq is a plain structure of bytes and a union of integers and pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    #[allow(clippy::cast_possible_truncation)] // 0x9002: the field has 16 bits
    {
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
    }
    // SAFETY: the call reads and writes one ifreq, which outlives it.
    done(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
    Ok(TapQueue(file))
}

impl TapQueue {
    /// Lets this user attach to the interface, without any privilege.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn owned_by(&self, uid: u32) -> io::Result<()> {
        // SAFETY: the call takes a number.
        done(unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::TUNSETOWNER as _,
                libc::c_ulong::from(uid),
            )
        })
    }

    /// Keeps the interface when it is no longer open, so that its owner can attach to it.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn keep(&self) -> io::Result<()> {
        // SAFETY: the call takes a number.
        done(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETPERSIST as _, 1_u64) })
    }
}

impl From<TapQueue> for OwnedFd {
    fn from(queue: TapQueue) -> OwnedFd {
        queue.0.into()
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
