//! Console channels: the implementation of `conN` and `sslN`. Runs in the umlmon daemon, on its one thread.
//!
//! A [`Channel`] owns an [`Endpoint`] (a pseudo terminal whose slave the kernel gets), reads it always, and puts every
//! byte into a [`History`] and, if configured, a [`Log`], whether or not a client is attached. Clients attach by
//! [`Channel::attach`]; they read by absolute offset, so that replay, live view and reconnection are the same call and
//! a slow client delays no other; at most one of them holds the right to write, and what it types is written no faster
//! than the kernel can handle. [`Nudge`] replaces the wake-ups that a pseudo terminal loses. A [`Screen`] is what a
//! Linux console would show of the bytes.

mod adopt;
mod attachment;
mod channel;
mod clients;
mod endpoint;
mod error;
mod held;
mod history;
mod intake;
mod lines;
mod log;
mod memory;
mod nudge;
mod output;
mod pace;
mod push;
mod screen;
mod sizes;
mod slots;
mod state;
mod transit;

pub use attachment::Attachment;
pub use channel::Channel;
pub use clients::ClientInfo;
pub use endpoint::Endpoint;
pub use error::Error;
pub use held::{Held, Identity};
pub use history::{Chunk, HISTORY_BYTES, History};
pub use intake::Standstill;
pub use log::{Log, LogStyle};
pub use nudge::{Hearing, Nudge, Peer};
pub use screen::{
    Cell, Colour, Cursor, Intensity, MAX_ANSWERS, MAX_COLUMNS, MAX_ROWS, Screen, Style,
};
pub use sizes::{SIZES_MAX, WindowSize};
