//! What is said on the serial line between a monitor and `umlguest`, the helper in its guest.
//!
//! There are two layers. [`Frame`]s are between the monitor and the helper: they carry pieces of streams, and the
//! monitor does not look into them. [`ToGuest`] and [`ToHost`] are between a client and the helper: each message is one
//! piece of a stream, and a stream is one command. So root parses little of what a guest says, and a client, who has no
//! privilege, the rest.
//!
//! The monitor also tells the helper where shared directories are to appear, and what its network interfaces have, in
//! arguments of the kernel. A [`Seed`] is what is said before there is a line: on a disk, for the first boot.
//!
//! Both sides are hostile to each other: every size is bounded, and what is not understood ends what it belongs to.

mod container;
mod copy;
mod count;
mod frame;
mod message;
mod network;
mod seed;
mod share;

pub use container::{
    Action, Capabilities, Container, Limits, Mount, Place, Rights, Source, Usage, is_container_id,
};
pub use copy::{RECEIVE, SEND, receiving, sending};
pub use count::{Heard, Said};
pub use frame::{Decoder, Disturbed, Encoder, Frame, MAX_PIECE, TELL_READ, UNREAD, VERSION};
pub use message::{
    CHUNK, Command, Ending, Key, MAX_COMMAND, Nonsense, Size, ToGuest, ToHost, WINDOW, cost,
    decode, encode,
};
pub use network::{Interface, MAX_INTERFACE, Prefix, Route, interface_argument, interfaces_in};
pub use seed::{BadSeed, MAX_SEED, Seed};
pub use share::{share_argument, shares_in};
