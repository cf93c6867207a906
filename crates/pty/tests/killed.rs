//! A monitor is killed at any moment while a guest writes, and the next one goes on: no byte is lost, and none is there
//! twice. The test plays the guest, and holds the descriptors as the second process does; the monitor is this program
//! once more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs::{self, File};
use std::future::Future;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use config::ChannelName;
use files::LogDir;
use pty::{Channel, Held, Identity, Log, LogStyle, Nudge, Screen};
use rustix::io::{FdFlags, fcntl_setfd};

const NAME: ChannelName = ChannelName::Con(1);
/// The history of these tests, in bytes: some rounds through the ring.
const HISTORY: usize = 32 * 1024;
/// The variable that makes this program a monitor: directory, time stamps, identity, descriptors.
const MONITOR: &str = "UMLMON_TEST_CHANNEL";

/// Runs on one thread, like the daemon.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

fn log(dir: &Path, style: LogStyle) -> Log {
    Log::open(&LogDir::open(dir).unwrap(), &"con1".parse().unwrap(), style).unwrap()
}

fn adopt(held: Held, identity: &Identity, log: Option<Log>) -> Result<Rc<Channel>, pty::Error> {
    Channel::adopt(NAME, held, identity, log, Nudge::new(|| {}))
}

fn copies(held: &[OwnedFd; 4]) -> Held {
    Held::from_parts(held.each_ref().map(|fd| fd.try_clone().unwrap()))
}

/// Not a test of its own: the monitor, which is killed.
#[test]
fn monitor() {
    let Ok(told) = std::env::var(MONITOR) else {
        return;
    };
    let told: Vec<&str> = told.split(' ').collect();
    let number = |n: usize| told[n].parse::<u64>().unwrap();
    let style = LogStyle {
        limit: number(1),
        timestamps: number(2) == 1,
    };
    let identity = Identity {
        terminal: number(3).try_into().unwrap(),
        pipe: number(4),
        memory: number(5),
    };
    let fd = |n| sys::inherited_fd(number(n).try_into().unwrap()).unwrap();
    let held = Held::from_parts([fd(6), fd(7), fd(8), fd(9)]);
    run(async {
        let _channel = adopt(held, &identity, Some(log(Path::new(told[0]), style))).unwrap();
        eprintln!("goes on");
        std::future::pending::<()>().await;
    });
}

/// What is left when the first monitor has gone, and how the next one is called.
struct Left {
    dir: tempfile::TempDir,
    style: LogStyle,
    held: [OwnedFd; 4],
    identity: Identity,
    guest: File,
}

impl Left {
    fn new(style: LogStyle) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (held, guest) = run(async {
            let log = log(dir.path(), style);
            let channel = Channel::open(NAME, Some(log), Nudge::new(|| {})).unwrap();
            channel.resize_history(HISTORY).unwrap();
            assert!(channel.loses_nothing());
            (channel.held().unwrap(), channel.kernel_slave().unwrap())
        });
        Self {
            identity: held.identity().unwrap(),
            held: held.into_parts(),
            guest: guest.into(),
            dir,
            style,
        }
    }

    /// Starts a monitor and kills it after a time, counted from its start or from when it goes on.
    fn kill_one(&self, goes_on: bool, after: Duration) {
        let Identity {
            terminal,
            pipe,
            memory,
        } = self.identity;
        let (limit, stamps) = (self.style.limit, u8::from(self.style.timestamps));
        let mut told = format!("{} {limit} {stamps}", self.dir.path().display());
        told += &format!(" {terminal} {pipe} {memory}");
        for fd in &self.held {
            fcntl_setfd(fd, FdFlags::empty()).unwrap();
            told += &format!(" {}", fd.as_raw_fd());
        }
        let mut monitor = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "monitor", "--nocapture"])
            .env(MONITOR, told)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if goes_on {
            let mut said = BufReader::new(monitor.stderr.as_mut().unwrap()).lines();
            let said = said.next().unwrap().unwrap();
            assert_eq!(said, "goes on");
        }
        std::thread::sleep(after);
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }

    /// Writes all this as the guest, kills monitors meanwhile, and goes on here when all is written.
    fn kill_many(self, kills: u32, flood: &[u8]) -> (tempfile::TempDir, Vec<u8>, Vec<String>) {
        let mut random = fastrand::Rng::new();
        let mut guest = self.guest.try_clone().unwrap();
        let sent = flood.to_vec();
        let writer = std::thread::spawn(move || guest.write_all(&sent).unwrap());
        for _ in 0..kills {
            let goes_on = random.u8(..8) > 0;
            self.kill_one(goes_on, Duration::from_micros(random.u64(..3000)));
        }
        let (history, shown) = run(async {
            let log = log(self.dir.path(), self.style);
            let channel = adopt(copies(&self.held), &self.identity, Some(log)).unwrap();
            while channel.range().end < flood.len() as u64 {
                let end = channel.range().end;
                channel.read(end, 1, Duration::from_secs(10)).await;
                assert!(channel.range().end > end, "stalled at {end}");
            }
            // Nothing comes twice.
            channel
                .read(flood.len() as u64, 1, Duration::from_millis(20))
                .await;
            assert_eq!(channel.range().end, flood.len() as u64);
            let kept = channel.peek(0, usize::MAX).data;
            (kept, channel.with_screen(Screen::text))
        });
        writer.join().unwrap();
        (self.dir, history, shown)
    }
}

