//! The process that makes the connections of a VM with `ethN = user(...)`: started with the networks of the VM, started
//! again if it ends, and killed with them (umlmon, the monitor process).
//!
//! ```text
//! kernel == tap, bridge, tap == slirp4netns == sockets of the VM's user on the host
//!    the network of the VM   |   the second process, see second/connector.rs
//! ```
//!
//! It goes on without a monitor, as long as the second process that keeps the kernel holds [`Ends`]. The file
//! `VARDIR/VM/connections` says which process it is, and is written before that has its order, so none goes on that the
//! next monitor does not know.
//!
//! The process is not trusted more than a guest: the monitor reads a byte, short replies and text for the log from it,
//! and waits for none of them without a deadline.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use config::Forward;
use net::user::{GUEST, PROGRAM, UserEnd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use sys::Network;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::life::connector_record as record;
use crate::second::confined::{Confined, printable};
use crate::second::connector::{DIRECTORY, NETWORK, OUTPUT, READY};
use crate::second::orders::{ConnectOrder, ToWorker};
use crate::setup::Setup;

/// How long it may take until it is ready, and to carry out an order. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before it is started again: it doubles from the first to the last of these, if the process does not live
/// for the last one.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(60)];
/// The longest reply, and the most of its output that is read at once and shown.
const MAX_TEXT: usize = 4 << 10;
/// How many of such pieces of its output there may be: more than fit into a socket.
const MAX_PIECES: usize = 256;
/// The name of its socket for orders.
const SOCKET: &str = "orders";

/// The process, as long as it is wanted. Dropping it ends the process.
#[derive(Debug)]
pub struct Connections {
    wanted: Rc<Wanted>,
    process: Rc<RefCell<Option<Rc<Confined>>>>,
    keeper: JoinHandle<()>,
}

/// Both ends of a pair of sockets. The process has the second one for its output, and ends when nobody has the first
/// one any more.
#[derive(Debug)]
pub struct Ends([OwnedFd; 2]);

impl Ends {
    /// What they are called.
    pub const NAMES: [&str; 2] = ["connections.output", "connections.input"];

    fn new() -> io::Result<Ends> {
        // If nobody reads what it says, it must not wait for that.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(Ends([ours, its]))
    }

    /// Those of a process that another monitor has started.
    pub fn held(ends: [OwnedFd; 2]) -> Ends {
        Ends(ends)
    }
}

impl Connections {
    /// Starts the process; it is ready when this returns.
    ///
    /// # Errors
    /// [`Failure::Failed`] with what it says.
    pub fn begin(setup: &Rc<Setup>, end: &UserEnd<'_>) -> Result<Connections, Failure> {
        let failed = |error: io::Error| Failure::Failed(error.to_string());
        let ends = Ends::new().map_err(failed)?;
        let wanted = Wanted::new(setup, end, ends).map_err(failed)?;
        let process = wanted.start().map_err(Failure::Failed)?;
        Ok(Connections::of(wanted, Some(process)))
    }

    /// Goes on with the process that another monitor has started. If it has ended meanwhile, it is started again.
    ///
    /// # Errors
    /// [`Failure::Failed`] if it cannot be watched.
    pub fn adopt(setup: &Rc<Setup>, end: &UserEnd<'_>, ends: Ends) -> Result<Connections, Failure> {
        let failed = |error: io::Error| {
            Failure::Failed(format!("the process that makes its connections: {error}"))
        };
        let process = record::find(setup.jail.vm_dir()).map_err(failed)?;
        let wanted = Wanted::new(setup, end, ends).map_err(failed)?;
        Ok(Connections::of(wanted, process))
    }

    fn of(wanted: Wanted, process: Option<Confined>) -> Connections {
        let wanted = Rc::new(wanted);
        let process = Rc::new(RefCell::new(process.map(Rc::new)));
        let keeper = tokio::task::spawn_local(keep(Rc::clone(&wanted), Rc::clone(&process)));
        Connections {
            wanted,
            process,
            keeper,
        }
    }

    /// What must be held so that the process goes on without a monitor, each with its name.
    ///
    /// # Errors
    /// As dup(2).
    pub fn held(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        let ends = Ends::NAMES.into_iter().zip(&self.wanted.ends.0);
        ends.map(|(name, end)| Ok((name, end.try_clone()?)))
            .collect()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.keeper.abort();
        if let Some(process) = &*self.process.borrow() {
            // Its ports are free when this returns: the next start may be the next thing.
            process.end();
        }
        if let Err(error) = record::remove(self.wanted.setup.jail.vm_dir()) {
            // It names a process that has ended.
            tracing::warn!("cannot remove the record of the connections of the VM: {error}");
        }
    }
}

/// All that is needed to start the process.
struct Wanted {
    setup: Rc<Setup>,
    order: ConnectOrder,
    user: OwnedFd,
    network: OwnedFd,
    forwards: Vec<Forward>,
    ends: Ends,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted")
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

impl Wanted {
    fn new(setup: &Rc<Setup>, end: &UserEnd<'_>, ends: Ends) -> io::Result<Wanted> {
        let account = setup.jail.account();
        Ok(Wanted {
            setup: Rc::clone(setup),
            order: ConnectOrder {
                uid: account.uid,
                gid: account.gid,
                program: PROGRAM.to_owned(),
                arguments: arguments(end),
            },
            user: end.user.try_clone_to_owned()?,
            network: end.network.try_clone_to_owned()?,
            forwards: end.forwards.to_vec(),
            ends,
        })
    }

    /// Starts it, waits until it is ready, and has it forward the ports.
    fn start(&self) -> Result<Confined, String> {
        let cannot = |error: io::Error| format!("cannot start {PROGRAM}: {error}");
        let (ready, its_ready) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| cannot(error.into()))?;
        let directory = jail::socket_directory(self.order.uid, self.order.gid).map_err(cannot)?;
        let Ends([_, its_output]) = &self.ends;
        // In the order of their numbers in connector.rs.
        let ends = [
            &self.user,
            its_output,
            &self.network,
            &directory,
            &its_ready,
        ];
        let title = format!("umlmon: {} connections", self.setup.name());
        let process = Confined::launch_waiting(None, &title, &ends.map(AsFd::as_fd), Network::Host);
        let process = process.map_err(cannot)?;
        drop(its_ready);
        let recorded = record::write(self.setup.jail.vm_dir(), &process);
        recorded.map_err(|error| format!("cannot record {PROGRAM}: {error}"))?;
        let order = ToWorker::Connect(Box::new(self.order.clone()));
        process.give(&order).map_err(cannot)?;
        if !says_ready(&ready) {
            let said = self.last_words();
            return Err(format!("{PROGRAM} does not start: {said}"));
        }
        for forward in &self.forwards {
            let asked = ask(&directory, forward);
            asked.map_err(|why| format!("the port {forward} cannot be forwarded: {why}"))?;
        }
        Ok(process)
    }

    /// The last line that the process has written.
    fn last_words(&self) -> String {
        let Ends([output, _]) = &self.ends;
        let (mut said, mut piece) = (Vec::new(), [0; MAX_TEXT]);
        // An error is the end of what is there; it does not wait.
        for _ in 0..MAX_PIECES {
            match rustix::io::read(output, &mut piece[..]) {
                Ok(length @ 1..) => said.extend_from_slice(piece.get(..length).unwrap_or_default()),
                _ => break,
            }
            said.drain(..said.len().saturating_sub(MAX_TEXT));
        }
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().rfind(|line| !line.trim().is_empty());
        printable(line.unwrap_or("it gives no reason"))
    }
}

/// Waits for its end, again and again.
async fn keep(wanted: Rc<Wanted>, present: Rc<RefCell<Option<Rc<Confined>>>>) {
    let [first, longest] = PAUSES;
    let mut pause = first;
    let mut since = Instant::now();
    loop {
        let process = present.borrow().clone();
        if let Some(process) = process {
            process.ended().await;
        }
        tracing::error!(
            "the process that makes the connections of the VM has ended ({}), and is started again",
            wanted.last_words()
        );
        if since.elapsed() > longest {
            pause = first;
        }
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
            match wanted.start() {
                Ok(started) => {
                    present.replace(Some(Rc::new(started)));
                    break;
                }
                Err(why) => tracing::error!("{why}; the VM has no connections"),
            }
        }
        since = Instant::now();
        tracing::info!("the VM has its connections again");
    }
}

