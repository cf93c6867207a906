//! What a kernel will use of its disks, and whether it may: the disks themselves, and the backing files that its
//! copy-on-write images rely on (umlmon, the monitor process).
//!
//! A header is read by a process that is confined, and never by root. The backing file it names is not trusted: it must
//! be the name of a disk, and is checked like every other disk.

use std::collections::{BTreeMap, BTreeSet};

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
    /// It was attached to be only read; then `disk` is read-only, too.
    #[serde(default)]
    pub only_read: bool,
}

impl Ubd {
    /// As what it is claimed.
    fn role(&self) -> String {
        format!("ubd{}", self.number)
    }

    /// As what its backing file is claimed.
    fn role_of_backing(&self) -> String {
        format!("backing file of {}", self.name)
    }
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

/// The disks of a start as they are passed to the kernel, and what has to be claimed for them. Those of `only_read`
/// were attached to be only read.
///
/// # Errors
/// The first disk that cannot be used, and why.
pub fn usable(
    setup: &Setup,
    vm: &Vm,
    only_read: &BTreeSet<u8>,
    cows: &Cows,
) -> Result<(Vec<Ubd>, Vec<Claim>), Failure> {
    let mut ubds = Vec::new();
    let mut claims = Vec::new();
    for (number, name) in &vm.ubd {
        let only_read = only_read.contains(number);
        let (ubd, of_it) = usable_as(setup, (*number, name), only_read, cows)?;
        ubds.push(ubd);
        claims.extend(of_it);
    }
    tell_of_large_maps(vm, &ubds);
    nothing_relies_on(setup, &ubds, cows)?;
    Ok((ubds, claims))
}

/// One of these, which is to be ubd`number`. Whether anything relies on it is not checked here.
///
/// # Errors
/// Why it cannot be used.
pub fn usable_as(
    setup: &Setup,
    (number, name): (u8, &DiskName),
    only_read: bool,
    cows: &Cows,
) -> Result<(Ubd, Vec<Claim>), Failure> {
    let found = setup.storage.disks.inspect(name, &setup.opener())?;
    let yields = found.read_only;
    let backing = match name.kind() {
        DiskKind::Cow => Some(backing(setup, name, cows)?),
        _ => None,
    };
    let ubd = Ubd {
        number,
        name: name.clone(),
        disk: Disk {
            read_only: found.read_only || only_read,
            ..found
        },
        backing: backing.as_ref().map(|(backing, _)| backing.clone()),
        only_read,
    };
    let mut claims = vec![Claim {
        identity: ubd.disk.identity.clone(),
        disk: name.clone(),
        access: match ubd.disk.read_only {
            true => Access::Read,
            false => Access::Write,
        },
        role: ubd.role(),
        yields,
    }];
    claims.extend(backing.map(|(backing, found)| Claim {
        identity: found.identity,
        disk: backing,
        access: Access::Read,
        role: ubd.role_of_backing(),
        yields: found.read_only,
    }));
    Ok((ubd, claims))
}

/// Tells in the log that the maps of copy-on-write images take much of the guest's memory, if they do.
pub fn tell_of_large_maps(vm: &Vm, ubds: &[Ubd]) {
    let found = |name: &DiskName| ubds.iter().find(|ubd| ubd.name == *name);
    if let Some(note) = large_cow_maps(vm, |name| Some(found(name)?.disk.size)) {
        tracing::warn!("{note}; increase mem");
    }
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

/// Claims disks in addition to those that the kernel has, while it runs. After an error, what was claimed still is, and
/// nothing else.
///
/// # Errors
/// As [`claim`].
pub fn claim_more(setup: &Setup, lease: &Lease, claims: &[Claim]) -> Result<(), Failure> {
    let before = lease.claims();
    lease.amend([&before, claims].concat())?;
    let unused = unused(setup, claims);
    if unused.is_err() {
        lease.amend(before)?;
    }
    unused
}

/// Gives up the claims on all but these disks, while the kernel runs.
///
/// # Errors
/// [`Failure::Failed`]; then all are claimed as before.
pub fn claim_only(lease: &Lease, ubds: &[Ubd]) -> Result<(), Failure> {
    let before = lease.claims();
    let claims = of(&before, ubds);
    match claims.len() == before.len() {
        true => Ok(()),
        false => Ok(lease.amend(claims)?),
    }
}

/// The claims that are for these disks.
fn of(claims: &[Claim], ubds: &[Ubd]) -> Vec<Claim> {
    let roles = ubds
        .iter()
        .flat_map(|ubd| [ubd.role(), ubd.role_of_backing()]);
    let roles: BTreeSet<String> = roles.collect();
    let claims = claims.iter().filter(|claim| roles.contains(&claim.role));
    claims.cloned().collect()
}

/// Claims disks for work on them, and makes sure that nobody else on the host uses them.
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

#[cfg(test)]
mod tests {
    use disks::Identity;

    use super::*;

    fn ubd(number: u8, name: &str) -> Ubd {
        Ubd {
            number,
            name: name.parse().unwrap(),
            disk: Disk {
                identity: Identity::Device(1),
                size: 0,
                allocated: 0,
                read_only: false,
            },
            backing: None,
            only_read: false,
        }
    }

    fn claim(role: &str) -> Claim {
        Claim {
            identity: Identity::Device(1),
            disk: "/disks/a.dsk".parse().unwrap(),
            access: Access::Read,
            role: role.to_owned(),
            yields: false,
        }
    }

    #[test]
    fn the_claims_of_a_disk_are_those_on_it_and_its_backing_file() {
        let claims = ["ubd1", "ubd11", "backing file of /disks/a.cow", "ubd2"].map(claim);
        let of = |ubds: &[Ubd]| -> Vec<String> {
            let found = of(&claims, ubds);
            found.into_iter().map(|claim| claim.role).collect()
        };
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(of(&[ubd(1, "/disks/b.dsk")]), ["ubd1"]);
        let image = ubd(11, "/disks/a.cow");
        assert_eq!(of(&[image]), ["ubd11", "backing file of /disks/a.cow"]);
    }

    /// That of a monitor before disks could be attached.
    #[test]
    fn a_disk_without_a_wish_is_read() {
        let mut text = serde_json::to_value(ubd(1, "/disks/a.dsk")).unwrap();
        text.as_object_mut().unwrap().remove("only_read");
        let read: Ubd = serde_json::from_value(text).unwrap();
        assert!(!read.only_read);
    }
}
