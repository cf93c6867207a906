//! The management console of a running kernel: commands with deadlines, and the kernel's own notices (umlmon, the
//! monitor process).
//!
//! Wire format, in host byte order (arch/um/include/shared/mconsole.h):
//!
//! ```text
//! request  u32 magic 0xcafebabe | u32 version 2 | u32 len | data[len]      len <= 511
//! reply    u32 err | u32 more | u32 len | data[len]                        len <= 512, counts a final NUL
//! notice   u32 magic 0xcafebabe | u32 version 2 | u32 type | u32 len | data[len]
//! ```
//!
//! A guest process that has broken out owns both sockets, so everything read here is hostile: sizes are limited, each
//! wait has a deadline, and no path is followed out of the jail's `/tmp`.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, recv};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
/// The longest command the kernel takes.
pub const MAX_COMMAND: usize = 511;
/// The longest data in one datagram; the kernel sends at most 512.
const MAX_DATA: usize = 4096;
/// The most that all datagrams of one reply may sum up to.
const MAX_REPLY: usize = 1 << 20;
/// The most datagrams of one reply. A kernel that lists all its tasks sends one for each line.
const MAX_PARTS: usize = 1 << 15;
/// If the first part of a reply has arrived and then nothing for this long, its end is lost: the kernel sends without
/// waiting, and the socket's queue is short.
const REPLY_GAP: Duration = Duration::from_secs(1);

/// The name of the socket for notices below the jail's `/tmp`. VM names cannot begin with a dot, so it never collides
/// with the kernel's own directory.
pub const NOTIFY_NAME: &str = ".notify";

/// What can go wrong with a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no socket, or no process listens.
    #[error("the kernel's mconsole cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// No answer in time.
    #[error("the kernel does not answer on its mconsole (-kill ends it)")]
    Timeout,
    /// The kernel refused, with this text.
    #[error("the kernel refused `{command}`: {text}")]
    Refused {
        /// The command as sent.
        command: String,
        /// The kernel's answer.
        text: String,
    },
    /// The answer is not one.
    #[error("the kernel's mconsole sent an invalid reply: {0}")]
    Nonsense(&'static str),
}

/// One datagram of a reply.
#[derive(Debug, PartialEq, Eq)]
pub struct ReplyPart<'a> {
    /// 0, or why the command failed: 1 or a negative errno.
    pub err: u32,
    /// Another datagram follows.
    pub more: bool,
    /// The text without its final NUL.
    pub data: &'a [u8],
}

/// A notice that the kernel sends on its own account (`mconsole=notify:`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The mconsole socket is ready for commands.
    Ready,
    /// The guest kernel panics, with its message.
    Panic(String),
    /// The kernel believes it hangs.
    Hang,
    /// The guest wrote this to `/proc/mconsole`.
    Guest(String),
}

/// The request datagram for a command.
///
/// # Errors
/// [`Error::Nonsense`] if the command is longer than the kernel takes.
pub fn encode_request(command: &str) -> Result<Vec<u8>, Error> {
    let len = u32::try_from(command.len())
        .ok()
        .filter(|_| command.len() <= MAX_COMMAND);
    let len = len.ok_or(Error::Nonsense("the command is too long"))?;
    let mut packet = Vec::with_capacity(12 + command.len());
    for word in [MAGIC, VERSION, len] {
        packet.extend_from_slice(&word.to_ne_bytes());
    }
    packet.extend_from_slice(command.as_bytes());
    Ok(packet)
}

/// Reads one datagram of a reply.
///
/// # Errors
/// [`Error::Nonsense`] if lengths do not agree.
pub fn parse_reply(packet: &[u8]) -> Result<ReplyPart<'_>, Error> {
    let ([err, more, len], data) =
        split_words(packet).ok_or(Error::Nonsense("a reply is too short"))?;
    let data = counted(data, len).ok_or(Error::Nonsense("a reply's length is wrong"))?;
    Ok(ReplyPart {
        err,
        more: more != 0,
        data: trim_nul(data),
    })
}

/// Reads one notice.
///
/// # Errors
/// [`Error::Nonsense`] if it is none, or of an unknown type.
pub fn parse_notify(packet: &[u8]) -> Result<Notice, Error> {
    let ([magic, version, kind, len], data) =
        split_words(packet).ok_or(Error::Nonsense("a notice is too short"))?;
    if magic != MAGIC || version != VERSION {
        return Err(Error::Nonsense("a notice has the wrong magic number"));
    }
    let data = counted(data, len).ok_or(Error::Nonsense("a notice's length is wrong"))?;
    let text = || String::from_utf8_lossy(trim_nul(data)).trim().to_owned();
    match kind {
        0 => Ok(Notice::Ready),
        1 => Ok(Notice::Panic(text())),
        2 => Ok(Notice::Hang),
        3 => Ok(Notice::Guest(text())),
        _ => Err(Error::Nonsense("a notice is of an unknown type")),
    }
}

