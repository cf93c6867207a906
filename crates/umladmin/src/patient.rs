//! A connection to a monitor on which no call waits longer than it should (umladmin).

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rpc_xdr::client::{Stream, connect};
use rpc_xdr::umlmonctrl::UmlmonctrlV1Client;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a monitor may take to accept a connection and a request. It does nothing else meanwhile, so this is long.
const ACCEPT: Duration = Duration::from_secs(5);

/// How often a wait looks whether it shall go on.
const LOOK: Duration = Duration::from_millis(250);

/// A stream whose reads end at a given time, or when nobody wants to wait any longer. After that the reply is lost, so
/// the connection is of no further use.
pub(crate) struct Patient<'a> {
    stream: UnixStream,
    until: Instant,
    go_on: &'a dyn Fn() -> bool,
}

/// A client for one call, or for some that follow each other, which must all be answered until then.
pub(crate) fn client<'a>(
    ctrl: &Path,
    until: Instant,
    go_on: &'a dyn Fn() -> bool,
) -> io::Result<UmlmonctrlV1Client<Patient<'a>>> {
    let left = until.saturating_duration_since(Instant::now());
    let stream = connect(ctrl, left.clamp(Duration::from_millis(1), ACCEPT))?;
    Ok(UmlmonctrlV1Client::new(Patient {
        stream,
        until,
        go_on,
    }))
}

impl Stream for Patient<'_> {}

impl Read for Patient<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let look = Timespec::try_from(left.min(LOOK)).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut fds, Some(&look)) {
                Ok(0) if left.is_zero() => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "no answer in time"));
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.stream.read(buf),
                Err(e) => return Err(e.into()),
            }
            if !(self.go_on)() {
                return Err(io::Error::new(ErrorKind::ConnectionAborted, "given up"));
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn patient<'a>(go_on: &'a dyn Fn() -> bool, wait: Duration) -> (UnixStream, Patient<'a>) {
        let (peer, stream) = UnixStream::pair().unwrap();
        let until = Instant::now() + wait;
        (
            peer,
            Patient {
                stream,
                until,
                go_on,
            },
        )
    }

    #[test]
    fn a_read_ends_in_time() {
        let (_peer, mut silent) = patient(&|| true, Duration::from_millis(20));
        let error = silent.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_read_ends_when_nobody_waits() {
        let asked = Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < 1;
        let (_peer, mut silent) = patient(&go_on, Duration::from_secs(60));
        let error = silent.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn what_is_there_is_read_even_if_it_is_late() {
        let (mut peer, mut late) = patient(&|| false, Duration::ZERO);
        peer.write_all(b"x").unwrap();
        assert_eq!(late.read(&mut [0]).unwrap(), 1);
    }
}
