//! The state that a daemon inherits from its caller, corrected before anything else. Used by umlmon and umldir; signals
//! have been reset already, as in all programs (`cli::main`).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit, umask};

use crate::{Error, notify};

/// The limits that are removed, with their letters in the shell's `ulimit`. They would end the monitor, or make a
/// guest's disk hang.
const UNLIMITED: [(Resource, &str); 5] = [
    (Resource::Fsize, "-f"),
    (Resource::Cpu, "-t"),
    (Resource::As, "-v"),
    (Resource::Data, "-d"),
    (Resource::Rttime, "-R"),
];

/// The usual stack, in bytes. The layout of a kernel's memory depends on it.
const STACK: u64 = 8 << 20;

/// The least limits of open files: the soft and the hard one.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// The variables that systemd sets for a service.
const ENVIRONMENT: [&str; 3] = [notify::SOCKET, "JOURNAL_STREAM", "RUST_BACKTRACE"];

/// Resets what the caller has left: descriptors above the standard ones, limits, umask, environment. To be called
/// before the daemon opens anything.
///
/// # Errors
/// [`Error::NoProc`], because a daemon needs /proc for paths of descriptors; later failures without it would have
/// misleading messages. [`Error::Limit`].
pub fn start_up() -> Result<(), Error> {
    sys::close_inherited();
    if std::fs::read_link("/proc/self").is_err() {
        return Err(Error::NoProc);
    }
    sys::keep_environment(&ENVIRONMENT);
    // All modes that matter are set where a file is made; this is for others, such as parent directories.
    umask(Mode::WGRP | Mode::WOTH);
    for (resource, option) in UNLIMITED {
        if getrlimit(resource).current.is_some() {
            limit(resource, None, None).map_err(|source| Error::Limit { option, source })?;
        }
    }
    // A limit that is set later does not kill the daemon.
    sys::ignore_file_size_signal();
    limit_stack().map_err(|source| Error::Limit {
        option: "-s",
        source,
    })?;
    limit_open_files().map_err(|source| Error::Limit {
        option: "-n",
        source,
    })
}

fn limit(resource: Resource, current: Option<u64>, maximum: Option<u64>) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}

fn limit_stack() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Stack);
    if current == Some(STACK) {
        return Ok(());
    }
    limit(
        Resource::Stack,
        Some(STACK),
        maximum.map(|most| most.max(STACK)),
    )
}

fn limit_open_files() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (least, least_maximum) = OPEN_FILES;
    let current = current.map(|now| now.max(least));
    let raised = maximum.map(|most| most.max(least_maximum));
    // In some containers root may not raise the upper limit; the lower one is enough for most.
    limit(Resource::Nofile, current, raised).or_else(|_| limit(Resource::Nofile, current, maximum))
}

/// Makes the directory of the pid files, or makes sure that only this user can change what is in it: others could
/// exchange the lock of a daemon.
///
/// # Errors
/// [`Error::RunDirectory`].
pub fn run_directory(path: &Path) -> Result<(), Error> {
    let fail = |source| Error::RunDirectory {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(path).map_err(fail)?;
    let found = path.metadata().map_err(fail)?;
    if found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
        let path = path.display();
        return Err(fail(io::Error::other(format!(
            "others can change what is in it; use another one, or: chown root {path}; chmod go-w {path}"
        ))));
    }
    Ok(())
}
