//! The monitor daemon of one virtual machine (umlmon). `daemon.rs` is the recipe; read on from there.

mod access;
mod announce;
mod channels;
pub mod child;
mod confined;
pub mod daemon;
mod devices;
mod ending;
mod events;
mod failure;
mod holdings;
mod jobs;
mod kernel_args;
mod link;
pub mod mconsole;
mod monitor;
mod networks;
mod options;
mod remarks;
mod remote;
mod run;
mod service;
mod session;
mod setup;
mod site;
mod snapshot;
pub mod state;
mod status;
mod talk;
mod work;
mod worker;

pub use options::PROGRAM;
