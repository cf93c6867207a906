//! The files that a VM is given before it starts: its kernel, and an image below its disks (umladmin).

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use config::{Config, VmName};
use disks::{Identity, relying_on};
use files::copy_sparse;

/// An image among the shared disks, of which VMs have copies on write.
pub(crate) struct Backing {
    path: PathBuf,
    is_new: bool,
}

impl Backing {
    /// Puts an image there: as a second name, if nobody but root can change it, else as a copy. If it is there already
    /// from the last time, it is used.
    pub(crate) fn put(
        image: &Path,
        disks: &Path,
        goes_on: &dyn Fn() -> bool,
    ) -> io::Result<Backing> {
        let image = image.canonicalize()?;
        let found = image.metadata()?;
        if found.mode() & 0o004 == 0 {
            let why = "not everybody may read it, but the users of VMs must (chmod a+r)";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let name = image.file_stem().unwrap_or_default().to_string_lossy();
        for n in 1..=MOST {
            let number = if n == 1 {
                String::new()
            } else {
                format!("-{n}")
            };
            let path = disks.join(format!("{name}{number}.dsk"));
            let there = match path.symlink_metadata() {
                Ok(there) => there,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    place(&image, &found, &path, goes_on)?;
                    return Ok(Backing { path, is_new: true });
                }
                Err(error) => return Err(error),
            };
            let is_same = (there.dev(), there.ino()) == (found.dev(), found.ino());
            let is_copy = there.is_file()
                && (there.len(), there.mtime(), there.mtime_nsec())
                    == (found.len(), found.mtime(), found.mtime_nsec());
            if is_same || is_copy {
                return Ok(Backing {
                    path,
                    is_new: false,
                });
            }
        }
        let why = format!(
            "there are {MOST} others of this name in {}",
            disks.display()
        );
        Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
    }

    /// Its name in the jail.
    pub(crate) fn disk(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        format!("/shared/disks/{}", name.to_string_lossy())
    }

    /// It is used from now on.
    pub(crate) fn keep(mut self) {
        self.is_new = false;
    }
}

/// The image among the shared disks of which this VM alone has copies on write, if it has another name, too, such as
/// that of the image it was made from: it is of no use without the VM.
pub(crate) fn sole_backing(config: &Config, vm: &VmName) -> Option<PathBuf> {
    let shared = &config.global.shared;
    let named: BTreeSet<String> = config
        .vm_names()
        .filter_map(|vm| config.vm(vm).ok())
        .flat_map(|vm| vm.ubd.into_values().map(|disk| disk.to_string()))
        .collect();
    let disks = shared.join("disks");
    fs::read_dir(&disks).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        let stat = rustix::fs::lstat(&path).ok()?;
        let disk = format!("/shared/disks/{}", entry.file_name().to_string_lossy());
        if stat.st_nlink < 2 || named.contains(&disk) {
            return None;
        }
        let relying = relying_on(shared, &Identity::of(&stat)).ok()?;
        let is_sole = !relying.is_empty() && relying.iter().all(|(other, _)| *other == vm.as_str());
        is_sole.then_some(path)
    })
}

/// What stays of an image that is deleted: its other name, by which VMs have it.
pub(crate) struct Kept {
    /// The file among the shared disks.
    pub(crate) path: PathBuf,
    /// The VMs with copies on write of it, as far as their monitors have recorded them.
    pub(crate) vms: BTreeSet<String>,
}

impl Kept {
    /// None if the image has no other name there.
    pub(crate) fn of(image: &Path, shared: &Path) -> Option<Kept> {
        let stat = rustix::fs::lstat(image).ok()?;
        let identity = Identity::of(&stat);
        let disks = fs::read_dir(shared.join("disks")).ok()?.flatten();
        let mut paths = disks.map(|entry| entry.path());
        let path = paths.find(|path| {
            rustix::fs::lstat(path).is_ok_and(|other| Identity::of(&other) == identity)
        })?;
        let relying = relying_on(shared, &identity).unwrap_or_default();
        let vms = relying.into_iter().map(|(vm, _)| vm).collect();
        Some(Kept { path, vms })
    }
}

/// How many different images of one name there can be.
const MOST: u32 = 100;

impl Drop for Backing {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A second name, or a copy with the same holes and time. Copy-on-write images record the time.
fn place(
    image: &Path,
    found: &fs::Metadata,
    path: &Path,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let is_roots = found.uid() == 0 && found.mode() & 0o022 == 0;
    if is_roots && fs::hard_link(image, path).is_ok() {
        return Ok(());
    }
    let copied = (|| {
        let copy = fs::File::create_new(path)?;
        copy_sparse(&fs::File::open(image)?, &copy, goes_on)?;
        copy.set_permissions(Permissions::from_mode(0o644))
    })();
    if copied.is_err() {
        let _ = fs::remove_file(path);
    }
    copied
}
