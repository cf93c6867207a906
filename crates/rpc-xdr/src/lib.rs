//! The wire between umlmon, umldir and their clients: ONC RPC (RFC 5531) over a stream, data in XDR (RFC 4506).
//!
//! - [`umlmonctrl`] is generated from `proto/umlmonctrl.x`: types, client, and with the feature `server` the trait that
//!   the daemon implements; [`umldir`] likewise from `proto/umldir.x`.
//! - [`client`] is the blocking side, used by umlwatch and umladmin; `server` is the side of the daemons.
//! - [`auth`] computes what both sides of a remote connection prove to each other, and [`seal`] protects what they say
//!   afterwards.
//! - [`record`] cuts the stream into messages and [`xdr`] decodes them; both hold their limits against a hostile peer.

pub mod auth;
pub mod client;
pub mod pake;
pub mod record;
pub mod seal;
#[cfg(feature = "server")]
pub mod server;
mod umldir_rpc;
mod umldir_xdr;
mod umlmonctrl_rpc;
mod umlmonctrl_xdr;
pub mod xdr;

/// The interface `proto/umlmonctrl.x`, of umlmon.
pub mod umlmonctrl {
    pub use crate::umlmonctrl_rpc::*;
    pub use crate::umlmonctrl_xdr::*;
}

/// The interface `proto/umldir.x`, of umldir.
pub mod umldir {
    pub use crate::umldir_rpc::*;
    pub use crate::umldir_xdr::*;
}

/// Why a connection broke. For an end without notice, the text of rustls is too long, and has a link.
fn why_broken(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the other side closed it without notice".into(),
        _ => error.to_string(),
    }
}

/// A procedure of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Procedure {
    /// Its number in calls.
    pub number: u32,
    /// Its name in the interface file, such as `VM_START`.
    pub name: &'static str,
    /// What the interface file says about it.
    pub doc: &'static str,
    /// Size of its arguments in XDR, in bytes, at most.
    pub max_args: usize,
    /// Size of its result in XDR, in bytes, at most.
    pub max_result: usize,
}