/// The words of slirp4netns(1).
fn arguments(end: &UserEnd<'_>) -> Vec<String> {
    let mut words = vec![
        "--netns-type=path".to_owned(),
        "--enable-sandbox".to_owned(),
        "--enable-seccomp".to_owned(),
        // What listens on 127.0.0.1 of the host is not for guests.
        "--disable-host-loopback".to_owned(),
        format!("--ready-fd={READY}"),
        format!("--exit-fd={OUTPUT}"),
        format!("--api-socket=/proc/self/fd/{DIRECTORY}/{SOCKET}"),
    ];
    words.extend(end.mtu.map(|mtu| format!("--mtu={mtu}")));
    words.extend(host_has_ipv6().then(|| "--enable-ipv6".to_owned()));
    words.push(format!("/proc/self/fd/{NETWORK}"));
    words.push(end.tap.to_owned());
    words
}

/// Whether the host has a default route of IPv6 (/proc/net/ipv6_route): without it, a guest would try in vain.
fn host_has_ipv6() -> bool {
    let routes = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    routes.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00");
        is_default && fields.last().is_some_and(|interface| *interface != "lo")
    })
}

/// Whether it says that it is ready, within the deadline.
fn says_ready(pipe: &OwnedFd) -> bool {
    let timeout = Timespec::try_from(PATIENCE).ok();
    let mut said = [PollFd::new(pipe, PollFlags::IN)];
    while poll(&mut said, timeout.as_ref()) == Err(Errno::INTR) {}
    let [said] = said;
    let mut byte = [0];
    said.revents().contains(PollFlags::IN)
        && retry_on_intr(|| rustix::io::read(pipe, &mut byte[..])) == Ok(1)
}

