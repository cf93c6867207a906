//! The log of a daemon: one line per event. Used by the daemons.
//!
//! The daemons need no more of `tracing` than this: it is small because a host may run a thousand monitors.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use config::LogName;
use files::{LogDir, LogFile};
use humantime::format_rfc3339_seconds;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::Error;

/// Where the lines go; both may be given, or neither.
#[derive(Debug, Default)]
pub struct LogTo {
    /// A file, appended to.
    pub file: Option<(LogDir, LogName)>,
    /// Its size in bytes at which it is kept under another name (`files::OLD`), and a new one is begun; 0: never.
    pub limit: u64,
    /// Standard error, too: for a daemon in the foreground.
    pub stderr: bool,
}

/// The log that is in effect; for the rotation.
#[derive(Debug, Clone)]
pub struct LogHandle(Arc<Log>);

#[derive(Debug)]
struct Log {
    /// The prefix of each message, for example the name of the VM.
    name: String,
    to: LogTo,
    /// Standard error is the journal, which adds the time itself and gets the level as a prefix.
    journal: bool,
    file: Mutex<Option<LogFile>>,
}

impl LogHandle {
    /// Sets up the log of this process: each event of level info and above becomes a line
    /// `2026-11-24T03:00:00Z INFO vm1: message key=value`, and `<6>vm1: message key=value` on a standard error that is
    /// connected with the journal of systemd (see sd-daemon(3)).
    ///
    /// # Errors
    /// [`Error::Log`] if the file cannot be opened or must not be used; [`Error::LogTwice`].
    pub fn init(name: &str, to: LogTo) -> Result<Self, Error> {
        let log = Arc::new(Log {
            name: name.to_owned(),
            file: Mutex::new(to.open()?),
            journal: is_journal(
                std::env::var("JOURNAL_STREAM").ok().as_deref(),
                rustix::stdio::stderr(),
            ),
            to,
        });
        let handle = Self(log.clone());
        tracing::subscriber::set_global_default(Lines(log)).map_err(|_| Error::LogTwice)?;
        Ok(handle)
    }

    /// Opens the log file anew, after a log rotation. No line is lost: each is written to the old or to the new file.
    ///
    /// # Errors
    /// [`Error::Log`]; the old file stays in use.
    pub fn reopen(&self) -> Result<(), Error> {
        let new = self.0.to.open()?;
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl LogTo {
    fn open(&self) -> Result<Option<LogFile>, Error> {
        let Some((dir, name)) = &self.file else {
            return Ok(None);
        };
        match LogFile::open(dir.clone(), name.as_ref(), self.limit) {
            Ok(file) => Ok(Some(file)),
            Err(source) => Err(Error::Log {
                path: dir.path().join(name.to_string()),
                source,
            }),
        }
    }
}

/// The subscriber of all events. The daemons use no spans: an event has its subject in its fields.
struct Lines(Arc<Log>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let text = text(&self.0.name, event);
        let level = *event.metadata().level();
        let line = format!(
            "{} {level} {text}",
            format_rfc3339_seconds(SystemTime::now())
        );
        // An error cannot be reported here, and none is a reason to stop.
        if let Some(file) = &mut *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = file.append(line.as_bytes());
        }
        if self.0.to.stderr {
            let line = match self.0.journal {
                true => format!("<{}>{text}", priority(level)),
                false => line,
            };
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Whether this is the stream that systemd has connected with the journal: `JOURNAL_STREAM` is its device and inode.
/// False for a program that has inherited the variable, but not the stream.
fn is_journal(variable: Option<&str>, stream: impl AsFd) -> bool {
    let told = variable.and_then(|variable| variable.split_once(':'));
    let Some((device, inode)) = told else {
        return false;
    };
    let same = |told: &str, is: u64| told.parse() == Ok(is);
    rustix::fs::fstat(stream).is_ok_and(|is| same(device, is.st_dev) && same(inode, is.st_ino))
}

/// The levels of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The line without time and level.
fn text(name: &str, event: &Event<'_>) -> String {
    let mut line = format!("{name}:");
    let mut fields = Fields::default();
    event.record(&mut fields);
    line.push_str(&fields.message);
    line.push_str(&fields.others);
    line.push('\n');
    line
}

/// Collects ` message` and ` key=value ..`; hostile text stays on its line and cannot contain control sequences.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.value(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        self.value(field, &error.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message.push(' ');
            let _ = write!(Escape(&mut self.message), "{value:?}");
        } else {
            self.value(field, &format!("{value:?}"));
        }
    }
}

