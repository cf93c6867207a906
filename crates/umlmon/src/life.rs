//! The life of the VM: what may follow what, a run of the kernel, and how it ended (umlmon, the monitor process).

mod attendance;
pub(crate) mod clock;
mod connections;
pub(crate) mod connector_record;
pub(crate) mod directories;
pub(crate) mod disk_change;
pub(crate) mod elastic;
pub(crate) mod ending;
pub(crate) mod kernel_args;
pub(crate) mod kernels;
pub(crate) mod memory;
pub(crate) mod monitor;
pub(crate) mod networks;
pub(crate) mod outliving;
pub(crate) mod placement;
pub(crate) mod run;
pub mod state;
pub(crate) mod talk;
