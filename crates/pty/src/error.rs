//! What can go wrong with a channel. Used by the umlmon daemon.

use std::io;
use std::path::PathBuf;

use config::ChannelName;

/// The operation that failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No pseudo terminal.
    #[error("cannot open a pseudo terminal for {channel}: {source}")]
    Open {
        /// For which channel.
        channel: ChannelName,
        /// `ENOSPC`: /proc/sys/kernel/pty/max is reached; `EMFILE`: too many open files.
        source: io::Error,
    },
    /// What a former monitor has left of the channel cannot be used.
    #[error("cannot go on with {channel}: {source}")]
    Adopt {
        /// Which channel.
        channel: ChannelName,
        /// What is wrong with which descriptor.
        source: io::Error,
    },
    /// The record of what a former monitor has left cannot be used.
    #[error("cannot go on with the channels: {source}")]
    Record {
        /// What is wrong with it.
        source: io::Error,
    },
    /// The pseudo terminal refuses an operation.
    #[error("cannot {what} {channel}: {source}")]
    Terminal {
        /// A verb phrase.
        what: &'static str,
        /// Of which channel.
        channel: ChannelName,
        /// The error of the system call.
        source: io::Error,
    },
    /// A log file that cannot be opened, read, or must not be used.
    #[error("cannot {what} the log file {}: {source}", path.display())]
    Log {
        /// A verb phrase.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The error of the system call, or what is wrong with the file.
        source: io::Error,
    },
    /// Another client holds the right to write.
    #[error("{channel} is in use by {who}; take it over with -force-connect")]
    Busy {
        /// Which channel.
        channel: ChannelName,
        /// Who holds it.
        who: String,
    },
    /// The client may only watch.
    #[error("you only watch {channel}; take the right to write first")]
    NotWriter {
        /// Which channel.
        channel: ChannelName,
    },
    /// The client had the right to write, until another one took it.
    #[error("{who} has taken over {channel}")]
    Taken {
        /// Which channel.
        channel: ChannelName,
        /// Who took it.
        who: String,
    },
    /// The kernel has ended and did not take what was typed.
    #[error("the kernel has ended before it took what was typed on {channel}")]
    Ended {
        /// On which channel.
        channel: ChannelName,
    },
    /// No more clients.
    #[error("{channel} has {limit} clients already, which is the limit")]
    TooMany {
        /// Which channel.
        channel: ChannelName,
        /// How many are admitted.
        limit: usize,
    },
}
