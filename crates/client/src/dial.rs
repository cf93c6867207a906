//! Connecting over TCP with a time limit. Runs in the clients.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use rustix::net::sockopt;

use crate::target::Host;

/// How long a step of connecting to a monitor may take in all, unless the caller has a shorter limit.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Keepalive: after so long without data the peer is probed, so often and in such intervals; it counts as gone after
/// about 45 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;
/// How long a peer may take to acknowledge what was sent.
const UNACKNOWLEDGED_MS: u32 = 45_000;

/// The addresses of a host with this port.
///
/// # Errors
/// If the host is not known.
pub fn addresses(host: &Host, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let unknown = |why: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Failed,
            format_args!("cannot resolve the host name {host}: {why}"),
        )
    };
    let found = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|e| unknown(&e))?;
    let found: Vec<SocketAddr> = found.collect();
    match found.is_empty() {
        true => Err(unknown(&"it has no address")),
        false => Ok(found),
    }
}

/// Connects with the first of the addresses that answers, trying each for its share of the time until then. Reads and
/// writes on the stream time out after the rest of it, until the timeout is changed.
///
/// # Errors
/// That of the last address; [`ErrorKind::ConnectionRefused`] if any of them answered so.
pub fn dial(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut why = io::Error::from(ErrorKind::AddrNotAvailable);
    for (number, address) in addresses.iter().enumerate() {
        let shares = u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, left(until) / shares) {
            Ok(stream) => {
                prepare(&stream)?;
                stream.set_read_timeout(Some(left(until)))?;
                stream.set_write_timeout(Some(left(until)))?;
                return Ok(stream);
            }
            Err(_) if why.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// The time until then; a little even if it has passed, because a timeout of zero means none.
fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    Ok(sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_address_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let until = Instant::now() + LIMIT;
        let stream = dial(&[closed, good], until).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(stream.read_timeout().unwrap().unwrap() <= LIMIT);
        assert_eq!(
            dial(&[closed], until).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(
            dial(&[], until).unwrap_err().kind(),
            ErrorKind::AddrNotAvailable
        );
    }

    #[test]
    fn a_host_without_an_address_is_named() {
        let host = Host::parse("host.invalid").unwrap().unwrap();
        let failure = addresses(&host, 1).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("cannot resolve the host name host.invalid: "),
            "{failure}"
        );
        let host = Host::parse("[::1]").unwrap().unwrap();
        let found = addresses(&host, 7).unwrap();
        assert_eq!(found, ["[::1]:7".parse().unwrap()]);
    }
}
