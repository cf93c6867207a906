//! The initramfs with which a temporary VM boots: umlguest as its first process, and whatever else it is to have before
//! there is a disk (umladmin, and the other programs that make VMs).
//!
//! Why so: it needs no change of the image, no tool of file systems and no further disk, and Debian's kernels and ours
//! read one (`initrd=`). Its format is the "newc" one of
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::furnish::cannot;

/// Types of files in modes.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// What marks the end.
const END: &str = "TRAILER!!!";

/// An archive to which files are added; one that names a directory again changes nothing.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// The initramfs for a VM with a disk: this program, and nothing else.
///
/// # Errors
/// If it cannot be read.
pub fn with_disk(helper: &Path) -> Result<Vec<u8>, String> {
    Ok(Archive::with(helper)?.finish())
}

impl Archive {
    /// One that has this program as the first process of the guest.
    ///
    /// # Errors
    /// If the program cannot be read.
    pub fn with(helper: &Path) -> Result<Archive, String> {
        let mut archive = Archive::default();
        archive.copy("init", helper)?;
        Ok(archive)
    }

    /// Adds a program.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn copy(&mut self, name: impl AsRef<Path>, from: &Path) -> Result<(), String> {
        let bytes = fs::read(from).map_err(|error| cannot("read", from, &error))?;
        self.add(name.as_ref(), FILE | 0o755, &bytes);
        Ok(())
    }

    /// Adds a directory, and those that it is in.
    pub fn directories(&mut self, path: &Path) {
        let mut all: Vec<_> = path.ancestors().collect();
        all.retain(|path| !path.as_os_str().is_empty());
        for path in all.into_iter().rev() {
            self.add(path, DIRECTORY | 0o755, &[]);
        }
    }

    /// Adds a file with this text.
    pub fn text(&mut self, name: impl AsRef<Path>, text: &str) {
        self.add(name.as_ref(), FILE | 0o644, text.as_bytes());
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &Path, to: &str) {
        self.add(name, LINK | 0o777, to.as_bytes());
    }

    fn add(&mut self, name: &Path, mode: u32, content: &[u8]) {
        self.entries += 1;
        let name = name.as_os_str().as_bytes();
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // Inode, mode, user, group, links, time, size, four numbers of devices, length of the name, no checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size(content),
            0,
            0,
            0,
            0,
            size(name) + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }

    /// Its bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.add(END.as_ref(), 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_header_its_name_and_its_content_aligned() {
        let mut archive = Archive::default();
        archive.directories(Path::new("a/b"));
        archive.add("a/b/c".as_ref(), FILE | 0o644, b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let entries: Vec<&str> = text.split("070701").skip(1).collect();
        let names = entries
            .iter()
            .map(|entry| entry[104..].split('\0').next().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["a", "a/b", "a/b/c", END]);
        let file = entries[2];
        assert!(file.starts_with("00000003000081a4"), "{file}");
        assert_eq!(&file[48..56], "00000005");
        assert!(file.contains("a/b/c\0hello\0\0\0"), "{file:?}");
    }
}
