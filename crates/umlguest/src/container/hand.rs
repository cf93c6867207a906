//! Hands descriptors to a process that this program begins, over the socket that is its standard input (umlguest).
//!
//! Why so: a descriptor that is only inherited has a number, and to take it from its number is unsafe.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail};
use guest_line::{Command, MAX_COMMAND, decode, encode};
use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// How many descriptors there are at most.
const MOST: usize = 5;

/// What a process is handed.
pub(super) struct Hand {
    /// Its standard input, output and error output.
    pub(super) streams: [OwnedFd; 3],
    /// A file with the encoded command.
    order: OwnedFd,
    /// The first process of the container that it joins.
    pub(super) first: Option<OwnedFd>,
}

impl Hand {
    /// For this command.
    pub(super) fn new(streams: [OwnedFd; 3], command: &Command) -> anyhow::Result<Hand> {
        let order = memfd_create("umlguest", MemfdFlags::CLOEXEC);
        let mut order = File::from(order.context("cannot make a file in memory")?);
        order.write_all(&encode(command, MAX_COMMAND)?)?;
        Ok(Hand {
            streams,
            order: order.into(),
            first: None,
        })
    }

    /// The command.
    pub(super) fn command(&self) -> anyhow::Result<Command> {
        let mut order = File::from(self.order.try_clone()?);
        let mut bytes = Vec::new();
        order.rewind()?;
        order.read_to_end(&mut bytes)?;
        Ok(decode(&bytes)?)
    }

    /// Hands it over. What was handed over is closed here, so that pipes end when the other process ends.
    pub(super) fn send(self, socket: &UnixStream) -> anyhow::Result<()> {
        let all = self.streams.iter().chain([&self.order]).chain(&self.first);
        let all: Vec<BorrowedFd<'_>> = all.map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&all));
        let byte = [IoSlice::new(&[0])];
        sendmsg(socket, &byte, &mut ancillary, SendFlags::empty())
            .context("cannot hand descriptors over")?;
        Ok(())
    }

    /// Takes it.
    pub(super) fn receive(socket: &UnixStream) -> anyhow::Result<Hand> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut bytes = [IoSliceMut::new(&mut byte)];
        recvmsg(socket, &mut bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .context("cannot take descriptors")?;
        let mut taken = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                taken.extend(files);
            }
        }
        let mut taken = taken.into_iter();
        let mut next = || taken.next();
        let (Some(stdin), Some(stdout), Some(stderr), Some(order)) =
            (next(), next(), next(), next())
        else {
            bail!("descriptors are missing");
        };
        Ok(Hand {
            streams: [stdin, stdout, stderr],
            order,
            first: next(),
        })
    }
}

/// The socket that this process has as its standard input.
pub(super) fn socket() -> anyhow::Result<UnixStream> {
    let socket = rustix::stdio::stdin().try_clone_to_owned();
    Ok(socket.context("there is no standard input")?.into())
}
