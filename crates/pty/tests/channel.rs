//! Channels with real pseudo terminals and files; the test plays the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::cell::Cell;
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use config::ChannelName;
use files::LogDir;
use pty::{Attachment, Channel, Error, HISTORY_BYTES, Hearing, Log, LogStyle, Nudge, Peer};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

/// Runs a test on one thread, like the daemon.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let test = async { tokio::time::timeout(4 * LONG, test).await.expect("in time") };
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn channel(log: Option<Log>) -> Rc<Channel> {
    Channel::open(ChannelName::Con(1), log, Nudge::new(|| {})).unwrap()
}

fn kernel(channel: &Channel) -> File {
    channel.kernel_slave().unwrap().into()
}

fn log(dir: &Path, name: &str) -> Result<Log, Error> {
    Log::open(
        &LogDir::open(dir).unwrap(),
        &name.parse().unwrap(),
        LogStyle::default(),
    )
}

/// Reads from `offset` on until `len` bytes are there.
async fn read_all(channel: &Channel, offset: u64, len: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < len {
        let from = offset + data.len() as u64;
        let chunk = channel.read(from, len - data.len(), LONG).await;
        assert_eq!(chunk.offset, from, "nothing skipped");
        assert!(!chunk.data.is_empty(), "stalled after {} bytes", data.len());
        data.extend(chunk.data);
    }
    data
}

#[test]
fn all_bytes_pass_both_ways_unchanged() {
    run(async {
        let channel = channel(None);
        let all: Vec<u8> = (0..=255).collect();
        let mut kernel = kernel(&channel);
        kernel.write_all(&all).unwrap();
        assert_eq!(read_all(&channel, 0, 256).await, all);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        client.write(&all).await.unwrap();
        let mut typed = [0; 256];
        kernel.read_exact(&mut typed).unwrap();
        assert_eq!(typed[..], all);
        // Nothing was echoed.
        assert!(channel.read(256, 1, SHORT).await.data.is_empty());
    });
}

#[test]
fn a_flood_without_watchers_never_blocks_the_guest_and_is_logged() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let channel = channel(Some(log(dir.path(), "con1").unwrap()));
        let flood: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut kernel = kernel(&channel);
        let sent = flood.clone();
        let guest = std::thread::spawn(move || kernel.write_all(&sent).unwrap());
        // A slow client asks for old bytes and gets the oldest that are kept.
        while channel.range().end < flood.len() as u64 {
            let seen = channel.range().end;
            channel.read(seen, 1, LONG).await;
            assert!(channel.range().end > seen, "stalled at {seen}");
        }
        guest.join().unwrap();
        let chunk = channel.peek(0, usize::MAX);
        assert_eq!(chunk.data.len(), HISTORY_BYTES);
        assert!(flood[usize::try_from(chunk.offset).unwrap()..] == chunk.data);
        assert!(fs::read(dir.path().join("con1")).unwrap() == flood);
    });
}

#[test]
fn input_waits_for_the_guest() {
    run(async {
        let channel = channel(None);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        let text: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        // No program reads: the client waits, until it gives up.
        let blocked = tokio::time::timeout(SHORT, client.write(&[1; 100_000])).await;
        assert!(blocked.is_err());
        // The next kernel does not get that.
        let mut kernel = kernel(&channel);
        let wanted = text.clone();
        let guest = std::thread::spawn(move || {
            let mut got = vec![0; wanted.len()];
            kernel.read_exact(&mut got).unwrap();
            assert!(got == wanted);
        });
        // Two writes at once stay in order.
        let (first, second) = text.split_at(120_000);
        let (one, two) = tokio::join!(client.write(first), client.write(second));
        one.and(two).unwrap();
        guest.join().unwrap();
    });
}

#[test]
fn one_writer_many_watchers() {
    run(async {
        let channel = channel(None);
        let attach = |who| channel.attach(who).unwrap();
        let (anna, bert) = (attach("anna"), attach("bert"));
        assert!(matches!(
            anna.write(b"x").await,
            Err(Error::NotWriter { .. })
        ));
        anna.take().unwrap();
        anna.take().unwrap();
        let busy = bert.take().unwrap_err().to_string();
        assert_eq!(
            busy,
            "con1 is in use by anna; take it over with -force-connect"
        );
        anna.resize(50, 132).unwrap();
        assert_eq!(channel.size().unwrap(), (50, 132));

        assert_eq!(bert.force_take().as_deref(), Some("anna"));
        assert_eq!(anna.taken_by().as_deref(), Some("bert"));
        let lost = anna.write(b"x").await.unwrap_err().to_string();
        assert_eq!(lost, "bert has taken over con1");
        assert_eq!(channel.writer().unwrap().who, "bert");
        assert_eq!(channel.watchers()[0].who, "anna");
        drop(bert);
        assert!(channel.writer().is_none());
        anna.take().unwrap();
        assert_eq!(anna.taken_by(), None);
        anna.watch();
        assert!(channel.writer().is_none());
        let many: Result<Vec<Attachment>, _> = (0..64).map(|_| channel.attach("many")).collect();
        assert!(matches!(many, Err(Error::TooMany { limit: 64, .. })));
        assert_eq!(channel.watchers().len(), 1);
    });
}

