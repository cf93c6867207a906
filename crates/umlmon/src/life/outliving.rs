//! How a VM comes to outlive its monitor: what the next one needs is handed to the second process, and recorded
//! (umlmon, the monitor process).
//!
//! ```text
//! the kernel executes   -> the second process gets the descriptors, and tells their numbers
//! all numbers are known -> each is fetched back, as the next monitor will do; the record is written
//! then                  -> the second process is told to outlive the monitor
//! ```
//!
//! Until then, and wherever one of the steps fails, the VM ends with its monitor, as the second process has SIGKILL as
//! its death signal. So there is never one that runs and is not recorded.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::disks::holdings::Ubd;
use crate::reading::Recorded;
use crate::record::{self, DiskChange, HeldFd, Identity, Record, StateRecord};
use crate::second::link::Link;
use crate::setup::Setup;
use crate::survivor::{fetch, names};

/// A run that outlives the monitor, or is about to. Dropping it removes the record.
pub struct Outliving {
    setup: Rc<Setup>,
    record: Record,
    /// The record is written, and the second process outlives this one.
    does: bool,
}

impl Outliving {
    /// Hands the descriptors over. `record` says everything but what is held.
    ///
    /// # Errors
    /// If they cannot be handed over.
    pub fn begin(
        setup: &Rc<Setup>,
        link: &Link,
        mut record: Record,
        descriptors: &[(String, OwnedFd)],
    ) -> io::Result<Outliving> {
        let held = |name: &str, fd: BorrowedFd<'_>| {
            let identity = Identity::of(fd)?;
            io::Result::Ok(HeldFd {
                name: name.to_owned(),
                number: 0,
                identity,
            })
        };
        record.held = vec![held(names::PIPE, link.pipe())?];
        for (name, fd) in descriptors {
            record.held.push(held(name, fd.as_fd())?);
        }
        let fds: Vec<_> = descriptors.iter().map(|(_, fd)| fd.as_fd()).collect();
        link.hold(&fds)?;
        Ok(Outliving {
            setup: Rc::clone(setup),
            record,
            does: false,
        })
    }

    /// That of a run which has outlived its monitor.
    pub fn adopted(setup: &Rc<Setup>, record: Record) -> Outliving {
        Outliving {
            setup: Rc::clone(setup),
            record,
            does: true,
        }
    }

    /// Takes numbers that the second process has told. With the last ones, all is checked and written, and it is told
    /// to outlive this process.
    ///
    /// # Errors
    /// Why the VM ends with this monitor.
    pub fn numbered(&mut self, link: &Link, numbers: Vec<i32>) -> Result<(), String> {
        let unnumbered = self.record.held.iter_mut().filter(|held| held.number == 0);
        for (held, number) in unnumbered.zip(numbers) {
            held.number = number;
        }
        if !link.holds_all() {
            return Ok(());
        }
        for held in &self.record.held {
            fetch(link.pidfd(), held)?;
        }
        self.does = true;
        self.write()?;
        link.outlive();
        Ok(())
    }

    /// The VM outlives the monitor.
    pub fn does(&self) -> bool {
        self.does
    }

    /// Records what has changed, if something has.
    pub fn note(&mut self, state: StateRecord) {
        if self.record.state == state {
            return;
        }
        self.record.state = state;
        if self.does
            && let Err(why) = self.write()
        {
            tracing::warn!(
                "if the monitor dies now, the next one finds the VM as it was before: {why}"
            );
        }
    }

    /// Records which disks the kernel has, or may have, and the configuration in effect with them.
    ///
    /// # Errors
    /// If that cannot be written: the next monitor would find the disks as they were before.
    pub fn note_disks(
        &mut self,
        disks: &[Ubd],
        change: Option<DiskChange>,
        configuration: Recorded,
    ) -> Result<(), String> {
        self.record.disks = disks.to_vec();
        self.record.disk_change = change;
        self.record.configuration = configuration;
        match self.does {
            true => self.write(),
            // It is about to be.
            false => Ok(()),
        }
    }

    fn write(&self) -> Result<(), String> {
        let written = self.record.write(self.setup.jail.vm_dir());
        written.map_err(|error| format!("the record of the running VM cannot be written: {error}"))
    }
}

impl Drop for Outliving {
    fn drop(&mut self) {
        if self.does
            && let Err(error) = record::remove(self.setup.jail.vm_dir())
        {
            // It names a process that has ended, so that the next monitor removes it.
            tracing::warn!("cannot remove the record of the VM: {error}");
        }
    }
}
