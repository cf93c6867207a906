//! Files of root in the directory of a VM, from which the next monitor learns what runs without one (umlmon, the
//! monitor process).
//!
//! Each is replaced as a whole. It needs to survive no crash of the host, and is not synchronised with the disk.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// The longest content, in bytes.
const MAX: u64 = 1 << 20;

/// What it is called before it takes its place.
fn draft(name: &str) -> String {
    format!("{name}.new")
}

/// Reads a file; None if there is none.
///
/// # Errors
/// Those of open(2) and read(2), and if others than root can have written it.
pub fn read(vm_dir: BorrowedFd<'_>, name: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(vm_dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => File::from(file?),
    };
    let stat = fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || stat.st_uid != 0 || stat.st_mode & 0o077 != 0 || stat.st_nlink != 1 {
        return Err(io::Error::other("it is no file that only root can write"));
    }
    let mut text = Vec::new();
    file.take(MAX).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Writes a file, which only root can read.
///
/// # Errors
/// Those of open(2), write(2) and rename(2); the old one stays.
pub fn write(vm_dir: BorrowedFd<'_>, name: &str, text: &[u8]) -> io::Result<()> {
    if text.len() as u64 >= MAX {
        return Err(io::Error::other("there is too much to record"));
    }
    let new = draft(name);
    let _ = unlinkat(vm_dir, &new, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(openat(vm_dir, &new, flags, Mode::RUSR | Mode::WUSR)?);
    let written = file.write_all(text);
    let written = written.and_then(|()| Ok(renameat(vm_dir, &new, vm_dir, name)?));
    if written.is_err() {
        let _ = unlinkat(vm_dir, &new, AtFlags::empty());
    }
    written
}

/// Removes a file, if it is there.
///
/// # Errors
/// As unlink(2).
pub fn remove(vm_dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    for name in [draft(name).as_str(), name] {
        match unlinkat(vm_dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_a_file_of_root_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let open = File::open(dir.path()).unwrap();
        let dir_fd = open.as_fd();
        let path = dir.path().join("run");
        assert!(read(dir_fd, "run").unwrap().is_none());
        std::fs::write(&path, "{").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(dir_fd, "run").is_err());
        remove(dir_fd, "run").unwrap();
        symlink("elsewhere", &path).unwrap();
        assert!(read(dir_fd, "run").is_err());
        remove(dir_fd, "run").unwrap();
        assert!(read(dir_fd, "run").unwrap().is_none());
        write(dir_fd, "run", b"one").unwrap();
        write(dir_fd, "run", b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!path.with_extension("new").exists());
    }
}
