//! The log file of a channel. Used by the umlmon daemon.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use config::LogName;
use files::{Appended, LogDir, LogEnd, LogFile};

use crate::lines::last_lines;
use crate::{Chunk, Error};

/// How far back the last lines are searched, in bytes; a request for more lines gets fewer.
const TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// How a log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStyle {
    /// The size in bytes at which the file is renamed to [`files::OLD`], and a new one is begun; 0: never.
    pub limit: u64,
    /// Each line begins with the time.
    pub timestamps: bool,
}

/// Where a piece is about to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intent {
    /// Where the file ends.
    pub end: LogEnd,
    /// The piece begins a line.
    pub line_start: bool,
}

/// A file that a channel is copied to, byte by byte.
#[derive(Debug)]
pub struct Log {
    file: LogFile,
    timestamps: bool,
    /// The next byte is the first one of a line.
    line_start: bool,
}

impl Log {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`Error::Log`] if it cannot be opened or is not a regular file of our own with one name.
    pub fn open(dir: &LogDir, name: &LogName, style: LogStyle) -> Result<Self, Error> {
        let opened = LogFile::open(dir.clone(), name.as_ref(), style.limit);
        let file = opened.map_err(|source| Error::Log {
            what: "open",
            path: dir.path().join(name.as_str()),
            source,
        })?;
        Ok(Self {
            file,
            timestamps: style.timestamps,
            line_start: true,
        })
    }

    /// Opens the file of that name anew, after a log rotation. What was written before is in the old file, what comes
    /// is in the new one; if there is an error the old one stays in use.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn reopen(&mut self) -> Result<(), Error> {
        self.file.reopen().map_err(|e| self.cannot("open", e))
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

    /// Appends. An error does not affect the channel: it is logged once, and the log continues as soon as possible.
    pub(crate) fn append(&mut self, data: &[u8]) {
        match self.timestamps {
            true => {
                let stamped = self.stamped(data);
                self.write(&stamped);
            }
            false => self.write(data),
        }
    }

    /// Where the next piece is going to be appended; None: that cannot be seen.
    pub(crate) fn intent(&self) -> Option<Intent> {
        Some(Intent {
            end: self.file.end().ok()?,
            line_start: self.line_start,
        })
    }

    /// Appends what is not there yet of a piece that a former monitor was about to append. Times in it are those of
    /// now; each is as long as any other.
    pub(crate) fn append_rest(&mut self, intent: &Intent, data: &[u8]) {
        self.line_start = intent.line_start;
        let stamped;
        let data = match self.timestamps {
            true => {
                stamped = self.stamped(data);
                &stamped
            }
            false => data,
        };
        let result = self.file.append_rest(&intent.end, data);
        self.tell(result);
    }

    /// Where it ends, if bytes are missing there of which the log does not tell yet.
    pub(crate) fn gap(&self) -> Option<Intent> {
        self.file.has_gap().then(|| self.intent())?
    }

    /// Goes on within a line, or at the beginning of one.
    pub(crate) fn begins_line(&mut self, begins: bool) {
        self.line_start = begins;
    }

    /// The bytes with the time before each line.
    fn stamped(&mut self, data: &[u8]) -> Vec<u8> {
        let now = format!("{} ", humantime::format_rfc3339_seconds(SystemTime::now()));
        let mut stamped = Vec::with_capacity(data.len() + now.len());
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if self.line_start {
                stamped.extend_from_slice(now.as_bytes());
            }
            stamped.extend_from_slice(piece);
            self.line_start = piece.ends_with(b"\n");
        }
        stamped
    }

    fn write(&mut self, data: &[u8]) {
        let result = self.file.append(data);
        self.tell(result);
    }

    fn tell(&self, result: io::Result<Appended>) {
        let file = self.file.path();
        let file = file.display();
        match result {
            Ok(Appended::AllAfterGap(lost)) => {
                tracing::info!(%file, lost, "log file can be written again");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%file, %error, "cannot write the log file"),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.file().metadata()?.len())
    }

    fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; max];
        let read = self.file.file().read_at(&mut data, offset)?;
        data.truncate(read);
        Ok(data)
    }

    fn cannot_read(&self, source: io::Error) -> Error {
        self.cannot("read", source)
    }

    fn cannot(&self, what: &'static str, source: io::Error) -> Error {
        Error::Log {
            what,
            path: self.file.path(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &std::path::Path, style: LogStyle) -> Log {
        let logs = LogDir::open(dir).unwrap();
        Log::open(&logs, &"con0".parse().unwrap(), style).unwrap()
    }

    #[test]
    fn a_log_that_has_reached_its_limit_is_kept_beside_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let style = LogStyle {
            limit: 100,
            timestamps: false,
        };
        let mut log = open(dir.path(), style);
        let mut all = Vec::new();
        for n in 0..63 {
            let line = format!("line {n:03}\r\n");
            log.append(line.as_bytes());
            all.extend_from_slice(line.as_bytes());
        }
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let kept = [read("con0~"), read("con0")].concat();
        assert!(
            kept.len() > 100 && all.ends_with(&kept),
            "no byte is lost between the two"
        );
        assert!(read("con0").len() < 100 && read("con0~").len() < 200);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_goes_on_in_the_directory_that_is_there_now() {
        let parent = tempfile::tempdir().unwrap();
        let (dir, gone) = (parent.path().join("log"), parent.path().join("gone"));
        let new = || std::fs::create_dir(&dir).unwrap();
        let there = |dir: &std::path::Path| std::fs::read_to_string(dir.join("con0")).unwrap();
        new();
        let style = LogStyle {
            limit: 10,
            timestamps: false,
        };
        let mut log = open(&dir, style);
        log.append(b"one ");
        std::fs::rename(&dir, &gone).unwrap();
        assert!(log.reopen().is_err());
        log.append(b"two ");
        new();
        log.reopen().unwrap();
        log.append(b"three ");
        assert_eq!(
            (there(&gone), there(&dir)),
            ("one two ".into(), "three ".into())
        );
        // Nor does a log stay in a file that has been deleted, once that is as long as it may be.
        std::fs::remove_file(dir.join("con0")).unwrap();
        log.append(b"deleted");
        log.append(b"four");
        assert_eq!(there(&dir), "four");
    }

    #[test]
    fn lines_begin_with_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let style = LogStyle {
            limit: 0,
            timestamps: true,
        };
        let mut log = open(dir.path(), style);
        for piece in ["one\r", "\ntw", "o\nthr", "ee"] {
            log.append(piece.as_bytes());
        }
        let text = std::fs::read_to_string(dir.path().join("con0")).unwrap();
        let lines = text.lines().map(|line| line.split_once("Z ").unwrap());
        let lines: Vec<_> = lines.collect();
        assert!(
            lines
                .iter()
                .all(|(time, _)| time.len() == "2026-11-24T03:00:00".len())
        );
        assert_eq!(
            lines.iter().map(|(_, said)| *said).collect::<Vec<_>>(),
            ["one", "two", "three"]
        );
    }

    #[test]
    fn the_last_lines_of_a_long_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), LogStyle::default());
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
