//! The log file of a channel. Used by the umlmon daemon.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

use config::LogName;
use sys::append::LogDir;

use crate::lines::last_lines;
use crate::{Chunk, Error};

/// How far back the last lines are looked for, in bytes: whoever asks for a million lines gets these.
const TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// A file that a channel is copied to, byte by byte.
#[derive(Debug)]
pub struct Log {
    dir: Rc<LogDir>,
    name: LogName,
    file: File,
    /// Bytes that could not be written since the last one that could.
    lost: u64,
}

impl Log {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`Error::Log`] if it cannot be opened or is not a regular file of our own with one name.
    pub fn open(dir: Rc<LogDir>, name: LogName) -> Result<Self, Error> {
        let file = dir.append(name.as_ref()).map_err(|source| Error::Log {
            what: "open",
            path: dir.path().join(name.to_string()),
            source,
        })?;
        Ok(Self {
            dir,
            name,
            file,
            lost: 0,
        })
    }

    /// Opens the file of that name anew, after a log rotation. What was written before is in the old file, what comes
    /// is in the new one; if there is an error the old one stays in use.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn reopen(&mut self) -> Result<(), Error> {
        self.file = Self::open(self.dir.clone(), self.name.clone())?.file;
        Ok(())
    }

    /// Where the last `lines` lines are, as offsets in the file. Looks back 4 MiB at most.
    ///
    /// # Errors
    /// [`Error::Log`] if the file cannot be read.
    pub fn tail(&self, lines: u32) -> Result<Range<u64>, Error> {
        let end = self.size().map_err(|e| self.cannot_read(e))?;
        let start = end.saturating_sub(TAIL_BYTES);
        let read = |from, to| self.read_at(from, usize::try_from(to - from).unwrap_or(0));
        let start = last_lines(start, end, lines, read).map_err(|e| self.cannot_read(e))?;
        Ok(start..end)
    }

    /// Reads at most `max` bytes from an offset in the file; from its beginning if the file is shorter than that, as
    /// it has been rotated then.
    ///
    /// # Errors
    /// [`Error::Log`] if the file cannot be read.
    pub fn read(&self, offset: u64, max: usize) -> Result<Chunk, Error> {
        let size = self.size().map_err(|e| self.cannot_read(e))?;
        let offset = if offset > size { 0 } else { offset };
        let there = usize::try_from(size - offset).unwrap_or(usize::MAX);
        let data = self
            .read_at(offset, max.min(there))
            .map_err(|e| self.cannot_read(e))?;
        Ok(Chunk { offset, data })
    }

    /// Appends. An error is not the channel's problem: it is reported once, what cannot be written is counted, and the
    /// log goes on, with a line that tells how much is missing, as soon as it can be written again.
    pub(crate) fn append(&mut self, data: &[u8]) {
        if self.lost > 0 {
            let gap = format!("\r\n[{} bytes are missing here]\r\n", self.lost);
            if self.file.write_all(gap.as_bytes()).is_err() {
                self.lost += data.len() as u64;
                return;
            }
            tracing::info!(file = %self.path().display(), lost = self.lost, "log file can be written again");
            self.lost = 0;
        }
        let mut rest = data;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(file = %self.path().display(), %error, "cannot write the log file");
                    self.lost = rest.len() as u64;
                    return;
                }
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(self.name.to_string())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; max];
        let read = self.file.read_at(&mut data, offset)?;
        data.truncate(read);
        Ok(data)
    }

    fn cannot_read(&self, source: io::Error) -> Error {
        Error::Log {
            what: "read",
            path: self.path(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_leaves_a_visible_gap() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Rc::new(LogDir::open(dir.path()).unwrap());
        let mut log = Log::open(logs, "con0".parse().unwrap()).unwrap();
        log.append(b"before");
        log.file = File::options().append(true).open("/dev/full").unwrap();
        log.append(b"lost");
        log.append(b"lost too");
        log.reopen().unwrap();
        log.append(b"after");
        let text = std::fs::read_to_string(dir.path().join("con0")).unwrap();
        assert_eq!(text, "before\r\n[12 bytes are missing here]\r\nafter");
    }

    #[test]
    fn the_last_lines_of_a_long_file() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Rc::new(LogDir::open(dir.path()).unwrap());
        let mut log = Log::open(logs, "con0".parse().unwrap()).unwrap();
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        log.append(text.as_bytes());
        for lines in [1, 2, 1000, 99_999, 100_000] {
            let at = usize::try_from(log.tail(lines).unwrap().start).unwrap();
            assert!(text[at..].starts_with(&format!("line {}\n", 100_000 - lines)));
        }
        assert_eq!(log.tail(u32::MAX).unwrap(), 0..text.len() as u64);
        log.append(&vec![b'x'; 5 << 20]);
        let range = log.tail(1).unwrap();
        assert_eq!(range.end - range.start, TAIL_BYTES);
    }
}
