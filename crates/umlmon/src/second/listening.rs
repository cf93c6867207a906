//! Whether the kernel reads one of its terminals, and what makes it read again (umlmon, the monitor process).
//!
//! A kernel that holds 3968 bytes of a console that no program has read stops reading that console: it takes the
//! terminal out of what it waits for (arch/um/drivers/line.c, `line_throttle`). When a program has read them it reads
//! once what is there (`line_unthrottle`), but since Linux 4.15 it does not wait for the terminal again. Nothing that a
//! guest or the mconsole can do changes that as long as a program has the console open.
//!
//! So the monitor does it. The kernel notes what it waits for in a `struct irq_entry` (arch/um/kernel/irq.c), which
//! begins the same way in all kernels since 5.12; proc(5) tells its address, in `fdinfo` of the epoll descriptor. The
//! kernel still waits until the terminal can be written. When that happens it reads, too, if the entry says that it
//! matters for reading. What is found there is compared with what proc(5) says; if they do not match, nothing is
//! changed.
//!
//! Nothing is trusted: the kernel can lie about its own memory only, and only that is written.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::event::epoll::EventFlags;
use rustix::fs::{Dir, Mode, OFlags, Stat, fstat, major, minor, openat, readlinkat};
use rustix::io::Errno;

/// `fd`, `reg[IRQ_READ].irq` and `reg[IRQ_READ].events` in `struct irq_entry`: offsets in bytes.
const FD: usize = 16;
const IRQ: usize = 32;
const EVENTS: usize = 36;
/// What is read of an entry, in bytes.
const ENTRY: usize = EVENTS + 4;
/// How much of an `fdinfo` is read, in bytes; a kernel with 64 terminals has 10 KB.
const FDINFO_MAX: u64 = 1 << 20;

/// What is written to `events`: read when the terminal can be written, too. No kernel has exactly this.
const LENT: u32 = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::OUT)
    .bits();
/// What `events` can be when the kernel has stopped reading.
const OVER: [u32; 2] = [0, LENT];

/// How a kernel reads one of its terminals.
#[derive(Debug)]
pub struct Listening {
    memory: File,
    /// The address of `events`.
    at: u64,
    events: u32,
}

impl Listening {
    /// Looks for it. `process` is the kernel's directory in /proc, `terminal` any descriptor of the terminal. None: it
    /// does not wait for the terminal, because no program of the guest has opened it.
    ///
    /// # Errors
    /// Those of proc(5), mostly because root must not trace the kernel; `Unsupported` if this kernel notes it in
    /// another way.
    pub fn find(process: &OwnedFd, terminal: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let terminal = fstat(terminal)?;
        let Some(watch) = Watch::find(process, &terminal)? else {
            return Ok(None);
        };
        let memory = openat(
            process,
            "mem",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let memory = File::from(memory);
        let mut entry = [0; ENTRY];
        memory.read_exact_at(&mut entry, watch.data)?;
        let number = |at: usize| {
            let bytes = entry
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let events = number(EVENTS);
        let fits = number(FD) == watch.fd && number(IRQ) != 0 && watch.fits(events);
        let at = watch.data.checked_add(EVENTS as u64).filter(|_| fits);
        Ok(Some(Self {
            memory,
            at: at.ok_or_else(unknown_kind)?,
            events,
        }))
    }

    /// Whether it has stopped reading the terminal.
    pub fn is_over(&self) -> bool {
        OVER.contains(&self.events)
    }

    /// Makes a kernel that has stopped reading read whenever the terminal can be written again, or stop again.
    ///
    /// # Errors
    /// Those of proc(5).
    pub fn lend(&self, on: bool) -> io::Result<()> {
        let events = if on { LENT } else { 0 };
        match self.is_over() {
            true => self.memory.write_all_at(&events.to_ne_bytes(), self.at),
            false => Ok(()),
        }
    }
}

/// A descriptor for which an epoll descriptor waits, and for what.
#[derive(Debug, PartialEq, Eq)]
struct Watch {
    fd: u32,
    events: u32,
    /// What the program wants to be told with the event: the address of the entry.
    data: u64,
    inode: u64,
    device: u64,
}

impl Watch {
    /// Looks for that of a terminal, in what proc(5) says about each epoll descriptor of a process; `Unsupported` if it
    /// has none.
    fn find(process: &OwnedFd, terminal: &Stat) -> io::Result<Option<Watch>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let descriptors = openat(process, "fd", flags | OFlags::DIRECTORY, Mode::empty())?;
        let mut waits = false;
        for entry in Dir::read_from(&descriptors)? {
            let name = entry?.file_name().to_owned();
            match readlinkat(descriptors.as_fd(), &name, Vec::new()) {
                Ok(link) if link.as_bytes() == b"anon_inode:[eventpoll]" => waits = true,
                // One of the other descriptors, or `.` and `..`, or closed meanwhile.
                Ok(_) | Err(Errno::INVAL | Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            }
            let path = format!("fdinfo/{}", name.to_string_lossy());
            let mut text = String::new();
            let info = File::from(openat(process, path, flags, Mode::empty())?);
            info.take(FDINFO_MAX).read_to_string(&mut text)?;
            let mut watches = text.lines().filter_map(Watch::parse);
            if let Some(watch) = watches.find(|watch| watch.is_of(terminal)) {
                return Ok(Some(watch));
            }
        }
        match waits {
            true => Ok(None),
            false => Err(unknown_kind()),
        }
    }

    /// A line of `fdinfo`: `tfd: 8 events: 8000001c data: 673bfc00  pos:0 ino:5 sdev:19`.
    fn parse(line: &str) -> Option<Watch> {
        let mut words = line.split([' ', ':']).filter(|word| !word.is_empty());
        let mut value = |name: &str, radix| {
            let word = words.by_ref().skip_while(|word| *word != name).nth(1)?;
            u64::from_str_radix(word, radix).ok()
        };
        Some(Watch {
            fd: value("tfd", 10)?.try_into().ok()?,
            events: value("events", 16)?.try_into().ok()?,
            data: value("data", 16)?,
            inode: value("ino", 16)?,
            device: value("sdev", 16)?,
        })
    }

    fn is_of(&self, terminal: &Stat) -> bool {
        let (major, minor) = (major(terminal.st_dev), minor(terminal.st_dev));
        self.inode == terminal.st_ino && self.device == u64::from(major << 20 | minor)
    }

    /// Whether a kernel that waits like this can have noted `events` for reading.
    fn fits(&self, events: u32) -> bool {
        let reads = |events: u32| events & EventFlags::IN.bits() != 0;
        match reads(self.events) {
            true => reads(events),
            false => OVER.contains(&events),
        }
    }
}

fn unknown_kind() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "it is of an unknown kind")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use rustix::event::epoll;

