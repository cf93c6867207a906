//! What a kernel will use of its disks, and whether it may: the disks themselves, and the backing files that its
//! copy-on-write images rely on (umlmon, the monitor process).
//!
//! A header is read by a process that is confined, and never by root. The backing file it names is not trusted: it must
//! be the name of a disk, and is checked like every other disk.

use std::collections::BTreeMap;

use config::{DiskKind, DiskName, Vm, large_cow_maps};
use disks::work::{CowEntry, Entry, Task};
use disks::{Access, Claim, Cow, Disk, Lease};
use serde::{Deserialize, Serialize};

use crate::disks::process;
use crate::failure::Failure;
use crate::setup::Setup;

/// A disk that was found usable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ubd {
    /// The N of ubdN.
    pub number: u8,
    /// The file, as seen in the jail.
    pub name: DiskName,
    /// What was found.
    pub disk: Disk,
    /// The backing file of a copy-on-write image.
    pub backing: Option<DiskName>,
}

/// The copy-on-write images in both directories, and what their headers say.
#[derive(Debug, Default)]
pub struct Cows(BTreeMap<DiskName, CowEntry>);

/// Looks at all copy-on-write images, and records for the other VMs which image relies on which file. Without such an
/// image that costs nothing.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn look(setup: &Setup) -> Result<Cows, Failure> {
    let _one = setup.storage.recording.lock().await;
    let any = setup.storage.disks.any(|name| name.ends_with(b".cow"))?;
    let entries = if any {
        process::list(setup).await?
    } else {
        Vec::new()
    };
    let cows = Cows::of(&entries);
    let known: Vec<Cow> = cows.in_use(setup, false).collect();
    setup.storage.locks.record(&known)?;
    Ok(cows)
}

/// Records what work on disks has changed in which image relies on which file.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn note(setup: &Setup, task: &Task) -> Result<(), Failure> {
    match task {
        Task::CreateCow { disk, backing } | Task::Import { disk, backing } => {
            let _one = setup.storage.recording.lock().await;
            let cow = Cow {
                disk: disk.clone(),
                host: setup.storage.disks.host_path(disk),
                backing: setup.storage.disks.identity(backing)?,
                yields: !setup.storage.disks.may_write(backing, &setup.opener()),
            };
            Ok(setup.storage.locks.note(cow)?)
        }
        // The backing file of the copy is named in its header.
        Task::Copy { destination, .. } if destination.kind() == DiskKind::Cow => {
            look(setup).await.map(drop)
        }
        _ => Ok(()),
    }
}

impl Cows {
    /// Those of a list of disks.
    pub fn of(entries: &[Entry]) -> Cows {
        let cow = |entry: &Entry| Some((entry.disk.clone(), entry.cow.clone()?));
        Cows(entries.iter().filter_map(cow).collect())
    }

    /// The images in one of the directories whose backing file is there. One that the VM's user may not even read does
    /// not count, or any header could keep other VMs from their disks.
    fn in_use<'a>(&'a self, setup: &'a Setup, shared: bool) -> impl Iterator<Item = Cow> + 'a {
        let images = self.0.keys().filter(move |disk| disk.is_shared() == shared);
        images.filter_map(move |disk| {
            let backing = self.backing(disk).ok()?;
            let found = setup
                .storage
                .disks
                .inspect_backing(&backing, &setup.opener())
                .ok()?;
            Some(Cow {
                disk: disk.clone(),
                host: setup.storage.disks.host_path(disk),
                backing: found.identity,
                yields: match shared {
                    true => !setup.storage.disks.writers_may_write(disk, &backing),
                    false => found.read_only,
                },
            })
        })
    }

    /// The backing file of an image, if its name is that of a disk.
    ///
    /// # Errors
    /// [`Failure::Failed`], and why the image cannot be used.
    pub fn backing(&self, cow: &DiskName) -> Result<DiskName, Failure> {
        let unusable = |why: &str| Failure::Failed(format!("{cow} cannot be used: {why}"));
        match self.0.get(cow) {
            Some(CowEntry::Header { backing, .. }) => match backing.parse::<DiskName>() {
                Ok(disk) if disk.kind() != DiskKind::Cow => Ok(disk),
                _ => Err(unusable(&format!(
                    "its backing file is {backing:?}, which is no .dsk file in /disks or /shared/disks \
                     (-disk-import {cow}:FILE sets another one)"
                ))),
            },
            Some(CowEntry::Unusable(why)) => Err(unusable(why)),
            None => Err(unusable("it was not there a moment ago; try again")),
        }
    }

    /// Why the kernel would refuse the image, if it would.
    fn problem(&self, cow: &DiskName) -> Option<&str> {
        match self.0.get(cow) {
            Some(CowEntry::Header { problem, .. }) => problem.as_deref(),
            _ => None,
        }
    }
}