#[test]
fn a_blocked_writer_learns_that_it_lost() {
    run(async {
        let channel = channel(None);
        let (anna, bert) = (
            channel.attach("anna").unwrap(),
            channel.attach("bert").unwrap(),
        );
        anna.take().unwrap();
        let thief = async {
            tokio::task::yield_now().await;
            bert.force_take()
        };
        let (blocked, _) = tokio::join!(anna.write(&[0; 100_000]), thief);
        assert!(matches!(blocked, Err(Error::Taken { .. })));
    });
}

#[test]
fn changes_end_a_long_poll_once() {
    run(async {
        let channel = channel(None);
        let (anna, bert) = (
            channel.attach("anna").unwrap(),
            channel.attach("bert").unwrap(),
        );
        // bert's coming woke nobody; a change between two reads is not missed, and told once.
        let timed = async |client: &Attachment, wait| {
            let started = Instant::now();
            assert!(client.read(0, 100, wait).await.data.is_empty());
            started.elapsed()
        };
        assert!(timed(&anna, SHORT).await >= SHORT);
        bert.take().unwrap();
        assert!(timed(&anna, LONG).await < LONG);
        assert!(timed(&anna, SHORT).await >= SHORT);
        let change = async {
            tokio::task::yield_now().await;
            channel.wake();
        };
        let (waited, ()) = tokio::join!(timed(&anna, LONG), change);
        assert!(waited < LONG);
    });
}

#[test]
fn one_terminal_serves_one_kernel_after_the_other() {
    run(async {
        let channel = channel(None);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        let mut end = 0;
        for _ in 0..3 {
            // A process that has the terminal as its controlling one hangs it up at its end.
            let status = Command::new("setsid")
                .args([
                    "--ctty",
                    "sh",
                    "-c",
                    "stty -a; stty cooked echo; echo last words",
                ])
                .stdin(channel.kernel_slave().unwrap())
                .stdout(channel.kernel_slave().unwrap())
                .status()
                .unwrap();
            assert!(status.success());
            channel.kernel_ended().unwrap();
            client.write(b"never read").await.unwrap();
            assert!(
                channel
                    .read(channel.range().end, 1, SHORT)
                    .await
                    .data
                    .is_empty(),
                "no echo"
            );
            let said = channel.peek(end, usize::MAX).data;
            let said = String::from_utf8(said).unwrap();
            assert!(
                said.contains("rows 24; columns 80") && said.contains("onlcr"),
                "{said}"
            );
            assert!(said.ends_with("last words\r\n"), "{said:?}");
            end = channel.range().end;
        }
        let mut kernel = kernel(&channel);
        client.write(b"fresh").await.unwrap();
        let mut typed = [0; 5];
        kernel.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"fresh");
    });
}

#[test]
fn a_nudge_follows_the_last_byte() {
    run(async {
        let nudges = Rc::new(Cell::new(0));
        let event = Rc::new(tokio::sync::Notify::new());
        let (count, tell) = (nudges.clone(), event.clone());
        let nudge = Nudge::new(move || {
            count.set(count.get() + 1);
            tell.notify_one();
        });
        let channel = Channel::open(ChannelName::Con(0), None, nudge).unwrap();
        kernel(&channel).write_all(b"hello").unwrap();
        event.notified().await;
        assert_eq!(channel.range().end, 5);
        // Without data there is no further one.
        assert!(tokio::time::timeout(SHORT, event.notified()).await.is_err());
        assert_eq!(nudges.get(), 1);
    });
}

/// A kernel that is idle, or is not, and counts how often it is woken.
#[derive(Default)]
struct Observed {
    idle: Cell<bool>,
    woken: Cell<u32>,
    /// It has stopped reading; how often it was made to read.
    stopped: Cell<bool>,
    lent: Cell<u32>,
}

