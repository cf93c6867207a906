//! Copies of large files, such as images of disks: they share blocks with the original where the file system can do
//! that, and else have the same holes. Runs in umladmin.

use std::fs::{File, FileTimes};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use rustix::fs::{SeekFrom as Offset, ioctl_ficlone, seek};
use rustix::io::Errno;

/// How much is copied before it is looked again whether to go on, in bytes.
const PIECE: usize = 1 << 20;

/// Copies content, length and time of modification into a file that is empty. It is given up when `goes_on` becomes
/// false.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`]; those of read(2) and write(2).
pub fn copy_sparse(from: &File, to: &File, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    let original = from.metadata()?;
    if ioctl_ficlone(to, from).is_err() {
        to.set_len(original.len())?;
        copy_data(from, to, original.len(), goes_on)?;
    }
    to.set_times(FileTimes::new().set_modified(original.modified()?))
}

fn copy_data(
    mut from: &File,
    mut to: &File,
    length: u64,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut end = 0;
    while end < length {
        let begin = match seek(from, Offset::Data(end)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        end = seek(from, Offset::Hole(begin))?;
        from.seek(SeekFrom::Start(begin))?;
        to.seek(SeekFrom::Start(begin))?;
        let mut left = from.take(end.saturating_sub(begin));
        loop {
            if !goes_on() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
            }
            let read = left.read(&mut piece)?;
            if read == 0 {
                break;
            }
            to.write_all(piece.get(..read).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Reads a whole file. Holes are given as zeros without being read: the pages of the host's memory that they would take
/// cost more than what is done with them.
///
/// # Errors
/// Those of lseek(2), read(2) and `visit`.
pub fn read_sparse(
    mut file: &File,
    visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let length = file.metadata()?.len();
    let zeros = vec![0; PIECE];
    let mut piece = zeros.clone();
    let mut at = 0;
    while at < length {
        let data = match seek(file, Offset::Data(at)) {
            Err(Errno::NXIO) => length,
            found => found?,
        };
        while at < data {
            let zeros = zeros.get(..usize::try_from(data - at).unwrap_or(PIECE).min(PIECE));
            let zeros = zeros.unwrap_or_default();
            visit(zeros)?;
            at += zeros.len() as u64;
        }
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
            visit(piece.get(..read).unwrap_or_default())?;
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
