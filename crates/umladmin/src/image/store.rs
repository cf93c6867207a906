//! The directory of the images, and how an image comes into it: whole or not at all (umladmin).
//!
//! An image is built in a directory of its own beside them, which is locked as long as its builder lives. What a killed
//! builder has left is removed by the next one.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use config::Global;
use files::read_sparse;
use monitors::cannot;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::file_system::IMAGE;
use super::manifest::Manifest;
use super::unpack::TREE;
use crate::furnish::Kept;

/// How the directories in which images are built are called.
const NEW: &str = ".new-";
/// The end of the name of a manifest.
const MANIFEST: &str = ".json";
/// How long a manifest may be, in bytes.
pub(super) const MAX_MANIFEST: u64 = 64 << 10;

/// The images of this host.
pub(crate) struct Store {
    directory: PathBuf,
    shared: PathBuf,
}

/// One of them.
pub(crate) struct Image {
    pub(crate) name: String,
    /// Of the disk, in bytes.
    pub(crate) size: u64,
    /// What it takes on the host, in bytes.
    pub(crate) allocated: u64,
    /// None if somebody has put it there, or if it cannot be read.
    pub(crate) manifest: Option<Manifest>,
}

/// The directory in which one image is built.
pub(super) struct Place {
    directory: TempDir,
    _lock: File,
}

impl Store {
    pub(crate) fn of(global: &Global) -> Store {
        Store {
            directory: global.shared.join("images"),
            shared: global.shared.clone(),
        }
    }

    /// The file of an image that has this valid name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn manifest_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}{MANIFEST}"))
    }

    /// All images, by name.
    pub(crate) fn list(&self) -> Result<Vec<Image>, String> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| cannot("read", &self.directory, &error))?,
        };
        let mut images = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| cannot("read", &self.directory, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = entry.metadata().ok().filter(fs::Metadata::is_file);
            if let Some(file) = file
                && check_name(&name).is_ok()
            {
                images.push(Image {
                    size: file.len(),
                    allocated: file.blocks() * 512,
                    manifest: self.manifest(&name),
                    name,
                });
            }
        }
        images.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(images)
    }

    /// The manifest of an image.
    pub(crate) fn manifest(&self, name: &str) -> Option<Manifest> {
        let mut text = Vec::new();
        let file = File::open(self.manifest_path(name)).ok()?;
        file.take(MAX_MANIFEST).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Fails if there is an image of this name, or if it is no name.
    pub(crate) fn check_free(&self, name: &str) -> Result<(), String> {
        check_name(name)?;
        match self.path(name).symlink_metadata() {
            Ok(_) => Err(format!(
                "there is an image {name} already; delete it first (umladmin image delete {name}), or use another name"
            )),
            Err(_) => Ok(()),
        }
    }

    /// A directory to build an image in, whose tree belongs to this user.
    pub(super) fn begin(&self, user: u32) -> Result<Place, String> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.directory);
        made.map_err(|error| cannot("make", &self.directory, &error))?;
        let locked = lock(&self.directory, FlockOperation::LockExclusive);
        let _locked = locked.map_err(|error| cannot("lock", &self.directory, &error))?;
        self.sweep();
        let make = || -> io::Result<Place> {
            let directory = tempfile::Builder::new()
                .prefix(NEW)
                .tempdir_in(&self.directory)?;
            let lock = lock(directory.path(), FlockOperation::NonBlockingLockExclusive)?;
            let tree = directory.path().join(TREE);
            fs::create_dir(&tree)?;
            fs::set_permissions(&tree, Permissions::from_mode(0o755))?;
            for path in [&tree, directory.path()] {
                chown(path, Some(user), Some(user))?;
            }
            Ok(Place {
                directory,
                _lock: lock,
            })
        };
        make().map_err(|error| cannot("make a directory in", &self.directory, &error))
    }

    /// Removes what killed builders have left. To be called with the lock of the directory.
    fn sweep(&self) {
        let entries = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            let is_new = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(NEW.as_bytes());
            let lock =
                is_new.then(|| lock(&entry.path(), FlockOperation::NonBlockingLockExclusive));
            if let Some(Ok(_lock)) = lock {
                // The next one tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Makes the image that has been built here one of the images. `manifest` gets its size, and its sum
    /// if it has none.
    pub(super) fn publish(
        &self,
        place: &Place,
        name: &str,
        manifest: &Manifest,
        hashed: &mut dyn FnMut(u64),
    ) -> Result<(), String> {
        let image = place.path().join(IMAGE);
        let failed = |error: io::Error| cannot("write", &self.path(name), &error);
        chown(&image, Some(0), Some(0)).map_err(failed)?;
        // Everybody may read it, so that a temporary VM can have it without a copy.
        fs::set_permissions(&image, Permissions::from_mode(0o644)).map_err(failed)?;
        let file = File::open(&image).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let sha256 = match manifest.sha256.as_str() {
            "" => sum(&file, hashed).map_err(failed)?,
            known => known.to_owned(),
        };
        let manifest = Manifest {
            size,
            sha256,
            ..manifest.clone()
        };
        let text = serde_json::to_string_pretty(&manifest).map_err(|error| error.to_string())?;
        let described = place.path().join("manifest");
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&described)?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        };
        write().map_err(failed)?;
        let directory = lock(&self.directory, FlockOperation::LockExclusive).map_err(failed)?;
        self.check_free(name)?;
        fs::rename(&described, self.manifest_path(name)).map_err(failed)?;
        fs::rename(&image, self.path(name)).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }

    /// Removes an image; returns what stays of it for VMs.
    pub(super) fn delete(&self, name: &str) -> Result<Option<Kept>, String> {
        check_name(name)?;
        let path = self.path(name);
        match path.symlink_metadata() {
            Ok(file) if file.is_dir() => return Err(format!("{}: a directory", path.display())),
            Ok(_) => {}
            Err(_) => {
                return Err(format!(
                    "there is no image {name} in {}; umladmin image list shows all",
                    self.directory.display()
                ));
            }
        }
        let kept = Kept::of(&path, &self.shared);
        fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
        match fs::remove_file(self.manifest_path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(cannot("remove", &self.manifest_path(name), &error))
            }
            _ => Ok(kept),
        }
    }
}

impl Place {
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A name is a file name that no option and no other file of the directory has.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins && name.len() <= 100 && name.chars().all(is_plain) && !name.ends_with(MANIFEST) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is no name of an image: that is up to 100 letters, digits and .-_+, the first one a letter or \
             digit, and does not end in {MANIFEST}"
        )),
    }
}

fn lock(directory: &Path, how: FlockOperation) -> io::Result<File> {
    let file = File::open(directory)?;
    flock(&file, how)?;
    Ok(file)
}

/// The SHA-256 sum of a file, in hexadecimal digits.
fn sum(file: &File, hashed: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut sum = Sha256::new();
    let mut all = 0;
    read_sparse(file, &mut |piece| {
        sum.update(piece);
        all += piece.len() as u64;
        hashed(all);
        Ok(())
    })?;
    Ok(digits(sum))
}

/// The sum of all that was hashed, in hexadecimal digits.
pub(super) fn digits(sum: Sha256) -> String {
    format!("{:x}", sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_and_no_option() {
        for name in ["debian-trixie", "a", "3.5_x+y", "a.json.dsk"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "a".repeat(101);
        for name in [
            "", ".", "..", "a/b", "-json", ".new-1", "a.json", "a b", "ä", "a\n", &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