/// The leading words of a packet, and the rest.
fn split_words<const N: usize>(packet: &[u8]) -> Option<([u32; N], &[u8])> {
    let mut words = [0; N];
    let mut rest = packet;
    for word in &mut words {
        let (bytes, tail) = rest.split_first_chunk::<4>()?;
        *word = u32::from_ne_bytes(*bytes);
        rest = tail;
    }
    Some((words, rest))
}

fn counted(data: &[u8], len: u32) -> Option<&[u8]> {
    data.get(..usize::try_from(len).ok().filter(|len| *len <= MAX_DATA)?)
}

fn trim_nul(data: &[u8]) -> &[u8] {
    data.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The mconsole of one run of the kernel.
#[derive(Debug)]
pub struct Mconsole {
    /// The jail's `/tmp`, held open: a path from the root could be redirected.
    tmp: OwnedFd,
    /// `UMID/mconsole`.
    path: String,
    /// The kernel's network namespace, if it is not ours: an abstract address of a socket is valid in one namespace
    /// only.
    network: Option<OwnedFd>,
}

impl Mconsole {
    /// The mconsole of the kernel whose `uml_dir` is the directory `tmp` and whose name is `umid`.
    pub fn new(tmp: OwnedFd, umid: &str) -> Mconsole {
        Mconsole {
            tmp,
            path: format!("{umid}/mconsole"),
            network: None,
        }
    }

    /// The kernel is in this network namespace.
    #[must_use]
    pub fn in_network(self, network: Option<OwnedFd>) -> Mconsole {
        Mconsole { network, ..self }
    }

    /// Sends a command and returns the kernel's answer.
    ///
    /// Each call has a socket of its own, so that a late answer to an earlier call is discarded.
    ///
    /// # Errors
    /// See [`Error`]; `deadline` is for the whole exchange.
    pub async fn call(&self, command: &str, deadline: Duration) -> Result<String, Error> {
        let answer = timeout(deadline, self.exchange(command)).await;
        let (err, answer) = answer.map_err(|_| Error::Timeout)??;
        let text = String::from_utf8_lossy(&answer).trim().to_owned();
        match err {
            0 => Ok(text),
            _ => Err(Error::Refused {
                command: command.to_owned(),
                text,
            }),
        }
    }

    /// The error number and the text of the answer to a command.
    async fn exchange(&self, command: &str) -> Result<(u32, Vec<u8>), Error> {
        let request = encode_request(command)?;
        let socket = self.connect().map_err(Error::Unreachable)?;
        socket.send(&request).await.map_err(Error::Unreachable)?;
        let mut answer = Vec::new();
        let mut packet = [0; 12 + MAX_DATA];
        let mut received = socket.recv(&mut packet).await;
        for _ in 0..MAX_PARTS {
            let len = received.map_err(Error::Unreachable)?;
            let part = parse_reply(packet.get(..len).unwrap_or_default())?;
            answer.extend_from_slice(part.data);
            if answer.len() > MAX_REPLY {
                break;
            }
            if !part.more {
                return Ok((part.err, answer));
            }
            received = match timeout(REPLY_GAP, socket.recv(&mut packet)).await {
                Ok(received) => received,
                Err(_) if answer.is_empty() => return Err(Error::Timeout),
                Err(_) => return Ok((0, answer)),
            };
        }
        Err(Error::Nonsense("a reply without an end"))
    }

    /// A socket with an address chosen by the kernel (unix(7), autobind), connected so that it receives from this peer
    /// only.
    fn connect(&self) -> io::Result<UnixDatagram> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let node = rustix::fs::openat2(
            self.tmp.as_fd(),
            self.path.as_str(),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            how,
        )?;
        let socket = match &self.network {
            None => socket()?,
            Some(network) => sys::in_network(network, socket)?,
        };
        rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
        let socket = StdDatagram::from(socket);
        // A path through the held descriptor does not walk the jail again and is below the limit of 108 bytes.
        socket.connect(format!("/proc/self/fd/{}", node.as_raw_fd()))?;
        UnixDatagram::from_std(socket)
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        flags,
        None,
    )?)
}

