//! Looking at a kernel's file: whether it can be executed, and which loader and libraries it needs. A confined process
//! of the monitor, as the VM's user in the jail; and umladmin, which leaves the reading of files to one.
//!
//! The file may have any content and any owner. Nothing here waits for another process, and only what is needed is
//! read.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{self, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::directories::{Open, find_file, host};
use crate::elf_file::Needs;
use crate::library::{DIRECTORIES, MAX_LIBRARIES, MAX_NAMES, beside, is_loader, is_name};
use crate::walk::{Found, Guide, Step, kind, walk};
use crate::{Account, Error, Result};

/// Loaded by the C library when a thread is cancelled, although the file does not name it. Without it, kernels from 7.x
/// on abort when they end.
const LIBGCC: &str = "libgcc_s.so.1";

/// The largest kernel, in bytes: twice the size of one with all of its debugging information.
const MAX_KERNEL: u64 = 1 << 30;

/// A program's file that was found, and is open for reading.
#[derive(Debug)]
pub struct Program {
    root: OwnedFd,
    file: File,
    /// Its path in messages.
    shown: PathBuf,
    /// Its path below the root, after links.
    real: PathBuf,
}

impl Program {
    /// The file `path` of the jail `root`, for the user that is to execute it.
    ///
    /// # Errors
    /// It cannot be executed or read, or it is larger than any kernel.
    pub fn in_jail(root: impl AsFd, path: &Path, account: &Account) -> Result<Program> {
        let root = root.as_fd().try_clone_to_owned();
        let root = root.map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Program::open(root, path, Some(account))
    }

    /// The file `path` of the host.
    ///
    /// # Errors
    /// No program can be executed where it is, it cannot be read, or it is larger than any kernel.
    pub fn on_host(path: &Path) -> Result<Program> {
        let real = std::fs::canonicalize(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Program::open(host()?, &real, None)
    }

    fn open(root: OwnedFd, path: &Path, account: Option<&Account>) -> Result<Program> {
        let found = find(&root, path, account)?;
        Ok(Program {
            file: read(&found, path)?,
            root,
            shown: path.to_owned(),
            real: found.path,
        })
    }

    /// Its content.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes a copy that everybody can execute. There must be none yet.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn copy_to(&self, path: &Path) -> io::Result<()> {
        let mut from = self.file.try_clone()?;
        from.rewind()?;
        let mut to = File::create_new(path)?;
        io::copy(&mut from, &mut to)?;
        to.set_permissions(Permissions::from_mode(0o755))
    }

    /// The directory for libraries of its own.
    #[must_use]
    pub fn beside(&self) -> PathBuf {
        beside(&self.real)
    }

    /// What makes it possible for users other than root to change or exchange it; None if only root can.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        doubt(&self.root, &self.real)
    }
}

/// What makes it possible for users other than root to change or exchange the file `path` of the directory `root`, as
/// "/disks belongs to user ID 1000"; None if only root can.
pub(crate) fn doubt(root: &OwnedFd, path: &Path) -> Option<String> {
    match find_file(root, path, Open::ToSome) {
        Ok(_) => None,
        Err(Error::Untrusted { path, problem }) => Some(format!("{} {problem}", path.display())),
        Err(other) => Some(other.to_string()),
    }
}

/// What was found out about a kernel's file. It comes from a process that the file may have taken over, see
/// [`crate::Kernel::new`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Its path in the jail, after links.
    pub real: PathBuf,
    /// Where its loader must be, if it is dynamically linked.
    pub loader: Option<PathBuf>,
    /// The loader, if it has one, and then the libraries: by file name, and where each was found.
    pub libraries: Vec<(String, Origin)>,
}

/// Where a loader or library was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// In the directory beside the kernel that is for it only.
    Beside,
    /// In this library directory of the host.
    Host(PathBuf),
}

/// Reads what a file needs; the path is for messages.
pub type Reader<'a> = dyn Fn(&File, &Path) -> Result<Needs> + 'a;

impl Inspection {
    /// Looks at the program, with the host's library directories below `host`. Files are read by `reader`.
    ///
    /// # Errors
    /// What is wrong with the program, or which library is missing.
    pub fn make(program: &Program, host: impl AsFd, reader: &Reader<'_>) -> Result<Inspection> {
        let host = host.as_fd().try_clone_to_owned();
        let host = host.map_err(|source| Error::Read {
            path: program.shown.clone(),
            source,
        })?;
        let mut search = Search {
            root: &program.root,
            host: &host,
            kernel: &program.shown,
            beside: program.doubt().is_none().then(|| beside(&program.real)),
            reader,
            libraries: Vec::new(),
        };
        let needs = reader(&program.file, &program.shown)?;
        search.collect(&needs)?;
        Ok(Inspection {
            real: program.real.clone(),
            loader: needs.loader,
            libraries: search.libraries,
        })
    }
}

