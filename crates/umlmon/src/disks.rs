//! The disks of the VM: which it may use, and work on them (umlmon, the monitor process).

pub(crate) mod devices;
pub(crate) mod holdings;
pub(crate) mod jobs;
pub(crate) mod process;
pub(crate) mod storage;
