//! Disks that are attached to a kernel that runs, and detached from it (umlmon, the monitor process).
//!
//! ```text
//! attach: checked as at a start -> claimed -> recorded -> the kernel is told -> recorded
//! detach:                                     recorded -> the kernel is told -> recorded -> the claim is given up
//! ```
//!
//! So a disk that the kernel may have is claimed and recorded, whenever the monitor dies. The next one gives up what is
//! claimed and not recorded, and tells the kernel once more what was under way: it refuses to attach a disk twice, and
//! to detach one twice does no harm.

use crate::disks::devices;
use crate::disks::holdings::{self, Ubd};
use crate::failure::{Denied, Failure};
use crate::life::disk_change::Attach;
use crate::life::kernel_args;
use crate::life::run::Run;
use crate::mconsole::{Error, MAX_COMMAND};
use crate::record::DiskChange;

/// What the kernel answers if it has a disk of this number (arch/um/drivers/ubd_kern.c, `ubd_setup_common`).
const HAS_IT: &str = "already configured";
/// What it answers if the guest uses the disk (arch/um/drivers/mconsole_kern.c, `mconsole_remove`).
const IN_USE: &str = "currently open";

impl Run {
    /// Claims and records a disk that is to be attached. Returns the command that the kernel must be told next; the
    /// answer is for [`Run::end_disk_change`].
    ///
    /// # Errors
    /// Why the kernel cannot have the disk; nothing has changed then.
    pub fn begin_attach(&mut self, attach: Attach) -> Result<String, Failure> {
        self.may_begin()?;
        let number = attach.number;
        if let Some(ubd) = self.disks.iter().find(|ubd| ubd.number == number) {
            return Err(Failure::Busy(format!(
                "ubd{number} is {} (-disk-detach ubd{number} detaches it)",
                ubd.name
            )));
        }
        devices::provide(&self.setup.storage.devices, &attach.devices).map_err(Failure::Failed)?;
        let wanted = (number, &attach.disk);
        let found = holdings::usable_as(&self.setup, wanted, attach.only_read, &attach.cows);
        let (ubd, claims) = found?;
        let command = self.attach_command(&ubd);
        if command.len() > MAX_COMMAND {
            return Err(Failure::Invalid(
                "the name of the disk is too long to attach it while the kernel runs".into(),
            ));
        }
        let added = std::slice::from_ref(&ubd);
        holdings::nothing_relies_on(&self.setup, added, &attach.cows)?;
        let lease = self.start.lease.as_ref().ok_or_else(|| {
            Failure::Failed("this needs a kernel that was started by this release of umlmon".into())
        })?;
        holdings::claim_more(&self.setup, lease, &claims)?;
        // No image can be made on it any more.
        let free = holdings::nothing_relies_on(&self.setup, added, &attach.cows);
        self.add(ubd, attach);
        self.disk_change = Some(DiskChange::Attach(number));
        let recorded = free.and_then(|()| self.note_disks());
        if recorded.is_err() {
            self.disk_change = None;
            self.give_up(number);
        }
        recorded.map(|()| command)
    }

    /// Records that a disk is to be detached. Returns the command that the kernel must be told next, as
    /// [`Run::begin_attach`].
    ///
    /// # Errors
    /// If there is no such disk, or that cannot be recorded; nothing has changed then.
    pub fn begin_detach(&mut self, number: u8) -> Result<String, Failure> {
        self.may_begin()?;
        if self.disks.iter().all(|ubd| ubd.number != number) {
            return Err(Failure::NotFound(format!(
                "the VM has no ubd{number} now (-info lists its disks)"
            )));
        }
        self.disk_change = Some(DiskChange::Detach(number));
        let recorded = self.note_disks();
        if recorded.is_err() {
            self.disk_change = None;
        }
        recorded.map(|()| detach_command(number))
    }

    /// The command of which a former monitor has not heard what the kernel answered, if there is one.
    pub fn disk_change_to_repeat(&self) -> Option<String> {
        match self.disk_change? {
            DiskChange::Attach(number) => {
                let ubd = self.disks.iter().find(|ubd| ubd.number == number);
                ubd.map(|ubd| self.attach_command(ubd))
            }
            DiskChange::Detach(number) => Some(detach_command(number)),
        }
    }

    /// The kernel has answered, or not. Returns what was done, in the words of umlwatch(1), and what has come of it.
    /// `repeated`: another monitor may have told the kernel the same.
    pub fn end_disk_change(
        &mut self,
        answer: Result<(), Error>,
        repeated: bool,
    ) -> (String, Result<(), Failure>) {
        let Some(change) = self.disk_change.take() else {
            return (String::new(), answer.map_err(Failure::from));
        };
        let (DiskChange::Attach(number) | DiskChange::Detach(number)) = change;
        let ubd = self.disks.iter().find(|ubd| ubd.number == number);
        let name = ubd.map_or_else(String::new, |ubd| ubd.name.to_string());
        let (done, keeps, result) = match change {
            DiskChange::Attach(_) => {
                let (keeps, result) = attached(answer, &name, number, repeated);
                (format!("disk-attach ubd{number}:{name}"), keeps, result)
            }
            DiskChange::Detach(_) => {
                let result = detached(answer, &name, number);
                (format!("disk-detach ubd{number}"), result.is_err(), result)
            }
        };
        if !keeps {
            self.remove(number);
        }
        if let Err(why) = self.note_disks() {
            tracing::warn!("if the monitor dies now, the next one repeats {done}: {why}");
        }
        if !keeps {
            self.give_up_claims();
        }
        (done, result)
    }

