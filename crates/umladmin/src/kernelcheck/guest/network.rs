//! The guest's end of the connection to the host (umladmin, in the guest).

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// What the interface may be called in the guest, by its driver.
pub(super) const NICS: [&str; 2] = ["vec0", "eth0"];

/// The addresses of the two ends, and the port at which the host answers.
pub(in super::super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(in super::super) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(in super::super) const PORT: u16 = 7;
/// How long an answer may take, and how often it is asked.
pub(in super::super) const ANSWER: Duration = Duration::from_millis(500);
const CALLS: u32 = 10;

/// Configures an interface, sends to the host, and waits for its answer.
pub(super) fn call(nic: &str) -> io::Result<()> {
    net::configure(nic, GUEST, HOST)?;
    let socket = UdpSocket::bind((GUEST, 0))?;
    socket.connect((HOST, PORT))?;
    socket.set_read_timeout(Some(ANSWER))?;
    let mut answer = [0; 16];
    for _ in 0..CALLS {
        // The first one may be too early for the other end.
        let called = socket.send(nic.as_bytes());
        let heard = called.and_then(|_| socket.recv(&mut answer));
        if heard.is_ok_and(|length| answer.get(..length) == Some(nic.as_bytes())) {
            return Ok(());
        }
    }
    Err(io::Error::other("its packets are not answered"))
}
