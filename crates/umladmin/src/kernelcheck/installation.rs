//! The temporary installation in which a kernel is tried, with its disks (umladmin).

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::Arc;

use jail::{Account, Program};
use monitors::{Temporary, cannot};

use super::guest::INIT;
use super::image;
use super::pattern;
use super::talk::Talk;
use super::watch::Watch;

/// The VM.
const NAME: &str = "kernelcheck";
/// The user that runs it.
const USER: &str = "nobody";
/// The memory for all trials but that of the least memory, in megabytes.
pub(crate) const MEMORY: u32 = 64;

/// See above.
pub(crate) struct Installation {
    temporary: Temporary,
    watch: Arc<Watch>,
}

impl Installation {
    /// Makes it, with a running monitor and an inactive VM, for this kernel with its libraries.
    pub(crate) fn make(
        kernel: &Program,
        libraries: &[(PathBuf, PathBuf)],
        watch: &Arc<Watch>,
    ) -> Result<Installation, String> {
        let lines = section(MEMORY, "");
        let mut temporary = Temporary::begin(&std::env::temp_dir(), NAME, &lines)?;
        temporary.start_monitor()?;
        temporary.put_kernel(kernel, libraries)?;
        let installation = Installation {
            temporary,
            watch: Arc::clone(watch),
        };
        installation.put_disks()?;
        Ok(installation)
    }

    fn put_disks(&self) -> Result<(), String> {
        let tree = self.temporary.directory().join("tree");
        image::make_root(&tree, &self.disk("root.dsk"))?;
        fs::remove_dir_all(&tree).map_err(|error| cannot("remove", &tree, &error))?;
        for (name, seed) in [
            ("flat.dsk", pattern::FLAT_SEED),
            ("base.dsk", pattern::COW_SEED),
        ] {
            let disk = self.disk(name);
            fs::write(&disk, pattern::pattern(seed, pattern::SIZE))
                .map_err(|error| cannot("write", &disk, &error))?;
        }
        let account = Account::resolve(USER, None).map_err(|error| error.to_string())?;
        for name in ["root.dsk", "flat.dsk", "base.dsk"] {
            let disk = self.disk(name);
            chown(&disk, Some(account.uid), Some(account.gid))
                .map_err(|error| cannot("give away", &disk, &error))?;
        }
        self.temporary.make_cow("/disks/x.cow", "/disks/base.dsk")
    }

    /// A disk of the VM.
    pub(crate) fn disk(&self, name: &str) -> PathBuf {
        self.temporary.disk(name)
    }

    /// The next start is with so many megabytes of memory, and with these lines in addition.
    pub(crate) fn set(&self, megabytes: u32, lines: &str) -> Result<(), String> {
        self.temporary.configure(&section(megabytes, lines))
    }

    /// A connection to the monitor.
    pub(crate) fn talk(&self) -> Result<Talk, String> {
        Talk::begin(self.temporary.client(), &self.watch)
    }
}

/// The section of the VM.
fn section(megabytes: u32, lines: &str) -> String {
    format!(
        "vmuser = {USER}\nmem = {megabytes}\ncon0 = pty:con0\ncon1 = pty\nssl0 = pty\n\
         ubd0 = /disks/root.dsk\nubd1 = /disks/flat.dsk\nubd2 = /disks/x.cow\n\
         kernelarg = root=/dev/ubda\nkernelarg = ro\nkernelarg = init={INIT}\n{lines}"
    )
}
