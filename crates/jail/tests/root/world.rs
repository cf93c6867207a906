//! A jail under a temporary directory, in a mount namespace of the test's own thread: nothing a test mounts is seen
//! outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jail::{Account, Error, Jail, Places};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use tempfile::TempDir;

/// A user ID that no other program uses.
pub const UID: u32 = 64017;
/// Its main group.
pub const GID: u32 = 64018;

/// Where one test plays.
pub struct World {
    _directory: TempDir,
    /// The places a configuration would name.
    pub places: Places,
}

impl World {
    /// A new world, or `None`, with a word about it, for a user who is not root.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI must run as root");
            eprintln!("skipped: needs root");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        chmod(directory.path(), 0o755);
        let vardir = directory.path().join("var");
        let places = Places {
            vm_dir: vardir.join("vm1"),
            jail: vardir.join("vm1/jail"),
            logdir: vardir.join("vm1/log"),
            shared: vardir.join("shared"),
            vardir,
        };
        Some(Self {
            _directory: directory,
            places,
        })
    }

    /// Prepares the jail.
    pub fn prepare(&self) -> Result<Jail, Error> {
        let account = Account {
            name: "vmtest".to_owned(),
            uid: UID,
            gid: GID,
            groups: vec![GID, 64019],
        };
        Jail::prepare(&self.places, account)
    }

    /// A path in the jail, on the host.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.places.jail.join(path)
    }

    /// The mounts at `path`, as lines of /proc/thread-self/mountinfo.
    pub fn mounts_at(&self, path: &Path) -> Vec<String> {
        let all = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let path = path.to_str().unwrap();
        all.lines()
            .filter(|line| line.split(' ').nth(4) == Some(path))
            .map(str::to_owned)
            .collect()
    }
}

/// Changes permission bits.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
