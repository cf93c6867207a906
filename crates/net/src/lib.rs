//! Virtual networks on the host: the connections of a VM's interfaces, set up before its kernel runs and undone after
//! it. Used by the monitor, as root.
//!
//! [`Networks::set_up`] checks everything, then does everything. What it made is undone when the [`Networks`] are
//! dropped; after a monitor was killed, by the next one that sets up anything with the same shared directory.

mod apart;
mod connection;
mod error;
mod host;
mod kernel;
mod member;
mod memory;
mod nat;
mod netlink;
pub mod networks;
mod plan;
mod records;
mod setup;
mod sysctl;
mod undo;
pub mod user;

pub use connection::{Connection, Eth, Owner};
pub use error::Error;
pub use host::{Counters, Kind, configure, kind, leave_host};
pub use kernel::{Driver, Drivers};
pub use records::Records;
pub use setup::Networks;
