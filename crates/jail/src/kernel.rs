//! The kernel file: checked before the start, so that each fault has its own message, and its loader and libraries found.
//! Monitor only.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use crate::directories::{Access, in_jail, kind, open_below};
use crate::elf_file::Needs;
use crate::{Account, Bind, Error, Result, Source};

/// Where libraries are searched after the directories that the program names itself; the loader's own defaults.
const DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Loaded by the C library when a thread is cancelled, without being asked for in the file. Kernels from 7.x on abort at
/// the end without it.
const LIBGCC: &str = "libgcc_s.so.1";

/// More libraries than any kernel has.
const MAX_LIBRARIES: usize = 64;

/// The interface of hosts with the SKAS3 patch.
const PROC_MM: &str = "/proc/mm";

/// A kernel that can run in the jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its path in the jail.
    pub path: PathBuf,
    /// What it needs from outside the jail; the mount points are there.
    pub binds: Vec<Bind>,
    /// What the administrator should know, as sentences for the log.
    pub notes: Vec<String>,
}

impl Kernel {
    /// See [`crate::Jail::open_kernel`].
    pub(crate) fn open(root: &OwnedFd, kernel: &Path, account: &Account) -> Result<File> {
        open(root, kernel, account).map(|(file, _, _)| file)
    }

    /// See [`crate::Jail::kernel`].
    pub(crate) fn examine(
        root: &OwnedFd,
        jail: &Path,
        kernel: &Path,
        account: &Account,
    ) -> Result<Self> {
        let (file, stat, real) = open(root, kernel, account)?;
        let mut notes = Vec::new();
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
            let (uid, mode) = (stat.st_uid, stat.st_mode & 0o7777);
            let path = kernel.display();
            notes.push(format!(
                "kernel {path} can be changed by others than root (owner {uid}, mode {mode:04o}); \
                 chown root it, and chmod go-w it"
            ));
        }
        let mut own = real.into_os_string();
        own.push(".lib");
        let mut libraries = Libraries {
            root,
            kernel,
            own: PathBuf::from(own),
            directories: Vec::new(),
            binds: Vec::new(),
            found: Vec::new(),
        };
        libraries.collect(&Needs::read(&file, kernel)?)?;
        let mut binds = libraries.binds;
        if Path::new(PROC_MM).exists() {
            let source = Source::Host(PROC_MM.into());
            binds.push(Bind {
                source,
                target: PROC_MM.into(),
                writable: true,
            });
        }
        for bind in &binds {
            make_mount_point(root, jail, &bind.target)?;
        }
        Ok(Self {
            path: kernel.to_owned(),
            binds,
            notes,
        })
    }
}

/// Where the loader and the libraries of a program of the host are found, those in the directory `PROGRAM.lib` first.
/// Empty for one that is statically linked. Nothing is made or changed.
///
/// # Errors
/// If the file is no program for this processor, or something that it needs is missing.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |source| Error::Read {
        path: program.to_owned(),
        source,
    };
    let root = File::open("/").map_err(unreadable)?.into();
    let file = File::open(program).map_err(unreadable)?;
    let mut own = program.to_owned().into_os_string();
    own.push(".lib");
    let mut libraries = Libraries {
        root: &root,
        kernel: program,
        own: own.into(),
        directories: Vec::new(),
        binds: Vec::new(),
        found: Vec::new(),
    };
    libraries.collect(&Needs::read(&file, program)?)?;
    Ok(libraries.found)
}

/// Opens and checks the kernel. Gives its real path in the jail too, after links.
fn open(root: &OwnedFd, kernel: &Path, account: &Account) -> Result<(File, Stat, PathBuf)> {
    let unreadable = |source| Error::Read {
        path: kernel.to_owned(),
        source,
    };
    let found =
        in_jail(root, kernel, OFlags::PATH).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => Error::NoKernel(kernel.to_owned()),
                _ => unreadable(error),
            }
        })?;
    let stat = fs::fstat(&found).map_err(|error| unreadable(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotFile {
            path: kernel.to_owned(),
            found: kind(stat.st_mode),
        });
    }
    for path in kernel.ancestors() {
        let stat = in_jail(root, path, OFlags::PATH)
            .and_then(|fd| Ok(fs::fstat(fd)?))
            .map_err(unreadable)?;
        if !account.may(stat.st_uid, stat.st_gid, stat.st_mode, 1) {
            let (user, mode) = (account.name.clone(), stat.st_mode & 0o7777);
            return Err(Error::NotExecutable {
                path: path.to_owned(),
                user,
                mode,
            });
        }
    }
    let mount = fs::fstatvfs(&found).map_err(|error| unreadable(error.into()))?;
    if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(Error::NoExec(kernel.to_owned()));
    }
    let real = real_path(root, &found).unwrap_or_else(|| kernel.to_owned());
    Ok((reopen(&found).map_err(unreadable)?, stat, real))
}

/// The path of an open file of the jail, relative to its root; `None` if it cannot be told.
fn real_path(root: &OwnedFd, file: &OwnedFd) -> Option<PathBuf> {
    let name = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
    let inside = name(file)?.strip_prefix(name(root)?).ok()?.to_owned();
    Some(Path::new("/").join(inside))
}

