//! Who has which disk open, across all VMs that share a directory `shared` (umlmon, the monitor process, as root).
//!
//! The directory `shared/locks` belongs to root. Each monitor that holds a disk has a file `VM.held` there, with a lock
//! on it (flock(2)) and the list of what it holds. Only the lock counts: a file that is not locked was left by a monitor
//! that is no more, and with it its claims are gone. Who reads or writes any of these files holds the lock on the file
//! `mutex` meanwhile, so a claim is checked against all others and entered in one step. A file is replaced as a whole, so
//! that a full file system leaves the old list, which the others can read.
//!
//! A disk is what it is, not how it is called: a file by device and inode, a block device by its number. So hard links
//! and aliases of devices are the same disk.

use std::cell::RefCell;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use config::{DiskName, VmName};
use rustix::fs::{
    AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// How often the mutex is tried, and how long to wait in between: it is held for a millisecond.
const TRIES: u32 = 400;
const PAUSE: Duration = Duration::from_millis(5);
/// The longest list of claims, in bytes: sixteen disks with their backing files and some operations need a few thousand.
const MAX_LIST: u64 = 1 << 20;
/// What the file of a monitor's claims is called after its VM's name.
const SUFFIX: &str = ".held";

/// What makes a disk the same as another one, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Identity {
    /// A regular file.
    File {
        /// The file system (st_dev).
        dev: u64,
        /// The file (st_ino).
        ino: u64,
    },
    /// A block device (st_rdev).
    Device(u64),
    /// A file that is not there yet: its name in a VM's own directory.
    New(VmDisk),
}

/// A disk in the own directory of a VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VmDisk {
    vm: String,
    disk: DiskName,
}

impl Identity {
    /// The identity of what was found.
    pub fn of(stat: &Stat) -> Identity {
        if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
            return Identity::Device(stat.st_rdev);
        }
        Identity::File {
            dev: stat.st_dev,
            ino: stat.st_ino,
        }
    }

    /// The identity of a file that a VM is about to make.
    pub fn new(vm: &VmName, disk: &DiskName) -> Identity {
        Identity::New(VmDisk {
            vm: vm.to_string(),
            disk: disk.clone(),
        })
    }
}

/// What somebody does with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Reads it, and relies on nobody changing it.
    Read,
    /// Changes it.
    Write,
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Access::Read => "for reading",
            Access::Write => "read-write",
        })
    }
}

/// A disk that is, or shall be, in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which one.
    pub identity: Identity,
    /// Its name, as the VM that claims it sees it.
    pub disk: DiskName,
    /// What for.
    pub access: Access,
    /// As what, for people: "ubd0", "backing file of /disks/a.cow", "source of disk-copy".
    pub role: String,
}

/// A claim, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The VM.
    pub vm: String,
    /// What it holds.
    pub claim: Claim,
}

/// Why disks cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another VM has the disk.
    #[error(
        "{disk} is open {} by {} as {} (umlwatch {} -info shows it)",
        .held.claim.access, .held.vm, described(.held, .disk), .held.vm
    )]
    Other {
        /// As we call it.
        disk: DiskName,
        /// Who has it.
        held: Box<Holder>,
    },
    /// The VM itself has the disk.
    #[error("{disk} is in use by this VM {} as {}", .claim.access, .claim.role)]
    Own {
        /// As it is called now.
        disk: DiskName,
        /// What it is used as.
        claim: Box<Claim>,
    },
    /// The files of the claims cannot be used.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A VM of the same name, with which ours would be mistaken for one.
    #[error(
        "a VM of the same name holds {0}, in another installation with the same directory shared; give one of them \
         another name or directory"
    )]
    Namesake(PathBuf),
    /// A monitor that is stopped, or debugged.
    #[error("another monitor holds {0} and does not go on")]
    Stuck(PathBuf),
}

/// The role of a claim, with the name the other VM has for the disk if it is another one.
fn described(held: &Holder, disk: &DiskName) -> String {
    let claim = &held.claim;
    if claim.disk == *disk {
        return claim.role.clone();
    }
    format!("{}, {}", claim.disk, claim.role)
}