/// Numbered lines, some of them in colour; a cursor that is moved now and then.
fn flood(bytes: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes + 100);
    for n in 0.. {
        let colour = n % 7 + 31;
        write!(all, "\x1b[{colour}mline {n:09} of the guest\x1b[0m\r\n").unwrap();
        if n % 1000 == 0 {
            write!(all, "\x1b[{};{}H\x1b[2J", n % 20 + 1, n % 60 + 1).unwrap();
        }
        if all.len() >= bytes {
            break;
        }
    }
    all
}

/// How often a monitor is killed.
fn kills() -> u32 {
    let told = std::env::var("UMLMON_TEST_KILLS").ok();
    told.map_or(150, |kills| kills.parse().unwrap())
}

fn check(history: &[u8], shown: &[String], flood: &[u8]) {
    assert_eq!(history.len(), HISTORY);
    assert!(flood.ends_with(history), "the history is another");
    let mut screen = Screen::new(24, 80);
    screen.feed(flood);
    assert_eq!(shown, screen.text());
}

#[test]
fn nothing_is_lost_or_twice_whenever_a_monitor_is_killed() {
    let flood = flood(kills() as usize * 60_000);
    let (dir, history, shown) = Left::new(LogStyle::default()).kill_many(kills(), &flood);
    check(&history, &shown, &flood);
    assert!(fs::read(dir.path().join("con1")).unwrap() == flood);
}

#[test]
fn a_log_with_times_that_is_begun_anew_has_each_line_once() {
    let kills = kills() / 3;
    let flood = flood(kills as usize * 60_000);
    let style = LogStyle {
        limit: 400_000,
        timestamps: true,
    };
    let (dir, history, shown) = Left::new(style).kill_many(kills, &flood);
    check(&history, &shown, &flood);
    let read = |name| fs::read(dir.path().join(name)).unwrap();
    let logged = [read("con1~"), read("con1")].concat();
    // A piece can end within a line, and so can the file; there is no time at the beginning of the next one then.
    let is_time = |line: &[u8]| line.get(4) == Some(&b'-') && line.get(19..21) == Some(b"Z ");
    let lines = logged.split_inclusive(|byte| *byte == b'\n');
    let mut text = Vec::new();
    for (n, line) in lines.enumerate() {
        let stamped = is_time(line);
        assert!(stamped || n == 0, "{}", line.escape_ascii());
        text.extend_from_slice(if stamped { &line[21..] } else { line });
    }
    // The older file at least: two thirds of its 400,000 bytes are text.
    assert!(text.len() > 250_000 && flood.ends_with(&text));
}

