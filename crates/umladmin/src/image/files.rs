//! An archive of files of ours, to be unpacked like those of others (umladmin).

use std::io;
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// See above. All files belong to root.
pub(super) struct Files(Builder<Vec<u8>>);

impl Default for Files {
    fn default() -> Files {
        Files(Builder::new(Vec::new()))
    }
}

impl Files {
    pub(super) fn directory(&mut self, name: &Path, mode: u32) -> io::Result<()> {
        self.add(name, EntryType::Directory, mode, b"")
    }

    /// A file; the directories that it is in are made.
    pub(super) fn file(&mut self, name: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.add(name, EntryType::Regular, mode, bytes)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, name: &Path, to: &Path) -> io::Result<()> {
        self.0
            .append_link(&mut header(EntryType::Symlink, 0o777), name, to)
    }

    /// The archive.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.0.into_inner()
    }

    fn add(&mut self, name: &Path, kind: EntryType, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let mut header = header(kind, mode);
        header.set_size(bytes.len() as u64);
        self.0.append_data(&mut header, name, bytes)
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}