impl Fields {
    /// A value is quoted unless it is one plain word, so that it cannot look like another `key=value`.
    fn value(&mut self, field: &Field, value: &str) {
        let quote = value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"');
        let _ = write!(self.others, " {}=", field.name());
        if quote {
            let _ = write!(
                Escape(&mut self.others),
                "\"{}\"",
                value.replace('"', "\\\"")
            );
        } else {
            let _ = Escape(&mut self.others).write_str(value);
        }
    }
}

/// Writes control characters and invisible ones as escapes.
struct Escape<'a>(&'a mut String);

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if config::is_printable(c) {
                self.0.push(c);
            } else {
                self.0.extend(c.escape_default());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn lines(dir: &Path) -> (LogHandle, Lines) {
        let file = (LogDir::open(dir).unwrap(), "monitor".parse().unwrap());
        let to = LogTo {
            file: Some(file),
            limit: 1000,
            stderr: false,
        };
        let log = Arc::new(Log {
            name: "vm1".to_owned(),
            file: Mutex::new(to.open().unwrap()),
            journal: false,
            to,
        });
        (LogHandle(log.clone()), Lines(log))
    }

    /// The lines of a file without their times.
    fn written(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let strip = |line: &str| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert_eq!(time.len(), "2026-11-24T03:00:00Z".len());
            rest.to_owned()
        };
        text.lines().map(strip).collect()
    }

    #[test]
    fn one_harmless_line_per_event() {
        let dir = tempfile::tempdir().unwrap();
        tracing::subscriber::with_default(lines(dir.path()).1, || {
            let guest = "panic\n2026 INFO vm2: fake\x1b]0;x\x07 \u{202e}\u{9b}";
            tracing::info!(pid = 4711, kernel = "/shared/linux", "running");
            tracing::warn!(text = guest, "kernel {guest}");
            tracing::error!(empty = "", quote = "a\"b", error = %"no space", "x");
            tracing::debug!("not shown");
        });
        assert_eq!(
            written(&dir.path().join("monitor")),
            [
                "INFO vm1: running pid=4711 kernel=/shared/linux",
                "WARN vm1: kernel panic\\n2026 INFO vm2: fake\\u{1b}]0;x\\u{7} \\u{202e}\\u{9b} \
                 text=\"panic\\n2026 INFO vm2: fake\\u{1b}]0;x\\u{7} \\u{202e}\\u{9b}\"",
                "ERROR vm1: x empty=\"\" quote=\"a\\\"b\" error=\"no space\"",
            ]
        );
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        let is = file.metadata().unwrap();
        let stream = format!("{}:{}", is.dev(), is.ino());
        assert!(is_journal(Some(&stream), &file));
        assert!(!is_journal(
            Some(&format!("{}:{}", is.dev(), is.ino() + 1)),
            &file
        ));
        assert!(!is_journal(Some("nonsense"), &file) && !is_journal(None, &file));
        assert!([Level::ERROR, Level::WARN, Level::INFO].map(priority) == [3, 4, 6]);
    }

    #[test]
    fn many_lines_are_two_short_files() {
        let dir = tempfile::tempdir().unwrap();
        tracing::subscriber::with_default(lines(dir.path()).1, || {
            (0..1000).for_each(|n| tracing::info!(n, "line"));
        });
        let files = ["monitor~", "monitor"].map(|name| dir.path().join(name));
        let kept: Vec<_> = files.iter().flat_map(|file| written(file)).collect();
        let lines = (1000 - kept.len()..1000).map(|n| format!("INFO vm1: line n={n}"));
        assert!(kept.iter().cloned().eq(lines), "{kept:?}");
        let sizes = files.map(|file| file.metadata().unwrap().len());
        assert!(sizes[0] < 1100 && sizes[1] < 1000, "{sizes:?}");
    }

    #[test]
    fn rotation_loses_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("monitor"), dir.path().join("monitor.1"));
        let (handle, lines) = lines(dir.path());
        tracing::subscriber::with_default(lines, || {
            tracing::info!("one");
            std::fs::rename(&new, &old).unwrap();
            tracing::info!("two");
            handle.reopen().unwrap();
            tracing::info!("three");
            std::fs::remove_file(&new).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", &new).unwrap();
            assert!(handle.reopen().is_err());
            tracing::info!("four");
            std::fs::remove_file(&new).unwrap();
            handle.reopen().unwrap();
            tracing::info!("five");
        });
        assert_eq!(written(&old), ["INFO vm1: one", "INFO vm1: two"]);
        assert_eq!(written(&new), ["INFO vm1: five"]);
    }
}
