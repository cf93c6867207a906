//! What the guest knows of a container while it runs: a directory in `/run/umlguest/containers` with the number of its
//! first process, and the place where its root directory is mounted (umlguest).

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::group;

/// Where all are.
const ALL: &str = "/run/umlguest/containers";
/// The file with the number, which the parent of a container has locked.
const PID: &str = "pid";

/// The directory of a container. It is removed when this is dropped.
pub(super) struct Entry {
    directory: PathBuf,
    pid: File,
}

impl Entry {
    /// Makes the directory.
    ///
    /// # Errors
    /// If there is a container of this identifier.
    pub(super) fn take(id: &str) -> anyhow::Result<Entry> {
        let directory = Path::new(ALL).join(id);
        let path = directory.join(PID);
        let cannot = || format!("cannot make {}", directory.display());
        loop {
            fs::create_dir_all(root_of(id)).with_context(cannot)?;
            let pid = File::options().append(true).create(true).open(&path);
            let pid = pid.with_context(cannot)?;
            match pid.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!("there is a container {id} already"),
                Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
            }
            // The one who had it before may have removed it meanwhile.
            let is_there = fs::metadata(&path).is_ok_and(|there| {
                pid.metadata()
                    .is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
            });
            if is_there {
                // What a parent that was killed has left does not count.
                pid.set_len(0).with_context(cannot)?;
                return Ok(Entry { directory, pid });
            }
        }
    }

    /// Writes the number of the first process down: others can join the container from now on.
    pub(super) fn tell(&self, pid: u32) -> anyhow::Result<()> {
        let mut file = &self.pid;
        let path = self.directory.join(PID);
        write!(file, "{pid}").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The number of the first process of a container that runs.
///
/// # Errors
/// If there is none of this identifier, or its program does not execute yet.
pub(super) fn first_pid(id: &str) -> anyhow::Result<Pid> {
    let none = || anyhow!("there is no container {id}");
    let told = match fs::read_to_string(Path::new(ALL).join(id).join(PID)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
        told => told?,
    };
    ensure!(!told.is_empty(), "the container {id} is being made");
    told.parse().ok().and_then(Pid::from_raw).ok_or_else(none)
}

/// The first process of a container that runs.
///
/// # Errors
/// Those of [`first_pid`].
pub(super) fn first(id: &str) -> anyhow::Result<OwnedFd> {
    let pid = first_pid(id)?;
    let first = pidfd_open(pid, PidfdFlags::empty()).ok();
    // It may have ended, and another process may have its number.
    let first = first.filter(|_| group::is_in(pid, id));
    first.with_context(|| format!("there is no container {id}"))
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Nothing else can be done. In the other order, the file could be another one's.
        let _ = fs::remove_file(self.directory.join(PID));
        let _ = fs::remove_dir(self.directory.join(ROOT));
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Where the root directory is mounted, in the container only.
const ROOT: &str = "root";

/// See above.
pub(super) fn root_of(id: &str) -> PathBuf {
    Path::new(ALL).join(id).join(ROOT)
}
