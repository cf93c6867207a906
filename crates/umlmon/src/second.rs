//! The second process, which stops being root: its orders, how it is watched, and what it does itself (umlmon, both
//! processes).
//!
//! Nothing here uses the rest of the monitor.

pub mod child;
pub(crate) mod confined;
pub(crate) mod connector;
mod disk_worker;
pub(crate) mod keeper;
mod kernel_worker;
pub(crate) mod link;
pub(crate) mod listening;
pub(crate) mod nudged;
pub(crate) mod orders;
pub mod worker;
