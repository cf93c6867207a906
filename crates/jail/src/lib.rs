//! The chroot jail: who runs in it, its directories and mounts, what the kernel needs in it, and the privilege drop.
//!
//! [`Account`] and [`Jail`] are used by the monitor as root; [`Confinement::confine`] runs in its second process, which
//! thereby stops being root. All directories that root works in are opened once, beneath each other and without
//! following symbolic links, and every mount is made through descriptors, with its restrictions on before it can be
//! seen. Needs Linux 5.12 and, because of the system call filter, x86-64.

mod account;
mod binds;
mod bounds;
mod confine;
mod directories;
mod elf_file;
mod error;
mod features;
mod filter;
mod inspect;
mod jail;
mod kernel;
mod landlock;
mod library;
mod mounts;
mod namespace;
mod processors;
mod seccomp;
mod share;
mod stamp;
mod user_pool;
mod walk;

pub use account::Account;
pub use binds::{Bind, Source};
pub use bounds::{Bounds, ControlGroup, Shortage, missing_controllers};
pub use confine::{Confinement, Limits, Scheduler, enter_mounts, leave_mounts, renounce, show_tun};
pub use elf_file::Needs;
pub use error::{Error, Result};
pub use features::Features;
pub use inspect::{Inspection, Origin, Program, Reader};
pub use jail::{Jail, Places, Terms, open_vm_dir};
pub use kernel::{Kernel, libraries};
pub use landlock::has_landlock;
pub use library::LIBRARIES;
pub use mounts::{TmpMount, socket_directory};
pub use namespace::network_namespace;
pub use processors::{Place, Processors, allowed, processors_of};
pub use seccomp::Calls;
pub use share::{Owner, SHARES, Shared, Wanted};
pub use stamp::Stamp;
pub use user_pool::UserPool;
