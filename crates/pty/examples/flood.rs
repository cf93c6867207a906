//! Measures a flood of bytes on con0 and con1 of a real kernel, and compares every byte. A tool for developers; needs
//! root.
//!
//! `flood KERNEL IMAGE [RUNS [MB [DELAY_US [CON..]]]]`: IMAGE is a root file system that runs the script on the 16th
//! disk at boot. A DELAY_US of 0 never nudges the kernel, which shows the stall. CON is 0 or 1; both if there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::cell::Cell;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::{Duration, Instant};

use config::ChannelName;
use files::LogDir;
use pty::{Channel, Log, LogStyle, Nudge};
use rustix::process::{Pid, Signal, kill_process};

const BEGIN: &[u8] = b"<<<BEGIN>>>";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |n: usize, default: usize| args.get(n).map_or(default, |a| a.parse().unwrap());
    let (runs, mb, delay) = (number(3, 1), number(4, 20), number(5, 100));
    let mut cons: Vec<u8> = args.iter().skip(6).map(|a| a.parse().unwrap()).collect();
    if cons.is_empty() {
        cons = vec![0, 1];
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let payload = payload(mb << 20);
    fs::write(scratch.path().join("payload"), &payload).unwrap();
    fs::write(scratch.path().join("hook"), hook(runs, mb, &cons)).unwrap();
    let flood = flood(
        &args[1],
        &args[2],
        scratch.path(),
        payload,
        runs,
        Duration::from_micros(delay as u64),
        &cons,
    );
    tokio::task::LocalSet::new().block_on(&runtime, flood);
}

/// Bytes of all values, from a xorshift generator.
fn payload(len: usize) -> Vec<u8> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

