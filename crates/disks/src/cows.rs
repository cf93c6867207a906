//! Which copy-on-write images rely on which backing files, also while no kernel uses them (umlmon, the monitor process,
//! as root).
//!
//! A backing file that is changed makes every image on it worthless. Each monitor records what it has found in its own
//! `/disks` in `shared/locks/VM.cows`, and looks there before a kernel may write.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use config::{DiskName, VmName};
use files::HeldDir;
use serde::{Deserialize, Serialize};

use crate::locks::{Error, Identity, LOCKS, Locks};

/// The suffix of the file of a VM's images, after its name.
const SUFFIX: &str = ".cows";
/// The longest list, in bytes: 4096 images in a directory with a name of 700 bytes.
const MAX_LIST: u64 = 4 << 20;

/// A copy-on-write image of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cow {
    /// Its name in the jail.
    pub disk: DiskName,
    /// Where it is on the host: an image that is no longer there does not count.
    pub host: PathBuf,
    /// The backing file it relies on.
    pub backing: Identity,
    /// The VM's user may only read that file: the image does not prevent a VM that may write it from doing so.
    #[serde(default)]
    pub yields: bool,
}

impl Locks {
    /// Records the images in the directory of this VM, if they have changed.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn record(&self, cows: &[Cow]) -> Result<(), Error> {
        let _mutex = self.files().mutex()?;
        self.write_cows(cows)
    }

    /// Records one more image.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn note(&self, cow: Cow) -> Result<(), Error> {
        let _mutex = self.files().mutex()?;
        let mut cows = read(self.files(), &self.own_cows())?;
        cows.retain(|known| known.disk != cow.disk);
        cows.push(cow);
        self.write_cows(&cows)
    }

    /// Takes over the images of a VM that has this name from now on, and whose directory was renamed.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn take_over(&self, old: &VmName, from: &Path, to: &Path) -> Result<(), Error> {
        let _mutex = self.files().mutex()?;
        let mut cows = read(self.files(), &format!("{old}{SUFFIX}"))?;
        for cow in &mut cows {
            if let Ok(below) = cow.host.strip_prefix(from) {
                cow.host = to.join(below);
            }
        }
        self.write_cows(&cows)
    }

    fn own_cows(&self) -> String {
        format!("{}{SUFFIX}", self.vm())
    }

    fn write_cows(&self, cows: &[Cow]) -> Result<(), Error> {
        let name = self.own_cows();
        if cows.is_empty() {
            return Ok(self.files().remove(&name)?);
        }
        let write = || -> io::Result<()> {
            let list = list(cows)?;
            if self
                .files()
                .content(&name)
                .is_ok_and(|content| content == list)
            {
                return Ok(());
            }
            self.files().replace(&name, &list).map(drop)
        };
        write().map_err(|error| self.files().failed("write", &name)(error).into())
    }

    /// The images that rely on a file, also those of this VM, each with the name of the VM.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn relying_on(&self, backing: &Identity) -> Result<Vec<(String, Cow)>, Error> {
        relying(self.files(), backing)
    }
}

/// The images of all VMs with this directory `shared` that rely on a file, each with the name of its VM.
///
/// # Errors
/// [`Error::Files`].
pub fn relying_on(shared: &Path, backing: &Identity) -> Result<Vec<(String, Cow)>, Error> {
    relying(&HeldDir::open(&shared.join(LOCKS))?, backing)
}

fn relying(files: &HeldDir, backing: &Identity) -> Result<Vec<(String, Cow)>, Error> {
    let _mutex = files.mutex()?;
    let mut relying = Vec::new();
    for name in files.names()? {
        let Some(vm) = name.strip_suffix(SUFFIX) else {
            continue;
        };
        let cows = read(files, &name)?;
        let cows = cows.into_iter().filter(|cow| cow.backing == *backing);
        // The file is only examined, by a path of which root owns all but the last directory.
        let there = cows.filter(|cow| fs::symlink_metadata(&cow.host).is_ok());
        relying.extend(there.map(|cow| (vm.to_owned(), cow)));
    }
    Ok(relying)
}

fn read(files: &HeldDir, name: &str) -> Result<Vec<Cow>, Error> {
    let read = || -> io::Result<Vec<Cow>> {
        match files.content(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            content => Ok(serde_json::from_slice(&content?)?),
        }
    };
    read().map_err(|error| files.failed("read", name)(error).into())
}

/// The list as it is written. It is never longer than the readers accept, for then the other VMs could read none of it:
/// a user with more images has no protection for the last ones.
fn list(cows: &[Cow]) -> io::Result<Vec<u8>> {
    let mut kept = cows;
    loop {
        let list = serde_json::to_vec(kept)?;
        if list.len() as u64 <= MAX_LIST {
            return Ok(list);
        }
        kept = kept.get(..kept.len() / 2).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_other_vms_are_known_as_long_as_they_are_there() {
        let shared = tempfile::tempdir().unwrap();
        fs::create_dir(shared.path().join("locks")).unwrap();
        let locks = |name: &str| Locks::open(shared.path(), &name.parse::<VmName>().unwrap());
        let (one, two) = (locks("vm1").unwrap(), locks("vm2").unwrap());
        let host = shared.path().join("a.cow");
        fs::write(&host, "").unwrap();
        let base = Identity::File { dev: 1, ino: 2 };
        let cow = Cow {
            disk: "/disks/a.cow".parse().unwrap(),
            host: host.clone(),
            backing: base.clone(),
            yields: false,
        };
        one.record(std::slice::from_ref(&cow)).unwrap();
        let relying = two.relying_on(&base).unwrap();
        assert_eq!(relying, [("vm1".to_owned(), cow.clone())]);
        assert_eq!(one.relying_on(&base).unwrap(), relying);
        let other = Identity::File { dev: 1, ino: 3 };
        assert_eq!(two.relying_on(&other).unwrap(), []);
        fs::remove_file(&host).unwrap();
        assert_eq!(two.relying_on(&base).unwrap(), []);
        one.note(cow.clone()).unwrap();
        one.note(cow).unwrap();
        assert_eq!(read(one.files(), "vm1.cows").unwrap().len(), 1);
        one.record(&[]).unwrap();
        assert!(!shared.path().join("locks/vm1.cows").exists());
    }

    /// A VM's user may have as many images as it likes; what the others read of them is limited.
    #[test]
    fn a_crowd_of_images_keeps_nobody_from_reading() {
        let shared = tempfile::tempdir().unwrap();
        fs::create_dir(shared.path().join("locks")).unwrap();
        let locks = Locks::open(shared.path(), &"vm1".parse::<VmName>().unwrap()).unwrap();
        let long = shared.path().join("x".repeat(200)).join("x".repeat(200));
        let base = Identity::File { dev: 1, ino: 2 };
        let cow = |number| Cow {
            disk: format!("/disks/{number:064}.cow").parse().unwrap(),
            host: long.join(format!("{number:064}.cow")),
            backing: base.clone(),
            yields: false,
        };
        for count in [4096, 16384] {
            locks
                .record(&(0..count).map(cow).collect::<Vec<_>>())
                .unwrap();
            locks.relying_on(&base).unwrap();
        }
    }
}
