//! Virtual networks on the host: the connections of a VM's interfaces, set up before its kernel runs and undone after
//! it. Used by the monitor, as root.
//!
//! [`Networks::set_up`] checks everything, then does everything. What it made is undone when the [`Networks`] are
//! dropped. If a monitor was killed and the VM goes on, the next monitor goes on with them ([`Networks::adopt`]); if
//! the VM has ended, too, the next one undoes them ([`networks::clean_up`]), or one of another VM that sets up anything
//! with the same shared directory before.

mod apart;
mod connection;
mod error;
mod guest;
mod host;
mod kernel;
mod member;
mod memory;
mod nat;
mod netlink;
mod netns;
pub mod networks;
mod outliving;
mod plan;
mod records;
mod redirect;
mod setup;
mod sysctl;
mod undo;
pub mod user;

pub use connection::{Connection, Eth, Owner};
pub use error::Error;
pub use host::{Counters, Kind, configure, kind, leave_host};
pub use kernel::{Driver, Drivers};
pub use outliving::Connected;
pub use records::Records;
pub use setup::Networks;
