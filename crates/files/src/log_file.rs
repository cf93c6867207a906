//! A log file that does not grow without end. Runs in umlmon and umldir.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::LogDir;

/// The suffix of the name of a log that has reached its limit. No log can be configured under such a name.
pub const OLD: char = '~';

/// A file that is appended to, and kept under another name in place of the one before when it is as long as it may be.
#[derive(Debug)]
pub struct LogFile {
    dir: LogDir,
    name: String,
    /// The size in bytes at which the file is renamed to [`OLD`], and a new one is begun; 0: never.
    limit: u64,
    file: File,
    /// Bytes in the file.
    size: u64,
    /// Bytes that could not be written since the last one that could.
    lost: u64,
}

/// What has become of bytes that were to be appended without an error.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// They were written.
    All,
    /// They were written, after a line about the number of bytes before them that could not be.
    AllAfterGap(u64),
    /// They were not, like others before.
    Lost,
}

/// Where a log ends: what must be known to append a piece once only, although the process may end meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Device and inode of the file.
    pub file: (u64, u64),
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that could not be written since the last one that could.
    pub lost: u64,
}

impl LogFile {
    /// Opens or creates the file. `limit` is its size in bytes at which a new one is begun; 0: never.
    ///
    /// # Errors
    /// As [`LogDir::append`].
    pub fn open(dir: LogDir, name: &str, limit: u64) -> io::Result<Self> {
        let file = dir.append(name)?;
        Ok(Self {
            size: file.metadata()?.len(),
            name: name.to_owned(),
            dir,
            limit,
            file,
            lost: 0,
        })
    }

    /// Opens the file of that name anew, after a log rotation. What was written before is in the old file, what comes
    /// is in the new one.
    ///
    /// # Errors
    /// As [`LogFile::open`]; the old file stays in use.
    pub fn reopen(&mut self) -> io::Result<()> {
        let lost = self.lost;
        *self = Self::open(self.dir.clone(), &self.name, self.limit)?;
        self.lost = lost;
        Ok(())
    }

    /// Appends. An error is returned once: what cannot be written after it is counted, and the log continues, with a
    /// line that says how much is missing, as soon as it can be written again.
    ///
    /// # Errors
    /// That of write(2), or of [`LogDir::rename`] and [`LogFile::open`] if a new file cannot be begun; the old one
    /// stays in use then, until as much has been written once more.
    pub fn append(&mut self, data: &[u8]) -> io::Result<Appended> {
        let gap = std::mem::take(&mut self.lost);
        if self.file.write_all(gap_text(gap).as_bytes()).is_err() {
            self.lost = gap.saturating_add(data.len() as u64);
            return Ok(Appended::Lost);
        }
        self.write(data)?;
        Ok(match gap {
            0 => Appended::All,
            bytes => Appended::AllAfterGap(bytes),
        })
    }

    /// Where it ends.
    ///
    /// # Errors
    /// That of fstat(2).
    pub fn end(&self) -> io::Result<LogEnd> {
        let stat = self.file.metadata()?;
        Ok(LogEnd {
            file: (stat.dev(), stat.ino()),
            size: stat.len(),
            lost: self.lost,
        })
    }

    /// Appends what a process that has ended wanted to append when the log ended at `was`, and may have appended in
    /// part or as a whole: only the rest. If the file has got another name in its directory meanwhile, the rest is
    /// appended there; if it is not there any more, all is appended here.
    ///
    /// # Errors
    /// As [`LogFile::append`].
    pub fn append_rest(&mut self, was: &LogEnd, data: &[u8]) -> io::Result<Appended> {
        if self.end()?.file == was.file {
            return self.append_rest_here(was, data);
        }
        let Some(mut renamed) = self.renamed(was.file)? else {
            self.lost = was.lost;
            return self.append(data);
        };
        let appended = renamed.append_rest_here(was, data);
        self.lost = renamed.lost;
        appended
    }

    fn append_rest_here(&mut self, was: &LogEnd, data: &[u8]) -> io::Result<Appended> {
        let whole = [gap_text(was.lost).as_bytes(), data].concat();
        // A shorter file has been truncated by somebody else.
        let there = self.file.metadata()?.len().saturating_sub(was.size);
        let there = usize::try_from(there).unwrap_or(usize::MAX);
        self.lost = 0;
        let written = self.write(whole.get(there..).unwrap_or_default());
        if written.is_err() {
            let lost = self.lost.min(data.len() as u64);
            self.lost = was.lost.saturating_add(lost);
        }
        written.map(|()| Appended::All)
    }

    /// Whether the last bytes could not be written.
    pub fn has_gap(&self) -> bool {
        self.lost > 0
    }

