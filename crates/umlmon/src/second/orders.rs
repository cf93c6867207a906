//! The messages between the monitor and a second process, and the arguments with which the second process begins
//! (umlmon, both processes).
//!
//! There is one enum per direction. Messages are JSON, one per packet of a `SOCK_SEQPACKET` pair.

use std::ffi::CStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use disks::work::{Entry, Task};
use jail::{Account, Confinement, Features, Inspection};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, send, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The argument that tells a second process from the monitor.
pub(crate) const ARGUMENT: &CStr = c"--child";

/// The number under which the second process inherits its end of the pipe.
pub(crate) const PIPE_FD: i32 = 3;
/// The number of the first further descriptor that it inherits.
pub(crate) const FIRST_END_FD: i32 = 4;
/// The longest order. One for a kernel has its arguments in it.
pub(crate) const MAX_ORDER: usize = 64 << 10;
/// The longest report.
pub(crate) const MAX_REPORT: usize = 8 << 10;
/// The longest further message to the process that supervises the kernel.
pub(crate) const MAX_WORD: usize = 256;
/// How many descriptors one message can bring (the host's kernel allows 253, SCM_MAX_FD).
pub(crate) const MAX_HELD: usize = 64;

/// What the second process is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Name of the VM, shown in the process listing.
    pub name: String,
    /// How to confine itself.
    pub confinement: Confinement,
    /// The kernel, as seen in the jail.
    pub kernel: String,
    /// Its arguments, with the zeroth.
    pub argv: Vec<String>,
    /// Its environment, as `NAME=value`.
    pub env: Vec<String>,
}

/// Work on disks that a second process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOrder {
    /// How to confine itself.
    pub confinement: Confinement,
    /// The work.
    pub task: Task,
}

/// A look at a kernel that a second process is to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookOrder {
    /// How to confine itself.
    pub confinement: Confinement,
    /// The kernel, as seen in the jail.
    pub kernel: String,
    /// Who is to execute it.
    pub account: Account,
    /// Whether it matters what it can do.
    pub features: bool,
}

/// The program that makes the connections of a VM, which a second process is to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectOrder {
    /// The VM's user on the host.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    /// The program.
    pub program: String,
    /// Its arguments, without the zeroth.
    pub arguments: Vec<String>,
}

/// From the monitor to the process that supervises the kernel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// As first message: start the kernel, with this number of channels and, after them, mounts of shared directories.
    Launch(Box<Launch>, usize),
    /// Make the kernel look at its descriptors again (SIGIO).
    Nudge,
    /// Hold the descriptors that come with this message until the end, and answer with their numbers.
    Hold,
    /// Go on if the monitor dies: all that the next one needs is held, and recorded.
    Outlive,
    /// Another monitor has taken over: say once more how the kernel has ended, if it has.
    Report,
    /// The end of the kernel is known: end.
    End,
}

/// From the monitor to any other second process, once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// Work on disks, then end.
    Work(Box<DiskOrder>),
    /// Look at a kernel, then end.
    Look(Box<LookOrder>),
    /// Make the connections of the VM.
    Connect(Box<ConnectOrder>),
}

/// From the second process to the monitor: `Started` or `Failed`; if it was started, a `Holds` for each `Hold`, and at
/// last `Exited`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// The kernel is executing.
    Started {
        /// Its process ID on the host, 0 if it cannot be told.
        kernel_pid: u32,
    },
    /// The kernel could not be started.
    Failed {
        /// What was being done.
        step: String,
        /// Why it did not work.
        error: String,
    },
    /// It holds the descriptors that it was given last.
    Holds {
        /// Their numbers, in the order in which they came.
        numbers: Vec<i32>,
    },
    /// The kernel has ended.
    Exited {
        /// Exit status, if it exited.
        status: Option<i32>,
        /// The signal, if one ended it.
        signal: Option<i32>,
    },
}

/// From the process that works on disks to the monitor: anything of the first two, then one of the last two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// So much is done.
    Progress {
        /// Bytes.
        done: u64,
        /// Bytes.
        total: u64,
    },
    /// A disk was found.
    Found(Box<Entry>),
    /// All is done.
    Done,
    /// It was not done, and why.
    Failed(String),
}

/// From the process that looks at a kernel to the monitor, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromLooker {
    /// It can be started.
    Looked(Box<Looked>),
    /// What is wrong with it.
    Failed(String),
}

/// What was seen of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// What its file is and needs.
    pub inspection: Inspection,
    /// What it can do, if that matters.
    pub features: Features,
}

/// Receives the first message of the monitor.
pub(crate) fn receive_order<T: DeserializeOwned>(pipe: &OwnedFd) -> Result<T, Failed> {
    let receive = || {
        let mut buffer = vec![0; MAX_ORDER];
        let length = receive(pipe, &mut buffer)?;
        let order = buffer
            .get(..length)
            .ok_or_else(|| io::Error::other("it is too long"))?;
        Ok(serde_json::from_slice(order)?)
    };
    receive().map_err(Failed::at("read the task"))
}

/// Receives one message; gives its whole length, even if the buffer is shorter.
pub(crate) fn receive(pipe: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    retry_on_intr(|| recv(pipe, &mut *buffer, RecvFlags::TRUNC)).map(|(_, length)| length)
}

/// Receives one message of at most [`MAX_WORD`] bytes, and the descriptors that come with it.
pub(crate) fn receive_word<T: DeserializeOwned>(pipe: &OwnedFd) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut text = [0; MAX_WORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HELD))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        let buffer = &mut [IoSliceMut::new(&mut text)];
        recvmsg(pipe, buffer, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let came = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(came) => came.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let came = came.collect();
    let text = text.get(..received.bytes).unwrap_or_default();
    Ok((serde_json::from_slice(text)?, came))
}

/// Sends a message, and at most [`MAX_HELD`] descriptors with it. It does not wait.
pub(crate) fn send_with(
    pipe: &OwnedFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HELD))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = sendmsg(pipe, &[IoSlice::new(&text)], &mut ancillary, flags);
    Ok(sent.map(drop)?)
}

/// A step that failed, to be reported.
pub(crate) struct Failed {
    pub(crate) step: String,
    pub(crate) error: String,
}

impl Failed {
    pub(crate) fn at(step: &str) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self {
            step: step.to_owned(),
            error: error.to_string(),
        }
    }
}

/// Confines this process permanently; with these mounts of shared directories.
pub(crate) fn confine(confinement: &Confinement, mounts: Vec<OwnedFd>) -> Result<(), Failed> {
    confinement.confine(mounts).map_err(|error| Failed {
        step: "confine the child".to_owned(),
        error: error.to_string(),
    })
}

/// Reports to the monitor. If the monitor is gone, the next step will notice.
pub(crate) fn report(pipe: &OwnedFd, message: &impl Serialize) {
    if let Ok(text) = serde_json::to_vec(message) {
        let _ = retry_on_intr(|| send(pipe, &text, SendFlags::NOSIGNAL));
    }
}