/// Finds the kernel, if the user can execute it.
fn find(root: &OwnedFd, kernel: &Path, account: Option<&Account>) -> Result<Found> {
    let found = walk(root, kernel, &Executing { account }).map_err(|error| match error {
        error if error.is_missing() => Error::NoKernel(kernel.to_owned()),
        Error::Directory { path, source } => Error::Read { path, source },
        error => error,
    })?;
    if !found.is_file() {
        return Err(Error::NotFile {
            path: kernel.to_owned(),
            found: kind(found.kind()),
        });
    }
    let is_noexec = found.is_noexec().map_err(|source| Error::Read {
        path: kernel.to_owned(),
        source,
    })?;
    match is_noexec {
        true => Err(Error::NoExec(kernel.to_owned())),
        false => Ok(found),
    }
}

/// Opens a file that is no larger than a kernel.
fn read(found: &Found, shown: &Path) -> Result<File> {
    let size = u64::try_from(found.stat.st_size).unwrap_or(u64::MAX);
    if size > MAX_KERNEL {
        return Err(Error::TooLarge {
            path: shown.to_owned(),
            size,
            limit: MAX_KERNEL,
        });
    }
    found.read().map_err(|source| Error::Read {
        path: shown.to_owned(),
        source,
    })
}

/// The rules for a program that this user is to execute.
struct Executing<'a> {
    account: Option<&'a Account>,
}

impl Guide for Executing<'_> {
    fn judge(&self, step: &Step<'_>) -> Result<()> {
        let stat = step.stat;
        let passed = matches!(step.kind(), FileType::Directory | FileType::RegularFile);
        match self.account {
            Some(user) if passed && !user.may(stat.st_uid, stat.st_gid, stat.st_mode, 1) => {
                Err(Error::NotExecutable {
                    path: step.path.to_owned(),
                    user: user.name.clone(),
                    mode: stat.st_mode & 0o7777,
                })
            }
            _ => Ok(()),
        }
    }
}

/// The search for a kernel's loader and libraries.
struct Search<'a> {
    root: &'a OwnedFd,
    host: &'a OwnedFd,
    kernel: &'a Path,
    /// The kernel's own library directory, in the jail.
    beside: Option<PathBuf>,
    reader: &'a Reader<'a>,
    libraries: Vec<(String, Origin)>,
}

impl Search<'_> {
    /// Finds the loader of the kernel and all libraries, also those that libraries need.
    fn collect(&mut self, needs: &Needs) -> Result<()> {
        let Some(loader) = &needs.loader else {
            return Ok(());
        };
        if !is_loader(loader) {
            return Err(self.bad("its loader is not given by a path in /lib or /lib64"));
        }
        let name = loader.file_name().unwrap_or_default().to_string_lossy();
        if self.library(&name)?.is_none() {
            return Err(self.missing("the loader", loader.display().to_string()));
        }
        let mut seen = BTreeSet::from([name.clone().into_owned()]);
        let mut wanted = needs.libraries.clone();
        while let Some(library) = wanted.pop() {
            if !is_name(&library) {
                return Err(self.bad("a library is not given by its file name"));
            }
            if !seen.insert(library.clone()) {
                continue;
            }
            let names: usize = seen.iter().map(String::len).sum();
            if seen.len() > MAX_LIBRARIES || names > MAX_NAMES {
                return Err(self.bad("it needs more libraries than any kernel"));
            }
            let Some((file, path)) = self.library(&library)? else {
                return Err(self.missing("the library", library));
            };
            wanted.extend((self.reader)(&file, &path)?.libraries);
        }
        if !seen.contains(LIBGCC) {
            self.library(LIBGCC)?;
        }
        Ok(())
    }

    fn bad(&self, problem: &str) -> Error {
        Error::NotElf {
            path: self.kernel.to_owned(),
            problem: problem.to_owned(),
        }
    }

    fn missing(&self, what: &'static str, name: String) -> Error {
        Error::NoLibrary {
            kernel: self.kernel.to_owned(),
            what,
            name,
            beside: self.beside.clone(),
        }
    }

    /// Finds a file beside the kernel, or on the host, and notes it. Gives it open for reading.
    fn library(&mut self, name: &str) -> Result<Option<(File, PathBuf)>> {
        let beside = self.beside.iter().map(|directory| {
            let path = directory.join(name);
            (self.root, path, Open::ToSome, Origin::Beside)
        });
        let on_host = DIRECTORIES.iter().map(|directory| {
            let directory = PathBuf::from(directory);
            let path = directory.join(name);
            (self.host, path, Open::ToAll, Origin::Host(directory))
        });
        for (root, path, open, origin) in beside.chain(on_host) {
            match find_file(root, &path, open) {
                Ok(found) => {
                    let file = read(&found, &path)?;
                    self.libraries.push((name.to_owned(), origin));
                    return Ok(Some((file, path)));
                }
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
