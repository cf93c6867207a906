//! What a kernel will hold of its disks, and whether it may: the disks themselves, and the backing files that its
//! copy-on-write images rely on (umlmon, the monitor process).
//!
//! A header is read by a process that is confined, and never by root. Which backing file it names is believed as a name
//! only: it must be the name of a disk, and is looked at as every other disk.

use std::collections::BTreeMap;

use config::{DiskKind, DiskName, Vm};
use disks::work::{CowEntry, Entry, Task};
use disks::{Access, Claim, Cow, Disk, Identity};

use crate::failure::Failure;
use crate::kernel_args::Ubd;
use crate::run::Setup;
use crate::work;

/// The copy-on-write images in both directories, and what their headers say.
#[derive(Debug, Default)]
pub struct Cows(BTreeMap<DiskName, CowEntry>);

/// Looks at all copy-on-write images, and writes down for the other VMs what relies on what. Without such an image that
/// costs nothing.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn look(setup: &Setup) -> Result<Cows, Failure> {
    let any = setup
        .disks
        .any(|name| name.ends_with(b".cow"))
        .map_err(unusable)?;
    let entries = if any {
        work::list(setup).await?
    } else {
        Vec::new()
    };
    let cows = Cows::of(&entries);
    let known: Vec<Cow> = cows.own(setup).collect();
    setup.locks.record(&known).map_err(refusal)?;
    Ok(cows)
}

/// Writes down what work on disks has changed of what relies on what.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn note(setup: &Setup, task: &Task) -> Result<(), Failure> {
    match task {
        Task::CreateCow { disk, backing } | Task::Import { disk, backing } => {
            let cow = Cow {
                disk: disk.clone(),
                host: setup.disks.host_path(disk),
                backing: setup.disks.identity(backing).map_err(unusable)?,
            };
            setup.locks.note(cow).map_err(refusal)
        }
        // What the copy relies on stands in its header.
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

    /// The images in the directory of this VM whose backing file is there.
    fn own<'a>(&'a self, setup: &'a Setup) -> impl Iterator<Item = Cow> + 'a {
        let own = self.0.keys().filter(|disk| !disk.is_shared());
        own.filter_map(|disk| {
            Some(Cow {
                disk: disk.clone(),
                host: setup.disks.host_path(disk),
                backing: setup.disks.identity(&self.backing(disk).ok()?).ok()?,
            })
        })
    }

    /// The backing file of an image, if its name is that of a disk.
    ///
    /// # Errors
    /// [`Failure::NotStarted`], and why the image cannot be used.
    pub fn backing(&self, cow: &DiskName) -> Result<DiskName, Failure> {
        let unusable = |why: &str| Failure::NotStarted(format!("{cow} cannot be used: {why}"));
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

/// The disks of a start as the kernel will be told of them, and what has to be claimed for them.
///
/// # Errors
/// The first disk that cannot be used, and why.
pub fn usable(setup: &Setup, vm: &Vm, cows: &Cows) -> Result<(Vec<Ubd>, Vec<Claim>), Failure> {
    let mut ubds = Vec::new();
    let mut claims = Vec::new();
    for (number, name) in &vm.ubd {
        let disk = setup
            .disks
            .inspect(name, &setup.opener())
            .map_err(unusable)?;
        let access = if disk.read_only {
            Access::Read
        } else {
            Access::Write
        };
        let backing = match name.kind() {
            DiskKind::Cow => Some(backing(setup, name, cows)?),
            _ if disk.read_only => None,
            _ => {
                nothing_relies_on(setup, name, &disk.identity, cows)?;
                None
            }
        };
        claims.push(Claim {
            identity: disk.identity.clone(),
            disk: name.clone(),
            access,
            role: format!("ubd{number}"),
        });
        if let Some((backing, found)) = &backing {
            claims.push(Claim {
                identity: found.identity.clone(),
                disk: backing.clone(),
                access: Access::Read,
                role: format!("backing file of {name}"),
            });
        }
        ubds.push(Ubd {
            number: *number,
            name: name.clone(),
            disk,
            backing: backing.map(|(backing, _)| backing),
        });
    }
    Ok((ubds, claims))
}

fn backing(setup: &Setup, cow: &DiskName, cows: &Cows) -> Result<(DiskName, Disk), Failure> {
    let backing = cows.backing(cow)?;
    let found = setup.disks.inspect_backing(&backing, &setup.opener());
    let found = found.map_err(|error| {
        Failure::NotStarted(format!("{cow} cannot be used: its backing file {error}"))
    })?;
    match cows.problem(cow) {
        None => Ok((backing, found)),
        Some(problem) => Err(Failure::NotStarted(format!(
            "{cow} cannot be used: {problem}"
        ))),
    }
}

/// Refuses to change a file on which a copy-on-write image relies: that would make the image worthless.
fn nothing_relies_on(
    setup: &Setup,
    disk: &DiskName,
    identity: &Identity,
    cows: &Cows,
) -> Result<(), Failure> {
    let refuse = |whose: &str, cow: &DiskName| {
        Err(Failure::NotStarted(format!(
            "{disk} is the backing file of {cow}{whose}, which would be worthless if it were changed; \
             use the .cow file instead, or delete it first"
        )))
    };
    if let Some(cow) = cows.own(setup).find(|cow| cow.backing == *identity) {
        return refuse("", &cow.disk);
    }
    if !disk.is_shared() {
        return Ok(());
    }
    match setup.locks.relying_on(identity).map_err(refusal)?.first() {
        Some((vm, cow)) => refuse(&format!(" of {vm}"), cow),
        None => Ok(()),
    }
}

/// Why disks cannot be claimed, as an answer to a client.
pub fn refusal(error: disks::LockError) -> Failure {
    match error {
        disks::LockError::Other { .. } | disks::LockError::Own { .. } => {
            Failure::Busy(error.to_string())
        }
        _ => Failure::Failed(error.to_string()),
    }
}

/// Why a disk cannot be used, as an answer to a client.
pub fn unusable(error: disks::Error) -> Failure {
    match error {
        disks::Error::Missing { .. } => Failure::NotFound(error.to_string()),
        _ => Failure::NotStarted(error.to_string()),
    }
}
