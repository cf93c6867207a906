//! The redirector: lets clients of other hosts reach the monitors by one TCP port (umldir).
//!
//! A client asks for a VM, and its connection becomes one to the monitor's socket `redir`. The monitor asks for the
//! password there; here nobody is known but umlweb, by its user. It comes through a socket in the file system, and says
//! where its own client is.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use config::{Global, VmName};
use daemon::{Acceptor, Account, Crowd, Place, TcpAcceptor};
use rpc_xdr::server::{ServeError, serve_one};
use rpc_xdr::umldir::*;
use rpc_xdr::xdr::Pack as _;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
    sockopt,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::directory::Directory;
use crate::relay::relay;
use crate::service::error;
use crate::sparing::Sparing;

/// How long a client may take to ask for a VM.
const ASKING: Duration = Duration::from_secs(5);

/// Clients that have not asked yet, in all and from one source.
pub const MAX_WAITING: (usize, usize) = (512, 128);

/// Redirected connections at most; and of them, one in four from the same source.
const MAX_REDIRECTED: u64 = 4096;

/// Descriptors that a redirected connection takes. One is left where one has been passed on; while much flows there are
/// pipes too, and the sockets a second time while they are full, but not in all at once.
const DESCRIPTORS: u64 = 4;

/// How long a monitor may be too busy to accept, and how often it is tried again.
const BUSY: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(10);

/// What the procedures need.
#[derive(Debug)]
pub struct Redirector {
    directory: Rc<Directory>,
    global: Global,
    redirected: Rc<Crowd>,
    remarks: Sparing,
    /// The number of the user as which umlweb runs, once this host has that user: umlweb may be installed later.
    web: OnceCell<u32>,
}

/// A client, until it has reached a monitor.
#[derive(Debug)]
pub struct Asking {
    from: SocketAddr,
    /// It is believed what it says of other clients.
    is_web: bool,
    reached: RefCell<Option<Reached>>,
}

/// A monitor that waits for the client's bytes.
#[derive(Debug)]
struct Reached {
    monitor: OwnedFd,
    place: Place,
}

impl Redirector {
    /// A redirector to the monitors that are in the directory, which may use so many descriptors.
    pub fn new(directory: Rc<Directory>, global: Global, descriptors: u64) -> Redirector {
        let max = (descriptors / DESCRIPTORS).clamp(16, MAX_REDIRECTED);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Redirector {
            directory,
            global,
            redirected: Crowd::new(max, max / 4),
            remarks: Sparing::default(),
            web: OnceCell::new(),
        }
    }

    /// How many descriptors it can use.
    pub fn max_descriptors() -> u64 {
        MAX_REDIRECTED * DESCRIPTORS
    }

    /// Serves the program UMLREDIR, without end.
    pub async fn serve(self: Rc<Self>, acceptor: TcpAcceptor) {
        let waiting = Crowd::new(MAX_WAITING.0, MAX_WAITING.1);
        loop {
            let (stream, from) = acceptor.next().await;
            let redirector = Rc::clone(&self);
            waiting.admit(from.ip(), |place| async move {
                redirect(stream, Asking::new(from, false), redirector).await;
                drop(place);
            });
        }
    }

    /// Serves it for umlweb, without end.
    pub async fn serve_web(self: Rc<Self>, acceptor: Acceptor) {
        let waiting = Crowd::new(MAX_WAITING.0, MAX_WAITING.0);
        // Until it has said for whom it asks.
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        loop {
            let stream = acceptor.next().await;
            let Ok(peer) = stream.peer_cred() else {
                continue;
            };
            if peer.uid() != 0 && self.web_user() != Some(peer.uid()) {
                continue;
            }
            let redirector = Rc::clone(&self);
            waiting.admit(from.ip(), |place| async move {
                redirect(stream, Asking::new(from, true), redirector).await;
                drop(place);
            });
        }
    }

    fn web_user(&self) -> Option<u32> {
        if self.web.get().is_none()
            && let Some(account) = Account::find(&self.global.web_user)
        {
            // It was empty.
            let _ = self.web.set(account.uid());
        }
        self.web.get().copied()
    }

    async fn reach(&self, from: SocketAddr, vm: &str) -> Result<Reached, DirError> {
        let Some(place) = self.redirected.enter(from.ip()) else {
            if self.remarks.may() {
                tracing::warn!(%from, "not redirected: there are too many connections already");
            }
            let text = "there are too many redirected connections; try again later";
            return Err(error(DirCode::Failed, text));
        };
        let vm: VmName = vm.parse().map_err(|_| nobody())?;
        self.directory.get(&vm).ok_or_else(nobody)?;
        match self.connect(&vm, from).await {
            Ok(monitor) => Ok(Reached { monitor, place }),
            Err(why) => {
                if self.remarks.may() {
                    let path = self.socket(&vm);
                    let path = path.display();
                    tracing::warn!(%from, "not redirected to {vm}: cannot connect to {path}: {why}");
                }
                Err(nobody())
            }
        }
    }

    /// The one socket of a monitor that takes redirected connections.
    fn socket(&self, vm: &VmName) -> PathBuf {
        self.global.vm_dir(vm).join("redir")
    }

