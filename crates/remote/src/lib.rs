//! Other hosts, as the clients umlwatch and umladmin reach them: what `VM@HOST` means, connecting within a time, and what
//! the directory service of a host tells. Runs in the clients; whom it may talk to there, and how a password is proved,
//! is not its business.

mod dial;
mod directory;
mod target;

pub use dial::{LIMIT, addresses, dial};
pub use directory::{Directory, Offer, redirect, unreachable};
pub use target::{Host, Target};
