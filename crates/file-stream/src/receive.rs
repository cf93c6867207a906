//! The receiving side: each entry is made below a directory that is open, under a temporary name.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, fchmod, ftruncate,
    futimens, mkdirat, openat, renameat, renameat_with, statat, symlinkat, utimensat,
};
use rustix::io::{Errno, pwrite};

use crate::item::{self, Attributes, Item, MAX_DATA, MAX_DEPTH, Name};
use crate::remove::remove;
use crate::target::Target;
use crate::{Error, Progress, cannot};

/// Receives a file or a tree. Permissions are those of the other side, without `masked`; a directory that is there
/// keeps its own. The owner is who calls this.
///
/// # Errors
/// If something cannot be written, or the stream is not valid or ends too early.
pub fn receive(
    from: &mut impl Read,
    target: Target,
    masked: u32,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let mut levels = Vec::new();
    let mut receiver = Receiver {
        from,
        masked,
        progress,
    };
    let received = receiver.tree(target, &mut levels);
    // A directory that is not complete is removed, the inner ones with the outermost one.
    drop(levels);
    received
}

/// A directory that is being received.
struct Level {
    directory: OwnedFd,
    path: PathBuf,
    /// It is new: nothing has to be replaced in it, and nobody sees what is in it.
    is_new: bool,
    /// Of a new one, to be set at the end.
    attributes: Attributes,
    /// Its temporary name, and the name that it will have.
    unfinished: Option<(Unfinished, Name)>,
}

/// An entry with a temporary name; removed when this is dropped.
struct Unfinished {
    parent: OwnedFd,
    name: OsString,
    done: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.parent, &self.name);
        }
    }
}

impl Unfinished {
    /// Makes an entry with a name that is not there yet.
    fn make<T>(
        level: &Level,
        path: &Path,
        make: impl Fn(&OsStr) -> rustix::io::Result<T>,
    ) -> Result<(Unfinished, T), Error> {
        let parent = level.directory.try_clone().map_err(|why| Error::File {
            verb: "open",
            path: level.path.clone(),
            why,
        })?;
        loop {
            let name = format!(".uml-{:016x}.part", RandomState::new().hash_one(0));
            match make(name.as_ref()) {
                Err(Errno::EXIST) => {}
                made => {
                    let made = made.map_err(cannot("create", path))?;
                    let (name, done) = (name.into(), false);
                    return Ok((Unfinished { parent, name, done }, made));
                }
            }
        }
    }

    /// Gives it its name. What has it is replaced, unless that is a directory, or this one is.
    fn finish(mut self, name: &Name, path: &Path, is_directory: bool) -> Result<(), Error> {
        let (parent, own, name) = (&self.parent, &*self.name, name.as_os());
        let flags = match is_directory {
            true => RenameFlags::NOREPLACE,
            false => RenameFlags::empty(),
        };
        let named = renameat_with(parent, own, parent, name, flags);
        let named = match named {
            // This file system knows no flags. An empty directory may be replaced then.
            Err(Errno::INVAL) => renameat(parent, own, parent, name),
            named => named,
        };
        named.map_err(cannot("create", path))?;
        self.done = true;
        Ok(())
    }
}

