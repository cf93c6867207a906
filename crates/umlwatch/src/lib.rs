//! umlwatch, the users' client of the monitor: the table of its commands, and what carries them out. It reaches the
//! monitor through the Unix Domain socket of the VM, or on another host over TCP with a password.

mod attach;
pub mod command;
mod disk_command;
mod disks;
pub mod events;
mod far;
mod guard;
pub mod info;
mod interactive;
pub mod json;
pub mod keys;
mod known;
mod loss;
mod options;
mod password;
mod ready;
mod record;
mod replay;
mod run;
mod screen;
mod session;
mod stream;
mod terminal;
mod tls;
mod when;

pub use guard::{guard, is_guard};
pub use interactive::interact;
pub use options::{Options, Via};
pub use run::{Runner, Style};
pub use session::Session;
pub use tls::Wish;
