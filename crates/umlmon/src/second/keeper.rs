//! The program of the second process of a running VM, umlkeep, as the monitor holds it (umlmon, the monitor process).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Where the program is, seen from the directory of umlmon: where packages have it, and where it is built.
const PLACES: [&str; 2] = ["../lib/umlmon/umlkeep", "umlkeep"];

/// The program. It is held open: an upgrade of the package does not exchange it under a monitor that runs.
#[derive(Debug)]
pub struct Keeper(OwnedFd);

impl Keeper {
    /// That which belongs to this program.
    ///
    /// # Errors
    /// If it is not there.
    pub fn find() -> io::Result<Keeper> {
        let own = std::env::current_exe()?;
        let directory = own.parent().unwrap_or(Path::new("/"));
        let mut places = PLACES.iter().map(|place| directory.join(place));
        let found = places.find(|place| place.exists());
        let searched = || {
            let places = PLACES.map(|place| directory.join(place).display().to_string());
            let why = format!(
                "umlkeep is not at {}; install umlmon again",
                places.join(" or ")
            );
            io::Error::new(io::ErrorKind::NotFound, why)
        };
        Keeper::open(&found.ok_or_else(searched)?)
    }

    /// The one in this file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Keeper> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(Keeper(openat(CWD, path, flags, Mode::empty())?))
    }

    /// The file, to be executed.
    #[must_use]
    pub fn program(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
