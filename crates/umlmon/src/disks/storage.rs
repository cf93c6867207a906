//! The disks that the VM can use, and what keeps their users apart (umlmon, the monitor process).

use std::rc::Rc;

use disks::{Devices, Disks, Locks};
use tokio::sync::{Mutex, Semaphore};

/// Processes that look at the disks at once; a further one waits.
const MAX_LOOKS: usize = 4;

/// The disks, and what keeps their users apart.
pub struct Storage {
    /// The directories with disks.
    pub disks: Disks,
    /// Who has which disk open.
    pub locks: Rc<Locks>,
    /// The block devices among the shared disks.
    pub devices: Devices,
    /// For each process that looks at the disks; however many clients ask, there are not more.
    pub looks: Semaphore,
    /// Held from a look at the images until it is written down: an older look must not replace a newer one.
    pub recording: Mutex<()>,
}

impl Storage {
    /// With nothing under way.
    pub fn new(disks: Disks, locks: Rc<Locks>, devices: Devices) -> Storage {
        Storage {
            disks,
            locks,
            devices,
            looks: Semaphore::new(MAX_LOOKS),
            recording: Mutex::default(),
        }
    }
}
