//! Copies of large files, such as images of disks: they share blocks with the original where the file system can do
//! that, and else have the same holes. Runs in umladmin.

use std::fs::{File, FileTimes};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use rustix::fs::{SeekFrom as Offset, ioctl_ficlone, seek};
use rustix::io::Errno;

/// How much is read at most before it is looked again whether to go on, in bytes.
pub const PIECE: usize = 1 << 20;

/// Copies content, length and time of modification into a file that is empty. It is given up when `goes_on` becomes
/// false.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`]; those of read(2) and write(2).
pub fn copy_sparse(from: &File, to: &File, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    let original = from.metadata()?;
    if ioctl_ficlone(to, from).is_err() {
        to.set_len(original.len())?;
        copy_data(from, to, goes_on)?;
    }
    to.set_times(FileTimes::new().set_modified(original.modified()?))
}

fn copy_data(from: &File, mut to: &File, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    to.rewind()?;
    walk(from, &mut |part| {
        if !goes_on() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        match part {
            Part::Hole(length) => {
                let length = i64::try_from(length).unwrap_or(i64::MAX);
                to.seek(SeekFrom::Current(length)).map(drop)
            }
            Part::Data(piece) => to.write_all(piece),
        }
    })
}

/// Reads a whole file. Holes are given as zeros without being read: the pages of the host's memory that they would take
/// cost more than what is done with them.
///
/// # Errors
/// Those of lseek(2), read(2) and `visit`.
pub fn read_sparse(file: &File, visit: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    walk(file, &mut |part| match part {
        Part::Data(piece) => visit(piece),
        Part::Hole(mut left) => {
            while left > 0 {
                let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                visit(zeros.get(..length).unwrap_or_default())?;
                left -= length as u64;
            }
            Ok(())
        }
    })
}

/// What comes next in a file.
enum Part<'a> {
    /// So many bytes that were never written.
    Hole(u64),
    /// Up to [`PIECE`] bytes.
    Data(&'a [u8]),
}

/// Reads the data of a file, from its beginning to its end.
fn walk(mut file: &File, visit: &mut dyn FnMut(Part<'_>) -> io::Result<()>) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let data = match seek(file, Offset::Data(at)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => length,
            found => found?,
        };
        if data > at {
            visit(Part::Hole(data - at))?;
        }
        at = data;
        if at >= length {
            break;
        }
        let hole = seek(file, Offset::Hole(at))?;
        file.seek(SeekFrom::Start(at))?;
        let mut left = file.take(hole.saturating_sub(at));
        loop {
            let read = left.read(&mut piece)?;
            if read == 0 {
                break;
            }
            visit(Part::Data(piece.get(..read).unwrap_or_default()))?;
            at += read as u64;
        }
        if at < hole {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn holes_are_read_as_zeros() {
        let mut file = tempfile::tempfile().unwrap();
        file.seek(SeekFrom::Start(3 << 20)).unwrap();
        file.write_all(b"data").unwrap();
        file.set_len((5 << 20) + 1).unwrap();
        let mut all = Vec::new();
        let mut visit = |piece: &[u8]| {
            all.extend_from_slice(piece);
            Ok(())
        };
        read_sparse(&file, &mut visit).unwrap();
        let mut expected = vec![0; (5 << 20) + 1];
        expected[3 << 20..(3 << 20) + 4].copy_from_slice(b"data");
        assert!(all == expected);
        read_sparse(&tempfile::tempfile().unwrap(), &mut |_| panic!()).unwrap();
    }

    #[test]
    fn a_copy_has_the_holes_and_the_time_of_the_original() {
        let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(&[1; 5000]).unwrap();
        from.seek(SeekFrom::Start(64 << 20)).unwrap();
        from.write_all(b"end").unwrap();
        from.set_len(128 << 20).unwrap();
        copy_sparse(&from, &to, &|| true).unwrap();
        let (one, other) = (from.metadata().unwrap(), to.metadata().unwrap());
        assert_eq!(
            (one.len(), one.mtime_nsec()),
            (other.len(), other.mtime_nsec())
        );
        assert!(other.blocks() * 512 < 1 << 20, "{} blocks", other.blocks());
        let mut end = [0; 4];
        to.seek(SeekFrom::Start((64 << 20) - 1)).unwrap();
        to.read_exact(&mut end).unwrap();
        assert_eq!(&end, b"\0end");
        let given_up = copy_sparse(&from, &tempfile::tempfile().unwrap(), &|| false);
        assert!(given_up.is_err_and(|error| error.kind() == io::ErrorKind::Interrupted));
    }
}