/// The claims of this monitor among those of all.
#[derive(Debug)]
pub struct Locks {
    directory: OwnedFd,
    path: PathBuf,
    vm: VmName,
    own: RefCell<Own>,
}

/// What this monitor holds.
#[derive(Debug, Default)]
struct Own {
    claims: Vec<(u64, Claim)>,
    next: u64,
    /// The locked file with the list; only as long as there is a claim.
    file: Option<File>,
}

/// Claims that are held until this is dropped.
#[derive(Debug)]
pub struct Lease {
    locks: Rc<Locks>,
    number: u64,
}

impl Locks {
    /// Opens `SHARED/locks`, which must be root's.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(shared: &Path, vm: &VmName) -> Result<Rc<Locks>, Error> {
        let path = shared.join("locks");
        let directory = File::open(&path).map_err(|source| Error::File {
            what: "open",
            path: path.clone(),
            source,
        })?;
        Ok(Rc::new(Locks {
            directory: directory.into(),
            path,
            vm: vm.clone(),
            own: RefCell::default(),
        }))
    }

    /// Claims disks, all or none.
    ///
    /// # Errors
    /// [`Error::Other`] and [`Error::Own`] with the first one that is taken; [`Error::Namesake`]; an [`Error::File`].
    pub fn claim(self: &Rc<Self>, claims: Vec<Claim>) -> Result<Lease, Error> {
        let number = {
            let mut own = self.own.borrow_mut();
            own.next += 1;
            own.next
        };
        self.hold(number, claims)?;
        Ok(Lease {
            locks: Rc::clone(self),
            number,
        })
    }

    /// Makes these the claims of a lease, instead of those it has. After an error it has those it had.
    fn hold(&self, number: u64, claims: Vec<Claim>) -> Result<(), Error> {
        let _mutex = self.mutex()?;
        let others = self.others()?;
        let mut own = self.own.borrow_mut();
        let rest = own.claims.iter().filter(|(lease, _)| *lease != number);
        let mut held: Vec<(u64, Claim)> = rest.cloned().collect();
        for claim in claims {
            if let Some(held) = others.iter().find(|other| clash(&claim, &other.claim)) {
                return Err(Error::Other {
                    disk: claim.disk,
                    held: Box::new(held.clone()),
                });
            }
            if let Some((_, claimed)) = held.iter().find(|(_, held)| clash(&claim, held)) {
                return Err(Error::Own {
                    disk: claim.disk,
                    claim: Box::new(claimed.clone()),
                });
            }
            held.push((number, claim));
        }
        let before = std::mem::replace(&mut own.claims, held);
        let written = self.write(&mut own);
        if written.is_err() {
            own.claims = before;
        }
        written
    }

    /// All that is held by anybody, this VM included.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        let _mutex = self.mutex()?;
        let mut holders = self.others()?;
        let own = self.own.borrow();
        holders.extend(own.claims.iter().map(|(_, claim)| Holder {
            vm: self.vm.to_string(),
            claim: claim.clone(),
        }));
        Ok(holders)
    }

    pub(crate) fn vm(&self) -> &VmName {
        &self.vm
    }

    pub(crate) fn failed(
        &self,
        what: &'static str,
        name: &str,
    ) -> impl Fn(io::Error) -> Error + use<> {
        let path = self.path.join(name);
        move |source| Error::File {
            what,
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn open_file(&self, name: &str, create: bool) -> io::Result<File> {
        let create = if create {
            OFlags::CREATE
        } else {
            OFlags::empty()
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | create;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(openat(&self.directory, name, flags, mode)?.into())
    }

    pub(crate) fn mutex(&self) -> Result<File, Error> {
        const NAME: &str = "mutex";
        let file = self
            .open_file(NAME, true)
            .map_err(self.failed("open", NAME))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", NAME)(error)),
            }
        }
        Err(Error::Stuck(self.path.join(NAME)))
    }

    /// The names of the files in the directory.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let failed = self.failed("list", "");
        let entries = Dir::read_from(&self.directory).map_err(|error| failed(error.into()))?;
        let name = |entry: rustix::io::Result<DirEntry>| {
            let entry = entry.map_err(|error| failed(error.into()))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect()
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", name)(error.into())),
        }
    }

    /// What other monitors hold. Files of monitors that are no more are removed.
    fn others(&self) -> Result<Vec<Holder>, Error> {
        let mut holders = Vec::new();
        for name in self.names()? {
            match name.strip_suffix(SUFFIX) {
                Some(vm) if vm != self.vm.as_str() => {
                    let claims = self.held_in(&name)?;
                    holders.extend(claims.into_iter().map(|claim| Holder {
                        vm: vm.to_owned(),
                        claim,
                    }));
                }
                _ => {}
            }
        }
        Ok(holders)
    }

    fn held_in(&self, name: &str) -> Result<Vec<Claim>, Error> {
        let file = self
            .open_file(name, false)
            .map_err(self.failed("open", name))?;
        match file.try_lock_shared() {
            Ok(()) => {
                // Nobody takes it while we have the mutex.
                return self.remove(name).map(|()| Vec::new());
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(self.failed("lock", name)(error)),
        }
        let mut text = String::new();
        let list = file
            .take(MAX_LIST)
            .read_to_string(&mut text)
            .and_then(|_| Ok(serde_json::from_str(&text)?));
        list.map_err(self.failed("read", name))
    }

    /// Writes our list; without a claim there is no file.
    fn write(&self, own: &mut Own) -> Result<(), Error> {
        let name = format!("{}{SUFFIX}", self.vm);
        if own.claims.is_empty() {
            return match own.file.take() {
                Some(_locked) => self.remove(&name),
                None => Ok(()),
            };
        }
        if own.file.is_none() {
            self.check_no_namesake(&name)?;
        }
        let claims: Vec<&Claim> = own.claims.iter().map(|(_, claim)| claim).collect();
        let written = serde_json::to_vec(&claims)
            .map_err(io::Error::from)
            .and_then(|list| self.replace(&name, &list));
        own.file = Some(written.map_err(self.failed("write", &name))?);
        Ok(())
    }

    /// There is one monitor for a VM, so the file that is there was left by a former one; unless two installations have
    /// the same directory.
    fn check_no_namesake(&self, name: &str) -> Result<(), Error> {
        match self.open_file(name, false).map(|file| file.try_lock()) {
            Ok(Err(TryLockError::WouldBlock)) => Err(Error::Namesake(self.path.join(name))),
            Ok(Err(TryLockError::Error(error))) => Err(self.failed("lock", name)(error)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("open", name)(error))
            }
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Gives a file its content, all or nothing. The file comes back with a lock on it.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> io::Result<File> {
        let draft = format!("{name}.new");
        let write = || {
            let mut file = self.open_file(&draft, true)?;
            file.try_lock()?;
            file.set_len(0)?;
            file.write_all(content)?;
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
}

impl Lease {
    /// Claims these disks instead of those it has, all or none.
    ///
    /// # Errors
    /// As [`Locks::claim`]; it has what it had then.
    pub fn change(&self, claims: Vec<Claim>) -> Result<(), Error> {
        self.locks.hold(self.number, claims)
    }

    fn release(&self) -> Result<(), Error> {
        let mut own = self.locks.own.borrow_mut();
        own.claims.retain(|(number, _)| *number != self.number);
        let _mutex = self.locks.mutex()?;
        self.locks.write(&mut own)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            // Others see the disks as taken until this VM claims or releases another one.
            tracing::warn!("{error}");
        }
    }
}

fn clash(one: &Claim, other: &Claim) -> bool {
    one.identity == other.identity && (one.access, other.access) != (Access::Read, Access::Read)
}

#[cfg(test)]
#[path = "locks/tests.rs"]
mod tests;
