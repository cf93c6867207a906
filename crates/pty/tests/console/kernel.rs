//! An unused virtual terminal of the kernel.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

use pty::Screen;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::termios::{
    OptionalActions, QueueSelector, Winsize, tcflush, tcgetattr, tcsetattr, tcsetwinsize,
};

/// Numbers of terminals that are hardly ever used.
const NUMBERS: std::ops::RangeInclusive<u32> = 40..=63;

/// What a reset leaves: colours of default, underlined and half-bright text, and the palette.
const RESET: &[u8] = b"\x1bc\x1b[0;37;40m\x1b[8]\x1b[1;6]\x1b[2;8]\x1b]R\x1bc";

/// The end of what selects the alternate screen.
const ALTERNATE: &[u8] = b"?1049h";

/// A virtual terminal, locked against other tests.
pub struct Kernel {
    terminal: File,
    /// /dev/vcsaN: glyphs and attributes.
    glyphs: File,
    /// /dev/vcsuN: characters.
    characters: File,
    rows: u16,
    columns: u16,
}

impl Kernel {
    /// A terminal of that size, or `None`, with a word about it, where there is none.
    pub fn new(rows: u16, columns: u16) -> Option<Self> {
        let mut refused = String::new();
        for number in NUMBERS {
            match Self::open(number) {
                Ok(Some(mut kernel)) => {
                    kernel.resize(rows, columns);
                    return Some(kernel);
                }
                Ok(None) => {}
                Err(error) => refused = format!("/dev/tty{number} and its memory: {error}"),
            }
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must have a virtual terminal: {refused}"
        );
        eprintln!("skipped: needs a virtual terminal of the kernel ({refused})");
        None
    }

    /// `None`: another test has it.
    fn open(number: u32) -> std::io::Result<Option<Self>> {
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed())
            .open(format!("/dev/tty{number}"))?;
        if flock(&terminal, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut settings = tcgetattr(&terminal)?;
        settings.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &settings)?;
        let mut kernel = Self {
            terminal,
            glyphs: File::open(format!("/dev/vcsa{number}"))?,
            characters: File::open(format!("/dev/vcsu{number}"))?,
            rows: 0,
            columns: 0,
        };
        kernel.reset();
        // From the first look at them on, the kernel remembers characters.
        kernel.characters.read_at(&mut [0; 4], 0)?;
        Ok(Some(kernel))
    }

    pub fn size(&self) -> (u16, u16) {
        (self.rows, self.columns)
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.terminal, size).unwrap();
        (self.rows, self.columns) = (rows, columns);
    }

    /// Makes it as good as new.
    pub fn reset(&mut self) {
        self.write(RESET);
        tcflush(&self.terminal, QueueSelector::IFlush).unwrap();
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(at) = rest.windows(ALTERNATE.len()).position(|w| w == ALTERNATE) {
            let (before, after) = rest.split_at(at + ALTERNATE.len());
            self.terminal.write_all(before).unwrap();
            // Of another screen it remembers the characters from the first look at them on, too. There is none while
            // UTF-8 is off.
            let _ = self.characters.read_at(&mut [0; 4], 0);
            rest = after;
        }
        self.terminal.write_all(rest).unwrap();
    }

    /// What it types back. That comes a moment later, so as much as `expected` is waited for.
    pub fn answers(&mut self, expected: usize) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut answers = Vec::new();
        while Instant::now() < deadline {
            let mut buffer = [0; 4096];
            if let Ok(read) = self.terminal.read(&mut buffer) {
                answers.extend_from_slice(&buffer[..read]);
            }
            if answers.len() >= expected {
                break;
            }
            std::thread::yield_now();
        }
        answers
    }

    fn cells(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    pub fn vcsa(&self) -> Vec<u8> {
        whole(&self.glyphs, 4 + 2 * self.cells()).unwrap()
    }

    pub fn vcsu(&mut self) -> Vec<u8> {
        let size = 4 * self.cells();
        match whole(&self.characters, size) {
            Ok(dump) => dump,
            Err(_) => {
                // It does not tell them while UTF-8 is off; this changes no cell.
                self.write(b"\x1b%G");
                whole(&self.characters, size).unwrap()
            }
        }
    }

    /// What is different in the model.
    pub fn compare(&mut self, screen: &Screen) -> Option<String> {
        let columns = usize::from(self.columns);
        let (theirs, ours) = (self.vcsa(), screen.vcsa());
        if theirs[..4] != ours[..4] {
            return Some(format!(
                "rows, columns, x, y: kernel {:?}, model {:?}",
                &theirs[..4],
                &ours[..4]
            ));
        }
        let cells = theirs[4..].chunks(2).zip(ours[4..].chunks(2)).enumerate();
        for (at, (theirs, ours)) in cells {
            if theirs != ours {
                return Some(format!(
                    "row {}, column {}: glyph and attribute: kernel {theirs:02x?}, model {ours:02x?}",
                    at / columns,
                    at % columns
                ));
            }
        }
        let (theirs, ours) = (self.vcsu(), screen.vcsu());
        let cells = theirs.chunks(4).zip(ours.chunks(4)).enumerate();
        for (at, (theirs, ours)) in cells {
            if theirs != ours {
                return Some(format!(
                    "row {}, column {}: character: kernel {theirs:02x?}, model {ours:02x?}",
                    at / columns,
                    at % columns
                ));
            }
        }
        (theirs.len() != ours.len()).then(|| "another number of characters".to_owned())
    }
}

fn whole(file: &File, size: usize) -> std::io::Result<Vec<u8>> {
    let mut dump = vec![0; size];
    file.read_exact_at(&mut dump, 0)?;
    Ok(dump)
}
