//! The client side of a VM's monitor: on this host through its socket, on another host (`VM@HOST`) with the help of the
//! directory service there, in TLS and with a password. Used by umlwatch and umladmin; other programs can use it in the
//! same way.
//!
//! [`Client`] is all that such a program needs:
//!
//! ```no_run
//! use client::{Client, Options};
//!
//! # fn main() -> Result<(), cli::Failure> {
//! let mut client = Client::new("vm1", None, Options::default())?;
//! client.start(&[])?;
//! let info = client.info()?;
//! println!("{} is {}", info.vm, client::words::state(info.state));
//! // At most a minute.
//! let waited = client.wait(60)?;
//! if waited.inactive {
//!     println!("it has {}", client::words::how_ended(&waited.last_end));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Calls block, each until the monitor answers. All other procedures of `proto/umlmonctrl.x` can be called by
//! [`Client::call`].

pub mod bar;
mod call;
mod change;
mod client;
mod dial;
mod directory;
pub mod events;
pub mod exec;
mod far;
pub mod guard;
pub mod guest;
pub mod json;
mod known;
mod near;
mod options;
mod outage;
mod passage;
pub mod password;
pub mod pipe;
pub mod signals;
mod stream;
mod target;
pub mod terminal;
mod tls;
pub mod waiting;
pub mod when;
pub mod words;

pub use call::{answered, broken, refused, result_in};
pub use change::verifier_of;
pub use client::Client;
pub use dial::LIMIT;
pub use directory::Directory;
pub use options::{Options, REMOTE, Via};
pub use outage::Outage;
pub use passage::{Passage, Passed};
pub use stream::{Connection, Monitor, Stream, TlsStream};
pub use target::{Host, Target};
pub use tls::Wish;
