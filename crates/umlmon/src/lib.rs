//! The monitor daemon of one virtual machine (umlmon). `daemon.rs` has the steps in their order; start reading there.
//!
//! `second` is the second process; `disks` what the VM may use of its disks, and work on them; `life` a run of the
//! kernel and what may follow what; `service` what clients may ask; `remote` clients of other hosts. Each of these
//! folders uses only those before it and the files beside them; `second` uses no others. `setup` is what the monitor
//! holds as long as it lives.

mod announce;
mod calls;
mod channels;
pub mod daemon;
mod disks;
mod events;
mod failure;
mod helper;
mod kept;
mod last_look;
pub mod life;
pub mod mconsole;
mod options;
mod passwords;
mod privilege;
mod reading;
mod record;
mod remarks;
mod remote;
mod root_file;
pub mod second;
mod service;
mod setup;
mod shares;
mod status;
mod survivor;
pub mod upgrade;

pub use options::PROGRAM;
