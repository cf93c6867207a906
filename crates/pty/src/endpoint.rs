//! The pseudo terminal of a channel. Part of the umlmon daemon; the kernel inherits a slave descriptor.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    Action, OptionalActions, OutputModes, QueueSelector, Winsize, tcflow, tcflush, tcgetattr,
    tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::io::unix::AsyncFd;

/// Rows and columns before a client sets others. A size of 0x0 confuses `stty` in the guest.
const FIRST_SIZE: (u16, u16) = (24, 80);

/// A pseudo terminal, both sides of it.
///
/// One slave description stays open here, so that the master neither reports the end of the stream when a kernel ends
/// nor loses its state: the same terminal serves one kernel after the other.
#[derive(Debug)]
pub struct Endpoint {
    master: AsyncFd<OwnedFd>,
    slave: RefCell<OwnedFd>,
}

impl Endpoint {
    /// Opens a pseudo terminal: raw, 24 rows of 80 columns. Needs the runtime.
    ///
    /// # Errors
    /// Those of posix_openpt(3) and ioctl_tty(2).
    pub fn open() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        unlockpt(&master)?;
        let slave = RefCell::new(fresh_slave(&master)?);
        let endpoint = Self {
            master: sys::readable(master)?,
            slave,
        };
        endpoint.resize(FIRST_SIZE.0, FIRST_SIZE.1)?;
        Ok(endpoint)
    }

    /// The terminal of a former monitor, of which this is the master. A kernel may be using it, so its modes and what
    /// is typed into it are left alone. Needs the runtime.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub(crate) fn adopt(master: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        let slave = RefCell::new(open_slave(&master)?);
        Ok(Self {
            master: sys::readable(master)?,
            slave,
        })
    }

    /// Returns a slave descriptor for a kernel that is about to start, close-on-exec, of a description of its own: the
    /// kernel makes its description non-blocking. Input that the last kernel did not read is discarded.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub fn kernel_slave(&self) -> io::Result<OwnedFd> {
        self.reset()?;
        fresh_slave(self.master.get_ref())
    }

    /// Discards input that was not read, and makes the terminal raw again. For the end of a kernel: the end of the
    /// process that had the terminal as its controlling one hangs the terminal up, which resets the modes and makes
    /// every open slave description useless, ours too.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub fn reset(&self) -> io::Result<()> {
        let slave = fresh_slave(self.master.get_ref())?;
        tcflush(&slave, QueueSelector::IFlush)?;
        // Only now the old one is closed, so that a slave is open at all times.
        self.slave.replace(slave);
        Ok(())
    }

    /// Sets the window size, in characters; the guest gets SIGWINCH.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(self.master.get_ref(), size)?)
    }

    /// The window size: rows and columns.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = tcgetwinsize(self.master.get_ref())?;
        Ok((size.ws_row, size.ws_col))
    }

    /// Waits until there may be something to read, then calls `drain`, which returns whether it read all there was.
    pub(crate) async fn when_readable(&self, drain: impl FnOnce() -> bool) -> io::Result<()> {
        let mut ready = self.master.readable().await?;
        if drain() {
            ready.clear_ready();
        }
        Ok(())
    }

    /// The side that the guest's output is read from, and input is typed into. It does not block.
    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.get_ref().as_fd()
    }

    /// Whether the kernel has read all that was typed into the terminal.
    pub(crate) fn is_taken(&self) -> bool {
        // FIONREAD does not include what is still in the host's tty layer.
        let slave = self.slave.borrow();
        let mut untaken = [PollFd::new(&*slave, PollFlags::IN)];
        matches!(poll(&mut untaken, Some(&Timespec::default())), Ok(0))
    }

    /// How many bytes the kernel has not read of what was typed some time ago.
    pub(crate) fn untaken(&self) -> usize {
        let untaken = rustix::io::ioctl_fionread(&*self.slave.borrow());
        untaken.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Calls `with` with a descriptor of the terminal.
    pub(crate) fn with_slave<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        with(self.slave.borrow().as_fd())
    }

    /// Tells the kernel that it can write, although it did not wait for that: output is stopped and goes on.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub(crate) fn announce_room(&self) -> io::Result<()> {
        let slave = self.slave.borrow();
        tcflow(&*slave, Action::OOff)?;
        Ok(tcflow(&*slave, Action::OOn)?)
    }

    /// Types into the terminal; returns how much was accepted. `WouldBlock`: the guest does not read at the moment.
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.master.get_ref(), data)?)
    }
}

/// Opens another description of the slave and makes the terminal raw, except for the output processing that UML relies
/// on: kernel messages are written with OPOST switched on, to become lines that end in CR LF.
fn fresh_slave(master: &OwnedFd) -> io::Result<OwnedFd> {
    let slave = open_slave(master)?;
    let mut modes = tcgetattr(&slave)?;
    modes.make_raw();
    modes.output_modes |= OutputModes::ONLCR;
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    Ok(slave)
}

/// Opens another description of the slave.
fn open_slave(master: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(ioctl_tiocgptpeer(master, flags)?)
}
