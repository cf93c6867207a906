//! The life of the VM: what may follow what, a run of the kernel, and how it ended (umlmon, the monitor process).

pub(crate) mod channels;
pub(crate) mod ending;
pub(crate) mod kernel_args;
pub(crate) mod kernels;
pub(crate) mod last_look;
pub mod mconsole;
pub(crate) mod monitor;
pub(crate) mod networks;
pub(crate) mod nudged;
pub(crate) mod run;
pub mod state;
pub(crate) mod status;
pub(crate) mod talk;
