//! Disks with a write cache that a power cut empties: files in a directory, served by FUSE. A sector that was written
//! since the last fsync of its file is, after the cut, in any of the states that it had since then; all others are as
//! they were written (the end-to-end tests).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fastrand::Rng;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, SessionACL, WriteFlags,
};

/// What a disk writes as a whole or not at all.
pub const SECTOR: usize = 512;

/// How long the host may remember attributes and names: they never change.
const LONG: Duration = Duration::from_secs(3600);

/// The number of the first file; that of the directory is 1.
const FIRST: u64 = 2;

/// A write cache over a directory, as long as this lives.
pub struct WriteCache {
    directory: PathBuf,
    disks: Arc<Mutex<Disks>>,
    session: BackgroundSession,
}

/// All files of the directory.
struct Disks {
    files: Vec<Disk>,
    directory: FileAttr,
    /// How many writes and flushes there will be until the power fails.
    left: u64,
    /// Whether a flush writes what the cache has.
    flushes: bool,
}

struct Disk {
    name: OsString,
    attributes: FileAttr,
    content: Vec<u8>,
    /// By the number of the sector: what it was at the last flush, and after each write since then.
    unsafe_sectors: BTreeMap<usize, Vec<Vec<u8>>>,
    written: bool,
}

impl WriteCache {
    /// Puts one over the files of a directory. The power fails at the write or flush of this number, counted over all.
    ///
    /// # Panics
    /// If that cannot be done, as with all of these.
    pub fn over(directory: &Path, cut_at: u64) -> WriteCache {
        WriteCache::new(directory, cut_at, true)
    }

    /// One that says it has flushed, and has not.
    ///
    /// # Panics
    /// As [`WriteCache::over`].
    pub fn that_does_not_flush(directory: &Path, cut_at: u64) -> WriteCache {
        WriteCache::new(directory, cut_at, false)
    }

    fn new(directory: &Path, cut_at: u64, flushes: bool) -> WriteCache {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        let files = (FIRST..)
            .zip(entries)
            .map(|(number, entry)| Disk::new(number, &entry));
        let disks = Arc::new(Mutex::new(Disks {
            files: files.collect(),
            directory: attributes(INodeNo::ROOT, &directory.metadata().unwrap()),
            left: cut_at,
            flushes,
        }));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::DefaultPermissions];
        // The VM's user is not the one of the tests.
        config.acl = SessionACL::All;
        let served = Served(Arc::clone(&disks));
        WriteCache {
            directory: directory.to_owned(),
            disks,
            session: fuser::spawn_mount(served, directory, &config).unwrap(),
        }
    }

    /// Whether the power has failed; nothing can be read or written then.
    pub fn has_failed(&self) -> bool {
        self.disks.lock().unwrap().left == 0
    }

    /// Has the power fail, unless it has failed already, and leaves in the files what outlasts that. No process may use
    /// the directory any more.
    ///
    /// # Panics
    /// As [`WriteCache::over`].
    pub fn lose_power(self, rng: &mut Rng) {
        self.disks.lock().unwrap().left = 0;
        self.session.umount_and_join().unwrap();
        for disk in &mut self.disks.lock().unwrap().files {
            for (number, states) in std::mem::take(&mut disk.unsafe_sectors) {
                let state = rng.choice(&states).expect("the first one is always there");
                let begin = number * SECTOR;
                disk.content[begin..begin + state.len()].copy_from_slice(state);
            }
            // Others keep their time of modification, by which an image knows its backing file.
            if disk.written {
                fs::write(self.directory.join(&disk.name), &disk.content).unwrap();
            }
        }
    }
}

impl Disk {
    fn new(number: u64, entry: &fs::DirEntry) -> Disk {
        Disk {
            name: entry.file_name(),
            attributes: attributes(INodeNo(number), &entry.metadata().unwrap()),
            content: fs::read(entry.path()).unwrap(),
            unsafe_sectors: BTreeMap::new(),
            written: false,
        }
    }

