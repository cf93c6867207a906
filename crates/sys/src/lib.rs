//! The only unsafe code of the suite: safe functions over the few raw calls that nix and rustix lack.
//!
//! Used by the monitor (`umlmon`), by its second process, and by the mechanisms they call. It knows no other crate of
//! the workspace. Each module is one subject and lifts the ban on unsafe code for itself; each block says why it is sound.

pub mod daemonize;
mod descriptors;
mod mounts;
mod process;
mod spawn;
mod tap;

pub use descriptors::{inherited_fd, readable, writable};
pub use mounts::{MountAttr, restrict_mount};
pub use process::{empty_bounding_set, release_free_memory, set_realtime_scheduler};
pub use spawn::{
    Child, SpawnError, shortage, spawn_kernel, spawn_namespaced, spawn_session,
    spawn_with_oom_score,
};
pub use tap::{TapQueue, open_tap};
