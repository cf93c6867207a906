//! The round trips of a call to the monitor that does nothing and of one that reads 32 KiB of a log, against a server
//! of libtirpc (cargo xtask bench).
//!
//! The client is the same for both, and in C, too: `crates/xtask/bench/rpc.c`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::installation::{self, directory};
use super::report::Figure;
use super::stats;
use super::subject::{Subject, program};
use crate::steps::{output, repository};

pub(super) const SUBJECT: Subject = Subject {
    name: "rpc",
    metrics: &["rpc-null", "rpc-read"],
    packages: &[
        "gcc",
        "libc6-dev",
        "pkg-config",
        "libtirpc-dev",
        "rpcsvc-proto",
    ],
    measure,
};

const ROUNDS: usize = 30;
/// In each round, over one connection.
const CALLS: &str = "1000";
/// What is read by one call, in bytes; the same as in `rpc.c`.
const PIECE: usize = 32 * 1024;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let directory = directory()?;
    let rpc = build(directory.path())?;
    let socket = directory.path().join("socket");
    let log = directory.path().join("log");
    let text = [b'x'; PIECE];
    fs::write(&log, text).context("cannot write a log")?;
    let peer = Server::start(&rpc, &socket, &log)?;
    let measured = installation::with(
        &program("fake_linux"),
        "con1 = pty:con1\n",
        |installation| {
            installation.append_to_log("con1", &text)?;
            let control = installation.control_socket();
            let pairs = |what| {
                let ours = || call(&rpc, what, &control);
                stats::alternate(ROUNDS, ours, || call(&rpc, what, &socket))
            };
            Ok([("rpc-null", pairs("null")?), ("rpc-read", pairs("read")?)])
        },
    )?;
    drop(peer);
    let figures = measured
        .iter()
        .map(|(name, pairs)| Figure::of_pairs(name, "us", pairs));
    figures.collect()
}

fn build(directory: &Path) -> anyhow::Result<PathBuf> {
    let root = repository();
    fs::copy(
        root.join("proto/umlmonctrl.x"),
        directory.join("umlmonctrl.x"),
    )
    .context("cannot copy proto/umlmonctrl.x")?;
    for (part, file) in [("-h", "umlmonctrl.h"), ("-c", "umlmonctrl_xdr.c")] {
        let mut rpcgen = Command::new("rpcgen");
        rpcgen.args(["-N", part, "-o", file, "umlmonctrl.x"]);
        output(rpcgen.current_dir(directory))?;
    }
    let flags = output(Command::new("pkg-config").args(["--cflags", "--libs", "libtirpc"]))?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", "-O2", "-Wall", "-Wno-unused-variable"]);
    gcc.args(["-I.", "-o", "rpc", "umlmonctrl_xdr.c"]);
    gcc.arg(root.join("crates/xtask/bench/rpc.c"));
    gcc.args(flags.split_whitespace());
    output(gcc.current_dir(directory))?;
    Ok(directory.join("rpc"))
}

/// The median of one round of calls, `null` or `read`, in microseconds.
fn call(rpc: &Path, what: &str, socket: &Path) -> anyhow::Result<f64> {
    let said = output(Command::new(rpc).arg(what).arg(socket).arg(CALLS))?;
    let time = said.trim().parse();
    time.with_context(|| format!("the client says {said:?}"))
}

/// The server in C, which is killed with the value.
struct Server(Child);

impl Server {
    fn start(rpc: &Path, socket: &Path, log: &Path) -> anyhow::Result<Server> {
        let mut serve = Command::new(rpc);
        let server = serve.arg("serve").arg(socket).arg(log).spawn();
        let server = Server(server.context("cannot run the server in C")?);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "the server in C has no socket");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
