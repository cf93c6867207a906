//! The new content of a file of the administrator, which takes the place of the old one as a whole. Runs in umladmin.
//!
//! It is written to a draft beside the file, `.NAME.new`, and renamed. Who changes the file holds the lock on the draft
//! (flock(2)) from before reading the old content on, so that changes of two administrators do not undo each other.
//! Only the lock matters: a draft that is not locked was left by a program that was killed, and is used again.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, XattrFlags, fchmod, fchown, fgetxattr, fsetxattr, open, stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::process::{Gid, Uid};

use crate::Mark;

/// How often the lock is tried, and how long to wait in between.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);
/// The mode of a file that is new: the clients of all users read a configuration.
const NEW: u32 = 0o644;
/// Where the kernel keeps access control lists, acl(5), and the longest that is taken over, in bytes.
const ACL: &str = "system.posix_acl_access";
const MAX_ACL: usize = 4096;

/// The right to replace a file. When it is dropped, the draft is removed.
#[derive(Debug)]
pub struct Replacement {
    target: PathBuf,
    draft: PathBuf,
    file: File,
    /// The file as it was when the lock was taken; None if there was none.
    before: Option<Mark>,
}

impl Replacement {
    /// Takes the lock, for at most ten seconds. If the path is a link, the file that it leads to is meant. The old
    /// content is to be read after this.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] if another program keeps the lock; those of open(2).
    pub fn begin(path: &Path) -> io::Result<Replacement> {
        let target = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            found => found?,
        };
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let draft = target.with_file_name(draft_name(name));
        let file = lock(&draft)?;
        let before = mark(&target)?;
        Ok(Replacement {
            target,
            draft,
            file,
            before,
        })
    }

    /// Gives the file this content. Its mode, owner and access control list stay. After a crash it has either the old
    /// content or the new one.
    ///
    /// # Errors
    /// If the file was changed by a program that does not take the lock, such as an editor; those of write(2) and
    /// rename(2). The old content is intact.
    pub fn put(mut self, content: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all(content)?;
        self.take_over_access()?;
        self.file.sync_all()?;
        if mark(&self.target)? != self.before {
            let why = "another program has changed it in the meantime; try again";
            return Err(io::Error::other(why));
        }
        fs::rename(&self.draft, &self.target)?;
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        File::open(directory)?.sync_all()
    }

    fn take_over_access(&self) -> io::Result<()> {
        let old = match fs::metadata(&self.target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(fchmod(&self.file, Mode::from_raw_mode(NEW))?);
            }
            old => old?,
        };
        let new = self.file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            let (user, group) = (Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
            fchown(&self.file, Some(user), Some(group))?;
        }
        fchmod(&self.file, Mode::from_raw_mode(old.mode() & 0o7777))?;
        let mut list = [0; MAX_ACL];
        match fgetxattr(File::open(&self.target)?, ACL, &mut list) {
            Ok(length) => {
                let list = list.get(..length).unwrap_or_default();
                Ok(fsetxattr(&self.file, ACL, list, XattrFlags::empty())?)
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After a rename, the name is free, or the draft of another program, which holds its lock.
        if is_at(&self.file, &self.draft).unwrap_or(false) {
            let _ = fs::remove_file(&self.draft);
        }
    }
}

fn draft_name(name: &OsStr) -> OsString {
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(".new");
    draft
}

/// Opens the draft, and locks it.
fn lock(draft: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = open_draft(draft)?;
        match file.try_lock() {
            // Who held the lock may have renamed or removed it.
            Ok(()) if is_at(&file, draft)? => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let why = format!(
        "another program is changing it, and has locked {}; try again when it has ended",
        draft.display()
    );
    Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
}

fn open_draft(draft: &Path) -> io::Result<File> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let named = |error: Errno| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{}: {error}", draft.display()))
    };
    let file: File = open(draft, flags, Mode::RUSR | Mode::WUSR)
        .map_err(named)?
        .into();
    let found = file.metadata()?;
    // In a directory of others, it can be anything.
    match found.is_file() && found.uid() == geteuid().as_raw() && found.nlink() <= 1 {
        true => Ok(file),
        false => {
            let why = format!("{} is in the way; remove it", draft.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
        }
    }
}

/// Whether this name is that of the open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn mark(path: &Path) -> io::Result<Option<Mark>> {
    match stat(path) {
        Ok(found) => Ok(Some(Mark::from(&found))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_content_is_replaced_and_the_mode_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("f"), directory.path().join("l"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("f", &link).unwrap();
        Replacement::begin(&link).unwrap().put(b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert!(link.is_symlink());
        assert_eq!(names(directory.path()), ["f", "l"]);
    }

    #[test]
    fn a_missing_file_is_made_for_everybody_to_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        drop(Replacement::begin(&file).unwrap());
        assert!(names(directory.path()).is_empty());
        Replacement::begin(&file).unwrap().put(b"new").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, NEW);
    }

    #[test]
    fn a_change_by_an_editor_is_not_undone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, "old").unwrap();
        let replacement = Replacement::begin(&file).unwrap();
        fs::write(&file, "edited").unwrap();
        let refused = replacement.put(b"new").unwrap_err().to_string();
        assert!(refused.contains("has changed it"), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), b"edited");
        assert_eq!(names(directory.path()), ["f"]);
    }

    #[test]
    fn changes_of_many_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        // As if a program had been killed while it wrote.
        fs::write(directory.path().join(".f.new"), "half").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let replacement = Replacement::begin(&file).unwrap();
                    let mut content = fs::read(&file).unwrap_or_default();
                    content.push(b'x');
                    replacement.put(&content).unwrap();
                });
            }
        });
        assert_eq!(fs::read(&file).unwrap(), b"xxxxxxxx");
        assert_eq!(names(directory.path()), ["f"]);
    }

    #[test]
    fn a_draft_of_others_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("f"), directory.path().join("o"));
        fs::write(&other, "other").unwrap();
        let draft = directory.path().join(".f.new");
        symlink(&other, &draft).unwrap();
        assert!(Replacement::begin(&file).is_err());
        fs::remove_file(&draft).unwrap();
        fs::hard_link(&other, &draft).unwrap();
        let refused = Replacement::begin(&file).unwrap_err().to_string();
        assert!(refused.ends_with("in the way; remove it"), "{refused}");
        assert_eq!(fs::read(&other).unwrap(), b"other");
    }
}
