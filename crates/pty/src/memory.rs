//! The memory of a channel that outlives the monitor: what is kept of the output, and what the next monitor must know.
//! Used by the umlmon daemon.
//!
//! It is a memfd (memfd_create(2)) whose size is sealed. A process of the VM's user may hold it, too, so it is read and
//! written by pread(2) and pwrite(2) only, and nothing of it is believed.
//!
//! | from | bytes | holds |
//! |---|---|---|
//! | 0 | 4 KiB | the state: two slots |
//! | 4 KiB | 1 MiB | the view: two slots; a hole where nothing is |
//! | 1 MiB + 4 KiB | the rest | the ring of the history |

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::io::Errno;

use crate::held::refused;
use crate::slots::Slots;

/// What the two slots of the state take together, in bytes.
const STATE_BYTES: u64 = 4096;
/// What the two slots of the view take together, in bytes: enough for redrawing 16,000 cells that all look different.
const VIEW_BYTES: u64 = 1024 * 1024;
/// Where the ring begins.
const RING: u64 = STATE_BYTES + VIEW_BYTES;
/// The largest ring, in bytes: far more than can be configured.
const RING_MAX: u64 = 1 << 32;
/// Nobody can change the size, or these seals.
const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);

/// The memory of one channel.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
    /// The size of the ring, in bytes; at least 1.
    ring: usize,
    /// What the output has come to, written with each piece.
    pub state: Slots,
    /// What is shown, written now and then.
    pub view: Slots,
}

impl Memory {
    /// A memory with a ring of this size in bytes, which is at least 1. It takes pages as data arrive.
    ///
    /// # Errors
    /// Those of memfd_create(2) and ftruncate(2).
    pub(crate) fn new(ring: usize) -> io::Result<Self> {
        let ring = ring.max(1);
        let file = File::from(anonymous()?);
        ftruncate(&file, RING + ring as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        Ok(Self::with(file, ring))
    }

    /// The memory of a former monitor.
    ///
    /// # Errors
    /// If the descriptor is not of a memfd, or its size is not sealed, or is not one of ours.
    pub(crate) fn adopt(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let kind = file.metadata()?;
        if !kind.is_file() {
            return Err(refused("the memory is not a file"));
        }
        // EINVAL: a file that cannot have seals.
        if !fcntl_get_seals(&file)?.contains(SEALS) {
            return Err(refused("the size of the memory is not sealed"));
        }
        match kind.len().checked_sub(RING) {
            Some(ring @ 1..=RING_MAX) => {
                let ring = usize::try_from(ring).map_err(io::Error::other)?;
                Ok(Self::with(file, ring))
            }
            _ => Err(refused("the memory has another size")),
        }
    }

    fn with(file: File, ring: usize) -> Self {
        Self {
            file,
            ring,
            state: Slots::new(0, STATE_BYTES),
            view: Slots::new(STATE_BYTES, VIEW_BYTES),
        }
    }

    /// The size of the ring, in bytes.
    pub(crate) fn ring(&self) -> usize {
        self.ring
    }

    /// The file that it is.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes to the ring from an index on, beyond whose end it goes on at the beginning. `data` is no longer than the
    /// ring.
    ///
    /// # Errors
    /// `ENOMEM`, `ENOSPC`: the host has no memory left.
    pub(crate) fn write(&self, at: usize, data: &[u8]) -> io::Result<()> {
        let (before, after) = data.split_at_checked(self.ring - at).unwrap_or((data, &[]));
        self.file.write_all_at(before, RING + at as u64)?;
        self.file.write_all_at(after, RING)
    }

    /// Reads from the ring in the same way. `len` is at most its size.
    ///
    /// # Errors
    /// Those of pread(2).
    pub(crate) fn read(&self, at: usize, len: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; len];
        let before = (self.ring - at).min(len);
        let (before, after) = data.split_at_mut(before);
        self.file.read_exact_at(before, RING + at as u64)?;
        self.file.read_exact_at(after, RING)?;
        Ok(data)
    }
}

/// A memfd that cannot be executed. Kernels before 6.3 know no flag for that.
fn anonymous() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("umlmon-channel", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => Ok(memfd_create("umlmon-channel", flags)?),
        made => Ok(made?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_was_written_is_there_and_the_size_stays() {
        let memory = Memory::new(10).unwrap();
        memory.write(7, b"abcdef").unwrap();
        assert_eq!(memory.read(7, 6).unwrap(), b"abcdef");
        assert_eq!(memory.read(0, 10).unwrap(), b"def\0\0\0\0abc");
        let other = memory.file.as_fd().try_clone_to_owned().unwrap();
        ftruncate(&other, 0).unwrap_err();
        ftruncate(&other, RING + 11).unwrap_err();
        fcntl_add_seals(&other, SealFlags::WRITE).unwrap_err();
        let adopted = Memory::adopt(other).unwrap();
        assert_eq!(adopted.read(7, 6).unwrap(), b"abcdef");
    }

    #[test]
    fn anything_else_is_refused() {
        let sealed = |seals, len| {
            let file = anonymous().unwrap();
            ftruncate(&file, len).unwrap();
            fcntl_add_seals(&file, seals).unwrap();
            Memory::adopt(file)
        };
        assert!(sealed(SEALS, RING + 1).is_ok());
        for (seals, len) in [
            (SealFlags::SHRINK | SealFlags::GROW, RING + 1),
            (SealFlags::SEAL | SealFlags::GROW, RING + 1),
            (SEALS, RING),
            (SEALS, 0),
            (SEALS, RING + RING_MAX + 1),
        ] {
            assert!(sealed(seals, len).is_err(), "{seals:?} {len}");
        }
        for other in ["/dev/null", "/etc/passwd", "/"] {
            let other = File::open(other).unwrap();
            assert!(Memory::adopt(other.into()).is_err());
        }
    }
}