impl Peer for &'static Observed {
    fn wake(&self) {
        self.woken.set(self.woken.get() + 1);
    }

    fn is_idle(&self) -> Option<bool> {
        Some(self.idle.get())
    }

    fn hearing(&self, _: BorrowedFd<'_>) -> Hearing {
        match self.stopped.get() {
            true => Hearing::Stopped,
            false => Hearing::Reads,
        }
    }

    fn lend_ear(&self, _: BorrowedFd<'_>, lent: bool) -> io::Result<()> {
        self.lent.set(self.lent.get() + u32::from(lent));
        Ok(())
    }
}

fn observed() -> (&'static Observed, Rc<Channel>) {
    let kernel: &Observed = Box::leak(Box::default());
    let channel = Channel::open(ChannelName::Con(1), None, Nudge::new(kernel));
    (kernel, channel.unwrap())
}

#[test]
fn a_kernel_is_woken_until_it_takes_what_was_typed() {
    run(async {
        let (observed, channel) = observed();
        let mut kernel = kernel(&channel);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        client.write(b"key").await.unwrap();
        while observed.woken.get() < 3 {
            tokio::time::sleep(SHORT).await;
        }
        let mut typed = [0; 3];
        kernel.read_exact(&mut typed).unwrap();
        // It may have been looked at just before.
        tokio::time::sleep(SHORT).await;
        let woken = observed.woken.get();
        tokio::time::sleep(10 * SHORT).await;
        assert_eq!(observed.woken.get(), woken);
    });
}

#[test]
fn a_kernel_that_has_stopped_reading_is_made_to_read() {
    run(async {
        let (observed, channel) = observed();
        let mut kernel = kernel(&channel);
        observed.idle.set(true);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        client.write(b"key").await.unwrap();
        tokio::time::sleep(SHORT).await;
        assert_eq!(observed.lent.get(), 0, "it reads by itself");
        observed.stopped.set(true);
        while observed.lent.get() == 0 {
            tokio::time::sleep(SHORT).await;
        }
        client.write(b"s").await.unwrap();
        let mut typed = [0; 4];
        kernel.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"keys");
    });
}

#[test]
fn input_that_is_not_taken_is_told_until_it_is() {
    run(async {
        let (observed, channel) = observed();
        let mut kernel = kernel(&channel);
        observed.stopped.set(true);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        let wait = client.read(0, 100, SHORT);
        assert!(wait.await.data.is_empty());
        client.write(b"key").await.unwrap();
        assert!(channel.standstill().is_none(), "it has just been typed");
        let typing = async {
            client.write(&[b'x'; 2000]).await.unwrap();
            client.wait_until_taken().await.unwrap();
        };
        let guest = async {
            // It returns before its time, with nothing.
            client.read(0, 100, 2 * LONG).await;
            let standstill = channel.standstill().unwrap();
            assert_eq!(standstill.bytes, 2003);
            assert!(standstill.lasts >= Duration::from_secs(5));
            assert!(matches!(standstill.hearing, Hearing::Stopped));
            // Who comes later is told at once.
            let late = channel.attach("late").unwrap();
            late.read(0, 100, 2 * LONG).await;
            let mut all = [0; 2003];
            let reader = std::thread::spawn(move || kernel.read_exact(&mut all).unwrap());
            client.read(0, 100, 2 * LONG).await;
            assert!(channel.standstill().is_none());
            reader.join().unwrap();
        };
        let begun = Instant::now();
        tokio::join!(typing, guest);
        assert!(begun.elapsed() < 2 * LONG, "nobody was told");
    });
}

#[test]
fn a_write_ends_with_the_kernel() {
    run(async {
        let (_, channel) = observed();
        let _kernel = kernel(&channel);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        client.write(b"key").await.unwrap();
        let end = async {
            tokio::task::yield_now().await;
            channel.kernel_ended().unwrap();
        };
        let (typed, taken, ()) =
            tokio::join!(client.write(&[b'x'; 2000]), client.wait_until_taken(), end);
        assert!(matches!(typed, Err(Error::Ended { .. })), "{typed:?}");
        assert!(matches!(taken, Err(Error::Ended { .. })), "{taken:?}");
        assert!(channel.is_taken(), "the next kernel gets nothing of it");
    });
}

