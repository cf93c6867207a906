//! A monitor without a kernel, for the tests of its clients: it answers on a real socket and notes what it is asked.
//! Runs in tests only.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

mod answers;
mod manner;
mod recorder;
mod service;

pub use manner::Manner;
pub use recorder::Recorder;
pub use service::Service;
