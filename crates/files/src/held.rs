//! Files of which each lists what one monitor holds, in a directory of root that all monitors of a host share. Used by
//! the monitor as root: for disks, and for networks.
//!
//! Each monitor that holds something has a file there with a lock on it (flock(2)). Only the lock matters: a file that
//! is not locked was left by a monitor that has ended. A process that reads or writes any of the files holds the lock
//! on the file `mutex` meanwhile, so that checking and entering are one step. A file is replaced as a whole, or written
//! at once: if the file system is full, the old content stays, and the others can read it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// What is after the name of a file before it takes its place.
const DRAFT: &str = ".new";

/// How often the mutex is tried, and how long to wait in between: it is held for a millisecond, and for tens of them
/// while a network is made, perhaps for many VMs one after the other.
const TRIES: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(5);
/// The longest content that is read, in bytes.
const MAX_CONTENT: u64 = 4 << 20;

/// Why such a file cannot be used.
#[derive(Debug)]
pub enum HeldError {
    /// The files cannot be used.
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another VM has the same name, and its file cannot be distinguished from ours.
    Namesake(PathBuf),
    /// A monitor that holds the mutex is stopped, or debugged.
    Stuck(PathBuf),
}

impl std::fmt::Display for HeldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeldError::File { what, path, source } => {
                write!(f, "cannot {what} {}: {source}", path.display())
            }
            HeldError::Namesake(path) => write!(
                f,
                "a VM of the same name holds {}, in another installation with the same directory shared; give one of \
                 them another name or directory",
                path.display()
            ),
            HeldError::Stuck(path) => write!(
                f,
                "another monitor holds {} and does not release it",
                path.display()
            ),
        }
    }
}

impl std::error::Error for HeldError {}

/// The directory.
#[derive(Debug)]
pub struct HeldDir {
    directory: OwnedFd,
    path: PathBuf,
    /// The names that were ignored, and logged.
    foreign: RefCell<BTreeSet<CString>>,
}

impl HeldDir {
    /// Opens the directory, which must belong to root.
    ///
    /// # Errors
    /// [`HeldError::File`].
    pub fn open(path: &Path) -> Result<HeldDir, HeldError> {
        let directory = File::open(path).map_err(|source| HeldError::File {
            what: "open",
            path: path.to_owned(),
            source,
        })?;
        Ok(HeldDir {
            directory: directory.into(),
            path: path.to_owned(),
            foreign: RefCell::default(),
        })
    }

    /// Makes an error of what went wrong with the file `name`.
    pub fn failed(
        &self,
        what: &'static str,
        name: &str,
    ) -> impl Fn(io::Error) -> HeldError + use<> {
        let path = self.path.join(name);
        move |source| HeldError::File {
            what,
            path: path.clone(),
            source,
        }
    }

