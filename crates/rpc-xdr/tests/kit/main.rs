//! Tests of the crate with an interface that uses all of the language, `kit.x`.

// A test may panic; clippy knows only functions marked #[test] as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[cfg(feature = "server")]
pub use rpc_xdr::server;
pub use rpc_xdr::{Procedure, client, xdr};

/// The interface.
#[allow(unused_imports)]
mod kit {
    pub(crate) use crate::kit_rpc::*;
    pub(crate) use crate::kit_xdr::*;
}
#[allow(dead_code, unreachable_pub)]
mod kit_rpc;
#[allow(dead_code, unreachable_pub)]
mod kit_xdr;
mod mutations;
#[cfg(feature = "server")]
mod remote;
#[cfg(feature = "server")]
mod serving;
#[cfg(feature = "server")]
mod strong;
mod values;
