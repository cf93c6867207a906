//! umlwatch, the users' client of the monitor: the table of its commands, and the code that executes them. It reaches
//! the monitor through the Unix Domain socket of the VM, or on another host over TCP with a password.

mod argument;
mod attach;
pub mod command;
mod copy;
mod disk_argument;
mod disks;
mod events;
mod exec;
pub mod info;
mod interactive;
pub mod json;
pub mod keys;
mod loss;
mod manner;
mod opening;
mod place;
mod ready;
mod record;
mod replay;
mod run;
mod screen;
mod ssh;
mod standstill;
mod style;

pub use interactive::interact;
pub use run::Runner;
pub use style::Style;