/// What the guest does.
fn hook(runs: usize, mb: usize, cons: &[u8]) -> Vec<u8> {
    let mut script = String::from("#!/bin/sh\ndmesg -n 1\nsleep 1\nfor run in");
    (0..runs).for_each(|n| script += &format!(" {n}"));
    script += "; do\nfor tty in";
    cons.iter().for_each(|n| script += &format!(" tty{n}"));
    script += &format!(
        "; do\n\
         (exec </dev/$tty >/dev/$tty; stty raw -echo; printf '{}'; dd if=/dev/ubdo bs=64k count={} 2>/dev/null) &\n\
         done\nwait\ndone\npoweroff -f\n",
        String::from_utf8_lossy(BEGIN),
        mb * 16,
    );
    let mut bytes = script.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

async fn flood(
    kernel: &str,
    image: &str,
    scratch: &Path,
    payload: Vec<u8>,
    runs: usize,
    delay: Duration,
    cons: &[u8],
) {
    let payload = Rc::new(payload);
    let (pid, nudges) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
    let nudge = Nudge::with_delay(delay.max(Duration::from_micros(1)), {
        let (pid, nudges) = (pid.clone(), nudges.clone());
        move || {
            if let Some(pid) = pid.get().filter(|_| !delay.is_zero()) {
                nudges.set(nudges.get() + 1);
                let _ = kill_process(pid, Signal::IO);
            }
        }
    });
    let log = scratch.join("log");
    fs::create_dir(&log).unwrap();
    let dir = LogDir::open(&log).unwrap();
    let channels = [0, 1].map(|n| {
        let log = Log::open(
            &dir,
            &format!("con{n}").parse().unwrap(),
            LogStyle::default(),
        )
        .unwrap();
        Channel::open(ChannelName::Con(n), Some(log), nudge.clone()).unwrap()
    });
    let notify = UnixDatagram::bind(scratch.join("notify")).unwrap();
    notify.set_nonblocking(true).unwrap();
    let notify = tokio::net::UnixDatagram::from_std(notify).unwrap();
    let mut vm = start(kernel, image, scratch, &channels);
    notify.recv(&mut [0; 1024]).await.unwrap();
    pid.set(Some(kernel_pid(&vm)));

    let checks = channels
        .iter()
        .zip(0..)
        .filter(|(_, n)| cons.contains(n))
        .map(|(c, _)| tokio::task::spawn_local(check(c.clone(), payload.clone(), runs)));
    let checks: Vec<_> = checks.collect();
    for check in checks {
        check.await.unwrap();
    }
    // Nudges go on to the very end: they must not hurt a kernel that is going down.
    let status = loop {
        match vm.try_wait().unwrap() {
            Some(status) => break status,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    pid.set(None);
    println!("nudges: {}, kernel: {status}", nudges.get());
    assert!(status.success());
    for channel in channels {
        channel.kernel_ended().unwrap();
        let logged = fs::metadata(log.join(channel.name().to_string())).unwrap();
        assert_eq!(logged.len(), channel.range().end, "log complete");
    }
}

/// Compares what arrives on a channel.
async fn check(channel: Rc<Channel>, payload: Rc<Vec<u8>>, runs: usize) {
    let name = channel.name();
    let mut offset = 0;
    for run in 0..runs {
        let mut seen: Vec<u8> = Vec::new();
        let mut started = Instant::now();
        let (mut last, mut gap, mut done) = (started, Duration::ZERO, None);
        while done != Some(payload.len()) {
            let chunk = channel.read(offset, 65536, Duration::from_secs(20)).await;
            assert_eq!(chunk.offset, offset, "{name}: nothing skipped");
            assert!(
                !chunk.data.is_empty(),
                "{name}: stalled at {offset}, done {done:?}"
            );
            offset += chunk.data.len() as u64;
            let mut data = &chunk.data[..];
            if done.is_none() {
                seen.extend(data);
                let Some(at) = seen.windows(BEGIN.len()).position(|w| w == BEGIN) else {
                    continue;
                };
                data = &seen[at + BEGIN.len()..];
                (started, last, done) = (Instant::now(), Instant::now(), Some(0));
            }
            let from = done.unwrap();
            // The next run of this channel begins only when both are done, so nothing of it is in here.
            assert!(
                payload[from..from + data.len()] == *data,
                "{name}: byte-exact after {from}"
            );
            done = Some(from + data.len());
            gap = gap.max(last.elapsed());
            last = Instant::now();
        }
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let rate = payload.len() as f64 / 1e6 / started.elapsed().as_secs_f64();
        println!("{name} run {run}: {rate:.1} MB/s, longest gap {gap:?}");
    }
}

/// Starts the kernel below a process 1 of its own, with con0 as output and con1 as input of that.
fn start(kernel: &str, image: &str, scratch: &Path, channels: &[Rc<Channel>; 2]) -> Child {
    let root = scratch.join("root.dsk");
    fs::copy(image, &root).unwrap();
    let dir = scratch.display();
    Command::new("unshare")
        .args(["-pf", "--kill-child", "setarch", "-R"])
        .args([
            "sh",
            "-c",
            "exec 3<&0; \"$@\" <&3 3<&- & wait $!",
            "sh",
            kernel,
        ])
        .args(["mem=64M", "umid=vm", "noreboot", "hostfs=/nonexistent"])
        .args([
            "con=none",
            "ssl=null",
            "con0=fd:1",
            "con1=fd:0",
            "root=/dev/ubda",
            "rw",
        ])
        .args([
            format!("uml_dir={dir}"),
            format!("mconsole=notify:{dir}/notify"),
        ])
        .args([
            format!("ubd0d={dir}/root.dsk"),
            format!("ubd14d={dir}/payload"),
        ])
        .arg(format!("ubd15d={dir}/hook"))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TMPDIR", "/dev/shm")
        .stdin(channels[1].kernel_slave().unwrap())
        .stdout(channels[0].kernel_slave().unwrap())
        .stderr(channels[0].kernel_slave().unwrap())
        .spawn()
        .unwrap()
}

/// unshare -> sh -> kernel
fn kernel_pid(vm: &Child) -> Pid {
    let child = |pid: i32| -> i32 {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    };
    let unshare = vm.id().try_into().unwrap();
    Pid::from_raw(child(child(unshare))).unwrap()
}
