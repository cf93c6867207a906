//! Unpacking an archive of files, or a layer of a container, into the directory of an image (umladmin's process apart).
//!
//! The archive may be hostile. The process has nothing that is not its own (see `apart`), and the directory is its root
//! directory before it reads the first byte: no name leads out of it, not even through symbolic links.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, FileType, Gid, Mode, Uid, XattrFlags, chownat, lsetxattr, mknodat};
use rustix::process::{Resource, Rlimit, setrlimit};
use tar::{Archive, Entry, EntryType};

/// Where the files go, in the working directory.
pub(super) const TREE: &str = "tree";

/// How much there may be: files, bytes in them, and bytes of memory for their names.
const MAX_FILES: u64 = 1 << 22;
const MAX_BYTES: u64 = 64 << 30;
const MEMORY: u64 = 1 << 30;

/// What layers say about files of those below: that this one is removed, and that all in this directory are
/// (<https://github.com/opencontainers/image-spec/blob/main/layer.md>).
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Attributes of files are kept if they begin so.
const ATTRIBUTES: [&str; 2] = ["security.capability", "user."];

/// Unpacks what comes on the standard input.
pub(super) fn run(is_layer: bool, decompressor: Option<&OsString>) -> Result<(), String> {
    for (resource, limit) in [(Resource::As, MEMORY), (Resource::Fsize, MAX_BYTES)] {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, limit).map_err(|error| format!("cannot limit memory: {error}"))?;
    }
    let mut program = None;
    if let Some(name) = decompressor {
        program = Some(decompress(name)?);
    }
    nix::unistd::chroot(TREE).map_err(|error| format!("cannot enter {TREE}: {error}"))?;
    std::env::set_current_dir("/").map_err(|error| error.to_string())?;
    let output = program.as_mut().and_then(|program| program.stdout.take());
    let mut stdin = io::stdin().lock();
    let mut input: Box<dyn Read> = match output {
        Some(output) => Box::new(output),
        None => Box::new(&mut stdin),
    };
    let unpacked = unpack(&mut input, Path::new("/"), is_layer);
    let skipped = unpacked.and_then(|skipped| {
        // Padding, which others want to be rid of.
        io::copy(&mut input, &mut io::sink()).map_err(|error| error.to_string())?;
        Ok(skipped)
    });
    drop(input);
    if let Some(mut program) = program {
        let status = program.wait().map_err(|error| error.to_string())?;
        if skipped.is_ok() && !status.success() {
            return Err("it is damaged: it cannot be decompressed".into());
        }
    }
    if skipped? > 0 {
        eprintln!("device files were left out: a guest has its own");
    }
    Ok(())
}

/// The program of the host, outside the new root directory.
fn decompress(name: &OsStr) -> Result<Child, String> {
    let mut command = Command::new(name);
    let command = command.arg("-dc").stdout(Stdio::piped());
    command.spawn().map_err(|error| {
        let name = name.display();
        format!("cannot run {name}, which decompresses it: {error}; install it (Debian: apt install {name})")
    })
}

/// Unpacks an archive below `root`, or a layer of a container over what is there; returns how many device files were
/// left out. `root` should be the root directory of the process: names and links that lead out are refused, but what
/// they lead to could be exchanged meanwhile.
///
/// # Errors
/// If the archive is damaged, or has what must not be in one; what was unpacked before is there then.
pub fn unpack(input: &mut dyn Read, root: &Path, is_layer: bool) -> Result<u64, String> {
    let mut archive = Archive::new(input);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    let is_root = rustix::process::geteuid().is_root();
    archive.set_preserve_ownerships(is_root);
    let mut layer = Layer {
        root,
        is_layer,
        is_root,
        files: 0,
        bytes: 0,
        skipped: 0,
        own: HashSet::new(),
    };
    let unreadable = |error: io::Error| format!("it is no archive of tar, or damaged: {error}");
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        layer
            .take(&mut entry)
            .map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(layer.skipped)
}

/// An archive that is being unpacked.
struct Layer<'a> {
    root: &'a Path,
    is_layer: bool,
    is_root: bool,
    files: u64,
    bytes: u64,
    skipped: u64,
    /// The files of this layer, which its whiteouts do not concern.
    own: HashSet<PathBuf>,
}

