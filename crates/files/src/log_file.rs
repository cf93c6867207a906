//! A log file that does not grow without end. Runs in umlmon and umldir.

use std::fs::File;
use std::io::{self, Write};
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
        if gap > 0 {
            let text = format!("\r\n[{gap} bytes are missing here]\r\n");
            if self.file.write_all(text.as_bytes()).is_err() {
                self.lost = gap + data.len() as u64;
                return Ok(Appended::Lost);
            }
        }
        self.write(data)?;
        if self.limit > 0 && self.size >= self.limit {
            self.begin_anew().map_err(|error| {
                io::Error::new(error.kind(), format!("it cannot be begun anew: {error}"))
            })?;
        }
        Ok(match gap {
            0 => Appended::All,
            bytes => Appended::AllAfterGap(bytes),
        })
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