struct Receiver<'a, R> {
    from: &'a mut R,
    masked: u32,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl<R: Read> Receiver<'_, R> {
    fn tree(&mut self, target: Target, levels: &mut Vec<Level>) -> Result<(), Error> {
        let outside = Level {
            directory: target.directory,
            path: target.path,
            is_new: false,
            attributes: Attributes {
                mode: 0,
                seconds: 0,
                nanoseconds: 0,
            },
            unfinished: None,
        };
        let Item::Expect(expected) = item::read(self.from)? else {
            return Err(Error::Invalid("it does not begin as it should"));
        };
        (self.progress)(Progress::Expected(expected));
        let root = item::read(self.from)?;
        if !matches!(&root, Item::Directory(name, _) | Item::File(name, ..) if name.is_root()) {
            return Err(Error::Invalid("it has no root"));
        }
        match (root, target.name) {
            // What is in it goes where the target is.
            (Item::Directory(..), None) => levels.push(outside),
            (Item::Directory(_, attributes), Some(name)) => {
                levels.push(enter(&outside, &name, attributes)?);
            }
            (Item::File(_, attributes, size), Some(name)) => {
                let path = outside.path.join(name.as_os());
                if target.only_directory {
                    let why = "it is not a directory";
                    return Err(Error::Unfit { path, why });
                }
                self.file(&outside, &name, attributes, size)?;
            }
            _ => return Err(Error::Invalid("it has no root")),
        }
        while let Some(level) = levels.last() {
            match item::read(self.from)? {
                Item::Leave => {
                    if let Some(level) = levels.pop() {
                        self.leave(level)?;
                    }
                }
                Item::Directory(name, attributes) if levels.len() < MAX_DEPTH => {
                    levels.push(enter(level, checked(&name)?, attributes)?);
                }
                Item::File(name, attributes, size) => {
                    self.file(level, checked(&name)?, attributes, size)?;
                }
                Item::Link(name, attributes, to) => {
                    link(level, checked(&name)?, attributes, &to)?;
                }
                _ => return Err(Error::Invalid("an item that does not belong there")),
            }
        }
        match item::read(self.from)? {
            Item::Done => Ok(()),
            _ => Err(Error::Invalid("it does not end as it should")),
        }
    }

    fn leave(&self, level: Level) -> Result<(), Error> {
        if level.is_new {
            let (attributes, masked) = (level.attributes, self.masked);
            finish_attributes(&level.directory, attributes, masked)
                .map_err(cannot("set the mode of", &level.path))?;
        }
        match level.unfinished {
            Some((unfinished, name)) => unfinished.finish(&name, &level.path, true),
            None => Ok(()),
        }
    }

    fn file(
        &mut self,
        level: &Level,
        name: &Name,
        attributes: Attributes,
        size: u64,
    ) -> Result<(), Error> {
        let path = level.path.join(name.as_os());
        refuse_directory(level, name, &path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let (unfinished, file) = Unfinished::make(level, &path, |own| {
            openat(&level.directory, own, flags, Mode::RUSR | Mode::WUSR)
        })?;
        self.contents(&file, &path, size)?;
        finish_attributes(&file, attributes, self.masked)
            .map_err(cannot("set the mode of", &path))?;
        unfinished.finish(name, &path, false)
    }

    /// The data of a file, in their order, and not more than there were to be.
    fn contents(&mut self, file: &OwnedFd, path: &Path, most: u64) -> Result<(), Error> {
        let mut buffer = vec![0; MAX_DATA];
        let mut at = 0;
        loop {
            let (offset, length) = match item::read(self.from)? {
                Item::Data { offset, length } => (offset, length),
                Item::End(size) if (at..=most).contains(&size) => {
                    (self.progress)(Progress::Bytes(size - at));
                    return ftruncate(file, size).map_err(cannot("write", path));
                }
                _ => return Err(Error::Invalid("an item that does not belong into a file")),
            };
            let end = offset.checked_add(length.into());
            let part = usize::try_from(length).ok();
            let part = part.and_then(|length| buffer.get_mut(..length));
            let (Some(end), Some(part)) = (end.filter(|end| *end <= most), part) else {
                return Err(Error::Invalid("more data than the file was to have"));
            };
            if offset < at {
                return Err(Error::Invalid("data that go backwards"));
            }
            self.from.read_exact(part).map_err(Error::Stream)?;
            write_all(file, part, offset).map_err(cannot("write", path))?;
            (self.progress)(Progress::Bytes(end - at));
            at = end;
        }
    }
}

/// The name of an entry: only the root has none.
fn checked(name: &Name) -> Result<&Name, Error> {
    match name.is_root() {
        true => Err(Error::Invalid("an entry without a name")),
        false => Ok(name),
    }
}

/// Enters a directory: one that is there, or a new one.
fn enter(parent: &Level, name: &Name, attributes: Attributes) -> Result<Level, Error> {
    let path = parent.path.join(name.as_os());
    let open = |name: &OsStr| {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&parent.directory, name, flags, Mode::empty())
    };
    match open(name.as_os()) {
        Ok(directory) if !parent.is_new => {
            return Ok(Level {
                directory,
                path,
                is_new: false,
                attributes,
                unfinished: None,
            });
        }
        Err(Errno::NOENT) => {}
        Ok(_) => return Err(Error::Invalid("the same directory twice")),
        Err(error) => return Err(cannot("enter", path)(error)),
    }
    let make = |own: &OsStr| mkdirat(&parent.directory, own, Mode::RWXU);
    let (unfinished, ()) = Unfinished::make(parent, &path, make)?;
    let directory = open(&unfinished.name).map_err(cannot("enter", &path))?;
    Ok(Level {
        directory,
        path,
        is_new: true,
        attributes,
        unfinished: Some((unfinished, name.clone())),
    })
}

fn link(level: &Level, name: &Name, attributes: Attributes, to: &[u8]) -> Result<(), Error> {
    let path = level.path.join(name.as_os());
    refuse_directory(level, name, &path)?;
    let (unfinished, ()) =
        Unfinished::make(level, &path, |own| symlinkat(to, &level.directory, own))?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    // Not every file system keeps the times of links.
    let _ = utimensat(
        &level.directory,
        &*unfinished.name,
        &times(attributes),
        flags,
    );
    unfinished.finish(name, &path, false)
}

/// A directory is not replaced by something else; what the kernel says of it is not clear enough.
fn refuse_directory(level: &Level, name: &Name, path: &Path) -> Result<(), Error> {
    let there = statat(&level.directory, name.as_os(), AtFlags::SYMLINK_NOFOLLOW);
    match there.map(|there| FileType::from_raw_mode(there.st_mode)) {
        Ok(FileType::Directory) => Err(Error::Unfit {
            path: path.into(),
            why: "it is a directory, and is not replaced by something else",
        }),
        _ => Ok(()),
    }
}

fn finish_attributes(
    file: &OwnedFd,
    attributes: Attributes,
    masked: u32,
) -> rustix::io::Result<()> {
    fchmod(
        file.as_fd(),
        Mode::from_raw_mode(attributes.mode & 0o777 & !masked),
    )?;
    // A time that this file system cannot have is none to fail for.
    let _ = futimens(file, &times(attributes));
    Ok(())
}

fn times(attributes: Attributes) -> Timestamps {
    let time = Timespec {
        tv_sec: attributes.seconds,
        tv_nsec: attributes.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(length) => {
                bytes = bytes.get(length..).unwrap_or_default();
                offset += length as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
