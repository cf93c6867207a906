//! What ends `kernelcheck` early: Ctrl-C, and the signals that ask a program to end. The connection to the monitor is
//! cut off, so that every trial fails at once and everything is removed in the usual way (umladmin).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::net::{Shutdown, shutdown};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Handles these signals, as long as the program runs.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    over: AtomicBool,
    /// The connection to cut off.
    stream: Mutex<Option<OwnedFd>>,
}

impl Watch {
    pub(crate) fn begin() -> io::Result<Arc<Watch>> {
        let watch = Arc::new(Watch::default());
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let seen = Arc::clone(&watch);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || signals.forever().for_each(|_| seen.end()))?;
        Ok(watch)
    }

    /// Whether the program must end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Sets the connection to cut off from now on.
    pub(crate) fn attend(&self, stream: impl AsFd) -> io::Result<()> {
        let stream = stream.as_fd().try_clone_to_owned()?;
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        // A signal that came just before has cut off the former one.
        if self.is_over() {
            self.end();
        }
        Ok(())
    }

    fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = &*stream {
            // If it has ended already, no thread waits for it.
            let _ = shutdown(stream, Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_conversation_is_cut_off_whenever_it_began() {
        let watch = Watch::default();
        let (mut before, _other) = UnixStream::pair().unwrap();
        watch.attend(&before).unwrap();
        watch.end();
        assert_eq!(before.read(&mut [0]).unwrap(), 0);
        let (mut after, _other) = UnixStream::pair().unwrap();
        watch.attend(&after).unwrap();
        assert_eq!(after.read(&mut [0]).unwrap(), 0);
    }
}
