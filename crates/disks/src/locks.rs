//! Which VM has which disk open, across all VMs that share a directory `shared` (umlmon, the monitor process, as root).
//!
//! The directory `shared/locks` belongs to root. Each monitor that holds a disk has a file `VM.held` there (see
//! [`files::HeldDir`]) with the list of what it holds; when the monitor has ended, its claims are void. A claim is
//! checked against all others and entered in one step.
//!
//! What a kernel has open is in a file of its own, `VM+run.held`. The process that keeps the kernel holds the lock on
//! it, too: these claims last until the kernel has ended, whatever becomes of the monitor, and the next monitor takes
//! them over. It is there without a claim, too, and what changes while the kernel runs is written into this same file.
//!
//! A disk is identified by what it is, not by its name: a file by device and inode, a block device by its number. So
//! hard links and aliases of devices are the same disk.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use config::{DiskName, VmName};
use files::{HeldDir, HeldError};
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

/// The directory, in the one that all VMs share.
pub(crate) const LOCKS: &str = "locks";
/// The suffix of the file of a monitor's claims, after its VM's name.
const SUFFIX: &str = ".held";
/// What is before the suffix in the file of a kernel's claims. No name of a VM contains it.
const OF_RUN: &str = "+run";

/// The identity of a disk, the same under every name.
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

/// How a claim uses a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Reads it, and relies on it not being changed.
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
    /// The claiming VM may only read the file: it does not prevent a VM that may write it from doing so.
    #[serde(default)]
    pub yields: bool,
}

/// A claim, and its VM.
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
        /// Its name in this VM.
        disk: DiskName,
        /// The VM that has it.
        held: Box<Holder>,
    },
    /// The VM itself has the disk.
    #[error("{disk} is in use by this VM {} as {}", .claim.access, .claim.role)]
    Own {
        /// Its name in the new claim.
        disk: DiskName,
        /// What it is used as.
        claim: Box<Claim>,
    },
    /// The files of the claims cannot be used.
    #[error(transparent)]
    Files(#[from] HeldError),
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
    files: HeldDir,
    vm: VmName,
    own: RefCell<Own>,
}

/// What this monitor holds.
#[derive(Debug, Default)]
struct Own {
    /// For work on disks.
    jobs: Part,
    /// For the kernel.
    run: Part,
    next: u64,
}

/// What is held for one purpose.
#[derive(Debug, Default)]
struct Part {
    claims: Vec<(u64, Claim)>,
    /// The locked file with the list; only as long as there is a claim.
    file: Option<File>,
}

/// What claims are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Jobs,
    Run,
}

impl Own {
    fn part(&mut self, purpose: Purpose) -> &mut Part {
        match purpose {
            Purpose::Jobs => &mut self.jobs,
            Purpose::Run => &mut self.run,
        }
    }

    fn claims(&self) -> impl Iterator<Item = &(u64, Claim)> {
        self.jobs.claims.iter().chain(&self.run.claims)
    }
}

/// How a list of claims is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// As another file, all or nothing.
    Anew,
    /// Into the file on which the process that keeps the kernel has a lock, too.
    InPlace,
}

/// Claims that are held until this is dropped.
#[derive(Debug)]
pub struct Lease {
    locks: Rc<Locks>,
    number: u64,
    purpose: Purpose,
}

