//! The round trip of a call to the monitor that does nothing, against a server of libtirpc (cargo xtask bench).
//!
//! The client is the same for both, and in C, too: `crates/xtask/bench/null.c`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::installation::{self, directory};
use super::report::Figure;
use super::stats;
use super::{Subject, program};
use crate::steps::{output, repository};

pub(super) const SUBJECT: Subject = Subject {
    name: "rpc",
    metrics: &["rpc-null"],
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

fn measure() -> anyhow::Result<Vec<Figure>> {
    let directory = directory()?;
    let null = build(directory.path())?;
    let socket = directory.path().join("socket");
    let peer = Server::start(&null, &socket)?;
    let pairs = installation::with(&program("fake_linux"), "", |installation| {
        let control = installation.control_socket();
        stats::alternate(ROUNDS, || call(&null, &control), || call(&null, &socket))
    })?;
    drop(peer);
    Ok(vec![Figure::of_pairs("rpc-null", "us", &pairs)?])
}

fn build(directory: &Path) -> anyhow::Result<PathBuf> {
    let root = repository();
    fs::copy(
        root.join("proto/umlmonctrl.x"),
        directory.join("umlmonctrl.x"),
    )
    .context("cannot copy proto/umlmonctrl.x")?;
    let mut rpcgen = Command::new("rpcgen");
    rpcgen.args(["-N", "-h", "-o", "umlmonctrl.h", "umlmonctrl.x"]);
    output(rpcgen.current_dir(directory))?;
    let flags = output(Command::new("pkg-config").args(["--cflags", "--libs", "libtirpc"]))?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", "-O2", "-Wall", "-I.", "-o", "null"]);
    gcc.arg(root.join("crates/xtask/bench/null.c"));
    gcc.args(flags.split_whitespace());
    output(gcc.current_dir(directory))?;
    Ok(directory.join("null"))
}

/// The median of one round, in microseconds.
fn call(null: &Path, socket: &Path) -> anyhow::Result<f64> {
    let said = output(Command::new(null).arg("call").arg(socket).arg(CALLS))?;
    let time = said.trim().parse();
    time.with_context(|| format!("the client says {said:?}"))
}

/// The server in C, which is killed with the value.
struct Server(Child);

impl Server {
    fn start(null: &Path, socket: &Path) -> anyhow::Result<Server> {
        let mut serve = Command::new(null);
        let server = serve.arg("serve").arg(socket).spawn();
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
