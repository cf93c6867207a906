//! Reading a kernel's file, which may belong to any user, and whose content may take over who reads it: it is done by
//! this program executed anew, without privileges (umladmin, and that process).
//!
//! The file is opened here, as it may be in a directory that others cannot search. The process has it as its standard
//! input, says on its standard output what it has read, and can do nothing else.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use jail::{Features, Needs, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The argument that tells this process from umladmin as users call it.
const ARGUMENT: &str = "--look";
const NEEDS: &str = "needs";
const FEATURES: &str = "features";

/// How long it may take. Most of it is the time to read the file from its disk.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// The loader and the libraries of a program: where each was found, and where the program expects it.
///
/// # Errors
/// If the file cannot be read or understood, or a library is missing.
pub fn libraries(program: &Program) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let needs = |file: &File, path: &Path| ask(file, NEEDS, path).map_err(jail::Error::Reader);
    jail::libraries(program, &needs).map_err(|error| error.to_string())
}

/// Those of its libraries that are beside a kernel, and perhaps others. Without such a directory, nothing is looked at.
///
/// # Errors
/// As [`libraries`].
pub fn own_libraries(program: &Program) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    match program.beside().is_dir() {
        true => libraries(program),
        false => Ok(Vec::new()),
    }
}

/// What a kernel can do, by what is in its file.
///
/// # Errors
/// If the file cannot be read.
pub fn features(program: &Program, path: &Path) -> Result<Features, String> {
    ask(program.file(), FEATURES, path)
}

/// Has a process look at the file, which is at `path` in messages.
fn ask<T: DeserializeOwned>(file: &File, what: &str, path: &Path) -> Result<T, String> {
    let cannot = |why: &str| format!("cannot look at {}: {why}", path.display());
    let said = run(file, what, path).map_err(|error| cannot(&error.to_string()))?;
    let said: Result<T, String> = serde_json::from_slice(&said)
        .map_err(|_| cannot("the process that does it has not told anything sensible"))?;
    said
}

fn run(file: &File, what: &str, path: &Path) -> io::Result<Vec<u8>> {
    let mut child = Command::new("/proc/self/exe")
        .args([ARGUMENT, what])
        .arg(path)
        .env_clear()
        .current_dir("/")
        .stdin(file.try_clone()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let said = match child.stdout.take() {
        Some(pipe) => listen(pipe, Instant::now() + DEADLINE),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    // Nothing of it is left, whatever it does.
    let _ = child.kill();
    child.wait()?;
    said
}

/// All that comes until the other end is closed.
fn listen(mut pipe: impl io::Read + AsFd, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => {
                let seconds = DEADLINE.as_secs();
                let why = format!("it takes more than {seconds} seconds");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(Errno::INTR) => continue,
            ready => ready?,
        };
        let read = pipe.read(&mut piece)?;
        said.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 {
            return Ok(said);
        }
        if said.len() > MAX_ANSWER {
            return Err(io::Error::other("the answer is too long"));
        }
    }
}

/// Whether this process is the one that looks.
#[must_use]
pub fn is_looker() -> bool {
    crate::is_started_with(ARGUMENT)
}

/// The main function of that process. To be called before anything else.
#[must_use]
pub fn main() -> ExitCode {
    let answer = match jail::renounce() {
        Ok(()) => look(),
        Err(error) => json(Err::<(), _>(error.to_string())),
    };
    match io::stdout().write_all(&answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn look() -> Vec<u8> {
    let mut args = std::env::args_os().skip(2);
    let what = args.next().unwrap_or_default();
    let path = PathBuf::from(args.next().unwrap_or_default());
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    // Another look may have moved the position.
    let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let file = match file.and_then(|mut file| file.rewind().map(|()| file)) {
        Ok(file) => file,
        Err(error) => return json(Err::<(), _>(cannot(error))),
    };
    match what.to_str() {
        Some(NEEDS) => json(Needs::read(&file, &path).map_err(|error| error.to_string())),
        Some(FEATURES) => json(Features::of(&file).map_err(cannot)),
        _ => json(Err::<(), _>("there is nothing to look for".to_owned())),
    }
}

fn json<T: Serialize>(answer: Result<T, String>) -> Vec<u8> {
    serde_json::to_vec(&answer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_length_and_a_deadline() {
        let (reader, writer) = io::pipe().unwrap();
        let writing = std::thread::spawn(move || {
            let mut writer = writer;
            while writer.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let soon = Instant::now() + Duration::from_secs(60);
        let said = listen(reader, soon).unwrap_err();
        assert!(said.to_string().contains("too long"), "{said}");
        writing.join().unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        let said = listen(reader, Instant::now()).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::TimedOut);
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        assert_eq!(listen(reader, soon).unwrap(), b"");
    }
}
