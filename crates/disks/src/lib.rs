//! Virtual disks: whether the ubd driver can use them ([`inspect`](Disks), in the monitor), and all work on the files
//! ([`work`], in a short-lived process that is confined to the jail).

pub mod cow;
mod inspect;
pub mod work;

pub use inspect::{Disk, Disks, Error, Opener, ubd_argument};
