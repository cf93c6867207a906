//! Messages: what a client and the helper say about one command. Each is one piece of its stream.

use serde::{Deserialize, Serialize};

use crate::container::{Action, Place, Usage};
use crate::frame::MAX_PIECE;

/// How much input or output is under way in each direction of each stream until the receiver has passed it on, counted
/// with [`cost`]. The sender stops at the message that reaches it.
pub const WINDOW: u32 = 32 << 10;

/// The receiver tells what it has passed on when it is so much: a message for each piece would take longer than the
/// piece.
pub(crate) const TELL: u32 = WINDOW / 4;

/// What a message with so many bytes of input or output counts for: many short ones need memory, too.
pub fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(WINDOW).saturating_add(32)
}

/// How many bytes of input or output one message has at most.
pub const CHUNK: usize = MAX_PIECE - 16;

/// How many bytes a command has at most, with its arguments and environment.
pub const MAX_COMMAND: usize = 128 << 10;

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// In lines.
    pub rows: u16,
    /// In characters.
    pub columns: u16,
}

/// What a client knows its command by: random, so that no other client goes on with it.
pub type Key = [u8; 16];

/// A command, and what it runs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program, searched for in its `PATH`, and its arguments.
    pub words: Vec<Vec<u8>>,
    /// `NAME=VALUE`, in addition to what the helper gives every command.
    pub environment: Vec<Vec<u8>>,
    /// Where it runs; else in the home directory of its user.
    pub directory: Option<Vec<u8>>,
    /// A user of the guest; else root.
    pub user: Option<Vec<u8>>,
    /// It gets a terminal of this size; else three pipes.
    pub terminal: Option<Size>,
    /// What it runs in. In a container, `user` means nothing.
    pub place: Place,
    /// Its client can go on with it by this.
    pub key: Key,
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// A part of an encoded [`Command`].
    Part(Vec<u8>),
    /// All parts were sent: the command begins.
    Run,
    /// Input of the command.
    Input(Vec<u8>),
    /// There is no more input.
    EndOfInput,
    /// What the client has passed on so far of what the helper said. This counts for nothing; see [`crate::Heard`].
    Taken(u64),
    /// A signal for the command, with its number on Linux.
    Signal(i32),
    /// The terminal has this size now.
    Resize(Size),
    /// Sync the file systems, and power the guest off.
    PowerOff,
    /// The time is this many nanoseconds after 1970-01-01 UTC.
    SetClock(i64),
    /// Forget what is kept of disks, and can be read again.
    DropCaches,
    /// Do something with the container of this identifier.
    Container(String, Action),
    /// Go on with a command that began on a line before this one. It is the first message of its stream, and counts for
    /// nothing.
    Resume {
        /// That of the command.
        key: Key,
        /// What the client has heard so far.
        heard: u64,
        /// What it has passed on.
        taken: u64,
    },
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// What the command wrote to its terminal or its standard output.
    Output(Vec<u8>),
    /// What it wrote to its standard error output.
    Error(Vec<u8>),
    /// What the helper has passed on so far of what the client said. This counts for nothing.
    Taken(u64),
    /// The command has ended. It is the last message; the client ends the stream when it has heard it.
    Ended(Ending),
    /// What was asked for is done.
    Done,
    /// It cannot be done: in words. It is the last message.
    Refused(String),
    /// The program of a command in a container executes now. If it cannot, the helper refuses the command instead.
    Begun,
    /// What a container uses. It is the last message.
    Usage(Usage),
    /// A process of the container, whose first command this is, was killed because the memory was used up.
    OutOfMemory,
    /// The command goes on. Input follows what was heard. This counts for nothing.
    Resumed {
        /// What the helper has heard so far.
        heard: u64,
        /// What it has passed on.
        taken: u64,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

impl Ending {
    /// The exit status that a shell gives for it.
    pub fn status(self) -> i32 {
        match self {
            Ending::Exited(status) => status,
            Ending::Signalled(signal) => 128 + signal,
        }
    }
}

/// The bytes are no message, or one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what was said is not understood")]
pub struct Nonsense;

/// The bytes of a message or a command.
///
/// # Errors
/// If there are more than `limit`.
pub fn encode(value: &impl Serialize, limit: usize) -> Result<Vec<u8>, Nonsense> {
    let bytes = postcard::to_stdvec(value).map_err(|_| Nonsense)?;
    (bytes.len() <= limit).then_some(bytes).ok_or(Nonsense)
}

/// The message or command that the bytes are.
///
/// # Errors
/// If they are none, or something follows it.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Nonsense> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| Nonsense)?;
    rest.is_empty().then_some(value).ok_or(Nonsense)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_chunk_fits_into_a_piece() {
        let input = ToGuest::Input(vec![0xff; CHUNK]);
        let bytes = encode(&input, MAX_PIECE).unwrap();
        assert_eq!(decode(&bytes), Ok(input));
    }

    #[test]
    fn what_follows_a_message_is_refused() {
        let mut bytes = encode(&ToHost::Taken(5), MAX_PIECE).unwrap();
        bytes.push(0);
        assert_eq!(decode::<ToHost>(&bytes), Err(Nonsense));
    }

    proptest! {
        #[test]
        fn noise_is_refused_or_small(noise in prop::collection::vec(any::<u8>(), 0..MAX_PIECE)) {
            if let Ok(ToHost::Output(bytes) | ToHost::Error(bytes)) = decode::<ToHost>(&noise) {
                prop_assert!(bytes.len() < noise.len());
            }
        }
    }

    #[test]
    fn the_status_of_a_signal_is_that_of_a_shell() {
        assert_eq!(Ending::Exited(3).status(), 3);
        assert_eq!(Ending::Signalled(9).status(), 137);
    }
}