/// The socket on which the kernel tells what happens to it.
///
/// A notice stays in the socket until the next one is asked for: if the monitor dies before it has acted on it, the
/// next one reads it, too.
#[derive(Debug)]
pub struct Notices {
    socket: UnixDatagram,
    /// The first notice in the socket was read.
    read: Cell<bool>,
}

impl Notices {
    /// Binds the socket in the fresh `/tmp` of the jail, where any user may write to it.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn bind(tmp: &OwnedFd) -> io::Result<Notices> {
        let path = format!("/proc/self/fd/{}/{NOTIFY_NAME}", tmp.as_raw_fd());
        // The mode must be right from the beginning: a later chmod by path could be redirected. The process has one
        // thread, so nothing else is created meanwhile.
        let umask = rustix::process::umask(Mode::empty());
        let socket = StdDatagram::bind(path);
        rustix::process::umask(umask);
        Notices::of(socket?)
    }

    /// The socket that another monitor has bound.
    ///
    /// # Errors
    /// If it is no such socket.
    pub fn adopt(socket: OwnedFd) -> io::Result<Notices> {
        Notices::of(socket.into())
    }

    fn of(socket: StdDatagram) -> io::Result<Notices> {
        socket.set_nonblocking(true)?;
        Ok(Notices {
            socket: UnixDatagram::from_std(socket)?,
            read: Cell::new(false),
        })
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next notice; datagrams that are no notice are ignored.
    ///
    /// # Errors
    /// Those of recv(2).
    pub async fn next(&self) -> io::Result<Notice> {
        let mut packet = [0; 16 + MAX_DATA];
        loop {
            if self.read.take() {
                // It was there a moment ago.
                let _ = recv(&self.socket, &mut packet, RecvFlags::DONTWAIT);
            }
            let look = || Ok(recv(&self.socket, &mut packet, RecvFlags::PEEK)?);
            let (len, _) = self.socket.async_io(Interest::READABLE, look).await?;
            self.read.set(true);
            if let Ok(notice) = parse_notify(packet.get(..len).unwrap_or_default()) {
                return Ok(notice);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_the_kernel_expects() {
        // Seen on a little-endian host.
        let expected = b"\xbe\xba\xfe\xca\x02\x00\x00\x00\x07\x00\x00\x00version"
            .map(|byte| byte)
            .to_vec();
        if cfg!(target_endian = "little") {
            assert_eq!(encode_request("version").unwrap(), expected);
        }
        assert!(encode_request(&"x".repeat(512)).is_err());
    }

    fn packet(words: &[u32], data: &[u8]) -> Vec<u8> {
        words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .chain(data.iter().copied())
            .collect()
    }

    #[test]
    fn replies() {
        let good = packet(&[0, 1, 3], b"ok\0");
        assert_eq!(
            parse_reply(&good).unwrap(),
            ReplyPart {
                err: 0,
                more: true,
                data: b"ok"
            }
        );
        for bad in [
            packet(&[0, 0], b""),
            packet(&[0, 0, 5], b"1234"),
            packet(&[0, 0, u32::MAX], b"1234"),
            vec![],
        ] {
            assert!(parse_reply(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn notices() {
        let notice = |kind, data: &[u8]| {
            parse_notify(&packet(
                &[MAGIC, VERSION, kind, u32::try_from(data.len()).unwrap()],
                data,
            ))
        };
        assert_eq!(notice(0, b"/tmp/vm1/mconsole\0").unwrap(), Notice::Ready);
        assert_eq!(
            notice(1, b"Attempted to kill init!\0").unwrap(),
            Notice::Panic("Attempted to kill init!".into())
        );
        assert_eq!(
            notice(3, b"ready\n").unwrap(),
            Notice::Guest("ready".into())
        );
        assert!(notice(9, b"").is_err());
        assert!(parse_notify(&packet(&[1, VERSION, 0, 0], b"")).is_err());
        assert!(parse_notify(&packet(&[MAGIC, VERSION, 0, 9], b"")).is_err());
    }

    /// A stand-in for the kernel's end: a thread that answers each request as the test says.
    fn kernel(dir: &std::path::Path, answers: Vec<Vec<Vec<u8>>>) -> Mconsole {
        std::fs::create_dir(dir.join("vm1")).unwrap();
        let socket = StdDatagram::bind(dir.join("vm1/mconsole")).unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let mut request = [0; 600];
                let (_, from) = socket.recv_from(&mut request).unwrap();
                for part in answer {
                    // The caller may have closed its socket already.
                    let _ = socket.send_to_addr(&part, &from);
                }
            }
        });
        Mconsole::new(std::fs::File::open(dir).unwrap().into(), "vm1")
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn an_answer_in_parts_is_put_together() {
        let dir = tempfile::tempdir().unwrap();
        let parts = vec![packet(&[0, 1, 5], b"Linux"), packet(&[0, 0, 5], b" uml\0")];
        let mconsole = kernel(dir.path(), vec![parts]);
        assert_eq!(
            block_on(mconsole.call("version", SHORT)).unwrap(),
            "Linux uml"
        );
    }

    #[test]
    fn a_refusal_silence_and_an_absent_kernel_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = vec![packet(&[1, 0, 16], b"Unknown command\0")];
        let mconsole = kernel(dir.path(), vec![refusal, vec![]]);
        block_on(async {
            let refused = mconsole.call("frobnicate", SHORT).await.unwrap_err();
            assert_eq!(
                refused.to_string(),
                "the kernel refused `frobnicate`: Unknown command"
            );
            assert!(matches!(
                mconsole.call("version", SHORT).await,
                Err(Error::Timeout)
            ));
            std::fs::remove_file(dir.path().join("vm1/mconsole")).unwrap();
            assert!(matches!(
                mconsole.call("version", SHORT).await,
                Err(Error::Unreachable(_))
            ));
        });
    }

    #[test]
    fn late_double_and_foreign_answers_are_not_heard() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("vm1")).unwrap();
        let socket = StdDatagram::bind(dir.path().join("vm1/mconsole")).unwrap();
        let answering = std::thread::spawn(move || {
            let mut request = [0; 600];
            let (_, first) = socket.recv_from(&mut request).unwrap();
            let (_, second) = socket.recv_from(&mut request).unwrap();
            let stranger = StdDatagram::unbound().unwrap();
            let wrong = packet(&[0, 0, 6], b"wrong\0");
            assert!(stranger.send_to_addr(&wrong, &second).is_err());
            // A process that another test has just made holds the first socket until it executes its program.
            while socket.send_to_addr(&wrong, &first).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
            socket
                .send_to_addr(&packet(&[0, 0, 6], b"right\0"), &second)
                .unwrap();
            // It may have gone by now.
            let _ = socket.send_to_addr(&wrong, &second);
            let (_, third) = socket.recv_from(&mut request).unwrap();
            let good = packet(&[0, 0, 5], b"good\0");
            socket.send_to_addr(&good, &third).unwrap();
        });
        let mconsole = Mconsole::new(std::fs::File::open(dir.path()).unwrap().into(), "vm1");
        block_on(async {
            let silence = mconsole.call("version", SHORT).await;
            assert!(matches!(silence, Err(Error::Timeout)));
            let patience = Duration::from_secs(20);
            assert_eq!(mconsole.call("version", patience).await.unwrap(), "right");
            assert_eq!(mconsole.call("version", patience).await.unwrap(), "good");
        });
        answering.join().unwrap();
    }

    #[test]
    fn an_endless_reply_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let part = packet(&[0, 1, 4096], &[b'x'; 4096]);
        let empty = packet(&[0, 1, 0], b"");
        let mconsole = kernel(
            dir.path(),
            vec![vec![part; 1000], vec![empty; MAX_PARTS + 1]],
        );
        for _ in 0..2 {
            let result = block_on(mconsole.call("version", Duration::from_secs(20)));
            assert!(matches!(
                result,
                Err(Error::Nonsense("a reply without an end"))
            ));
        }
    }

    #[test]
    fn the_deadline_is_for_the_whole_exchange() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("vm1")).unwrap();
        let socket = StdDatagram::bind(dir.path().join("vm1/mconsole")).unwrap();
        let answering = std::thread::spawn(move || {
            let (_, from) = socket.recv_from(&mut [0; 600]).unwrap();
            // Sooner than the gap, as long as the caller listens.
            while socket
                .send_to_addr(&packet(&[0, 1, 1], b"x"), &from)
                .is_ok()
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mconsole = Mconsole::new(std::fs::File::open(dir.path()).unwrap().into(), "vm1");
        let result = block_on(mconsole.call("version", SHORT));
        assert!(matches!(result, Err(Error::Timeout)), "{result:?}");
        answering.join().unwrap();
    }

    #[test]
    fn a_socket_reached_through_a_planted_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let _socket = StdDatagram::bind(elsewhere.path().join("mconsole")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("vm1")).unwrap();
        let mconsole = Mconsole::new(std::fs::File::open(dir.path()).unwrap().into(), "vm1");
        assert!(matches!(
            block_on(mconsole.call("version", SHORT)),
            Err(Error::Unreachable(_))
        ));
    }
}
