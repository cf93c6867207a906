//! Log files that root may write in a directory that only root can change. Runs in umlmon and umldir.
//!
//! The directory and the file are looked up and checked anew at every opening, so that a log rotation cannot be used to
//! make root write somewhere else: no symbolic link is followed, nothing but a regular file with a single name is
//! accepted, and a FIFO or device put there does not block. Nor is the directory held open: a file system that has
//! become read-only can only be mounted anew when nobody uses it, and the logs go on there then.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, open, openat, renameat, statat,
};
use rustix::process::geteuid;

/// A directory of log files that belongs to the caller and that no other user can write.
#[derive(Debug, Clone)]
pub struct LogDir {
    path: PathBuf,
}

impl LogDir {
    /// The directory with this absolute path.
    ///
    /// # Errors
    /// The error of open(2), or `PermissionDenied` if the directory belongs to another user or others may write it.
    pub fn open(path: &Path) -> io::Result<Self> {
        directory(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where the directory is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file of the directory for appending and reading, mode 0640; creates it if it does not exist.
    ///
    /// # Errors
    /// As [`LogDir::open`]; the error of openat(2) (`ELOOP`: a symbolic link), or `PermissionDenied` if it is anything
    /// but a regular file of the caller with one name, or if `name` is not a plain file name.
    pub fn append(&self, name: &str) -> io::Result<File> {
        plain(name)?;
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o640);
        let file = openat(directory(&self.path)?, name, flags, mode)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused("not a regular file"));
        }
        if stat.st_nlink != 1 {
            return Err(refused("the file has several names"));
        }
        if stat.st_uid != geteuid().as_raw() {
            return Err(refused("the file belongs to another user"));
        }
        if stat.st_mode & 0o7777 != 0o640 {
            fchmod(&file, mode)?;
        }
        Ok(File::from(file))
    }

    /// The names of its regular files, and their sizes in bytes.
    ///
    /// # Errors
    /// As [`LogDir::open`]; the error of getdents(2).
    pub fn files(&self) -> io::Result<Vec<(String, u64)>> {
        let dir = directory(&self.path)?;
        let mut files = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            // A file may go meanwhile: a log rotation renames.
            let Ok(stat) = statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let name = entry.file_name().to_string_lossy().into_owned();
                files.push((name, u64::try_from(stat.st_size).unwrap_or(0)));
            }
        }
        Ok(files)
    }

    /// Device and inode of a file of the directory.
    ///
    /// # Errors
    /// As [`LogDir::open`]; the error of fstatat(2), or `PermissionDenied` if `name` is not a plain file name.
    pub fn identity(&self, name: &str) -> io::Result<(u64, u64)> {
        plain(name)?;
        let stat = statat(directory(&self.path)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Gives a file of the directory another name, replacing what has that one.
    ///
    /// # Errors
    /// As [`LogDir::open`]; the error of renameat(2), or `PermissionDenied` if one of the names is not a plain file
    /// name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        plain(from)?;
        plain(to)?;
        let dir = directory(&self.path)?;
        Ok(renameat(&dir, from, &dir, to)?)
    }
}

/// Opens the directory if it belongs to the caller and no other user can write it.
fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let dir = open(path, flags, Mode::empty())?;
    let stat = fstat(&dir)?;
    if stat.st_uid != geteuid().as_raw() {
        return Err(refused("the log directory belongs to another user"));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(refused("the log directory is writable by others"));
    }
    Ok(dir)
}

fn plain(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(refused("not a plain file name"));
    }
    Ok(())
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
