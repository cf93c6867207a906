//! TCP ports of a daemon. Runs in umlmon, in the monitor process, and in umldir.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::TcpStream;

use crate::listen::{PAUSE, concerns_one};

/// Connections that may wait to be accepted. More than the usual 128: in a flood, the latest one should still be
/// accepted.
const BACKLOG: i32 = 1024;

/// A connection on which nothing arrives for so long is probed,
const IDLE: Duration = Duration::from_secs(20);
/// at such intervals,
const INTERVAL: Duration = Duration::from_secs(10);
/// so often, before it is given up,
const PROBES: u32 = 3;
/// and one whose peer takes nothing is given up after so long.
const UNTAKEN: Duration = Duration::from_secs(50);

/// Listens on a TCP port (0: any free one) of one address, or of all addresses of the host, IPv4 and IPv6.
///
/// The kernel ends connections whose peer has vanished, within 50 seconds, and sends small pieces at once.
///
/// # Errors
/// As bind(2), such as `EADDRINUSE`.
pub fn listen_tcp(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    match address {
        Some(address) => open(SocketAddr::new(address, port)),
        // One socket for both. It fails where the kernel has no IPv6, or it is switched off.
        None => open((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            _ => open((Ipv4Addr::UNSPECIFIED, port).into()),
        }),
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Else a restarted daemon could not listen while connections of its predecessor are ending.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    watch(&socket)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Sets the supervision of connections. They inherit it from the socket that accepts them (tcp(7)), so it needs no call
/// for each.
fn watch(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    let untaken = u32::try_from(UNTAKEN.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, untaken)?;
    sockopt::set_tcp_nodelay(socket, true)?;
    Ok(())
}

/// Accepts TCP connections.
#[derive(Debug)]
pub struct TcpAcceptor(tokio::net::TcpListener);

impl TcpAcceptor {
    /// Begins to accept. Called within the runtime, with a socket of [`listen_tcp`].
    ///
    /// # Errors
    /// If the runtime cannot register the socket.
    pub fn new(listener: TcpListener) -> io::Result<TcpAcceptor> {
        Ok(TcpAcceptor(tokio::net::TcpListener::from_std(listener)?))
    }

    /// The next connection, and where it comes from. Without descriptors, it waits instead of spinning.
    pub async fn next(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, from)) => {
                    return (
                        stream,
                        SocketAddr::new(from.ip().to_canonical(), from.port()),
                    );
                }
                Err(error) if concerns_one(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept a TCP connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn all_addresses_means_both_families() {
        let listener = listen_tcp(None, 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
        let taken = listen_tcp(None, port).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn one_address_means_no_other() {
        let here = IpAddr::from([127, 0, 0, 2]);
        let listener = listen_tcp(Some(here), 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((here, port)).unwrap();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }

    #[test]
    fn a_vanished_peer_is_noticed_within_a_minute() {
        let listener = listen_tcp(Some(Ipv4Addr::LOCALHOST.into()), 0).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // It is complete when the client says so.
        let (stream, _) = listener.accept().unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        let idle = sockopt::tcp_keepidle(&stream).unwrap();
        let interval = sockopt::tcp_keepintvl(&stream).unwrap();
        let probes = sockopt::tcp_keepcnt(&stream).unwrap();
        assert!(idle + interval * probes < Duration::from_secs(60));
        assert!((1..60_000).contains(&sockopt::tcp_user_timeout(&stream).unwrap()));
        assert!(sockopt::tcp_nodelay(&stream).unwrap());
    }
}
