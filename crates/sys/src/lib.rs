//! The only unsafe code of the suite: safe functions over the few raw calls that nix and rustix lack.
//!
//! Used by the monitor (`umlmon`), by its second process, by the mechanisms they call, and at the start of each
//! program. It knows no other crate of the workspace. Each module is one subject and lifts the ban on unsafe code for
//! itself; each block says why it is sound.

pub mod daemonize;
mod descriptors;
#[cfg(feature = "event-loop")]
mod event_loop;
mod files_of;
mod landlock;
mod mounts;
mod network;
mod process;
mod spawn;
mod startup;
mod tap;
mod user_namespace;

pub use descriptors::inherited_fd;
#[cfg(feature = "event-loop")]
pub use event_loop::{readable, writable};
pub use files_of::FileUser;
pub use landlock::{Landlock, Refused, landlock_version};
pub use mounts::{MountAttr, map_owners, owns_mounts, restrict_mount, separate_mount};
pub use network::{in_network, new_network};
pub use process::{empty_bounding_set, release_free_memory, set_realtime_scheduler};
pub use spawn::{
    Child, Network, SpawnError, shortage, spawn_kernel, spawn_namespaced, spawn_session,
    spawn_with_oom_score,
};
pub use startup::{
    close_inherited, ignore_file_size_signal, ignores_hangup, keep_environment, reset_signals,
};
pub use tap::{TapQueue, open_tap};
pub use user_namespace::{Mapped, UserNetwork, user_namespace, user_network};
