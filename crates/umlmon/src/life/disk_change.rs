//! What is asked for to change the disks of a kernel that runs, and what the kernel answers (umlmon, the monitor
//! process).

use std::rc::Rc;

use config::{Device, DiskName};
use tokio::sync::oneshot;

use crate::disks::holdings::Cows;
use crate::failure::Failure;
use crate::mconsole::{Error, Mconsole};

/// What is asked for.
#[derive(Debug)]
pub enum DiskAsk {
    /// To attach a disk.
    Attach(Box<Attach>),
    /// To detach the disk of this number.
    Detach(u8),
}

/// A disk that is to be attached.
#[derive(Debug)]
pub struct Attach {
    /// The N of ubdN.
    pub number: u8,
    /// The file, as seen in the jail.
    pub disk: DiskName,
    /// The guest may only read it.
    pub only_read: bool,
    /// The block device of the host that it is, if it is one.
    pub devices: Vec<Device>,
    /// The copy-on-write images as they were found just before.
    pub cows: Cows,
}

/// What a kernel has answered that was told to attach a disk or to detach one.
#[derive(Debug)]
pub struct DiskTold {
    /// That of the kernel.
    pub mconsole: Rc<Mconsole>,
    /// The answer.
    pub answer: Result<(), Error>,
    /// The client that waits; None if a former monitor was asked.
    pub reply: Option<oneshot::Sender<Result<(), Failure>>>,
}