    use super::*;

    #[test]
    fn a_line_of_fdinfo() {
        let line = "tfd:        8 events: 8000001c data:         673bfc00  pos:0 ino:5 sdev:1a";
        let watch = Watch::parse(line).unwrap();
        assert_eq!((watch.fd, watch.data), (8, 0x673b_fc00));
        assert_eq!((watch.inode, watch.device), (5, 0x1a));
        assert!(watch.fits(0) && watch.fits(LENT) && !watch.fits(0x201b));
        assert_eq!(Watch::parse("pos:\t0"), None);
        assert_eq!(Watch::parse("tfd: 8 events: -1 data: 0 ino:5"), None);
    }

    /// A process that waits for a terminal, and keeps in its memory what a kernel does.
    struct Kernel {
        entry: Box<[u32; ENTRY / 4]>,
        /// Keeps the terminal alive.
        _master: OwnedFd,
        terminal: OwnedFd,
        poll: OwnedFd,
    }

    impl Kernel {
        /// `waits` is what it waits for, `noted` what it has noted for reading.
        fn new(waits: EventFlags, noted: u32) -> Kernel {
            let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
            let master = rustix::pty::openpt(flags).unwrap();
            rustix::pty::unlockpt(&master).unwrap();
            // All masters have the same inode, and other tests have some.
            let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
            let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let mut entry = Box::new([0; ENTRY / 4]);
            entry[FD / 4] = terminal.as_raw_fd().try_into().unwrap();
            entry[IRQ / 4] = 21;
            entry[EVENTS / 4] = noted;
            let address = epoll::EventData::new_u64(entry.as_ptr().addr() as u64);
            epoll::add(&poll, &terminal, address, waits).unwrap();
            Kernel {
                entry,
                _master: master,
                terminal,
                poll,
            }
        }

        fn look(&self) -> io::Result<Listening> {
            Ok(self.find()?.unwrap())
        }

        fn find(&self) -> io::Result<Option<Listening>> {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let process = rustix::fs::open("/proc/self", flags, Mode::empty()).unwrap();
            Listening::find(&process, self.terminal.as_fd())
        }

        fn noted(&self) -> u32 {
            let memory = File::open("/proc/self/mem").unwrap();
            let mut noted = [0; 4];
            let at = self.entry.as_ptr().addr() + EVENTS;
            memory.read_exact_at(&mut noted, at as u64).unwrap();
            u32::from_ne_bytes(noted)
        }
    }

    #[test]
    fn a_kernel_that_has_stopped_reading_is_lent_an_ear() {
        let kernel = Kernel::new(EventFlags::OUT, 0);
        assert!(kernel.look().unwrap().is_over());
        kernel.look().unwrap().lend(true).unwrap();
        assert_eq!(kernel.noted(), LENT);
        assert!(kernel.look().unwrap().is_over(), "it has not begun itself");
        kernel.look().unwrap().lend(false).unwrap();
        assert_eq!(kernel.noted(), 0);
    }

    #[test]
    fn a_kernel_that_reads_is_left_alone() {
        let kernel = Kernel::new(EventFlags::IN | EventFlags::OUT, 0x201b);
        let listening = kernel.look().unwrap();
        assert!(!listening.is_over());
        listening.lend(true).unwrap();
        assert_eq!(kernel.noted(), 0x201b);
    }

    #[test]
    fn another_memory_than_expected_is_left_alone() {
        let unsupported = |kernel: &Kernel| kernel.look().unwrap_err().kind();
        let noted_otherwise = Kernel::new(EventFlags::OUT, 0x201b);
        assert_eq!(unsupported(&noted_otherwise), io::ErrorKind::Unsupported);
        let mut of_another = Kernel::new(EventFlags::OUT, 0);
        of_another.entry[FD / 4] += 1;
        assert_eq!(unsupported(&of_another), io::ErrorKind::Unsupported);
        let waits_no_more = Kernel::new(EventFlags::OUT, 0);
        epoll::delete(&waits_no_more.poll, &waits_no_more.terminal).unwrap();
        assert!(waits_no_more.find().unwrap().is_none());
        let elsewhere = Kernel::new(EventFlags::OUT, 0);
        let address = epoll::EventData::new_u64(16);
        epoll::modify(
            &elsewhere.poll,
            &elsewhere.terminal,
            address,
            EventFlags::OUT,
        )
        .unwrap();
        assert!(elsewhere.look().is_err());
    }
}
