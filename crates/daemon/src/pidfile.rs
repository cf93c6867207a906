//! The pid file: a lock that says whether a daemon runs, and a number for people. Used by the daemons and by umladmin.
//!
//! Only the lock (flock(2)) matters. A file that is not locked is left over, whatever number it holds and whichever
//! process has that number today. Only root can open the file: a process that can open a file can lock it.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::Error;

/// How often a taken lock is tried again, and how long to wait in between: [`PidFile::holder`] takes it for a moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);
/// The mode of the file.
const MODE: u32 = 0o600;

/// The lock on a pid file, held by this process and by those forked from it, as it belongs to the open file. Dropping
/// it removes the file and frees the lock.
#[derive(Debug)]
pub struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// Takes the lock. The file stays empty until [`PidFile::write`], which [`crate::background()`] does.
    ///
    /// # Errors
    /// [`Error::Running`] or [`Error::Starting`] if another process holds the lock, [`Error::PidFile`] if the file
    /// cannot be used.
    pub fn lock(path: &Path) -> Result<Self, Error> {
        let fail = |what, source| Error::PidFile {
            what,
            path: path.to_owned(),
            source,
        };
        for _ in 0..TRIES {
            let file = open(path, true).map_err(|e| fail("open", e))?;
            match file.try_lock() {
                Ok(()) => {
                    // The last holder may have removed the file between our two steps.
                    if is_at(&file, path) {
                        file.set_len(0).map_err(|e| fail("write", e))?;
                        let path = path.to_owned();
                        return Ok(Self { file, path });
                    }
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(e)) => return Err(fail("lock", e)),
            }
        }
        Err(match Self::holder(path)? {
            Some(pid) => Error::Running { pid },
            None => Error::Starting {
                path: path.to_owned(),
            },
        })
    }

    /// Writes the process ID of this process.
    ///
    /// # Errors
    /// [`Error::PidFile`].
    pub fn write(&self) -> Result<(), Error> {
        let mut file = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|source| Error::PidFile {
                what: "write",
                path: self.path.clone(),
                source,
            })
    }

    /// The process ID of the daemon that holds the lock; `None` if no daemon does.
    ///
    /// # Errors
    /// [`Error::Starting`] if the lock is held but no process ID is there yet, [`Error::PidFile`] if the file cannot be
    /// read; only root can.
    pub fn holder(path: &Path) -> Result<Option<u32>, Error> {
        let fail = |what, source| Error::PidFile {
            what,
            path: path.to_owned(),
            source,
        };
        let file = match open(path, false) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail("open", e)),
        };
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(fail("lock", e)),
        }
        let mut text = String::new();
        file.take(32)
            .read_to_string(&mut text)
            .map_err(|e| fail("read", e))?;
        match text.trim_end().parse() {
            Ok(pid) => Ok(Some(pid)),
            Err(_) => Err(Error::Starting {
                path: path.to_owned(),
            }),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens the file, without following a symbolic link or waiting for a FIFO, and makes sure that it is a regular one.
fn open(path: &Path, write: bool) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .create(write)
        .mode(MODE)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() > 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file with one name",
        ));
    }
    // Earlier releases made it readable for all users.
    if write && metadata.mode() & 0o7777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// Whether the open file is the one that the path names now.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), path.symlink_metadata()) else {
        return false;
    };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm1.pid");
        (dir, path)
    }

    #[test]
    fn the_second_is_told_the_pid_of_the_first() {
        let (_dir, path) = scratch();
        let first = PidFile::lock(&path).unwrap();
        assert!(matches!(
            PidFile::holder(&path),
            Err(Error::Starting { .. })
        ));
        first.write().unwrap();
        assert_eq!(PidFile::holder(&path).unwrap(), Some(std::process::id()));
        let error = PidFile::lock(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("already running, pid {}", std::process::id())
        );
        drop(first);
        assert!(!path.exists());
        assert_eq!(PidFile::holder(&path).unwrap(), None);
        PidFile::lock(&path).unwrap();
    }

    #[test]
    fn a_stale_file_is_not_believed() {
        let (_dir, path) = scratch();
        std::fs::write(&path, "1\n").unwrap();
        assert_eq!(PidFile::holder(&path).unwrap(), None);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let lock = PidFile::lock(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, MODE);
        drop(lock);
    }

    #[test]
    fn links_and_other_things_are_refused() {
        let (dir, path) = scratch();
        std::fs::write(dir.path().join("victim"), "precious").unwrap();
        std::os::unix::fs::symlink("victim", &path).unwrap();
        assert!(PidFile::lock(&path).is_err());
        assert_eq!(
            std::fs::read(dir.path().join("victim")).unwrap(),
            b"precious"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(PidFile::lock(&path).is_err());
        std::fs::remove_dir(&path).unwrap();
        std::fs::hard_link(dir.path().join("victim"), &path).unwrap();
        assert!(PidFile::lock(&path).is_err());
    }

    #[test]
    fn a_file_of_somebody_else_is_not_removed() {
        let (_dir, path) = scratch();
        let lock = PidFile::lock(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "other").unwrap();
        drop(lock);
        assert!(path.exists());
    }
}