/// The disks of a start as they are passed to the kernel, and what has to be claimed for them.
///
/// # Errors
/// The first disk that cannot be used, and why.
pub fn usable(setup: &Setup, vm: &Vm, cows: &Cows) -> Result<(Vec<Ubd>, Vec<Claim>), Failure> {
    let mut ubds = Vec::new();
    let mut claims = Vec::new();
    for (number, name) in &vm.ubd {
        let disk = setup.storage.disks.inspect(name, &setup.opener())?;
        let access = if disk.read_only {
            Access::Read
        } else {
            Access::Write
        };
        let backing = match name.kind() {
            DiskKind::Cow => Some(backing(setup, name, cows)?),
            _ => None,
        };
        claims.push(Claim {
            identity: disk.identity.clone(),
            disk: name.clone(),
            access,
            role: format!("ubd{number}"),
            yields: disk.read_only,
        });
        if let Some((backing, found)) = &backing {
            claims.push(Claim {
                identity: found.identity.clone(),
                disk: backing.clone(),
                access: Access::Read,
                role: format!("backing file of {name}"),
                yields: found.read_only,
            });
        }
        ubds.push(Ubd {
            number: *number,
            name: name.clone(),
            disk,
            backing: backing.map(|(backing, _)| backing),
        });
    }
    let found = |name: &DiskName| ubds.iter().find(|ubd| ubd.name == *name);
    if let Some(note) = large_cow_maps(vm, |name| Some(found(name)?.disk.size)) {
        tracing::warn!("{note}; increase mem");
    }
    nothing_relies_on(setup, &ubds, cows)?;
    Ok((ubds, claims))
}

/// Claims disks, all or none, and makes sure that nobody else on the host uses them. A guest that reboots has its lease
/// already; but under the names of its disks there can be other files by now.
///
/// # Errors
/// [`Failure::Failed`] with the first one that is taken, and by whom.
pub fn claim(setup: &Setup, held: Option<Lease>, claims: Vec<Claim>) -> Result<Lease, Failure> {
    let lease = match held {
        Some(lease) => lease.change(claims.clone()).map(|()| lease)?,
        None => setup.storage.locks.claim_for_run(claims.clone())?,
    };
    unused(setup, &claims).map(|()| lease)
}

/// The same for work on disks.
///
/// # Errors
/// As [`claim`].
pub fn claim_for_job(setup: &Setup, claims: Vec<Claim>) -> Result<Lease, Failure> {
    let lease = setup.storage.locks.claim(claims.clone())?;
    unused(setup, &claims).map(|()| lease)
}

fn unused(setup: &Setup, claims: &[Claim]) -> Result<(), Failure> {
    let mut claims = claims.iter();
    Ok(claims.try_for_each(|claim| setup.storage.disks.check_unused(claim))?)
}

fn backing(setup: &Setup, cow: &DiskName, cows: &Cows) -> Result<(DiskName, Disk), Failure> {
    let backing = cows.backing(cow)?;
    let found = setup
        .storage
        .disks
        .inspect_backing(&backing, &setup.opener());
    let found = found.map_err(|error| {
        Failure::Failed(format!("{cow} cannot be used: its backing file {error}"))
    })?;
    match cows.problem(cow) {
        None => Ok((backing, found)),
        Some(problem) => Err(Failure::Failed(format!("{cow} cannot be used: {problem}"))),
    }
}

/// Refuses to change a file on which a copy-on-write image relies: that would make the image worthless. An image of a
/// user who may only read the file does not count, or it would lock out the file's owner.
///
/// When the disks are claimed, this must be checked once more. From then on no image can be made on one of them; an
/// image that was made just before has been recorded by then, because its maker holds the file until it is.
///
/// # Errors
/// [`Failure::Failed`] with the disk, and the image.
pub fn nothing_relies_on(setup: &Setup, ubds: &[Ubd], cows: &Cows) -> Result<(), Failure> {
    for ubd in ubds {
        if ubd.disk.read_only || ubd.name.kind() == DiskKind::Cow {
            continue;
        }
        let identity = &ubd.disk.identity;
        let shared = cows.in_use(setup, true);
        let shared = shared
            .filter(|cow| cow.backing == *identity)
            .map(|cow| (setup.name().to_string(), cow));
        // By any of its names: a file can have a name in both directories.
        let recorded = setup.storage.locks.relying_on(identity)?;
        let mut relying = shared.chain(recorded).filter(|(_, cow)| !cow.yields);
        if let Some((vm, cow)) = relying.next() {
            let whose = match vm == setup.name().as_str() {
                true => String::new(),
                false => format!(" of {vm}"),
            };
            return Err(Failure::Failed(format!(
                "{} is the backing file of {}{whose}, which a change would destroy; use the .cow file instead, or delete it first",
                ubd.name, cow.disk
            )));
        }
    }
    Ok(())
}
