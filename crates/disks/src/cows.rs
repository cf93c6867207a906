//! Which copy-on-write images rely on which backing files, also while no kernel uses them (umlmon, the monitor process, as
//! root).
//!
//! A backing file that is changed makes every image on it worthless. A VM sees its own images by itself; of those of the
//! other VMs it learns from `shared/locks/VM.cows`, where each monitor writes down what it has found in its own `/disks`.

use std::fs;
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::PathBuf;

use config::DiskName;
use serde::{Deserialize, Serialize};

use crate::locks::{Error, Identity, Locks, MAX_LIST};

/// What the file of a VM's images is called after its name.
const SUFFIX: &str = ".cows";

/// A copy-on-write image of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cow {
    /// Its name in the jail.
    pub disk: DiskName,
    /// Where it is on the host: an image that is no longer there does not count.
    pub host: PathBuf,
    /// What it relies on.
    pub backing: Identity,
}

impl Locks {
    /// Writes down the images in the directory of this VM.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn record(&self, cows: &[Cow]) -> Result<(), Error> {
        let _mutex = self.mutex()?;
        self.write_cows(cows)
    }

    /// Writes down one more image.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn note(&self, cow: Cow) -> Result<(), Error> {
        let _mutex = self.mutex()?;
        let mut cows = self.read_cows(&self.own_cows())?;
        cows.retain(|known| known.disk != cow.disk);
        cows.push(cow);
        self.write_cows(&cows)
    }

    fn own_cows(&self) -> String {
        format!("{}{SUFFIX}", self.vm())
    }

    fn write_cows(&self, cows: &[Cow]) -> Result<(), Error> {
        let name = self.own_cows();
        if cows.is_empty() {
            return self.remove(&name);
        }
        let write = || {
            let list = serde_json::to_vec(cows)?;
            let mut file = self.open_file(&name, true)?;
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&list)
        };
        write().map_err(self.failed("write", &name))
    }

    fn read_cows(&self, name: &str) -> Result<Vec<Cow>, Error> {
        let read = || {
            let mut text = String::new();
            let file = match self.open_file(name, false) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                file => file?,
            };
            file.take(MAX_LIST).read_to_string(&mut text)?;
            Ok(serde_json::from_str(&text)?)
        };
        read().map_err(self.failed("read", name))
    }

    /// The images of other VMs that rely on a file, each as the name of the VM and of the image.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn relying_on(&self, backing: &Identity) -> Result<Vec<(String, DiskName)>, Error> {
        let _mutex = self.mutex()?;
        let mut relying = Vec::new();
        for name in self.names()? {
            let Some(vm) = name
                .strip_suffix(SUFFIX)
                .filter(|vm| *vm != self.vm().as_str())
            else {
                continue;
            };
            let cows = self.read_cows(&name)?;
            let cows = cows.into_iter().filter(|cow| cow.backing == *backing);
            // Only looked at, by a path of which root owns all but the last directory.
            let there = cows.filter(|cow| fs::symlink_metadata(&cow.host).is_ok());
            relying.extend(there.map(|cow| (vm.to_owned(), cow.disk)));
        }
        Ok(relying)
    }
}

#[cfg(test)]
mod tests {
    use config::VmName;

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
        };
        one.record(std::slice::from_ref(&cow)).unwrap();
        let relying = two.relying_on(&base).unwrap();
        assert_eq!(relying, [("vm1".to_owned(), cow.disk.clone())]);
        assert_eq!(one.relying_on(&base).unwrap(), [], "its own it sees itself");
        let other = Identity::File { dev: 1, ino: 3 };
        assert_eq!(two.relying_on(&other).unwrap(), []);
        fs::remove_file(&host).unwrap();
        assert_eq!(two.relying_on(&base).unwrap(), []);
        one.note(cow.clone()).unwrap();
        one.note(cow).unwrap();
        assert_eq!(one.read_cows("vm1.cows").unwrap().len(), 1);
        one.record(&[]).unwrap();
        assert!(!shared.path().join("locks/vm1.cows").exists());
    }
}
