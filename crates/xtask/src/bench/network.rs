//! How fast a guest's network is by each transport, and how long an interface takes to be set up, against the commands
//! of `ip` (cargo xtask bench). All of it in a network namespace of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};

use super::boot::{DISK, Image, KERNEL, LINES, MARK};
use super::installation::{self, Installation, directory};
use super::report::Figure;
use super::stats::{self, Pairs, median};
use super::subject::Subject;
use crate::steps::{self, cargo, output, target_dir};

pub(super) const SUBJECT: Subject = Subject {
    name: "network",
    metrics: &[
        "net-send-tuntap",
        "net-send-fd",
        "net-receive-tuntap",
        "net-receive-fd",
        "net-rtt-tuntap",
        "net-rtt-fd",
        "net-setup",
    ],
    packages: &["user-mode-linux", "busybox-static", "e2fsprogs", "iproute2"],
    measure,
};

/// How much is sent in each direction, and how often.
const MEGABYTES: usize = 32;
const ROUNDS: usize = 5;
const SETUPS: usize = 50;

/// The guest takes what comes to port 5000, and gives zeros at port 5001; dd, as it writes in large pieces.
const SCRIPT: &str = "#!/bin/sh\n\
    nc -ll -p 5000 -e sh -c 'cat > /dev/null' &\n\
    nc -ll -p 5001 -e sh -c 'dd if=/dev/zero bs=1M count=32 2> /dev/null' &\n";

/// What a transport takes, in milliseconds and microseconds.
struct Taken {
    send: Vec<f64>,
    receive: Vec<f64>,
    rtt: Vec<f64>,
}

fn measure() -> anyhow::Result<Vec<Figure>> {
    let example = ["--example", "set_up"];
    steps::run(cargo(&["build", "--release", "-p", "net"]).args(example))?;
    // The namespace ends with the thread, and what is started there.
    let measured = std::thread::scope(|scope| scope.spawn(apart).join());
    measured.map_err(|_| anyhow!("the measurement panicked"))?
}

fn apart() -> anyhow::Result<Vec<Figure>> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    ip("link set lo up")?;
    let image = Image::build()?;
    let [vec, tuntap, fd] = ["vec", "tuntap", "fd"].map(|transport| by(transport, &image));
    let (vec, tuntap, fd) = (vec?, tuntap?, fd?);
    let pair = |metric, unit, ours: &[f64], peer: &[f64]| {
        let pairs = Pairs {
            ours: ours.to_vec(),
            peer: peer.to_vec(),
        };
        Figure::of_pairs(metric, unit, &pairs)
    };
    Ok(vec![
        pair("net-send-tuntap", "ms", &vec.send, &tuntap.send)?,
        pair("net-send-fd", "ms", &vec.send, &fd.send)?,
        pair("net-receive-tuntap", "ms", &vec.receive, &tuntap.receive)?,
        pair("net-receive-fd", "ms", &vec.receive, &fd.receive)?,
        pair("net-rtt-tuntap", "us", &vec.rtt, &tuntap.rtt)?,
        pair("net-rtt-fd", "us", &vec.rtt, &fd.rtt)?,
        setup()?,
    ])
}

fn ip(words: &str) -> anyhow::Result<()> {
    output(Command::new("ip").args(words.split(' '))).map(drop)
}

