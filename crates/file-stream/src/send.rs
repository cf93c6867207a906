//! The sending side: walks a tree, with every directory on the way open.

use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat, fstat, openat, readlinkat, seek, statat,
};
use rustix::io::{Errno, pread};

use crate::item::{self, Attributes, Item, MAX_DATA, MAX_DEPTH, Name};
use crate::{Error, Progress, cannot};

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    // A FIFO is not waited for.
    .union(OFlags::NONBLOCK);

/// How long a file may be that does not know its size.
const UNKNOWN: u64 = 1 << 30;

/// Sends a file or a directory with all that is in it. `source` may be a symbolic link to it; the links in the tree are
/// sent as links.
///
/// # Errors
/// If something cannot be read, or the stream cannot be written.
pub fn send(
    source: &Path,
    out: &mut impl Write,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let root = openat(
        rustix::fs::CWD,
        source,
        OPEN.difference(OFlags::NOFOLLOW),
        Mode::empty(),
    )
    .map_err(cannot("open", source))?;
    let mut sender = Sender { out, progress };
    let expected = size_of(&root, 0);
    (sender.progress)(Progress::Expected(expected));
    sender.say(&Item::Expect(expected))?;
    if !sender.opened(root, source, Name::root(), 0)? {
        return Err(Error::Unfit {
            path: source.into(),
            why: "it is neither a file nor a directory",
        });
    }
    sender.say(&Item::Done)?;
    sender.out.flush().map_err(Error::Stream)
}

struct Sender<'a, W> {
    out: &'a mut W,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl<W: Write> Sender<'_, W> {
    fn say(&mut self, item: &Item) -> Result<(), Error> {
        item::write(self.out, item)
    }

    /// Sends what was opened; false if it is neither a file nor a directory.
    fn opened(
        &mut self,
        file: OwnedFd,
        path: &Path,
        name: Name,
        depth: usize,
    ) -> Result<bool, Error> {
        let stat = fstat(&file).map_err(cannot("read", path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(&file, path, name, &stat, depth)?,
            FileType::RegularFile => self.file(&file, path, name, &stat)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        name: Name,
        stat: &Stat,
        depth: usize,
    ) -> Result<(), Error> {
        if depth >= MAX_DEPTH {
            let why = "directories are nested too deep to be copied";
            let path = path.into();
            return Err(Error::Unfit { path, why });
        }
        self.say(&Item::Directory(name, attributes(stat)))?;
        let entries = Dir::read_from(directory).map_err(cannot("read", path))?;
        for entry in entries {
            let entry = entry.map_err(cannot("read", path))?;
            let name = entry.file_name().to_bytes();
            // The two that every directory has are none.
            if let Ok(name) = Name::try_from(name.to_vec()) {
                self.entry(directory.as_fd(), path, name, depth + 1)?;
            }
        }
        self.say(&Item::Leave)
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        parent: &Path,
        name: Name,
        depth: usize,
    ) -> Result<(), Error> {
        let path = parent.join(name.as_os());
        let stat = match statat(directory, name.as_os(), AtFlags::SYMLINK_NOFOLLOW) {
            // It was deleted meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(cannot("read", &path))?,
        };
        let sent = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = readlinkat(directory, name.as_os(), Vec::new());
                let target = target.map_err(cannot("read the link", &path))?.into_bytes();
                self.say(&Item::Link(name, attributes(&stat), target))?;
                true
            }
            // Opening something else could have an effect.
            FileType::Directory | FileType::RegularFile => {
                let file = openat(directory, name.as_os(), OPEN, Mode::empty());
                self.opened(file.map_err(cannot("open", &path))?, &path, name, depth)?
            }
            _ => false,
        };
        if !sent {
            (self.progress)(Progress::LeftOut(&path));
        }
        Ok(())
    }

    fn file(&mut self, file: &OwnedFd, path: &Path, name: Name, stat: &Stat) -> Result<(), Error> {
        // Files of proc(5) do not know their size.
        let unknown = stat.st_size == 0;
        let size = match u64::try_from(stat.st_size) {
            Ok(size) if !unknown => size,
            _ => UNKNOWN,
        };
        self.say(&Item::File(name, attributes(stat), size))?;
        let mut buffer = vec![0; MAX_DATA];
        let mut at = 0;
        while at < size {
            let (start, end) = if unknown {
                (0, size)
            } else {
                data_after(file, at, size)
            };
            (self.progress)(Progress::Bytes(start - at));
            at = start;
            while at < end {
                let most = usize::try_from(end - at).map_or(MAX_DATA, |left| left.min(MAX_DATA));
                let part = buffer.get_mut(..most).unwrap_or_default();
                let length = match pread(file, &mut *part, at) {
                    Err(Errno::INTR) => continue,
                    read => read.map_err(cannot("read", path))?,
                };
                if length == 0 {
                    // It is shorter now.
                    return self.say(&Item::End(at));
                }
                self.data(at, part.get(..length).unwrap_or_default())?;
                at += length as u64;
            }
        }
        self.say(&Item::End(size))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        self.say(&Item::Data { offset, length })?;
        self.out.write_all(bytes).map_err(Error::Stream)?;
        (self.progress)(Progress::Bytes(bytes.len() as u64));
        Ok(())
    }
}

/// Where the next data of a file begin and end: at the end of the file if only a hole is left.
fn data_after(file: &OwnedFd, at: u64, size: u64) -> (u64, u64) {
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) if (at..size).contains(&start) => {
            let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size);
            (start, end.clamp(start + 1, size))
        }
        Ok(_) | Err(Errno::NXIO) => (size, size),
        // This file system does not tell it.
        Err(_) => (at, size),
    }
}

/// How many bytes there are; what cannot be read is told later.
fn size_of(file: &OwnedFd, depth: usize) -> u64 {
    let Ok(stat) = fstat(file) else { return 0 };
    let (kind, size) = (
        FileType::from_raw_mode(stat.st_mode),
        u64::try_from(stat.st_size).unwrap_or(0),
    );
    match kind {
        FileType::RegularFile => size,
        FileType::Directory if depth < MAX_DEPTH => {
            let entries = Dir::read_from(file).into_iter().flatten().flatten();
            let sizes = entries.map(|entry| {
                let name = entry.file_name();
                let own = matches!(name.to_bytes(), b"." | b"..");
                let stat = statat(file, name, AtFlags::SYMLINK_NOFOLLOW);
                match stat.map(|stat| (FileType::from_raw_mode(stat.st_mode), stat.st_size)) {
                    Ok((FileType::RegularFile, size)) => u64::try_from(size).unwrap_or(0),
                    Ok((FileType::Directory, _)) if !own => {
                        let flags = OPEN | OFlags::DIRECTORY;
                        let inner = openat(file, name, flags, Mode::empty());
                        inner.map_or(0, |inner| size_of(&inner, depth + 1))
                    }
                    _ => 0,
                }
            });
            sizes.fold(0, u64::saturating_add)
        }
        _ => 0,
    }
}

fn attributes(stat: &Stat) -> Attributes {
    Attributes {
        mode: stat.st_mode & 0o777,
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}
