//! The real umlwatch against a monitor that is played by the test, on pipes and on a pseudo terminal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

mod commands;
mod connect;
mod events;
mod host;
mod installation;
mod interactive;
mod monitor;
mod program;
mod remote;
mod restarted;
mod rpc;
mod terminal;