impl Locks {
    /// Opens `SHARED/locks`, which must be root's.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn open(shared: &Path, vm: &VmName) -> Result<Rc<Locks>, Error> {
        Ok(Rc::new(Locks {
            files: HeldDir::open(&shared.join(LOCKS))?,
            vm: vm.clone(),
            own: RefCell::default(),
        }))
    }

    /// Claims disks for work on them, all or none.
    ///
    /// # Errors
    /// [`Error::Other`] and [`Error::Own`] with the first one that is taken; [`Error::Files`].
    pub fn claim(self: &Rc<Self>, claims: Vec<Claim>) -> Result<Lease, Error> {
        self.claim_for(Purpose::Jobs, claims)
    }

    /// Claims disks for the kernel, all or none.
    ///
    /// # Errors
    /// As [`Locks::claim`].
    pub fn claim_for_run(self: &Rc<Self>, claims: Vec<Claim>) -> Result<Lease, Error> {
        self.claim_for(Purpose::Run, claims)
    }

    fn claim_for(self: &Rc<Self>, purpose: Purpose, claims: Vec<Claim>) -> Result<Lease, Error> {
        let number = self.next_number();
        self.hold(purpose, number, claims, Writing::Anew)?;
        Ok(Lease {
            locks: Rc::clone(self),
            number,
            purpose,
        })
    }

    /// Removes what a former monitor of this VM has left that was killed. What the kernel has open stays, if it runs.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn remove_left(&self) -> Result<(), Error> {
        let _mutex = self.files.mutex()?;
        let names = [Purpose::Jobs, Purpose::Run].map(|purpose| self.file_name(purpose));
        Ok(names
            .iter()
            .try_for_each(|name| self.files.remove_left(name))?)
    }

    fn next_number(&self) -> u64 {
        let mut own = self.own.borrow_mut();
        own.next += 1;
        own.next
    }

    /// Takes over the claims of a kernel that a former monitor has started. `file` is the locked file, as the process
    /// that keeps the kernel holds it.
    ///
    /// # Errors
    /// If it is another file, or is damaged; [`Error::Files`].
    pub fn adopt_run(self: &Rc<Self>, file: File) -> Result<Lease, Error> {
        let name = self.file_name(Purpose::Run);
        let failed = self.files.failed("take over", &name);
        let _mutex = self.files.mutex()?;
        let taken = self.files.take_over(&name, &file);
        let taken = taken.and_then(|(content, lock)| Ok((serde_json::from_slice(&content)?, lock)));
        let (claims, file): (Vec<Claim>, File) = taken.map_err(failed)?;
        let number = self.next_number();
        let claims = claims.into_iter().map(|claim| (number, claim)).collect();
        let file = Some(file);
        self.own.borrow_mut().run = Part { claims, file };
        Ok(Lease {
            locks: Rc::clone(self),
            number,
            purpose: Purpose::Run,
        })
    }

    fn file_name(&self, purpose: Purpose) -> String {
        match purpose {
            Purpose::Jobs => format!("{}{SUFFIX}", self.vm),
            Purpose::Run => format!("{}{OF_RUN}{SUFFIX}", self.vm),
        }
    }

    /// Makes these the claims of a lease, instead of those it has. After an error it has those it had.
    fn hold(
        &self,
        purpose: Purpose,
        number: u64,
        claims: Vec<Claim>,
        writing: Writing,
    ) -> Result<(), Error> {
        let _mutex = self.files.mutex()?;
        let others = self.others()?;
        let mut own = self.own.borrow_mut();
        let rest = own.claims().filter(|(lease, _)| *lease != number);
        let mut taken: Vec<(u64, Claim)> = rest.cloned().collect();
        let mut held: Vec<(u64, Claim)> = Vec::new();
        for claim in claims {
            if let Some(held) = others.iter().find(|other| clash(&claim, &other.claim)) {
                return Err(Error::Other {
                    disk: claim.disk,
                    held: Box::new(held.clone()),
                });
            }
            if let Some((_, claimed)) = taken.iter().find(|(_, held)| clash(&claim, held)) {
                return Err(Error::Own {
                    disk: claim.disk,
                    claim: Box::new(claimed.clone()),
                });
            }
            if let Some(reader) = others.iter().find(|other| sees(&claim, &other.claim)) {
                let reader = described(reader, &claim.disk) + " of " + &reader.vm;
                tracing::warn!(
                    "{} is read as {reader}, which sees what is written",
                    claim.disk
                );
            }
            taken.push((number, claim.clone()));
            held.push((number, claim));
        }
        let part = own.part(purpose);
        held.splice(
            ..0,
            part.claims
                .iter()
                .filter(|(lease, _)| *lease != number)
                .cloned(),
        );
        let before = std::mem::replace(&mut part.claims, held);
        let written = match part.claims.is_empty() && purpose == Purpose::Jobs {
            true => self.remove(purpose, part),
            false => self.write(purpose, part, writing),
        };
        if written.is_err() {
            part.claims = before;
        }
        written
    }

    /// All claims of all VMs, this one included.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        let _mutex = self.files.mutex()?;
        let mut holders = self.others()?;
        let own = self.own.borrow();
        holders.extend(own.claims().map(|(_, claim)| Holder {
            vm: self.vm.to_string(),
            claim: claim.clone(),
        }));
        Ok(holders)
    }

    pub(crate) fn vm(&self) -> &VmName {
        &self.vm
    }

    pub(crate) fn files(&self) -> &HeldDir {
        &self.files
    }

    /// The claims of other monitors. Files of monitors that have ended are removed.
    fn others(&self) -> Result<Vec<Holder>, Error> {
        let mut holders = Vec::new();
        for name in self.files.names()? {
            let vm = name.strip_suffix(SUFFIX);
            match vm.map(|vm| vm.strip_suffix(OF_RUN).unwrap_or(vm)) {
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
        if !self.files.is_held(name)? {
            // The lock cannot be taken while we have the mutex.
            self.files.remove(name)?;
            return Ok(Vec::new());
        }
        let list = self.files.content(name);
        let list = list.and_then(|list| Ok(serde_json::from_slice(&list)?));
        Ok(list.map_err(self.files.failed("read", name))?)
    }

    /// Removes the file of a part.
    fn remove(&self, purpose: Purpose, part: &mut Part) -> Result<(), Error> {
        match part.file.take() {
            Some(_locked) => Ok(self.files.remove(&self.file_name(purpose))?),
            None => Ok(()),
        }
    }

    /// Writes the list of a part.
    fn write(&self, purpose: Purpose, part: &mut Part, writing: Writing) -> Result<(), Error> {
        let name = self.file_name(purpose);
        if part.file.is_none() {
            self.files.check_no_namesake(&name)?;
        }
        let failed = self.files.failed("write", &name);
        let claims: Vec<&Claim> = part.claims.iter().map(|(_, claim)| claim).collect();
        let list = serde_json::to_vec(&claims).map_err(|error| failed(error.into()))?;
        match (writing, &part.file) {
            (Writing::InPlace, Some(file)) => {
                self.files.rewrite(&name, file, &list).map_err(failed)?;
            }
            _ => part.file = Some(self.files.replace(&name, &list).map_err(failed)?),
        }
        Ok(())
    }
}

impl Lease {
    /// Claims these disks instead of those it has, all or none.
    ///
    /// # Errors
    /// As [`Locks::claim`]; it has what it had then.
    pub fn change(&self, claims: Vec<Claim>) -> Result<(), Error> {
        self.locks
            .hold(self.purpose, self.number, claims, Writing::Anew)
    }

    /// The same while the kernel runs: the process that keeps it holds these claims, too.
    ///
    /// # Errors
    /// As [`Lease::change`].
    pub fn amend(&self, claims: Vec<Claim>) -> Result<(), Error> {
        self.locks
            .hold(self.purpose, self.number, claims, Writing::InPlace)
    }

    /// What it claims.
    pub fn claims(&self) -> Vec<Claim> {
        let own = self.locks.own.borrow();
        let claims = own.claims().filter(|(number, _)| *number == self.number);
        claims.map(|(_, claim)| claim.clone()).collect()
    }

    /// Another lock on the file with the claims, for the process that keeps the kernel; None if there is no file.
    ///
    /// # Errors
    /// As open(2) and flock(2).
    pub fn lock(&self) -> io::Result<Option<OwnedFd>> {
        let name = self.locks.file_name(self.purpose);
        let mut own = self.locks.own.borrow_mut();
        let file = own.part(self.purpose).file.as_ref();
        let another = file.map(|file| self.locks.files.another(&name, file));
        Ok(another.transpose()?.map(OwnedFd::from))
    }

    fn release(&self) -> Result<(), Error> {
        let mut own = self.locks.own.borrow_mut();
        let part = own.part(self.purpose);
        part.claims.retain(|(number, _)| *number != self.number);
        let _mutex = self.locks.files.mutex()?;
        match part.claims.is_empty() {
            true => self.locks.remove(self.purpose, part),
            false => self.locks.write(self.purpose, part, Writing::Anew),
        }
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

/// Whether the VM that holds a claim for reading would see what the new one writes.
fn sees(new: &Claim, held: &Claim) -> bool {
    new.identity == held.identity && (new.access, held.access) == (Access::Write, Access::Read)
}

/// Whether a claim conflicts with one that is held.
fn clash(new: &Claim, held: &Claim) -> bool {
    let gives_way = held.yields && held.access == Access::Read;
    new.identity == held.identity
        && (new.access, held.access) != (Access::Read, Access::Read)
        && !gives_way
}

#[cfg(test)]
#[path = "locks/tests.rs"]
mod tests;
