//! Virtual disks: whether the ubd driver can use them ([`Disks`]), which VM has them open ([`Locks`]), which rely on
//! which ([`Cow`]), block devices among them ([`Devices`]), all in the monitor; and work on the files ([`work`]), in a
//! short-lived process that is confined to the jail.

pub mod cow;
mod cows;
mod devices;
mod inspect;
mod locks;
pub mod work;

pub use cows::Cow;
pub use devices::{Devices, Error as DeviceError};
pub use inspect::{Disk, Disks, Error, Opener, ubd_argument};
pub use locks::{Access, Claim, Error as LockError, Holder, Identity, Lease, Locks};
