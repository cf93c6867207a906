//! Where a daemon shows that it runs, and who asks there. Used by the daemons when they start, and by umladmin.
//!
//! The lock lies where the data is, in the daemon's directory below `vardir`: so there is one daemon for it, whatever
//! `rundir` is in the configuration by now. The pid file in `rundir` is for people and scripts, and for a daemon that
//! runs while `vardir` is changed. Both can be deleted; then the one who listens on the socket is the daemon.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use config::{Global, VmName};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::{Error, PidFile, run_directory};

/// The place of one daemon.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its directory, which belongs to root.
    directory: PathBuf,
    /// `RUNDIR/NAME.pid`
    pid_file: PathBuf,
}

impl Home {
    /// That of a VM's monitor.
    pub fn of_monitor(global: &Global, vm: &VmName) -> Home {
        Home {
            directory: global.vm_dir(vm),
            pid_file: global.pid_file(vm),
        }
    }

    /// That of the directory service.
    pub fn of_directory_service(global: &Global) -> Home {
        Home {
            directory: global.directory(),
            pid_file: global.directory_pid_file(),
        }
    }

    /// That of the web interface.
    pub fn of_web(global: &Global) -> Home {
        Home {
            directory: global.web(),
            pid_file: global.web_pid_file(),
        }
    }

    /// Takes the locks, for the process that is to become the daemon. Its directory must be there. The pid file goes
    /// last: whoever waits for that can start the next daemon.
    ///
    /// # Errors
    /// [`Error::Running`], [`Error::Starting`] if there is a daemon; others if a file cannot be used.
    pub fn take(&self) -> Result<[PidFile; 2], Error> {
        let lock = PidFile::lock(&self.lock())?;
        if let Some(pid) = listener(&self.directory)? {
            return Err(Error::Running { pid });
        }
        if let Some(rundir) = self.pid_file.parent() {
            run_directory(rundir)?;
        }
        Ok([lock, PidFile::lock(&self.pid_file)?])
    }

    /// The process ID of the daemon; `None` if none runs.
    ///
    /// # Errors
    /// [`Error::Starting`]; [`Error::PidFile`], if the caller is not root.
    pub fn holder(&self) -> Result<Option<u32>, Error> {
        for file in [&self.lock(), &self.pid_file] {
            if let Some(pid) = PidFile::holder(file)? {
                return Ok(Some(pid));
            }
        }
        listener(&self.directory)
    }

    /// Whether this process is the daemon, and not one that has merely got the same number: it has one of the files
    /// open, or listens on the socket. The caller holds the process by a pidfd.
    ///
    /// # Errors
    /// If the process cannot be looked at.
    pub fn is_of(&self, pid: u32) -> io::Result<bool> {
        let wanted: Vec<_> = [&self.lock(), &self.pid_file]
            .into_iter()
            .filter_map(|file| identity(file).ok())
            .collect();
        let mut open = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            open => open?.filter_map(|entry| identity(&entry.ok()?.path()).ok()),
        };
        Ok(open.any(|open| wanted.contains(&open))
            || listener(&self.directory).map_err(io::Error::other)? == Some(pid))
    }

    /// The file for people.
    pub fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The process that listens on `DIRECTORY/ctrl`, if it is one of the directory's owner. The connection is closed at
/// once.
fn listener(directory: &Path) -> Result<Option<u32>, Error> {
    let path = directory.join("ctrl");
    let unknown = |errno: Errno| Error::Ask {
        path: path.clone(),
        source: errno.into(),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (Ok(held), Ok(owner)) = (
        openat(CWD, directory, flags, Mode::empty()),
        fs::metadata(directory),
    ) else {
        return Ok(None);
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let stream = stream.map_err(unknown)?;
    // Through the descriptor, the path is short enough for a socket address however deep the directory is.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/ctrl", held.as_raw_fd()));
    match connect(&stream, &address.map_err(unknown)?) {
        Ok(()) => {}
        Err(Errno::CONNREFUSED | Errno::NOENT | Errno::ACCESS | Errno::NOTSOCK) => return Ok(None),
        // Its queue is full.
        Err(errno) => return Err(unknown(errno)),
    }
    let peer = socket_peercred(&stream).map_err(unknown)?;
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).ok();
    Ok(pid.filter(|_| peer.uid.as_raw() == owner.uid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home {
            directory: dir.path().join("vm1"),
            pid_file: dir.path().join("run/vm1.pid"),
        };
        fs::create_dir(&home.directory).unwrap();
        (dir, home)
    }

    fn us() -> Option<u32> {
        Some(std::process::id())
    }

    #[test]
    fn a_daemon_is_known_by_whatever_is_left_of_its_files() {
        let (_dir, home) = home();
        assert_eq!(home.holder().unwrap(), None);
        let held = home.take().unwrap();
        held.iter().for_each(|file| file.write().unwrap());
        let socket = UnixListener::bind(home.directory.join("ctrl")).unwrap();
        for lost in [home.pid_file.clone(), home.lock()] {
            fs::remove_file(lost).unwrap();
            assert_eq!(home.holder().unwrap(), us());
            assert!(home.is_of(std::process::id()).unwrap());
            assert!(matches!(home.take(), Err(Error::Running { .. })));
        }
        drop((held, socket));
        assert_eq!(home.holder().unwrap(), None);
        // What is left of the socket is in nobody's way.
        home.take().unwrap();
    }

    #[test]
    fn another_run_directory_makes_no_second_daemon() {
        let (dir, home) = home();
        let held = home.take().unwrap();
        held.iter().for_each(|file| file.write().unwrap());
        let moved = Home {
            pid_file: dir.path().join("other/vm1.pid"),
            ..home.clone()
        };
        assert_eq!(moved.holder().unwrap(), us());
        assert!(matches!(moved.take(), Err(Error::Running { .. })));
        // Nor does another directory of the data, as far as that one still is the monitor of this name.
        let moved = Home {
            directory: dir.path().join("other/vm1"),
            ..home.clone()
        };
        assert_eq!(moved.holder().unwrap(), us());
    }

    #[test]
    fn a_process_that_has_nothing_to_do_with_it_is_not_taken_for_it() {
        let (_dir, home) = home();
        assert!(!home.is_of(1).unwrap_or(false));
        let held = home.take().unwrap();
        assert!(!home.is_of(1).unwrap_or(false));
        drop(held);
    }
}
