//! What the monitor holds as long as it lives, and every run of the kernel uses (umlmon, the monitor process).

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use config::{Config, Vm, VmName};
use disks::{Devices, Disks, Locks, Opener};
use jail::Jail;
use net::Records;
use tokio::sync::{Mutex, Semaphore};

use crate::failure::Failure;
use crate::life::channels::Channels;
use crate::life::events::Events;
use crate::second::link::Link;
use crate::snapshot::Snapshot;

/// What the monitor holds as long as it lives, and every run uses.
pub struct Setup {
    /// The VM's configuration when the daemon was started.
    pub vm: Vm,
    /// The shared directory when the daemon was started.
    pub shared: PathBuf,
    /// The main configuration file.
    pub config_path: PathBuf,
    /// The prepared jail.
    pub jail: Jail,
    /// The directories with disks.
    pub disks: Disks,
    /// Who has which disk open.
    pub locks: Rc<Locks>,
    /// Who has which part of the host's network.
    pub records: Rc<Records>,
    /// The block devices among the shared disks.
    pub devices: Devices,
    /// Places for processes that look at the disks; however many clients ask, there are not more.
    pub looks: Semaphore,
    /// Held from a look at the images until it is written down: an older look must not replace a newer one.
    pub recording: Mutex<()>,
    /// The channels.
    pub channels: Rc<Channels>,
    /// What happens to the VM.
    pub events: Rc<Events>,
    /// Whom the channels nudge when a wake-up of the kernel may be lost; nobody before its mconsole is up.
    pub nudged: Rc<RefCell<Option<Rc<Link>>>>,
}

impl Setup {
    /// The VM's name.
    pub fn name(&self) -> &VmName {
        &self.vm.name
    }

    /// The configuration for the next start, read anew.
    ///
    /// # Errors
    /// If it is faulty, or changes what the daemon has set up when it was started.
    pub fn configuration(&self) -> Result<Snapshot, Failure> {
        let config = Config::load(&self.config_path)?;
        let snapshot = Snapshot::take(&config, self.name())?;
        let vm = &snapshot.vm;
        let fixed = [
            ("vmuser", vm.vmuser == self.vm.vmuser),
            ("vmgroup", vm.vmgroup == self.vm.vmgroup),
            ("jaildir", vm.jaildir == self.vm.jaildir),
            ("logdir", vm.logdir == self.vm.logdir),
            ("shared", config.global.shared == self.shared),
        ];
        match fixed.iter().find(|(_, same)| !same) {
            None => Ok(snapshot),
            Some((param, _)) => Err(Failure::NotStarted(format!(
                "{param} has changed since the monitor was started; umladmin stop {0}, then umladmin start {0}",
                self.name()
            ))),
        }
    }

    /// Who opens the disks.
    pub fn opener(&self) -> Opener<'_> {
        let account = self.jail.account();
        Opener {
            name: &account.name,
            uid: account.uid,
            groups: &account.groups,
        }
    }
}