/// Measures with one transport.
fn by(transport: &str, image: &Image) -> anyhow::Result<Taken> {
    let lines = format!(
        "{LINES}ubd15 = /disks/hook.dsk\nkernelarg = gip=10.9.0.2/24\ntransport = {transport}\n\
         eth0 = host_to_host(proxy_if=bench0,proxy_addr=10.9.0.1,guest_addr=10.9.0.2)\n"
    );
    let taken = installation::with(Path::new(KERNEL), &lines, |installation| {
        start(installation, image)?;
        let mut taken = Taken {
            send: Vec::new(),
            receive: Vec::new(),
            rtt: Vec::new(),
        };
        for _ in 0..ROUNDS {
            taken.receive.push(to_guest()?);
            taken.send.push(from_guest()?);
            taken.rtt.push(round_trip()?);
        }
        installation.kill()?;
        Ok(taken)
    })?;
    let rate = |times: &[f64]| {
        let milliseconds = median(times)?;
        anyhow::Ok(MEGABYTES as f64 * 8.0 * 1.048_576 / milliseconds * 1e3)
    };
    println!(
        "{transport}: {:.0} Mbit/s from the guest, {:.0} to it",
        rate(&taken.send)?,
        rate(&taken.receive)?
    );
    Ok(taken)
}

fn start(installation: &Installation, image: &Image) -> anyhow::Result<()> {
    let scratch = directory()?;
    let hook = scratch.path().join("hook");
    let mut script = SCRIPT.as_bytes().to_vec();
    script.resize(script.len().next_multiple_of(512), 0);
    std::fs::write(&hook, script).context("cannot write the script")?;
    installation.put_disk(&hook, "hook.dsk")?;
    installation.put_disk(&image.path(), DISK)?;
    let mut console = installation.console()?;
    output(&mut installation.umlwatch(&["-start"]))?;
    console.expect(MARK)?;
    Ok(())
}

/// Connects with a port of the guest, as soon as it listens.
fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let deadline = Instant::now() + installation::PATIENCE;
    loop {
        match TcpStream::connect(("10.9.0.2", port)) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("the guest does not listen");
            }
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    }
}

fn to_guest() -> anyhow::Result<f64> {
    let load = vec![0; MEGABYTES << 20];
    let mut stream = connect(5000)?;
    let begun = Instant::now();
    stream.write_all(&load)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // It closes when it has read all.
    stream.read_to_end(&mut Vec::new())?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn from_guest() -> anyhow::Result<f64> {
    let mut came = Vec::with_capacity(MEGABYTES << 20);
    let mut stream = connect(5001)?;
    let begun = Instant::now();
    stream.read_to_end(&mut came)?;
    let taken = begun.elapsed();
    ensure!(
        came.len() == MEGABYTES << 20,
        "only {} bytes came",
        came.len()
    );
    Ok(taken.as_secs_f64() * 1e3)
}

/// The mean of a hundred pings, in microseconds.
fn round_trip() -> anyhow::Result<f64> {
    let words = ["ping", "-q", "-c", "100", "-i", "0.01", "10.9.0.2"];
    let said = output(Command::new("busybox").args(words))?;
    // round-trip min/avg/max = 0.131/0.178/0.312 ms
    let mean = said
        .rsplit(" = ")
        .next()
        .and_then(|rest| rest.split('/').nth(1));
    let mean: f64 = mean.context("ping says nothing")?.parse()?;
    Ok(mean * 1e3)
}

/// An interface at a bridge, by us and by the commands that a script would use.
fn setup() -> anyhow::Result<Figure> {
    ip("link add benchbr type bridge")?;
    ip("link set benchbr up")?;
    let scratch = directory()?;
    let program = target_dir().join("release/examples/set_up");
    let ours = || {
        let mut command = Command::new(&program);
        let said = output(command.arg("benchbr").arg(scratch.path()))?;
        Ok(said.trim().parse()?)
    };
    let peer = || {
        let begun = Instant::now();
        for words in [
            "tuntap add dev b1 mode tap user nobody",
            "link set b1 address 0a:12:bc:af:32:01",
            "link set b1 master benchbr",
            "link set b1 up",
        ] {
            ip(words)?;
        }
        let taken = begun.elapsed();
        ip("link delete b1")?;
        Ok(taken.as_secs_f64() * 1e3)
    };
    let pairs = stats::alternate(SETUPS, ours, peer)?;
    Figure::of_pairs("net-setup", "ms", &pairs)
}