    /// Writes within the file, and keeps what was there until the next flush.
    fn write(&mut self, offset: usize, data: &[u8]) -> Option<()> {
        let end = offset.checked_add(data.len())?;
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        let all = |content: &[u8], number: usize| {
            let begin = number * SECTOR;
            content[begin..content.len().min(begin + SECTOR)].to_vec()
        };
        if end > self.content.len() {
            return None;
        }
        for number in sectors.clone() {
            let before = || vec![all(&self.content, number)];
            self.unsafe_sectors.entry(number).or_insert_with(before);
        }
        self.content[offset..end].copy_from_slice(data);
        for number in sectors {
            let states = self.unsafe_sectors.entry(number).or_default();
            states.push(all(&self.content, number));
        }
        self.written = true;
        Some(())
    }
}

impl Disks {
    fn disk(&mut self, number: INodeNo) -> Result<&mut Disk, Errno> {
        let index = number.0.checked_sub(FIRST).ok_or(Errno::EISDIR)?;
        let index = usize::try_from(index).map_err(|_| Errno::ENOENT)?;
        self.files.get_mut(index).ok_or(Errno::ENOENT)
    }

    fn attributes(&mut self, number: INodeNo) -> Result<FileAttr, Errno> {
        match number {
            INodeNo::ROOT => Ok(self.directory),
            _ => Ok(self.disk(number)?.attributes),
        }
    }

    /// One more write or flush, if there still is power.
    fn step(&mut self) -> Result<(), Errno> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn read(&mut self, number: INodeNo, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        if self.left == 0 {
            return Err(Errno::EIO);
        }
        let content = &self.disk(number)?.content;
        let begin = usize::try_from(offset).map_or(content.len(), |it| it.min(content.len()));
        let end = content.len().min(begin + size as usize);
        Ok(content[begin..end].to_vec())
    }

    fn write(&mut self, number: INodeNo, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.step()?;
        let offset = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        // A disk does not grow.
        self.disk(number)?.write(offset, data).ok_or(Errno::ENOSPC)
    }

    fn flush(&mut self, number: INodeNo) -> Result<(), Errno> {
        self.step()?;
        if self.flushes {
            self.disk(number)?.unsafe_sectors.clear();
        }
        Ok(())
    }
}

/// What the host's kernel asks.
struct Served(Arc<Mutex<Disks>>);

impl Served {
    fn disks(&self) -> MutexGuard<'_, Disks> {
        self.0.lock().unwrap()
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disks = self.disks();
        match disks.files.iter().find(|disk| disk.name == name) {
            Some(disk) => reply.entry(&LONG, &disk.attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.disks().attributes(ino) {
            Ok(attributes) => reply.attr(&LONG, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disks().read(ino, offset, size) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let size = u32::try_from(data.len()).expect("a request has a few kilobytes");
        match self.disks().write(ino, offset, data) {
            Ok(()) => reply.written(size),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let disks = self.disks();
        let entries = disks.files.iter();
        let entries = entries.map(|disk| (disk.attributes.ino, &disk.name));
        for ((ino, name), next) in entries.zip(1..).skip_while(|(_, next)| *next <= offset) {
            if reply.add(ino, next, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    // As a guest discards.
    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let zeros = usize::try_from(length).map(|length| vec![0; length]);
        let written = zeros
            .map_err(|_| Errno::EFBIG)
            .and_then(|zeros| self.disks().write(ino, offset, &zeros));
        answer(written, reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.disks().flush(ino), reply);
    }

    // A file that is closed, which says nothing about power.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

fn answer(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn attributes(ino: INodeNo, of: &Metadata) -> FileAttr {
    let modified = UNIX_EPOCH + Duration::from_secs(of.mtime().unsigned_abs());
    let kind = match of.is_dir() {
        true => FileType::Directory,
        false => FileType::RegularFile,
    };
    FileAttr {
        ino,
        size: of.size(),
        blocks: of.blocks(),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind,
        perm: (of.mode() & 0o7777).try_into().expect("twelve bits"),
        nlink: 1,
        uid: of.uid(),
        gid: of.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
