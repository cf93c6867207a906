//! Free space on the host, and how blocks are allocated (umlmon, in the process that works on disks).

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use config::DiskName;
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};

use super::Error;
use super::error::failed;
use super::meter::Meter;

/// Bytes that are allocated at once: a step of milliseconds on most file systems, after which it can be cancelled.
const STEP: u64 = 256 << 20;
/// Bytes that are zeroed at once where blocks cannot be allocated otherwise.
const ZEROS: usize = 1 << 20;
/// The part of a file system that is left free, and the most bytes that it is.
const RESERVE_PARTS: u64 = 20;
const RESERVE_BYTES: u64 = 1 << 30;

/// Fails if `needed` bytes for `disk` would not leave the file system of `at` with its reserve: 5 %, at most 1 GiB. One
/// VM must not take the space that logs and others need.
pub(super) fn check(disk: &DiskName, at: impl AsFd, needed: u64) -> Result<(), Error> {
    let found = rustix::fs::fstatvfs(at);
    let found = found.map_err(|errno| failed("ask for the space for", disk, errno))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let reserve = found.f_blocks.saturating_mul(found.f_frsize) / RESERVE_PARTS;
    let reserve = reserve.min(RESERVE_BYTES);
    if needed == 0 || needed.saturating_add(reserve) <= free {
        return Ok(());
    }
    Err(Error::Space {
        disk: disk.clone(),
        needed,
        free,
        reserve,
    })
}

/// Allocates blocks for a part of the file that has no data. The size of the file remains, if the file system can do
/// that; otherwise the part is filled with zeros.
pub(super) fn allocate(
    disk: &DiskName,
    file: &File,
    part: Range<u64>,
    meter: &mut Meter<'_>,
) -> Result<(), Error> {
    let mut offset = part.start;
    while offset < part.end {
        let length = (part.end - offset).min(STEP);
        let allocated = retry_on_intr(|| {
            rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, length)
        });
        match allocated {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                return fill_with_zeros(disk, file, offset..part.end, meter);
            }
            Err(errno) => return Err(failed("allocate", disk, errno)),
        }
        meter.advance(length)?;
        offset += length;
    }
    Ok(())
}

fn fill_with_zeros(
    disk: &DiskName,
    file: &File,
    part: Range<u64>,
    meter: &mut Meter<'_>,
) -> Result<(), Error> {
    let zeros = vec![0; ZEROS];
    let mut offset = part.start;
    while offset < part.end {
        let left = usize::try_from(part.end - offset).unwrap_or(ZEROS);
        let some = zeros.get(..left).unwrap_or(&zeros);
        let written = file.write_all_at(some, offset);
        written.map_err(|error| failed("write", disk, error))?;
        meter.advance(some.len() as u64)?;
        offset += some.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
#[path = "space/tests.rs"]
mod tests;