#[test]
fn other_descriptors_are_refused() {
    let one = Left::new(LogStyle::default());
    let two = Left::new(LogStyle::default());
    run(async {
        let refused = |held: Held| {
            let error = adopt(held, &one.identity, None).unwrap_err().to_string();
            assert!(error.starts_with("cannot go on with con1: "), "{error}");
            error
        };
        let replaced = |which: usize, other: OwnedFd| {
            let mut parts = copies(&one.held).into_parts();
            parts[which] = other;
            Held::from_parts(parts)
        };
        refused(copies(&two.held));
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        for which in 0..4 {
            refused(replaced(which, copy(&two.held[which])));
            for other in ["/dev/null", "/dev/zero", "/etc/passwd", "/", "/dev/ptmx"] {
                let other = File::open(other).unwrap();
                refused(replaced(which, other.into()));
            }
            for other in (0..4).filter(|other| *other != which) {
                refused(replaced(which, copy(&one.held[other])));
            }
            refused(replaced(which, one.guest.try_clone().unwrap().into()));
        }
        // What belongs to it is adopted, as often as one likes.
        for _ in 0..3 {
            adopt(copies(&one.held), &one.identity, None).unwrap();
        }
    });
}

/// The kernel has ended while there was no monitor, and the terminal was hung up.
#[test]
fn the_last_words_of_a_kernel_are_read_by_the_next_monitor() {
    let left = Left::new(LogStyle::default());
    let slave = || left.guest.try_clone().unwrap();
    let status = Command::new("setsid")
        .args(["--ctty", "sh", "-c", "echo last words"])
        .stdin(slave())
        .stdout(slave())
        .status()
        .unwrap();
    assert!(status.success());
    let Left {
        dir,
        held,
        identity,
        guest,
        ..
    } = left;
    drop(guest);
    run(async {
        let log = log(dir.path(), LogStyle::default());
        let channel = adopt(Held::from_parts(held), &identity, Some(log)).unwrap();
        channel.kernel_ended().unwrap();
        assert_eq!(channel.peek(0, 100).data, b"last words\n");
        assert_eq!(fs::read(dir.path().join("con1")).unwrap(), b"last words\n");
        // The terminal serves the next one.
        let mut kernel = File::from(channel.kernel_slave().unwrap());
        kernel.write_all(b"next").unwrap();
        let end = channel.range().end;
        assert_eq!(
            channel.read(end, 10, Duration::from_secs(10)).await.data,
            b"next"
        );
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        client.write(b"typed").await.unwrap();
        let mut typed = [0; 5];
        std::io::Read::read_exact(&mut kernel, &mut typed).unwrap();
        assert_eq!(&typed, b"typed");
    });
}

/// What was typed stays in the terminal; its modes and its size stay as they are.
#[test]
fn a_terminal_is_left_alone() {
    let left = Left::new(LogStyle::default());
    run(async {
        let channel = adopt(copies(&left.held), &left.identity, None).unwrap();
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        client.write(b"typed").await.unwrap();
        client.resize(50, 132).unwrap();
    });
    let modes = rustix::termios::tcgetattr(&left.guest).unwrap();
    let mut others = modes.clone();
    others.output_modes |= rustix::termios::OutputModes::OPOST;
    let now = rustix::termios::OptionalActions::Now;
    rustix::termios::tcsetattr(&left.guest, now, &others).unwrap();
    run(async {
        let channel = adopt(copies(&left.held), &left.identity, None).unwrap();
        assert!(!channel.is_taken());
        assert_eq!(channel.size().unwrap(), (50, 132));
        let sizes = channel.sizes_after(0);
        let sizes: Vec<_> = sizes.iter().map(|size| (size.number, size.rows)).collect();
        assert_eq!(sizes, [(1, 24), (2, 50)]);
        let there = rustix::termios::tcgetattr(&left.guest)
            .unwrap()
            .output_modes;
        assert_eq!(there, others.output_modes);
        let mut typed = [0; 5];
        std::io::Read::read_exact(&mut &left.guest, &mut typed).unwrap();
        assert_eq!(&typed, b"typed");
    });
}
