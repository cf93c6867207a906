//! A file or a tree on standard input or output, for clients that copy it (umlguest, in a process of its own).

use std::ffi::OsStr;
use std::io::{BufReader, BufWriter, Write as _, stderr, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use file_stream::{Progress, Target};
use rustix::fs::Mode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How much is read or written at once.
const BUFFER: usize = 64 << 10;

/// Writes what is at the path to standard output.
///
/// # Errors
/// If it cannot be read, or nobody reads the output.
pub(crate) fn send(source: &OsStr) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, stdout().lock());
    file_stream::send(Path::new(source), &mut out, &mut |progress| {
        if let Progress::LeftOut(path) = progress {
            let path = path.display();
            let _ = writeln!(
                stderr(),
                "{path} is left out: it is neither file, directory nor link"
            );
        }
    })?;
    Ok(())
}

/// Makes files of what is on standard input.
///
/// # Errors
/// If they cannot be written, or the input ends too early; then nothing is left.
pub(crate) fn receive(to: &OsStr, name: Option<&OsStr>) -> anyhow::Result<()> {
    // When the client leaves, the input ends, and what was begun is removed.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::<AtomicBool>::default())?;
    }
    // The permissions are to be those of the other side.
    rustix::process::umask(Mode::empty());
    let target = Target::at(Path::new(to), name)?;
    let mut input = BufReader::with_capacity(BUFFER, stdin().lock());
    file_stream::receive(&mut input, target, 0, &mut |_| ())?;
    Ok(())
}