    fn may_begin(&self) -> Result<(), Failure> {
        if self.disk_change.is_some() {
            return Err(Failure::Busy(
                "a disk is being attached or detached; try again in a moment".into(),
            ));
        }
        match self.up {
            true => Ok(()),
            false => Err(Denied::StillStarting.into()),
        }
    }

    fn attach_command(&self, ubd: &Ubd) -> String {
        let argument = kernel_args::ubd(&self.reading.vm, ubd, self.flushes);
        format!("config {argument}")
    }

    fn add(&mut self, ubd: Ubd, attach: Attach) {
        let vm = &mut self.reading.vm;
        vm.ubd.insert(ubd.number, ubd.name.clone());
        self.disks.push(ubd);
        self.disks.sort_by_key(|ubd| ubd.number);
        holdings::tell_of_large_maps(vm, &self.disks);
        let devices = &mut self.reading.devices;
        devices.retain(|device| device.name != attach.disk);
        devices.extend(attach.devices);
        self.start.cows = attach.cows;
    }

    fn remove(&mut self, number: u8) {
        self.reading.vm.ubd.remove(&number);
        self.disks.retain(|ubd| ubd.number != number);
    }

    /// A disk that the kernel was not told of.
    fn give_up(&mut self, number: u8) {
        self.remove(number);
        if let Err(why) = self.note_disks() {
            tracing::warn!("{why}");
        }
        self.give_up_claims();
    }

    fn give_up_claims(&self) {
        let lease = self.start.lease.as_ref();
        if let Some(Err(why)) = lease.map(|lease| holdings::claim_only(lease, &self.disks)) {
            tracing::warn!("the disk stays claimed until the VM has ended: {why}");
        }
    }
}

fn detach_command(number: u8) -> String {
    format!("remove ubd{number}")
}

/// Whether the kernel has the disk, or may have it, and what the client is told.
fn attached(
    answer: Result<(), Error>,
    name: &str,
    number: u8,
    repeated: bool,
) -> (bool, Result<(), Failure>) {
    match answer {
        Ok(()) => (true, Ok(())),
        Err(Error::Refused { text, .. }) if repeated && text.contains(HAS_IT) => (true, Ok(())),
        Err(Error::Refused { text, .. }) => {
            let why = format!("the kernel does not take {name} as ubd{number}: {text}");
            (false, Err(Failure::Failed(why)))
        }
        Err(error @ Error::Unreachable(_)) => (false, Err(error.into())),
        Err(error @ (Error::Timeout | Error::Nonsense(_))) => (true, Err(error.into())),
    }
}

fn detached(answer: Result<(), Error>, name: &str, number: u8) -> Result<(), Failure> {
    answer.map_err(|error| match error {
        Error::Refused { text, .. } if text.contains(IN_USE) => Failure::Busy(format!(
            "the guest uses ubd{number}, {name}: unmount it there first"
        )),
        Error::Refused { text, .. } => {
            Failure::Failed(format!("the kernel does not detach ubd{number}: {text}"))
        }
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Result<(), Error> {
        Err(Error::Refused {
            command: "config ubd1=x".into(),
            text: text.into(),
        })
    }

    #[test]
    fn what_the_kernel_may_have_stays_claimed() {
        let attached = |answer, repeated| {
            let (keeps, result) = attached(answer, "/disks/a.dsk", 1, repeated);
            (keeps, result.is_ok())
        };
        let has_it = || refused("Device is already configured");
        assert_eq!(attached(Ok(()), false), (true, true));
        assert_eq!(attached(has_it(), true), (true, true));
        // Somebody else has told it of another file.
        assert_eq!(attached(has_it(), false), (false, false));
        assert_eq!(attached(refused("no"), true), (false, false));
        assert_eq!(attached(Err(Error::Timeout), false), (true, false));
        assert_eq!(attached(Err(Error::Nonsense("x")), false), (true, false));
        let gone = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(
            attached(Err(Error::Unreachable(gone())), false),
            (false, false)
        );
    }

    #[test]
    fn a_disk_in_use_is_told_as_such() {
        let detached = |answer| detached(answer, "/disks/a.dsk", 1);
        assert!(detached(Ok(())).is_ok());
        let busy = detached(refused("Device is currently open")).unwrap_err();
        assert!(
            matches!(&busy, Failure::Busy(why) if why.contains("the guest uses ubd1, /disks/a.dsk"))
        );
        let failed = detached(refused("Invalid device number")).unwrap_err();
        assert!(failed.to_string().contains("Invalid device number"));
        assert!(matches!(
            detached(Err(Error::Timeout)),
            Err(Failure::Mconsole(Error::Timeout))
        ));
    }
}