    /// Connects with a monitor, and sends it the address of the client.
    async fn connect(&self, vm: &VmName, from: SocketAddr) -> io::Result<OwnedFd> {
        // What is connected to is this file, and not what a link leads to. Through the descriptor, the path is short
        // enough for a socket address however deep the directory is.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(self.socket(vm), flags, Mode::empty())?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let monitor = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        tokio::time::timeout(BUSY, patiently(|| connect(&monitor, &address))).await??;
        if !sockopt::socket_peercred(&monitor)?.uid.is_root() {
            let text = "the process that listens there is not root's";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let source = source(from)?;
        let told = async {
            let mut rest = source.as_slice();
            while !rest.is_empty() {
                let sent = patiently(|| send(&monitor, rest, SendFlags::NOSIGNAL)).await?;
                rest = rest.get(sent..).unwrap_or_default();
            }
            Ok::<_, io::Error>(())
        };
        tokio::time::timeout(BUSY, told).await??;
        Ok(monitor)
    }
}

/// Makes a call until the other side takes it.
async fn patiently<T>(call: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => tokio::time::sleep(AGAIN).await,
            other => return Ok(other?),
        }
    }
}

impl UmlredirV1 for Redirector {
    type Session = Asking;

    async fn redirect(&self, asking: &Asking, args: DirName) -> DirResult {
        let reached = self.reach(asking.from, &args).await;
        let kept = reached.map(|reached| {
            asking.reached.replace(Some(reached));
        });
        kept.into()
    }

    async fn redirect_for(&self, asking: &Asking, args: RedirectForArgs) -> DirResult {
        if !asking.is_web {
            let text = "only umlweb of this host may say where its clients are";
            return DirResult::Error(error(DirCode::NotAuthorised, text));
        }
        let reached = self.reach(told(&args.source), &args.vm).await;
        let kept = reached.map(|reached| {
            asking.reached.replace(Some(reached));
        });
        kept.into()
    }
}

impl Asking {
    fn new(from: SocketAddr, is_web: bool) -> Asking {
        Asking {
            from,
            is_web,
            reached: RefCell::default(),
        }
    }
}

/// A stream to a client.
trait ToClient: AsyncRead + AsyncWrite + Unpin {
    /// Its descriptor, for the kernel alone from then on.
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl ToClient for TcpStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

impl ToClient for UnixStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

/// The address that umlweb has told.
fn told(source: &RedirSource) -> SocketAddr {
    let ip = IpAddr::from(Ipv6Addr::from(source.address)).to_canonical();
    SocketAddr::new(ip, u16::try_from(source.port).unwrap_or(0))
}

/// An address as it is told.
fn redir_source(from: SocketAddr) -> RedirSource {
    let address = match from.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    RedirSource {
        address: address.octets(),
        port: from.port().into(),
    }
}

/// The bytes by which the monitor learns where the client is.
fn source(from: SocketAddr) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    redir_source(from)
        .pack(&mut bytes)
        .map_err(io::Error::other)?;
    Ok(bytes)
}

/// The same answer whatever the reason, so that names cannot be tried out.
fn nobody() -> DirError {
    let text = "no monitor of this VM can be reached here; umladmin start starts monitors";
    error(DirCode::NotFound, text)
}

/// Lets a client ask for a VM, and begins to pass its bytes on.
async fn redirect(stream: impl ToClient, asking: Asking, redirector: Rc<Redirector>) {
    let asked = tokio::time::timeout(ASKING, ask(stream, asking, &redirector)).await;
    // An error of a client is not logged: the client got an answer, or is gone.
    if let Ok(Ok(Some((client, reached)))) = asked {
        // A task of its own, as this one has grown by what is done with.
        tokio::task::spawn_local(async move {
            let Reached { monitor, place } = reached;
            // Whichever side has broken it, the other notices.
            let _ = relay(client, monitor).await;
            drop(place);
        });
    }
}

/// Answers calls until one has reached a monitor; None if the client leaves before.
async fn ask(
    mut stream: impl ToClient,
    asking: Asking,
    redirector: &Rc<Redirector>,
) -> Result<Option<(OwnedFd, Reached)>, ServeError> {
    let asking = Rc::new(asking);
    let limits = UMLREDIR_V1_LIMITS.record;
    while serve_one::<UmlredirV1Program, _, _>(&mut stream, redirector, &asking, &limits).await? {
        if let Some(reached) = asking.reached.take() {
            let client = stream.into_fd().map_err(ServeError::Broken)?;
            return Ok(Some((client, reached)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_twenty_bytes() {
        let six = source("[2001:db8::7]:513".parse().unwrap()).unwrap();
        assert_eq!(six.len(), 20);
        assert_eq!(six[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(six[16..], [0, 0, 2, 1]);
        let four = source("192.0.2.1:80".parse().unwrap()).unwrap();
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1];
        assert_eq!(four[..16], mapped);
    }

    #[test]
    fn what_umlweb_tells_is_passed_on() {
        for text in ["[2001:db8::7]:513", "192.0.2.1:80"] {
            let from: SocketAddr = text.parse().unwrap();
            assert_eq!(told(&redir_source(from)), from);
        }
    }
}