    fn open_file(&self, name: &str, access: OFlags) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(openat(&self.directory, name, access | flags, mode)?.into())
    }

    /// Excludes all other monitors from these files until the result is dropped.
    ///
    /// # Errors
    /// [`HeldError::Stuck`] after ten seconds; [`HeldError::File`].
    pub fn mutex(&self) -> Result<File, HeldError> {
        const NAME: &str = "mutex";
        let file = self
            .open_file(NAME, OFlags::RDWR | OFlags::CREATE)
            .map_err(self.failed("open", NAME))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", NAME)(error)),
            }
        }
        Err(HeldError::Stuck(self.path.join(NAME)))
    }

    /// The names of the files in the directory. Entries that cannot be from a monitor are ignored, and logged once.
    ///
    /// # Errors
    /// [`HeldError::File`].
    pub fn names(&self) -> Result<Vec<String>, HeldError> {
        let failed = self.failed("list", "");
        let entries = Dir::read_from(&self.directory).map_err(|error| failed(error.into()))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            match name.to_str().ok().filter(|name| self.is_of_a_monitor(name)) {
                Some(name) => names.push(name.to_owned()),
                None => self.pass_over(name),
            }
        }
        Ok(names)
    }

    /// A regular file of ours; it may be gone by now.
    fn is_of_a_monitor(&self, name: &str) -> bool {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    && stat.st_uid == geteuid().as_raw()
            }
            Err(error) => error == Errno::NOENT,
        }
    }

    fn pass_over(&self, name: &CStr) {
        if self.foreign.borrow_mut().insert(name.to_owned()) {
            let path = self.path.join(OsStr::from_bytes(name.to_bytes()));
            tracing::warn!("{} is not from a monitor; remove it", path.display());
        }
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`HeldError::File`].
    pub fn remove(&self, name: &str) -> Result<(), HeldError> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", name)(error.into())),
        }
    }

    /// The content of a file, whichever monitor holds it. It is cut off at 4 MB.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn content(&self, name: &str) -> io::Result<Vec<u8>> {
        read(&self.open_file(name, OFlags::RDONLY)?)
    }

    /// Whether the open file is the one that has this name now.
    fn is_named(&self, name: &str, file: &File) -> io::Result<bool> {
        let named = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let open = fstat(file)?;
        Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
    }

    /// The content of a file that a former monitor has written, and whose lock another process has held since; and a
    /// lock of our own on it.
    ///
    /// # Errors
    /// If the file is another one by now; those of open(2), flock(2) and read(2).
    pub fn take_over(&self, name: &str, file: &File) -> io::Result<(Vec<u8>, File)> {
        let own = self.another(name, file)?;
        Ok((read(&own)?, own))
    }

    /// A file that is held, opened once more and with another lock, which is not lost when somebody unlocks the first.
    ///
    /// # Errors
    /// If the file is another one by now; those of open(2) and flock(2).
    pub fn another(&self, name: &str, file: &File) -> io::Result<File> {
        let other = self.open_file(name, OFlags::RDONLY)?;
        other.try_lock_shared()?;
        match self.is_named(name, file)? && self.is_named(name, &other)? {
            true => Ok(other),
            false => Err(io::Error::other("it is not that of the running VM")),
        }
    }

    /// Whether a monitor holds the file; false if it is not there. Call this with the mutex, so that none takes it
    /// meanwhile.
    ///
    /// # Errors
    /// [`HeldError::File`].
    pub fn is_held(&self, name: &str) -> Result<bool, HeldError> {
        let file = self.open_file(name, OFlags::RDWR);
        match file.map(|file| file.try_lock()) {
            Ok(Ok(())) => Ok(false),
            Ok(Err(TryLockError::WouldBlock)) => Ok(true),
            Ok(Err(TryLockError::Error(error))) => Err(self.failed("lock", name)(error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("open", name)(error)),
        }
    }

    /// There is one monitor for a VM, so that a file of its own that it does not hold was left by a former one; unless
    /// two installations have the same directory.
    ///
    /// # Errors
    /// [`HeldError::Namesake`]; [`HeldError::File`].
    pub fn check_no_namesake(&self, name: &str) -> Result<(), HeldError> {
        match self.is_held(name)? {
            true => Err(HeldError::Namesake(self.path.join(name))),
            false => Ok(()),
        }
    }

    /// Removes what a monitor that was killed has left of a file, unless it is held nevertheless. Call this with the
    /// mutex.
    ///
    /// # Errors
    /// [`HeldError::File`].
    pub fn remove_left(&self, name: &str) -> Result<(), HeldError> {
        self.remove(&draft_of(name))?;
        match self.is_held(name)? {
            true => Ok(()),
            false => self.remove(name),
        }
    }

    /// Removes what was left of files by monitors that were killed while they wrote them. Call this with the mutex, if
    /// all write with it.
    ///
    /// # Errors
    /// [`HeldError::File`].
    pub fn remove_drafts(&self) -> Result<(), HeldError> {
        let names = self.names()?;
        let mut drafts = names.iter().filter(|name| name.ends_with(DRAFT));
        drafts.try_for_each(|name| self.remove(name))
    }

    /// Gives a file its content, all or nothing. Returns the file with a lock on it, open for reading only: a process
    /// that is not root may hold it, too.
    ///
    /// # Errors
    /// Those of open(2), write(2), rename(2).
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<File> {
        let draft = draft_of(name);
        let write = || {
            let mut written = self.open_file(&draft, OFlags::RDWR | OFlags::CREATE)?;
            written.set_len(0)?;
            written.write_all(content)?;
            let file = self.open_file(&draft, OFlags::RDONLY)?;
            // Where locks are kept by a server (NFS), who only reads can have a shared one only. Nobody shares it.
            file.try_lock_shared()?;
            renameat(&self.directory, &draft, &self.directory, name)?;
            Ok(file)
        };
        let written = write();
        if written.is_err() {
            // The next one of this name begins with it anew, if it stays.
            let _ = unlinkat(&self.directory, &draft, AtFlags::empty());
        }
        written
    }

    /// Gives a file that is held another content in the same file, so that the locks on it stay, also those of other
    /// processes. The content is followed by blanks if it was longer before: so one write(2) is enough, which a signal
    /// cannot end within a page. After an error the file has the content that it had.
    ///
    /// # Errors
    /// If the file is another one by now; those of open(2), read(2) and write(2).
    pub fn rewrite(&self, name: &str, file: &File, content: &[u8]) -> io::Result<()> {
        let written = self.open_file(name, OFlags::RDWR)?;
        if !self.is_named(name, file)? || !self.is_named(name, &written)? {
            return Err(io::Error::other("it is another file by now"));
        }
        let before = read(&written)?;
        let mut content = content.to_vec();
        content.resize(content.len().max(before.len()), b' ');
        let result = written.write_all_at(&content, 0);
        if result.is_err() {
            // There is room for what was there.
            written.write_all_at(&before, 0)?;
            written.set_len(before.len().try_into().unwrap_or(u64::MAX))?;
        }
        result
    }
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_CONTENT).read_to_end(&mut content)?;
    Ok(content)
}

/// What a file is called before it takes its place.
fn draft_of(name: &str) -> String {
    format!("{name}{DRAFT}")
}