/// Has it forward a port (slirp4netns(1), API SOCKET).
fn ask(directory: &OwnedFd, forward: &Forward) -> Result<(), String> {
    let request = json!({"execute": "add_hostfwd", "arguments": {
        "proto": forward.protocol.to_string(),
        "host_addr": forward.host.ip().to_string(),
        "host_port": forward.host.port(),
        "guest_addr": GUEST.to_string(),
        "guest_port": forward.guest,
    }});
    let exchange = || -> io::Result<String> {
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(request.to_string().as_bytes())?;
        socket.shutdown(std::net::Shutdown::Write)?;
        let mut reply = String::new();
        socket.take(MAX_TEXT as u64).read_to_string(&mut reply)?;
        Ok(reply)
    };
    let reply = exchange().map_err(|error| error.to_string())?;
    let read: serde_json::Value = serde_json::from_str(&reply).unwrap_or_default();
    match read.get("return") {
        Some(_) => Ok(()),
        None => Err(printable(&reply)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_the_host_is_not_for_guests() {
        let null = fs::File::open("/dev/null").unwrap();
        let words = arguments(&UserEnd {
            user: null.as_fd(),
            network: null.as_fd(),
            tap: "t",
            mtu: Some(9000),
            forwards: &[],
        });
        for word in ["--disable-host-loopback", "--enable-sandbox", "--mtu=9000"] {
            assert!(words.iter().any(|it| it == word), "{word}");
        }
    }

    #[test]
    fn a_process_that_ends_is_not_ready() {
        let (pipe, its_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::write(&its_end, b"1").unwrap();
        assert!(says_ready(&pipe));
        drop(its_end);
        assert!(!says_ready(&pipe));
    }
}
