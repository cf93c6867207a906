//! Which parts of a file are data and which are holes, and how data gets from one file into another (umlmon, in the
//! process that works on disks).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use config::DiskName;
use rustix::fs::SeekFrom;
use rustix::io::{Errno, retry_on_intr};

use super::Error;
use super::error::failed;
use super::meter::Meter;
use super::workplace::Image;

/// Bytes that the kernel copies at once: on slow disks a step of some tenths of a second, after which it can be
/// cancelled.
const STEP: u64 = 16 << 20;
/// Below this, reading and writing is cheaper than a copy by the kernel.
const SMALL: u64 = 64 << 10;
const BUFFER: usize = 1 << 20;

/// The data and holes of a file. The last result is remembered, because the cost of a query does not depend on the
/// length of the part.
pub(super) struct Extents<'a> {
    image: &'a Image<'a>,
    known: Range<u64>,
    known_is_data: bool,
}

/// A part of a file that is all data or all hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) part: Range<u64>,
    pub(super) is_data: bool,
}

impl<'a> Extents<'a> {
    pub(super) fn of(image: &'a Image<'a>) -> Extents<'a> {
        Extents {
            image,
            known: 0..0,
            known_is_data: false,
        }
    }

    /// Goes through a part of the file.
    pub(super) fn walk(
        &mut self,
        part: Range<u64>,
        visit: &mut dyn FnMut(Extent) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut offset = part.start;
        while offset < part.end {
            if !self.known.contains(&offset) {
                self.find(offset)?;
            }
            // A file that gets shorter meanwhile may have nothing at `offset`; that is a hole.
            let known_end = if self.known.contains(&offset) {
                self.known.end
            } else {
                self.known_is_data = false;
                part.end
            };
            let end = known_end.min(part.end);
            visit(Extent {
                part: offset..end,
                is_data: self.known_is_data,
            })?;
            offset = end;
        }
        Ok(())
    }

    fn find(&mut self, offset: u64) -> Result<(), Error> {
        let seek = |to| match rustix::fs::seek(&self.image.file, to) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(failed("find the holes of", self.image.disk, errno)),
        };
        let data = seek(SeekFrom::Data(offset))?.unwrap_or(u64::MAX);
        self.known_is_data = data <= offset;
        self.known = if self.known_is_data {
            offset..seek(SeekFrom::Hole(offset))?.unwrap_or(offset)
        } else {
            offset..data
        };
        Ok(())
    }
}

/// Copies parts of one file into another, by the kernel if it can.
pub(super) struct Transfer<'a> {
    source: &'a Image<'a>,
    destination: (&'a DiskName, &'a File),
    by_kernel: bool,
    buffer: Vec<u8>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(source: &'a Image<'a>, disk: &'a DiskName, file: &'a File) -> Transfer<'a> {
        Transfer {
            source,
            destination: (disk, file),
            by_kernel: true,
            buffer: Vec::new(),
        }
    }

    /// Copies a part of the source to an offset of the destination.
    pub(super) fn copy(
        &mut self,
        part: Range<u64>,
        to: u64,
        meter: &mut Meter<'_>,
    ) -> Result<(), Error> {
        let mut done = 0;
        let length = part.end.saturating_sub(part.start);
        while done < length {
            let (from, to, left) = (part.start + done, to + done, length - done);
            let copied = if self.by_kernel && left >= SMALL {
                self.copy_by_kernel(from, to, left)?
            } else {
                self.copy_by_hand(from, to, left)?
            };
            meter.advance(copied)?;
            done += copied;
        }
        Ok(())
    }

    fn copy_by_kernel(&mut self, mut from: u64, mut to: u64, left: u64) -> Result<u64, Error> {
        let (disk, file) = self.destination;
        let length = usize::try_from(left.min(STEP)).unwrap_or(BUFFER);
        let copied = retry_on_intr(|| {
            rustix::fs::copy_file_range(
                &self.source.file,
                Some(&mut from),
                file,
                Some(&mut to),
                length,
            )
        });
        match copied {
            Ok(0) => Err(self.changed()),
            Ok(copied) => Ok(copied as u64),
            // Between two file systems, or on one that does not support it.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                self.by_kernel = false;
                self.copy_by_hand(from, to, left)
            }
            Err(errno) => Err(failed("write", disk, errno)),
        }
    }

    fn copy_by_hand(&mut self, from: u64, to: u64, left: u64) -> Result<u64, Error> {
        let (disk, file) = self.destination;
        self.buffer.resize(BUFFER, 0);
        let length = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
        let buffer = self.buffer.get_mut(..length).unwrap_or_default();
        let read = loop {
            match self.source.file.read_at(buffer, from) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| failed("read", self.source.disk, error))?,
            }
        };
        if read == 0 {
            return Err(self.changed());
        }
        let read = buffer.get(..read).unwrap_or_default();
        let written = file.write_all_at(read, to);
        written.map_err(|error| failed("write", disk, error))?;
        Ok(read.len() as u64)
    }

    /// The data that was there a moment ago is not.
    fn changed(&self) -> Error {
        Error::Changed {
            disk: self.source.disk.clone(),
        }
    }
}

#[cfg(test)]
#[path = "extents/tests.rs"]
mod tests;
