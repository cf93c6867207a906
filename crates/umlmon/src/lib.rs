//! The monitor daemon of one virtual machine (umlmon). `daemon.rs` has the steps in their order; start reading there.
//!
//! `setup` is what the monitor holds as long as it lives; `second` the second process, without any of the rest; `life`
//! a run of the kernel and what may follow what; `disks` what the VM may use of its disks, and work on them; `service`
//! what clients may ask; `remote` clients of other hosts.

mod announce;
pub mod daemon;
mod disks;
mod events;
mod failure;
pub mod life;
mod options;
mod passwords;
mod privilege;
mod remarks;
mod remote;
pub mod second;
mod service;
mod setup;
mod shares;
mod snapshot;

pub use options::PROGRAM;