#[test]
fn more_is_typed_only_when_the_guest_had_its_turn() {
    run(async {
        let (observed, channel) = observed();
        let mut kernel = kernel(&channel);
        let client = channel.attach("me").unwrap();
        client.take().unwrap();
        // What a kernel can hold is 3967 bytes.
        let mut held = vec![0; 4000];
        let typing = client.write(&[b'x'; 2000]);
        let guest = async {
            tokio::task::yield_now().await;
            let first = kernel.read(&mut held).unwrap();
            assert!((1..2000).contains(&first), "{first} bytes at once");
            // It has them, and computes.
            tokio::time::sleep(2 * SHORT).await;
            assert!(channel.is_taken(), "more was typed");
            observed.idle.set(true);
            let mut all = first;
            while all < 2000 {
                while channel.is_taken() {
                    tokio::time::sleep(SHORT / 20).await;
                }
                all += kernel.read(&mut held).unwrap();
            }
            assert_eq!(all, 2000);
        };
        let (typed, ()) = tokio::join!(typing, guest);
        typed.unwrap();
        // A guest that is never idle is not left without.
        observed.idle.set(false);
        let reader = std::thread::spawn(move || kernel.read_exact(&mut held[..2000]).unwrap());
        client.write(&[b'y'; 2000]).await.unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn questions_are_answered_unless_somebody_types() {
    const ANSWER: &[u8] = b"\x1b[7;11R";
    run(async {
        let channel = channel(None);
        let mut kernel = kernel(&channel);
        // How often it is answered, and what the kernel then has.
        let mut ask = async |times: usize| {
            for _ in 0..times {
                let from = channel.range().end;
                kernel.write_all(b"\x1b[7;11H\x1b[6n").unwrap();
                read_all(&channel, from, 11).await;
            }
            // What was written to a terminal arrives a little later.
            tokio::time::sleep(SHORT).await;
            let there = rustix::io::ioctl_fionread(&kernel).unwrap();
            let mut answers = vec![0; usize::try_from(there).unwrap()];
            kernel.read_exact(&mut answers).unwrap();
            answers
        };
        assert_eq!(ask(1).await, ANSWER);
        // Who only watches answers nothing; the terminal of who types does.
        let client = channel.attach("me").unwrap();
        assert_eq!(ask(1).await, ANSWER);
        client.take().unwrap();
        assert_eq!(ask(3).await, b"");
        client.watch();
        // A guest that asks on and on is not filled up, and has whole answers only.
        assert_eq!(ask(500).await, ANSWER.repeat(2048 / ANSWER.len() - 2));
        assert_eq!(ask(3).await, b"");
        client.take().unwrap();
        client.write(b"x").await.unwrap();
        drop(client);
        assert_eq!(ask(1).await, [b"x", ANSWER].concat());
        ask(500).await;
        channel.kernel_ended().unwrap();
        assert_eq!(ask(1).await, ANSWER);
    });
}

#[test]
fn rotation_loses_no_byte() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let file = |name| dir.path().join(name);
        let channel = channel(Some(log(dir.path(), "con1").unwrap()));
        let mut kernel = kernel(&channel);
        let mut say = async |text: &str| {
            let from = channel.range().end;
            kernel.write_all(text.as_bytes()).unwrap();
            read_all(&channel, from, text.len()).await;
        };
        say("one\n").await;
        fs::rename(file("con1"), file("con1.1")).unwrap();
        say("two\n").await;
        channel.reopen_log().unwrap();
        say("three\n").await;
        assert_eq!(fs::read(file("con1.1")).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(file("con1")).unwrap(), b"three\n");
        // copytruncate: no hole at the beginning.
        File::create(file("con1")).unwrap();
        say("four\n").await;
        assert_eq!(fs::read(file("con1")).unwrap(), b"four\n");
        // A trap laid for the rotation: the old file stays in use.
        fs::rename(file("con1"), file("con1.2")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", file("con1")).unwrap();
        let error = channel.reopen_log().unwrap_err().to_string();
        assert!(error.starts_with("cannot open the log file"), "{error}");
        say("five\n").await;
        assert_eq!(fs::read(file("con1.2")).unwrap(), b"four\nfive\n");

        let log = channel.log();
        let log = log.as_ref().unwrap();
        assert_eq!(log.tail(1).unwrap(), 5..10);
        assert_eq!(log.read(5, 3).unwrap().data, b"fiv");
        assert_eq!(log.read(1000, 4).unwrap().data, b"four");
    });
}

#[test]
fn hostile_log_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name| dir.path().join(name);
    fs::write(file("victim"), "precious").unwrap();
    std::os::unix::fs::symlink("victim", file("symlink")).unwrap();
    fs::hard_link(file("victim"), file("hardlink")).unwrap();
    fs::create_dir(file("directory")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(file("fifo"))
            .status()
            .unwrap()
            .success()
    );
    for name in ["symlink", "hardlink", "directory", "fifo"] {
        assert!(log(dir.path(), name).is_err(), "{name}");
    }
    assert_eq!(fs::read(file("victim")).unwrap(), b"precious");
    let open = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(dir.path(), mode).unwrap();
        LogDir::open(dir.path())
    };
    assert!(open(0o770).is_err() && open(0o707).is_err() && open(0o750).is_ok());
}