    /// The file of the directory that is this one by device and inode, to be finished under the name that it has now:
    /// one that a rotation gives.
    fn renamed(&self, file: (u64, u64)) -> io::Result<Option<Self>> {
        for (name, _) in self.dir.files()? {
            let added = name.strip_prefix(&self.name).unwrap_or_default();
            let rotated = added.starts_with([OLD, '.', '-']);
            if rotated && self.dir.identity(&name).is_ok_and(|there| there == file) {
                return Self::open(self.dir.clone(), &name, 0).map(Some);
            }
        }
        Ok(None)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(n) => {
                    self.size += n as u64;
                    rest = rest.get(n..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lost = rest.len() as u64;
                    return Err(error);
                }
            }
        }
        if self.limit > 0 && self.size >= self.limit {
            self.begin_anew().map_err(|error| {
                io::Error::new(error.kind(), format!("it cannot be begun anew: {error}"))
            })?;
        }
        Ok(())
    }

    /// The file is kept under its other name, in place of the one before, and a new one is begun.
    fn begin_anew(&mut self) -> io::Result<()> {
        self.size = 0;
        let old = format!("{}{OLD}", self.name);
        match self.dir.rename(&self.name, &old) {
            // It has been deleted, or the directory is another one now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        self.reopen()
    }

    /// The file that is in use, for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }
}

/// What is written where bytes are missing.
fn gap_text(lost: u64) -> String {
    match lost {
        0 => String::new(),
        bytes => format!("\r\n[{bytes} bytes are missing here]\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_leaves_a_visible_gap() {
        let parent = tempfile::tempdir().unwrap();
        let dir = LogDir::open(parent.path()).unwrap();
        let mut log = LogFile::open(dir, "log", 0).unwrap();
        assert_eq!(log.append(b"before").unwrap(), Appended::All);
        log.file = File::options().append(true).open("/dev/full").unwrap();
        log.append(b"lost").unwrap_err();
        assert_eq!(log.append(b"lost too").unwrap(), Appended::Lost);
        log.reopen().unwrap();
        assert_eq!(log.append(b"after").unwrap(), Appended::AllAfterGap(12));
        let text = std::fs::read_to_string(parent.path().join("log")).unwrap();
        assert_eq!(text, "before\r\n[12 bytes are missing here]\r\nafter");
    }

    /// A process ends after any number of bytes of a piece, with the file renamed or not: it is there once.
    #[test]
    fn what_was_cut_off_is_finished_once() {
        for (written, lost) in (0..=5).flat_map(|n| [(n, 0), (n, 7)]) {
            let parent = tempfile::tempdir().unwrap();
            let dir = LogDir::open(parent.path()).unwrap();
            let open = || LogFile::open(dir.clone(), "log", 0).unwrap();
            let read = |name| std::fs::read_to_string(parent.path().join(name)).unwrap();
            let mut log = open();
            log.append(b"before ").unwrap();
            log.lost = lost;
            let was = log.end().unwrap();
            let whole = [&gap_text(lost), "piece"].concat();
            log.file.write_all(&whole.as_bytes()[..written]).unwrap();
            open().append_rest(&was, b"piece").unwrap();
            assert_eq!(read("log"), format!("before {whole}"));
            // Once more, as the process that does this may end, too; and after a rotation.
            open().append_rest(&was, b"piece").unwrap();
            assert_eq!(read("log"), format!("before {whole}"));
            std::fs::rename(parent.path().join("log"), parent.path().join("log.1")).unwrap();
            log.file.set_len(was.size + written as u64).unwrap();
            open().append_rest(&was, b"piece").unwrap();
            assert_eq!(
                (read("log.1"), read("log")),
                (format!("before {whole}"), String::new())
            );
            // It is gone, or was truncated.
            std::fs::remove_file(parent.path().join("log.1")).unwrap();
            open().append_rest(&was, b"piece").unwrap();
            assert_eq!(read("log"), whole);
            let long = LogEnd {
                size: 1 << 40,
                ..open().end().unwrap()
            };
            open().append_rest(&long, b"!").unwrap();
            assert_eq!(read("log"), whole + "!");
        }
    }

    #[test]
    fn what_cannot_be_renamed_goes_on() {
        let parent = tempfile::tempdir().unwrap();
        let dir = LogDir::open(parent.path()).unwrap();
        let mut log = LogFile::open(dir, "log", 4).unwrap();
        std::fs::create_dir(parent.path().join("log~")).unwrap();
        let mut write = |text: &str| log.append(text.as_bytes()).is_ok();
        assert!(!write("one ") && write("tw") && !write("o ") && write("4"));
        let there = std::fs::read_to_string(parent.path().join("log")).unwrap();
        assert_eq!(there, "one two 4");
    }
}
