//! What the monitor holds as long as it lives, and every run of the kernel uses (umlmon, the monitor process).

use std::path::PathBuf;
use std::rc::Rc;

use config::{Config, Vm, VmName};
use disks::Opener;
use jail::Jail;
use net::Records;

use crate::channels::Channels;
use crate::disks::storage::Storage;
use crate::events::Events;
use crate::failure::Failure;
use crate::helper::Helper;
use crate::last_look::LastLook;
use crate::reading::Reading;
use crate::second::keeper::Keeper;

/// What the monitor holds as long as it lives, and every run uses.
pub struct Setup {
    /// What it was configured with.
    pub configured: Configured,
    /// The prepared jail.
    pub jail: Jail,
    /// The program that supervises the kernel.
    pub keeper: Keeper,
    /// The kernel that was looked at last.
    pub last_look: LastLook,
    /// The disks.
    pub storage: Storage,
    /// Which VM uses which part of the host's network.
    pub records: Rc<Records>,
    /// The channels.
    pub channels: Rc<Channels>,
    /// The helper in the guest.
    pub helper: Rc<Helper>,
    /// What happens to the VM.
    pub events: Rc<Events>,
}

/// The configuration when the daemon was started.
#[derive(Debug)]
pub struct Configured {
    /// The main configuration file.
    pub file: PathBuf,
    /// The VM's.
    pub vm: Vm,
    /// The shared directory.
    pub shared: PathBuf,
}

impl Setup {
    /// The VM's name.
    pub fn name(&self) -> &VmName {
        &self.configured.vm.name
    }

    /// The configuration for the next start, read anew.
    ///
    /// # Errors
    /// If it is faulty, or changes what the daemon has set up when it was started.
    pub fn configuration(&self) -> Result<Reading, Failure> {
        let config = Config::load(&self.configured.file)?;
        let reading = Reading::take(&config, self.name())?;
        let (vm, was) = (&reading.vm, &self.configured);
        let fixed = [
            ("vmuser", vm.vmuser == was.vm.vmuser),
            ("vmgroup", vm.vmgroup == was.vm.vmgroup),
            ("jaildir", vm.jaildir == was.vm.jaildir),
            ("logdir", vm.logdir == was.vm.logdir),
            ("shared", config.global.shared == was.shared),
        ];
        match fixed.iter().find(|(_, same)| !same) {
            None => Ok(reading),
            Some((param, _)) => Err(Failure::Failed(format!(
                "{param} has changed since the monitor was started; umladmin stop {0}, then umladmin start {0}",
                self.name()
            ))),
        }
    }

    /// The account that opens the disks.
    pub fn opener(&self) -> Opener<'_> {
        let account = self.jail.account();
        Opener {
            name: &account.name,
            uid: account.uid,
            gid: account.gid,
            groups: &account.groups,
        }
    }
}
