//! Virtual disks: whether the ubd driver can use them ([`Disks`]), which VM has them open ([`Locks`]), which rely on
//! which ([`Cow`]), whether the host uses them itself ([`InUse`]), block devices among them ([`Devices`]), all in the
//! monitor; and work on the files ([`work`]), in a short-lived process that is confined to the jail.

pub mod cow;
mod cows;
mod devices;
mod elsewhere;
mod inspect;
mod locks;
pub mod work;

pub use cows::{Cow, relying_on};
pub use devices::{Devices, Error as DeviceError};
pub use elsewhere::InUse;
pub use inspect::{Disk, Disks, Error, Opener, ubd_argument};
pub use locks::{Access, Claim, Error as LockError, Holder, Identity, Lease, Locks};