/// A readable descriptor for a file that was checked through an `O_PATH` one.
fn reopen(file: &OwnedFd) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The search for a kernel's loader and libraries.
struct Libraries<'a> {
    root: &'a OwnedFd,
    kernel: &'a Path,
    /// The kernel's own library directory, in the jail.
    own: PathBuf,
    directories: Vec<PathBuf>,
    binds: Vec<Bind>,
    /// Where each was found.
    found: Vec<PathBuf>,
}

impl Libraries<'_> {
    /// Finds the loader of the kernel and all libraries, also those that libraries need.
    fn collect(&mut self, needs: &Needs) -> Result<()> {
        let Some(loader) = &needs.loader else {
            return Ok(());
        };
        let name = loader.file_name().and_then(|name| name.to_str());
        let normal = loader
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        let Some(name) = name.filter(|_| loader.is_absolute() && normal) else {
            let problem = "its loader is not given by an absolute path".to_owned();
            return Err(Error::NotElf {
                path: self.kernel.to_owned(),
                problem,
            });
        };
        self.find(name, loader, std::slice::from_ref(loader))?
            .ok_or_else(|| Error::NoLoader {
                kernel: self.kernel.to_owned(),
                loader: loader.clone(),
                directory: self.own.clone(),
            })?;
        self.directories = needs.search.clone();
        self.directories.extend(DIRECTORIES.map(PathBuf::from));
        let mut seen = BTreeSet::from([name.to_owned()]);
        let mut wanted = needs.libraries.clone();
        while let Some(library) = wanted.pop() {
            if seen.len() > MAX_LIBRARIES || !seen.insert(library.clone()) {
                continue;
            }
            let (file, path) = self.library(&library)?.ok_or_else(|| Error::NoLibrary {
                kernel: self.kernel.to_owned(),
                library: library.clone(),
                directory: self.own.clone(),
            })?;
            wanted.extend(Needs::read(&file, &path)?.libraries);
        }
        if !seen.contains(LIBGCC) {
            self.library(LIBGCC)?;
        }
        Ok(())
    }

    /// Finds a library.
    fn library(&mut self, name: &str) -> Result<Option<(File, PathBuf)>> {
        let places: Vec<PathBuf> = self.directories.iter().map(|dir| dir.join(name)).collect();
        self.find(name, &Path::new(DIRECTORIES[0]).join(name), &places)
    }

    /// Finds the file `name`: in the kernel's own directory (it then appears at `target`), in the jail at one of `places`,
    /// or on the host at one of `places` (it then appears at the same path). Notes the bind, if one is needed.
    fn find(
        &mut self,
        name: &str,
        target: &Path,
        places: &[PathBuf],
    ) -> Result<Option<(File, PathBuf)>> {
        let found = self.look_for(name, target, places)?;
        self.found
            .extend(found.iter().map(|(_, path)| path.clone()));
        Ok(found)
    }

    fn look_for(
        &mut self,
        name: &str,
        target: &Path,
        places: &[PathBuf],
    ) -> Result<Option<(File, PathBuf)>> {
        let own = self.own.join(name);
        if let Some(file) = self.file_in_jail(&own)? {
            let source = Source::Jail(own.clone());
            self.binds.push(Bind {
                source,
                target: target.to_owned(),
                writable: false,
            });
            return Ok(Some((file, own)));
        }
        for path in places {
            if let Some(file) = self.file_in_jail(path)? {
                return Ok(Some((file, path.clone())));
            }
        }
        let on_host = places
            .iter()
            .find(|path| std::fs::metadata(path).is_ok_and(|meta| meta.is_file()));
        let Some(path) = on_host else { return Ok(None) };
        let file = File::open(path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let source = Source::Host(path.clone());
        self.binds.push(Bind {
            source,
            target: path.clone(),
            writable: false,
        });
        Ok(Some((file, path.clone())))
    }

    /// The file at `path` in the jail. An empty one does not count: it is a mount point of an earlier start.
    fn file_in_jail(&self, path: &Path) -> Result<Option<File>> {
        let unreadable = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let found = match in_jail(self.root, path, OFlags::PATH) {
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                _ => return Err(unreadable(error)),
            },
            Ok(found) => found,
        };
        let stat = fs::fstat(&found).map_err(|error| unreadable(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
            return Ok(None);
        }
        reopen(&found).map(Some).map_err(unreadable)
    }
}

/// Makes the empty file `target` in the jail, with the directories above it.
fn make_mount_point(root: &OwnedFd, jail: &Path, target: &Path) -> Result<()> {
    let failed = |error: Errno| Error::MountPoint {
        path: target.to_owned(),
        source: error.into(),
    };
    let mut directory = root.try_clone().map_err(|source| Error::MountPoint {
        path: target.to_owned(),
        source,
    })?;
    let mut shown = jail.to_owned();
    let parents = target.parent().unwrap_or(Path::new("/"));
    for component in parents.components() {
        if let Component::Normal(name) = component {
            shown.push(name);
            let name = name
                .to_str()
                .ok_or_else(|| Error::BadPath(target.to_owned()))?;
            directory = open_below(&directory, name, &shown, Access::root(0o755))?;
        }
    }
    let name = target
        .file_name()
        .ok_or_else(|| Error::BadPath(target.to_owned()))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) => Ok(()),
        Err(Errno::EXIST) => {
            let stat = fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(()),
                _ => Err(failed(Errno::EXIST)),
            }
        }
        Err(error) => Err(failed(error)),
    }
}
