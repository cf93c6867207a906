//! Passwords, asked for on the terminal without echo or read from a file. There is no other way: others can see the
//! command line and the environment. Runs in the clients.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use cli::{Exit, Failure};
use nix::sys::signal::Signal;
use rpc_xdr::auth::Key;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::signals::{self, Signals};

/// The longest password, in bytes: the longest line that a terminal gives.
const MAX: usize = 4095;

/// Asks on the terminal; None if nothing is typed before the line ends.
///
/// # Errors
/// If there is no terminal, or a signal came, which has had its usual effect then.
pub fn ask(prompt: &str) -> Result<Option<Key>, Failure> {
    let cannot = |error: io::Error| {
        Failure::new(
            Exit::NotAuthorised,
            format_args!(
                "there is no terminal to ask for the password: {error}; use -password-file FILE"
            ),
        )
    };
    let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or(0);
    let tty = File::options()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/tty")
        .map_err(cannot)?;
    let signals = Signals::hold()?;
    let quiet = Quiet::enter(&tty).map_err(cannot)?;
    (&tty).write_all(prompt.as_bytes()).map_err(cannot)?;
    let typed = type_in(&tty, &signals);
    drop(quiet);
    drop(signals);
    match typed.map_err(cannot)? {
        Typed::Line(line) if line.is_empty() => Ok(None),
        Typed::Line(line) => key(&line).map(Some),
        Typed::Signal(signal) => {
            // The line with the question has no end yet.
            let _ = (&tty).write_all(b"\n");
            signals::obey(signal)?;
            Err(Failure::new(Exit::Failed, "no password was given"))
        }
    }
}

/// The input from the terminal.
enum Typed {
    Line(Zeroizing<Vec<u8>>),
    Signal(Signal),
}

/// Reads a line, which can be edited on the terminal before it is complete.
fn type_in(tty: &File, signals: &Signals) -> io::Result<Typed> {
    let mut line = Zeroizing::new(vec![0; MAX + 1]);
    loop {
        let mut fds = [
            PollFd::new(tty, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_typed = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        match signals.next() {
            None | Some(Signal::SIGWINCH) => {}
            Some(signal) => return Ok(Typed::Signal(signal)),
        }
        if is_typed {
            let mut tty = tty;
            let read = tty.read(&mut line)?;
            line.truncate(read);
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            return Ok(Typed::Line(line));
        }
    }
}

/// A terminal that does not echo what is typed, except for ends of lines, until dropped.
struct Quiet<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn enter(tty: &'a File) -> io::Result<Quiet<'a>> {
        let before = tcgetattr(tty)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        // What was typed before the question is not meant as the answer.
        tcsetattr(tty, OptionalActions::Flush, &quiet)?;
        Ok(Quiet { tty, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(self.tty, OptionalActions::Now, &self.before);
    }
}

/// The first line of a file that no other user can read.
pub(crate) fn read(path: &Path) -> Result<Key, Failure> {
    let shown = path.display();
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format_args!("-password-file {shown}: {why}"))
    };
    let file = File::open(path).map_err(|e| refuse(&e))?;
    let found = file.metadata().map_err(|e| refuse(&e))?;
    // A pipe or the terminal is as good as a file.
    if found.is_dir() {
        return Err(refuse(&"it is a directory; name a file"));
    }
    let mode = found.mode();
    if mode & 0o077 != 0 {
        return Err(refuse(&format_args!(
            "others can read it; use 'chmod 600 {shown}'"
        )));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX + 2));
    let limit = u64::try_from(MAX).unwrap_or(u64::MAX) + 2;
    file.take(limit)
        .read_to_end(&mut text)
        .map_err(|e| refuse(&e))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.len() {
        0 => Err(refuse(&"there is no password in its first line")),
        n if n > MAX => Err(refuse(&"its first line is too long for a password")),
        _ => key(line).map_err(|failure| refuse(&failure)),
    }
}

fn key(line: &[u8]) -> Result<Key, Failure> {
    let text = std::str::from_utf8(line);
    text.map(Key::from_password)
        .map_err(|_| Failure::new(Exit::Failed, "the password is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn read_file(content: &[u8], mode: u32) -> Result<[u8; 16], String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let key = read(file.path());
        key.map(|key| *key.md5()).map_err(|failure| failure.message)
    }

    #[test]
    fn the_first_line_is_the_password() {
        let expected = *Key::from_password("a b").md5();
        for content in ["a b", "a b\n", "a b\r\n", "a b\nrest"] {
            assert_eq!(read_file(content.as_bytes(), 0o600), Ok(expected));
        }
        let longest = "x".repeat(MAX);
        assert_eq!(
            read_file(format!("{longest}\n").as_bytes(), 0o400),
            Ok(*Key::from_password(&longest).md5())
        );
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o644, 0o640, 0o604, 0o666] {
            let refused = read_file(b"abc\n", mode).unwrap_err();
            assert!(
                refused.contains("others can read it; use 'chmod 600"),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for (content, why) in [
            (&b""[..], "no password"),
            (b"\nabc", "no password"),
            (b"\xff\n", "UTF-8"),
            (&[b'x'; MAX + 1], "too long"),
        ] {
            let refused = read_file(content, 0o600).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let refused = read(Path::new("/does/not/exist")).unwrap_err();
        assert!(refused.message.contains("/does/not/exist"), "{refused}");
    }

    #[test]
    fn a_directory_is_no_password_file_whatever_its_mode() {
        let refused = read(Path::new("/tmp")).unwrap_err();
        assert_eq!(
            refused.message,
            "-password-file /tmp: it is a directory; name a file"
        );
    }
}