impl Layer<'_> {
    fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), String> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.files > MAX_FILES || self.bytes > MAX_BYTES {
            return Err(format!(
                "there is more than {MAX_FILES} files or {} GB",
                MAX_BYTES >> 30
            ));
        }
        let path = clean(&entry.path().map_err(|error| error.to_string())?)?;
        let Some(name) = path.file_name() else {
            // The root directory itself.
            return Ok(());
        };
        let place = self.root.join(&path);
        self.check_inside(&place)?;
        if self.is_layer && name.as_bytes().starts_with(WHITEOUT) {
            return self.white_out(&place, name);
        }
        let kind = entry.header().entry_type();
        self.make_room(&place, kind.is_dir())
            .map_err(|error| format!("cannot replace it: {error}"))?;
        if self.is_layer {
            self.own.insert(place.clone());
        }
        match kind {
            EntryType::Block | EntryType::Char => {
                self.skipped += 1;
                Ok(())
            }
            EntryType::Fifo => self.make_fifo(entry, &place),
            _ => self.write(entry, &place),
        }
    }

    /// No link that was unpacked leads out of the root directory. For the process there is no out: this is the second
    /// wall.
    fn check_inside(&self, place: &Path) -> Result<(), String> {
        let directory = place.parent().unwrap_or(self.root);
        match (directory.canonicalize(), self.root.canonicalize()) {
            (Ok(directory), Ok(root)) if !directory.starts_with(&root) => {
                Err("it leads out of the directory".into())
            }
            // What is not there yet is made as directories.
            _ => Ok(()),
        }
    }

    fn write<R: Read>(&self, entry: &mut Entry<'_, R>, place: &Path) -> Result<(), String> {
        let attributes = attributes(entry)?;
        let unpacked = entry.unpack_in(self.root).map_err(|error| causes(&error))?;
        if !unpacked {
            return Err("it leads out of the directory".into());
        }
        for (name, value) in attributes {
            // A file system need not have all.
            let _ = lsetxattr(place, &*name, &value, XattrFlags::empty());
        }
        Ok(())
    }

    fn make_fifo<R: Read>(&self, entry: &Entry<'_, R>, place: &Path) -> Result<(), String> {
        let header = entry.header();
        let number = |number: io::Result<u64>| {
            number
                .ok()
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(0)
        };
        let mode = Mode::from_raw_mode(header.mode().unwrap_or(0o600) & 0o777);
        mknodat(CWD, place, FileType::Fifo, mode, 0).map_err(|error| error.to_string())?;
        if self.is_root {
            let (uid, gid) = (number(header.uid()), number(header.gid()));
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            chownat(CWD, place, Some(uid), Some(gid), flags).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What is there and of another kind is replaced, as the archive says it.
    fn make_room(&self, place: &Path, for_directory: bool) -> io::Result<()> {
        match fs::symlink_metadata(place) {
            Ok(there) if there.is_dir() && for_directory => Ok(()),
            Ok(there) if there.is_dir() => fs::remove_dir_all(place),
            Ok(_) => fs::remove_file(place),
            Err(_) => Ok(()),
        }
    }

    /// Removes what the layers below have.
    fn white_out(&self, place: &Path, name: &OsStr) -> Result<(), String> {
        let directory = place.parent().unwrap_or(self.root);
        let name = name.as_bytes();
        let removed = if name == OPAQUE {
            self.empty(directory)
        } else {
            let removed = name.get(WHITEOUT.len()..).unwrap_or_default();
            match removed {
                b"" | b"." | b".." => return Err("it is a whiteout of nothing".into()),
                // Notes of aufs.
                removed if removed.starts_with(WHITEOUT) => return Ok(()),
                removed => self.remove(&directory.join(OsStr::from_bytes(removed))),
            }
        };
        removed.map_err(|error| format!("cannot remove what it says: {error}"))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.own.contains(path) {
            return Ok(());
        }
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() => self.empty(path).map(|()| {
                // If it has files of this layer, it stays.
                let _ = fs::remove_dir(path);
            }),
            Ok(_) => fs::remove_file(path),
            Err(_) => Ok(()),
        }
    }

    fn empty(&self, directory: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            match self.own.contains(&path) && path.symlink_metadata()?.is_dir() {
                true => self.empty(&path)?,
                false => self.remove(&path)?,
            }
        }
        Ok(())
    }
}

/// A path without what leads elsewhere.
fn clean(path: &Path) -> Result<PathBuf, String> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err("it leads out of the directory".into());
            }
        }
    }
    Ok(clean)
}

/// The attributes of a file that are kept.
fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<(String, Vec<u8>)>, String> {
    let extensions = entry.pax_extensions().map_err(|error| error.to_string())?;
    let mut attributes = Vec::new();
    for extension in extensions.into_iter().flatten() {
        let extension = extension.map_err(|error| error.to_string())?;
        let name = extension
            .key()
            .ok()
            .and_then(|key| key.strip_prefix("SCHILY.xattr."));
        let Some(name) = name else { continue };
        if ATTRIBUTES.iter().any(|kept| name.starts_with(kept)) {
            attributes.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(attributes)
}

/// An error with its causes.
fn causes(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
