//! What a kernel gets in its jail, according to what was found out about its file. The monitor, and umladmin.
//!
//! The monitor never opens the file. The process that has inspected it is not trusted: its results cannot name a file
//! other than a library.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::directories::host;
use crate::inspect::{Inspection, Origin, Program, Reader, doubt};
use crate::library::{self, DIRECTORIES, MAX_LIBRARIES, beside, is_loader, is_name};
use crate::{Bind, Error, Result, Source};

/// The interface of hosts with the SKAS3 patch.
const PROC_MM: &str = "/proc/mm";

/// A kernel that can run in the jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its path in the jail.
    pub path: PathBuf,
    /// What it needs from outside the jail.
    pub binds: Vec<Bind>,
    /// Warnings for the administrator, as sentences for the log.
    pub notes: Vec<String>,
}

impl Kernel {
    /// The kernel at `path` in the jail `root`, as it was found.
    ///
    /// # Errors
    /// [`Error::Nonsense`].
    pub fn new(root: impl AsFd, path: &Path, found: &Inspection) -> Result<Kernel> {
        let nonsense = |what| Error::Nonsense {
            kernel: path.to_owned(),
            what,
        };
        if found.loader.as_ref().is_some_and(|path| !is_loader(path)) {
            return Err(nonsense("a loader"));
        }
        // One more: the C library's own.
        if found.libraries.len() > MAX_LIBRARIES + 1 {
            return Err(nonsense("too many libraries"));
        }
        let mut binds = binds(found).ok_or_else(|| nonsense("a library"))?;
        if Path::new(PROC_MM).exists() {
            binds.push(Bind {
                source: Source::Interface(PROC_MM.into()),
                target: PROC_MM.into(),
            });
        }
        let root = root.as_fd().try_clone_to_owned();
        let note = root.ok().and_then(|root| doubt(&root, path)).map(|why| {
            let path = path.display();
            format!(
                "kernel {path} can be changed by others than root: {why}; chown root it, and chmod go-w it"
            )
        });
        Ok(Kernel {
            path: path.to_owned(),
            binds,
            notes: note.into_iter().collect(),
        })
    }
}

/// The loader and the libraries of a program of the host: where each was found, and where the program expects it. Those
/// in the directory `PROGRAM.lib` come first, if only root can change both. Empty for a program that is statically
/// linked. Files are read by `reader`, which need not be trusted.
///
/// # Errors
/// If the file is no program for this processor, or something that it needs is missing.
pub fn libraries(program: &Program, reader: &Reader<'_>) -> Result<Vec<(PathBuf, PathBuf)>> {
    let found = Inspection::make(program, host()?, reader)?;
    let path = |bind: Bind| match bind.source {
        Source::Host(path) | Source::Jail(path) | Source::Interface(path) => (path, bind.target),
    };
    Ok(binds(&found).into_iter().flatten().map(path).collect())
}

/// The loader and the libraries as they are to be seen in a jail; None if one cannot be a library.
fn binds(found: &Inspection) -> Option<Vec<Bind>> {
    let mut loader = found.loader.clone();
    let bind = |(name, origin): &(String, Origin)| {
        let (source, target) = one(&found.real, name, origin)?;
        let target = loader.take().unwrap_or(target);
        Some(Bind { source, target })
    };
    found.libraries.iter().map(bind).collect()
}

/// Where a library is, and where it appears; None if it cannot be one.
fn one(kernel: &Path, name: &str, origin: &Origin) -> Option<(Source, PathBuf)> {
    if !is_name(name) {
        return None;
    }
    match origin {
        Origin::Beside => {
            let [first, ..] = DIRECTORIES;
            let source = beside(kernel).join(name);
            Some((Source::Jail(source), library::in_jail(first, name)))
        }
        Origin::Host(directory) => {
            let known = DIRECTORIES
                .iter()
                .find(|known| directory == Path::new(known))?;
            let source = directory.join(name);
            Some((Source::Host(source), library::in_jail(known, name)))
        }
    }
}
