//! The work of umladmin, one module per mode of operation. Runs in the client process umladmin; a library only so that
//! tests can compare the manual with the table of options, and feed nonsense to what reads archives.
//!
//! What is done for several VMs is done in threads, one per VM (`parallel`), each with its own connection and
//! deadlines. The steps to bring a VM down are data in `ladder`.

mod account;
mod ask;
mod busybox;
mod certificate;
mod check;
mod clone;
mod create;
mod delete;
mod edit;
mod effective;
mod elsewhere;
mod events;
mod furnish;
mod image;
mod interrupt;
mod kernelcheck;
mod ladder;
mod list;
mod machines;
mod metrics;
mod modes;
mod network;
mod options;
mod parallel;
mod password;
mod rename;
mod report;
mod rewrite;
mod run;
mod seed;
mod seen;
mod selection;
mod snapshot;
mod start;
mod stop;
mod top;
mod undo;
mod update;
mod upgrade;

pub use image::apart::{is_apart, main as apart};
pub use image::oci::count_layers;
pub use image::unpack::unpack;
pub use kernelcheck::guest::{is_guest, main as guest};
pub use list::{COLUMNS, Column};
pub use metrics::{METRICS, Metric};
pub use modes::{MODES, Mode, run};
pub use options::PROGRAM;

/// Whether this process was started by this program, to be what the argument says.
fn is_started_with(argument: &str) -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == argument)
}
